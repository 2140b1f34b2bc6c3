"""Processor time and memory of running processes, as Linux counts them."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import orjson

from adapters.installation import Installation
from benchmarks.processes import CannotMeasure

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
KIB = 1024
# Of the work that tells a machine's pace: things in its JSON, how often per run, and runs; a tenth of a second in all.
WORK, WORK_TIMES, WORK_RUNS = 2_000, 10, 5


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes of one process: resident; its share of what is resident (``pss``); what is its own alone."""

    resident: int
    pss: int
    own: int


class Pace:
    """How slow the machine is now: processor time of the same work in this process, over what it took at first.

    A core that is shared takes longer for the same work, also in processor time: its caches are shared too.
    """

    def __init__(self) -> None:
        """Now is the first time."""
        self._first = _work_seconds()

    def slowness(self) -> float:
        """1 while the machine is as it was at first, 2 when it takes twice as long."""
        return _work_seconds() / self._first


def _work_seconds() -> float:
    """The median of a few runs of making and reading JSON, as services and learners do most."""
    things = [{"offer_id": f"offer-{number}", "features": {"price": number / 7}} for number in range(WORK)]
    found = []
    for _ in range(WORK_RUNS):
        started = time.process_time()
        for _ in range(WORK_TIMES):
            read = orjson.loads(orjson.dumps(things))
            sorted((one["offer_id"], one["features"]["price"]) for one in read)
        found.append(time.process_time() - started)
    return statistics.median(found)


def memory_of(pid: int) -> MemoryUse:
    """What a process holds now.

    Raises:
        CannotMeasure: the process is gone, or the system has no /proc.
    """
    found = dict.fromkeys(("Rss", "Pss", "Private_Clean", "Private_Dirty"), 0)
    for line in _read(pid, "smaps_rollup").splitlines():
        name, _, rest = line.partition(":")
        if name in found:
            found[name] = int(rest.split()[0]) * KIB
    return MemoryUse(found["Rss"], found["Pss"], found["Private_Clean"] + found["Private_Dirty"])


def processor_seconds(pids: Iterable[int]) -> float:
    """User and system time of processes together, in steps of a hundredth of a second.

    Raises:
        CannotMeasure: one of them is gone, or the system has no /proc.
    """
    ticks = 0
    for pid in pids:
        # The name of the program, in brackets, may hold blanks.
        fields = _read(pid, "stat").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_SECOND


def store_processes(installation: Installation) -> tuple[int, ...]:
    """Those that serve this installation's clients now: PostgreSQL's backends, and Redis or Valkey."""
    query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    with installation.engine.connect() as connection:
        backends = connection.exec_driver_sql(query).scalars().all()
    server = installation.client.info("server")
    return (*backends, int(server["process_id"]))


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError as error:
        raise CannotMeasure(f"process {pid}: {error}") from None
