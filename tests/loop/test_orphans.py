"""Nobody is left behind when the process that started an installation is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")

STARTER = """
import sys, time
from pathlib import Path
from adapters.running import running_installation
with running_installation(Path(sys.argv[1])) as address:
    print(address, flush=True)
    time.sleep(120)
"""


def members(folder: Path) -> list[int]:
    """Processes whose environment names this data folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"OFFERLOOP_DATA_DIR={folder}\0".encode() in path.read_bytes() + b"\0":
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_an_installation_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    starter = subprocess.Popen([sys.executable, "-c", STARTER, str(folder)], stdout=subprocess.PIPE)
    assert starter.stdout is not None
    assert starter.stdout.readline().startswith(b"http://127.0.0.1:")
    assert len(members(folder)) >= 4
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    starter.stdout.close()
    deadline = time.monotonic() + 40.0
    while left := members(folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.2)
