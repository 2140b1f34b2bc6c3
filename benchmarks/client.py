"""A closed-loop HTTP client in a process of its own: keep-alive connections on raw sockets, as little work as can be.

Each connection sends its next request when the last one was answered. Prints one JSON line at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import uvloop

HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length:"


class Connection(asyncio.Protocol):
    """One keep-alive connection: counts answers and their seconds until told to stop."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        self.seconds: list[float] = []
        self.failed = 0
        self.running = True
        self.done = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._received = b""
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class
        self._send()

    def data_received(self, data: bytes) -> None:
        """Take answers in; each whole one is followed by the next request."""
        received = self._received + data if self._received else data
        end = received.find(HEAD_END)
        if end < 0 or len(received) < end + len(HEAD_END) + _length(received[:end]):
            self._received = received
            return
        self._received = b""
        self.seconds.append(time.perf_counter() - self._sent_at)
        if received[9:11] != b"20":
            self.failed += 1
        if self.running:
            self._send()
        elif self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The service hung up early, or this side closed."""
        if self.running:
            self.failed += 1
        if not self.done.done():
            self.done.set_result(None)

    def _send(self) -> None:
        assert self._transport is not None
        self._sent_at = time.perf_counter()
        self._transport.write(next(self._requests))


def _length(head: bytes) -> int:
    start = head.lower().find(LENGTH)
    if start < 0:
        raise ValueError(f"an answer without content-length: {head[:200]!r}")
    return int(head[start + len(LENGTH) :].split(b"\r\n", 1)[0])


def http_request(host: str, port: int, path: str, body: bytes) -> bytes:
    """The bytes of one POST of JSON."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def drive(
    host: str, port: int, path: str, bodies: Sequence[bytes], connections: int, seconds: float
) -> dict[str, float]:
    """Send the bodies in turn over all connections for some seconds.

    Returns:
        ``requests`` answered, ``failed`` (any status but 2xx, or a broken connection), ``seconds``,
        ``requests_per_second``, ``p50_ms`` and ``p99_ms``.
    """
    requests = itertools.cycle([http_request(host, port, path, body) for body in bodies])
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    made = [
        (await loop.create_connection(lambda: Connection(requests), host, port))[1] for _ in range(connections)
    ]  # fmt: skip
    await asyncio.sleep(seconds)
    for connection in made:
        connection.running = False
    took = time.perf_counter() - started
    times = sorted(itertools.chain.from_iterable(connection.seconds for connection in made))
    failed = sum(connection.failed for connection in made)
    await asyncio.wait([connection.done for connection in made], timeout=10.0)
    if not times:
        raise RuntimeError(f"http://{host}:{port}{path} answered no request in {seconds:g} s")
    return {
        "requests": len(times),
        "failed": failed,
        "seconds": took,
        "requests_per_second": len(times) / took,
        "p50_ms": 1000.0 * times[len(times) // 2],
        "p99_ms": 1000.0 * times[int(len(times) * 0.99)],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Drive one address."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/v1/rank")
    parser.add_argument("--bodies", type=Path, required=True, help="file with one JSON body per line")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3.0)
    chosen = parser.parse_args(arguments)
    bodies = chosen.bodies.read_bytes().splitlines()
    figures = uvloop.run(
        drive("127.0.0.1", chosen.port, chosen.path, bodies, chosen.connections, chosen.seconds)
    )  # fmt: skip
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
