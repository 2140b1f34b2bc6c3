"""Native clients: the one of this folder, compiled when it is needed, and ``wrk`` where it is installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from benchmarks.processes import CannotMeasure

CONNECTIONS = 32
SOURCE = Path(__file__).parent / "client.c"


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of a client found; latencies in milliseconds."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float


# Port, file of bodies, seconds: requests per second with all connections busy.
Throughput: TypeAlias = Callable[[int, Path, float], float]


class NativeClient:
    """The client of this folder; ``benchmarks/client.c`` says what it does."""

    def __init__(self, folder: Path) -> None:
        """Compile it into a folder.

        Raises:
            CannotMeasure: there is no C compiler, or it fails.
        """
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise CannotMeasure("a C compiler is needed to build benchmarks/client.c: install cc, gcc or clang")
        self._path = folder / "client"
        command = [compiler, "-O2", "-o", str(self._path), str(SOURCE)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise CannotMeasure(f"{compiler} ended with {done.returncode}: {done.stderr}")

    def run(self, port: int, bodies: Path, seconds: float, rate: float = 0.0) -> Run:
        """Post bodies to ``/v1/rank``.

        Args:
            port: on loopback.
            bodies: file with one JSON body per line, sent in turn.
            seconds: for how long.
            rate: requests per second that are due, whatever becomes of them; 0 = each connection sends its next
                request when the last was answered.

        Raises:
            CannotMeasure: a request failed.
        """
        words = [str(self._path), str(port), "/v1/rank", str(bodies), str(CONNECTIONS), str(seconds), str(rate)]
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=seconds + 60.0)
        if done.returncode:
            raise CannotMeasure(f"the client ended with {done.returncode}: {done.stderr}")
        found = json.loads(done.stdout)
        if found["failed"]:
            raise CannotMeasure(f"{found['failed']} of {found['requests']} requests to port {port} failed")
        return Run(found["requests_per_second"], found["p50_ms"], found["p99_ms"])

    def throughput(self, port: int, bodies: Path, seconds: float) -> float:
        """Requests per second with all connections busy."""
        return self.run(port, bodies, seconds).requests_per_second


def with_wrk(port: int, bodies: Path, seconds: float) -> float:
    """Requests per second by wrk, one thread.

    Raises:
        CannotMeasure: a request failed.
    """
    script = bodies.with_suffix(".lua")
    texts = ",\n".join(f"[==[{line}]==]" for line in bodies.read_text().splitlines())
    script.write_text(
        f"local bodies = {{\n{texts}\n}}\nlocal at = 0\n"
        'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
        "request = function()\n  at = at % #bodies + 1\n  return wrk.format(nil, nil, nil, bodies[at])\nend\n"
    )
    command = [
        "wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{max(round(seconds), 1)}s",
        "--script", str(script), f"http://127.0.0.1:{port}/v1/rank",
    ]  # fmt: skip
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 60.0).stdout
    found = re.search(r"Requests/sec:\s+([0-9.]+)", output)
    if found is None or "Non-2xx" in output or "Socket errors" in output:
        raise CannotMeasure(f"wrk says: {output}")
    return float(found.group(1))
