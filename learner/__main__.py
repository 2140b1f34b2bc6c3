"""``offerloop learn``, ``work`` and ``replay``, and ``import`` and ``export`` of a loop's log."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence

from rich.progress import track

from adapters.catalogue import LoopStore
from adapters.collector import spare_what_stays
from adapters.installation import NoInstallation, open_existing, open_installation
from adapters.interaction_log import count_loop, first_sequence, read_interactions
from adapters.locks import WriterConnection
from adapters.receipts import Receipts
from adapters.settings import load_settings
from adapters.snapshots import SnapshotStore
from adapters.streams import ACTIVITY_STREAM, StreamReader
from adapters.telemetry import LearnerMetrics, start_logging
from learner import export_dsjson, import_dsjson
from learner.loop import LoopWriter, Stores
from learner.profiles import ProfileWriter
from learner.run import Runner, Writer
from learner.train import NothingToVerify, verify
from learner.work import work_forever


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the learner's commands."""
    parser = argparse.ArgumentParser(prog="offerloop", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    learn = commands.add_parser("learn", help="join, learn and publish, for all loops")
    learn.add_argument("--loop", action="append", help="only this loop (may be repeated; no activity then)")
    commands.add_parser("work", help="run jobs and housekeeping")
    replay = commands.add_parser("replay", help="learn a loop's generation again from its log")
    replay.add_argument("--loop", required=True)
    replay.add_argument("--verify", action="store_true", help="compare with the serving snapshot, byte for byte")
    import_dsjson.add_command(commands)
    export_dsjson.add_command(commands)
    chosen = parser.parse_args(arguments)
    if chosen.command == "learn":
        return _learn(chosen.loop)
    if chosen.command == "work":
        return _work()
    try:
        if chosen.command == "replay":
            return _replay(chosen.loop, require_equal=chosen.verify)
        with open_existing(load_settings()) as installation:
            return int(chosen.run(installation, chosen))
    except NoInstallation as error:
        print(error, file=sys.stderr)
        return 2


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _learn(only: list[str] | None) -> int:
    settings = load_settings()
    start_logging(settings.log_level)
    stop = _stop_on_signals()
    metrics = LearnerMetrics()
    with open_installation(settings) as installation:
        engine, client = installation.engine, installation.client
        loops = LoopStore(engine, client)
        reader = StreamReader(client)
        writers = WriterConnection(engine)
        stores = Stores(engine, client, writers, reader, SnapshotStore(engine, client), loops, metrics)

        erased = Receipts(engine)

        def versions() -> dict[str, int]:
            # A deleted loop is written once more while its log holds somebody who is to be erased.
            waiting = dict.fromkeys(erased.waiting_deleted_loops(), 0)
            found = waiting | {config.loop: config.version for config in loops.all()}
            return {loop: version for loop, version in found.items() if only is None or loop in only}

        def open_writer(name: str) -> Writer:
            if name == ACTIVITY_STREAM:
                return ProfileWriter(writers, client, reader, metrics)
            config = loops.get(name, deleted=True)
            if config is None:
                raise LookupError(f"loop {name!r} is gone")
            return LoopWriter(stores, config, settings.checkpoint_seconds)

        spare_what_stays()
        Runner(reader, client, open_writer, versions, writers, settings.batch_size, activity=only is None).run(stop)
    return 0


def _work() -> int:
    settings = load_settings()
    start_logging(settings.log_level)
    stop = _stop_on_signals()
    with open_installation(settings) as installation:
        work_forever(installation, stop)
    return 0


def _replay(loop: str, *, require_equal: bool) -> int:
    settings = load_settings()
    start_logging(settings.log_level)
    with open_existing(settings) as installation:
        store = SnapshotStore(installation.engine, installation.client)
        first = first_sequence(installation.engine, loop)
        total = count_loop(installation.engine, loop).interactions
        log = read_interactions(installation.engine, loop, learnable=True)
        try:
            found = verify(store, loop, track(log, description=f"replay {loop}", total=total, transient=True), first)
        except NothingToVerify as error:
            print(error, file=sys.stderr)
            return 1
    print(f"snapshot      {found.snapshot_id}")
    print(f"interactions  {found.interactions}")
    print(f"reloads       {found.reloads}")
    print(f"serving       {found.expected}")
    print(f"replayed      {found.found}")
    print(f"equal         {str(found.equal).lower()}")
    return 0 if found.equal or not require_equal else 1


if __name__ == "__main__":
    sys.exit(main())
