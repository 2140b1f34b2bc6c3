"""A whole installation as a child process, for demos, load tests and benchmarks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from adapters.parent import told_to_children

READY_SECONDS = 90.0
STOP_SECONDS = 60.0
STORE_SETTINGS = ("OFFERLOOP_DATABASE_URL", "OFFERLOOP_REDIS_URL", "OFFERLOOP_ADMIN_KEY")


class DidNotStart(RuntimeError):
    """The installation ended or stayed silent; the message has the end of its log."""


@contextmanager
def running_installation(
    data_dir: Path, settings: Mapping[str, str] | None = None, *, port: int = 0, log_path: Path | None = None
) -> Iterator[str]:
    """Run ``offerloop up`` on private stores under ``data_dir``; gives its address.

    Its log goes to ``log_path``, or into the data folder.

    Stores and keys of the caller's environment are not used. On leaving, the installation is stopped in order.

    Raises:
        DidNotStart: no ready line within 90 s.
        RuntimeError: it did not stop cleanly.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    log_path = log_path or data_dir / "installation.log"
    environment = {name: value for name, value in os.environ.items() if name not in STORE_SETTINGS}
    environment |= {
        "OFFERLOOP_DATA_DIR": str(data_dir.absolute()),
        "OFFERLOOP_LOG_LEVEL": "WARNING",
        **told_to_children(),
        **(settings or {}),
    }
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "offerloop", "up", "--port", str(port)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield _ready_address(process, log_path)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
            if process.stdout is not None:
                process.stdout.close()
        if code != 0:
            raise RuntimeError(f"the installation ended with {code}; its log is {log_path}")


def _ready_address(process: subprocess.Popen[bytes], log_path: Path) -> str:
    late = threading.Timer(READY_SECONDS, process.kill)
    late.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            words = line.decode().split()
            if words[:1] == ["ready"]:
                return words[1]
    finally:
        late.cancel()
    process.wait()
    raise DidNotStart(f"the installation did not start: {log_path.read_text(errors='replace')[-2000:]}")
