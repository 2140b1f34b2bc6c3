"""The script that takes what was drawn elsewhere, on the real store: all or nothing, whatever was drawn."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from adapters.installation import Installation
from adapters.streams import decided_key, loop_stream
from adapters.units import EPOCH_KEY, LOG_ONCE, LimitedTake, entries, seen_key, units_key
from contextual_bandit.types import Cap, Limits, Offer

NOW = 1_772_443_800_000
_numbers = itertools.count()


class Shop:
    """Takes offers of one catalogue, one decision after the other."""

    def __init__(self, installation: Installation, *limits: Limits) -> None:
        self.client, self.name = installation.client, f"takes-{next(_numbers)}"
        self.offers = [Offer(f"{self.name}-{place}", "c", limits=one) for place, one in enumerate(limits)]
        self.client.set(EPOCH_KEY, "1")

    def take(
        self, shown: Sequence[int], customer: str | None = "c", among: Sequence[int] | None = None, again: str = ""
    ) -> tuple[int, str, str]:
        """The script's answer: whether the id was known, the position, and what is exhausted."""
        held = entries(self.offers)
        places = range(len(self.offers)) if among is None else among
        counted = tuple((place, held[self.offers[place].offer_id]) for place in places)
        who = None if customer is None else f"{self.name}-{customer}"
        take = LimitedTake((), NOW, who, counted, tuple(shown), len(shown))
        decided = decided_key(self.name, again or str(next(_numbers)))
        keys = [loop_stream(self.name), decided, *take.keys()]
        answer: Any = self.client.eval(LOG_ONCE, len(keys), *keys, b'{"payload":{}}', "hash", 60, take.argument())
        known, _, position, *masked = answer
        return known, position.decode(), masked[0].decode() if masked else ""

    def used(self, place: int, field: str) -> int:
        found: Any = self.client.hget(units_key(self.offers[place].offer_id), field)
        return int(found or 0)

    def messages(self) -> list[bytes]:
        entries_: Any = self.client.xrange(loop_stream(self.name))
        return [fields[b"e"] for _, fields in entries_]


@pytest.fixture
def shop(installation: Installation) -> Any:
    return lambda *limits: Shop(installation, *limits)


def test_what_was_drawn_is_taken_and_logged_as_it_is(shop: Any) -> None:
    one = shop(Limits(stock=2), Limits(caps=(Cap("all", "total", 9),)), Limits(stock=5))
    known, position, masked = one.take((0, 1))
    assert (known, bool(position), masked) == (0, True, "")
    assert [one.used(0, "t:stock"), one.used(1, "t:cap:all"), one.used(2, "t:stock")] == [1, 1, 0]
    assert one.messages() == [b'{"payload":{}}']


def test_nothing_happens_while_anything_that_it_was_drawn_among_is_exhausted(shop: Any) -> None:
    one = shop(Limits(stock=1), Limits(stock=9), Limits(stock=1))
    assert one.take((0,))[1]
    for shown in ((0, 1), (1,), ()):
        # Whether the exhausted one was drawn makes no difference.
        assert one.take(shown) == (0, "", "[[[[0,1]],-1,0]]")
    assert one.used(1, "t:stock") == 0
    assert len(one.messages()) == 1
    assert one.take((1, 2), among=(1, 2))[1]
    assert one.take((1,))[2] == "[[[[0,1],[2,1]],-1,0]]"


def test_every_kind_of_limit_counts(shop: Any, installation: Installation) -> None:
    each = Limits(caps=(Cap("each", "customer", 1, 3600.0),))
    one = shop(each, Limits(cooldown_days=1.0), Limits())
    one.offers[2] = Offer(one.offers[2].offer_id, "c", limits=Limits(excludes=(one.offers[0].offer_id,)))
    assert one.take((0, 1))[1]
    assert one.take((1,))[2] == "[[[[0,1],[2,3]],-1,0]]"
    assert one.take((1,), customer="other")[1]
    installation.client.hset(seen_key(f"{one.name}-c"), f"r:{one.offers[1].offer_id}", str(NOW - 1000))
    assert one.take((), among=(1,))[2] == "[[[[1,2]],-1,0]]"
    # Nobody has neither shows nor relations of their own.
    assert one.take((0, 1, 2), customer=None)[1]


def test_a_known_id_takes_nothing_again(shop: Any) -> None:
    one = shop(Limits(stock=5))
    first = one.take((0,), again="d")
    again = one.take((0,), again="d")
    assert (again[0], again[1]) == (1, first[1])
    assert one.used(0, "t:stock") == 1
