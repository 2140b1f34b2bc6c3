"""What was made of an object, for the very same object: looking at its address is cheaper than at its content."""

from __future__ import annotations

from typing import Generic, TypeVar

Source = TypeVar("Source")
Made = TypeVar("Made")


class KeptByObject(Generic[Source, Made]):
    """Values by object, a bounded number of them; objects must not change while they are kept.

    An address is an object's own only while it lives, so that each object is kept with what was made of it.
    """

    __slots__ = ("_kept", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[int, tuple[Source, Made]] = {}

    def get(self, source: Source) -> Made | None:
        """What is kept for an object; an equal one is another."""
        found = self._kept.get(id(source))
        return found[1] if found is not None and found[0] is source else None

    def put(self, source: Source, made: Made) -> Made:
        """Keep something for an object. When there are too many, all are let go."""
        if len(self._kept) >= self._most:
            self._kept.clear()
        self._kept[id(source)] = source, made
        return made

    def clear(self) -> None:
        """Let go of all."""
        self._kept.clear()
