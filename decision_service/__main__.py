"""``offerloop serve``: the decision service on one address, with any number of worker processes."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

import uvicorn
from uvicorn.supervisors import Multiprocess

from adapters.settings import load_settings

# Longer than common clients and proxies keep idle connections, so that the server closes none under a request.
KEEP_ALIVE_SECONDS = 75


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; open requests are answered first."""
    settings = load_settings()
    parser = argparse.ArgumentParser(prog="offerloop serve", description=__doc__)
    parser.add_argument("--host", default=settings.host)
    parser.add_argument("--port", type=int, default=settings.port, help="0 = any free one")
    parser.add_argument("--workers", type=int, default=settings.workers)
    chosen = parser.parse_args(arguments)
    config = uvicorn.Config(
        "decision_service.app:create_app", factory=True, host=chosen.host, port=chosen.port, workers=chosen.workers,
        log_config=None, access_log=False, timeout_graceful_shutdown=10, timeout_keep_alive=KEEP_ALIVE_SECONDS,
        loop="uvloop", http="httptools",
    )  # fmt: skip
    socket = config.bind_socket()
    port = socket.getsockname()[1]
    print(f"serving http://{chosen.host}:{port}", flush=True)
    server = uvicorn.Server(config)
    # uvicorn raises the signal again once it has stopped in order; that is a clean end, not a death.
    signal.signal(signal.SIGTERM, lambda *_: None)
    if chosen.workers == 1:
        server.run(sockets=[socket])
    else:
        Multiprocess(config, sockets=[socket]).run()
    socket.close()
    return 0 if server.started or chosen.workers > 1 else 1


if __name__ == "__main__":
    # Workers import the application by name, so this folder's parent must be importable.
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
