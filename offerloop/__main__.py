"""``offerloop COMMAND``: hands over to the process that does it."""

from __future__ import annotations

import atexit
import importlib
import os
import shutil
import sys
import tempfile

from adapters.parent import end_with_parent

COMMANDS = {
    "up": ("offerloop.up", False, "everything: stores, migrations, decision service, learner, jobs"),
    "serve": ("decision_service.__main__", False, "the decision service"),
    "learn": ("learner.__main__", True, "join, learn, publish"),
    "work": ("learner.__main__", True, "jobs and housekeeping"),
    "replay": ("learner.__main__", True, "learn a generation again from the log, and compare"),
    "import": ("learner.__main__", True, "import another service's log"),
    "export": ("learner.__main__", True, "export a loop's log"),
    "migrate": ("migrations.__main__", False, "bring the database to this version"),
    "demo": ("simulator.demo", False, "the whole loop on published retail data"),
    "simulate": ("simulator.__main__", False, "drive a running service with a simulated market"),
    "weather": ("offerloop.weather", False, "import the weather of a region"),
    "offers": ("offerloop.offers", False, "import and export the catalogue"),
    "evaluate": ("evaluation.__main__", False, "off-policy evaluation of a loop's log"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its own --help says more."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help") or words[0] not in COMMANDS:
        print("usage: offerloop COMMAND [OPTIONS]\n")
        for name, (_, _, what) in COMMANDS.items():
            print(f"  {name:<10}{what}")
        if words and words[0] not in ("-h", "--help"):
            print(f"\nunknown command {words[0]!r}", file=sys.stderr)
            return 2
        return 0 if words else 2
    end_with_parent()
    module, keeps_name, _ = COMMANDS[words[0]]
    if words[0] == "serve":
        _share_metrics()
    run = importlib.import_module(module).main
    return int(run(words if keeps_name else words[1:]))


def _share_metrics() -> None:
    """Workers count into one folder; the metrics library reads its name before it is imported."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="offerloop-metrics-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder


if __name__ == "__main__":
    sys.exit(main())
