"""Ids of decisions whose callers give none."""

from __future__ import annotations

import os

# Asking the system for random bytes costs as much for many ids as for one.
IDS_AT_ONCE = 256
_DIGITS = 32


class FreshIds:
    """Random UUIDs (version 4, RFC 9562), as the standard library writes them; made with less ado.

    One that was made before a process forked would give the same ids in both.
    """

    def __init__(self) -> None:
        self._digits = ""
        self._at = 0

    def next(self) -> str:
        """An id that nobody else has."""
        if self._at == len(self._digits):
            self._digits, self._at = os.urandom(IDS_AT_ONCE * _DIGITS // 2).hex(), 0
        at = self._at
        self._at = at + _DIGITS
        digits = self._digits[at : at + _DIGITS]
        variant = "89ab"[int(digits[16], 16) & 3]
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
