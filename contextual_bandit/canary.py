"""Which customers a challenger decides for: the same ones while its share stands, by a hash of its own purpose."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from contextual_bandit.loops import Challenger

_PURPOSE = b"canary"


def canary_of(loop: str, customer_id: str | None, challengers: Sequence[Challenger]) -> str | None:
    """The name of the challenger that decides for a customer of a loop; None: the champion does.

    Each customer of a loop stands at a point of [0, 1), and the shares are intervals there, one after the other from 0
    on. So a share that grows keeps all its customers and takes new ones; only those of the challengers after it move
    up. Nobody without an id gets a challenger.

    Args:
        loop: the loop's name.
        customer_id: who asks.
        challengers: in the order of the loop's settings; their shares sum to at most 1.
    """
    if customer_id is None or not challengers:
        return None
    point, reached = canary_point(loop, customer_id), 0.0
    for challenger in challengers:
        reached += challenger.share
        if point < reached:
            return challenger.name
    return None


def canary_point(loop: str, customer_id: str) -> float:
    """Where a customer stands among those of a loop, in [0, 1)."""
    digest = blake2b(f"{loop}\x00{customer_id}".encode(), digest_size=8, person=_PURPOSE).digest()
    return (int.from_bytes(digest, "big") >> 11) / 9007199254740992.0
