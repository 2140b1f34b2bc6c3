"""Children that end in order when their parent dies, even at kill -9 (Linux; elsewhere they live on)."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

VARIABLE = "_OFFERLOOP_PARENT"
_PR_SET_PDEATHSIG = 1


def told_to_children() -> dict[str, str]:
    """What a parent adds to its children's environment."""
    return {VARIABLE: str(os.getpid())}


def end_with_parent() -> None:
    """Get SIGTERM when the parent dies, if it asked for that; a child calls this first of all."""
    parent = os.environ.pop(VARIABLE, None)
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        # It died before the request was in place.
        os.kill(os.getpid(), signal.SIGTERM)
