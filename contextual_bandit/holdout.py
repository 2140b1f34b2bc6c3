"""Which customers are held out: the same ones for good, by a hash that has nothing to do with the draws."""

from __future__ import annotations

from hashlib import blake2b

from contextual_bandit.loops import Holdout

_PURPOSE = b"holdout"


def in_holdout(loop: str, customer_id: str | None, holdout: Holdout) -> bool:
    """Whether a customer of a loop is held out; nobody without an id is.

    A larger share keeps everybody whom a smaller one held out. Each loop holds out customers of its own.
    """
    if customer_id is None:
        return False
    digest = blake2b(f"{loop}\x00{customer_id}".encode(), digest_size=8, person=_PURPOSE).digest()
    return (int.from_bytes(digest, "big") >> 11) / 9007199254740992.0 < holdout.share
