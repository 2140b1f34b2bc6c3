"""The script that masks, draws, takes and logs in one step, on the real store."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.installation import Installation
from adapters.spool import Spool
from adapters.stream_writer import DrawUnknown, StreamWriter, UnitsUnknown
from adapters.streams import FIELD, connect_async, loop_stream
from adapters.units import EPOCH_KEY, Entry, LimitedDraw, entries, seen_key, units_key
from contextual_bandit import events
from contextual_bandit.limits import COUNTED, HOLDS_STOCK, Draw, SlotDraw, draw, draw_slots
from contextual_bandit.policy import with_floor, with_promotion
from contextual_bandit.slots import Slate
from contextual_bandit.types import Action, Cap, Decision, Limits, Offer

FALLBACK = Action("nothing", {"type": "none"})
MINUTE, DAY = 60_000, 86_400_000
NOW = 1_772_443_800_000
_numbers = itertools.count()


class Shop:
    """Draws among offers of one catalogue, one call after the other."""

    def __init__(self, writer: StreamWriter, make_decision: Callable[..., Decision], offers: list[Offer]) -> None:
        self.writer, self.make_decision, self.offers = writer, make_decision, offers
        self.held = entries(offers)

    async def draw(self, *, customer: str | None = "c", at: int = NOW, number: float = 0.0, tiers: Any = None) -> Draw:
        count = len(self.offers)
        served = (1.0 / count,) * count
        decision = self.make_decision(f"u{next(_numbers)}", served=served)
        limited = LimitedDraw((SlotDraw(served, number, tiers),), at, customer, self.entries())
        message = events.encode("decision", datetime.now(UTC), events.limited_payload(decision, FALLBACK))
        logged = await self.writer.log_decision("units", decision.decision_id, message, "h", 3600, limited)
        (drawn,) = logged.draws
        return drawn

    def entries(self) -> tuple[tuple[int, Entry], ...]:
        names = [offer.offer_id for offer in self.offers]
        return tuple((names.index(name), entry) for name, entry in self.held.items())


Run = Callable[[list[Offer], Callable[[Shop], Awaitable[None]]], None]


@pytest.fixture
def run(installation: Installation, make_decision: Callable[..., Decision], tmp_path: Path) -> Run:
    installation.client.set(EPOCH_KEY, "1")

    def call(offers: list[Offer], script: Callable[[Shop], Awaitable[None]]) -> None:
        async def main() -> None:
            client = connect_async(installation.redis_url)
            writer = StreamWriter(client, Spool(tmp_path / "spool"))
            await writer.start()
            try:
                await script(Shop(writer, make_decision, offers))
            finally:
                await writer.stop()
                await client.aclose()

        asyncio.run(main())

    return call


def offer(limits: Limits, **fields: Any) -> Offer:
    return Offer(f"o{next(_numbers)}", "c", limits=limits, **fields)


def other() -> Offer:
    return offer(Limits())


def test_a_total_cap_lets_so_many_through_and_then_masks(run: Run) -> None:
    capped, free = offer(Limits(caps=(Cap("three", "total", 3),))), other()

    async def script(shop: Shop) -> None:
        drawn = [await shop.draw(customer=f"c{number}") for number in range(5)]
        assert [found.chosen for found in drawn] == [0, 0, 0, 1, 1]
        assert [found.masked for found in drawn] == [()] * 3 + [((0, 1),)] * 2
        assert [found.took for found in drawn] == [COUNTED] * 3 + [0] * 2

    run([capped, free], script)


def test_what_is_not_drawn_takes_nothing(run: Run, installation: Installation) -> None:
    capped, free = offer(Limits(stock=2)), other()

    async def script(shop: Shop) -> None:
        assert (await shop.draw(number=0.9)).chosen == 1
        assert installation.client.hget(units_key(capped.offer_id), "t:stock") is None
        assert (await shop.draw(number=0.1)).chosen == 0
        assert installation.client.hget(units_key(capped.offer_id), "t:stock") == b"1"

    run([capped, free], script)


def test_a_budget_is_never_overdrawn(run: Run) -> None:
    capped, free = offer(Limits(budget=1.0), cost=0.3), other()

    async def script(shop: Shop) -> None:
        assert [(await shop.draw()).chosen for _ in range(5)] == [0, 0, 0, 1, 1]

    run([capped, free], script)


def test_a_window_slides_and_is_never_exceeded(run: Run) -> None:
    capped, free = offer(Limits(caps=(Cap("hourly", "total", 2, 3600.0),))), other()

    async def script(shop: Shop) -> None:
        shown: list[int] = []
        for at in range(NOW, NOW + 4 * 60 * MINUTE, MINUTE):
            if (await shop.draw(at=at)).chosen == 0:
                shown.append(at)
            assert sum(at - 60 * MINUTE < when <= at for when in shown) <= 2
        # In steps of a 24th of the window: it may wait that much longer than it must.
        assert 7 <= len(shown) <= 8

    run([capped, free], script)


def test_customers_have_windows_and_counts_of_their_own(run: Run, installation: Installation) -> None:
    capped = offer(Limits(caps=(Cap("daily", "customer", 1, 86400.0), Cap("ever", "customer", 3))))
    mine, yours = f"m{next(_numbers)}", f"y{next(_numbers)}"

    async def script(shop: Shop) -> None:
        days = [await shop.draw(customer=mine, at=NOW + day * (DAY // 2 + 1)) for day in range(10)]
        assert [found.chosen for found in days] == [0, 1, 0, 1, 0, 1, 1, 1, 1, 1]
        assert (await shop.draw(customer=yours)).chosen == 0
        assert (await shop.draw(customer=None)).chosen == 0
        # A cap that counts for good must not be forgotten.
        assert installation.client.ttl(seen_key(mine)) == -1

    run([capped, other()], script)


def test_counts_that_do_not_last_are_forgotten_after_a_while(run: Run, installation: Installation) -> None:
    customer = f"m{next(_numbers)}"

    async def script(shop: Shop) -> None:
        await shop.draw(customer=customer)
        assert 0 < installation.client.ttl(seen_key(customer)) <= 400 * 86400 + 1

    run([offer(Limits(caps=(Cap("daily", "customer", 1, 86400.0),))), other()], script)


def test_a_redeemed_offer_rests(run: Run, installation: Installation) -> None:
    rested, free = offer(Limits(cooldown_days=7.0)), other()
    customer = f"m{next(_numbers)}"
    installation.client.hset(seen_key(customer), f"r:{rested.offer_id}", str(NOW))

    async def script(shop: Shop) -> None:
        assert (await shop.draw(customer=customer, at=NOW + 6 * DAY)).masked == ((0, 2),)
        assert (await shop.draw(customer=customer, at=NOW + 7 * DAY)).masked == ()
        assert (await shop.draw(customer="someone-else", at=NOW)).masked == ()

    run([rested, free], script)


def test_offers_exclude_and_require_each_other(run: Run) -> None:
    first = other()
    rival = offer(Limits(excludes=(first.offer_id,), relation_days=2.0))
    sequel = offer(Limits(requires=(first.offer_id,), relation_days=2.0))
    customer = f"m{next(_numbers)}"

    async def script(shop: Shop) -> None:
        assert (await shop.draw(customer=customer, number=0.9)).masked == ((2, 4),)
        assert (await shop.draw(customer=customer, number=0.0)).chosen == 0
        assert (await shop.draw(customer=customer, number=0.9)) == Draw(((1, 3),), 2, COUNTED)
        assert (await shop.draw(customer=customer, at=NOW + 2 * DAY)).masked == ((2, 4),)
        assert (await shop.draw(customer=None)).masked == ((2, 4),)

    run([first, rival, sequel], script)


def test_the_highest_priority_left_competes(run: Run) -> None:
    async def script(shop: Shop) -> None:
        assert await shop.draw(tiers=(2, 1, 1), number=0.9) == Draw(((1, 5), (2, 5)), 0, HOLDS_STOCK)
        assert await shop.draw(tiers=(2, 1, 1), number=0.9) == Draw(((0, 1),), 2)

    run([offer(Limits(stock=1)), other(), other()], script)


def test_with_nothing_left_nothing_is_chosen_and_the_fallback_is_in_the_log(
    run: Run, installation: Installation
) -> None:
    async def script(shop: Shop) -> None:
        assert await shop.draw() == Draw(((0, 1),), -1)

    run([offer(Limits(stock=0))], script)
    ((position, fields),) = installation.client.xrevrange(loop_stream("units"), count=1)  # type: ignore[misc, union-attr]
    decision = events.decision_from(events.decode(position.decode(), fields[FIELD]).payload)
    assert decision.use == "fallback"
    assert decision.chosen == FALLBACK


def test_lost_counts_are_noticed_before_anything_is_drawn(run: Run, installation: Installation) -> None:
    installation.client.delete(EPOCH_KEY)
    before = installation.client.xlen(loop_stream("units"))

    async def script(shop: Shop) -> None:
        with pytest.raises(UnitsUnknown):
            await shop.draw()

    run([offer(Limits(stock=1)), other()], script)
    installation.client.set(EPOCH_KEY, "1")
    assert installation.client.xlen(loop_stream("units")) == before


def test_while_the_store_is_away_what_has_limits_is_not_shown(
    make_decision: Callable[..., Decision], tmp_path: Path
) -> None:
    """A draw that may have been made is not made again; later ones are made without limited offers, and kept."""
    limited, free = offer(Limits(stock=5)), other()

    async def main() -> None:
        client = connect_async("redis://127.0.0.1:1/0")
        spool = Spool(tmp_path / "spool")
        writer = StreamWriter(client, spool)
        await writer.start()
        shop = Shop(writer, make_decision, [limited, free])
        with pytest.raises(DrawUnknown):
            await shop.draw()
        for _ in range(3):
            assert await shop.draw() == Draw(((0, 1),), 1)
            await asyncio.sleep(0.3)
        kept = [events.decision_from(events.decode("0-0", one.call.message).payload) for one in spool.waiting()]
        assert [decision.chosen.offer_id for decision in kept] == ["offer-1"] * 3
        assert [[entry.reason for entry in decision.removed] for decision in kept] == [["cap_exhausted"]] * 3
        spool.clear()
        await writer.stop()
        await client.aclose()

    asyncio.run(main())


shares = st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=6)


def test_script_and_arithmetic_agree_to_the_bit(
    run: Run, installation: Installation, make_decision: Callable[..., Decision]
) -> None:
    offers = [offer(Limits(stock=0)) for _ in range(6)]
    held = entries(offers)

    async def script(shop: Shop) -> None:
        @settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
        @given(shares, st.floats(0.0, 0.9999999), st.sets(st.integers(0, 5)), st.lists(st.integers(0, 2), min_size=6))
        def collect(masses: list[float], number: float, out: set[int], tiers: list[int]) -> None:
            cases.append((masses, number, frozenset(out & set(range(len(masses)))), tuple(tiers[: len(masses)])))

        cases: list[tuple[list[float], float, frozenset[int], tuple[int, ...]]] = []
        collect()
        for masses, number, out, tiers in cases:
            total = sum(masses)
            served = tuple(mass / total for mass in masses)
            decision = make_decision(f"u{next(_numbers)}", served=served)
            chosen = tuple((index, held[offers[index].offer_id]) for index in sorted(out))
            limited = LimitedDraw((SlotDraw(served, number, tiers),), NOW, None, chosen)
            message = events.encode("decision", datetime.now(UTC), events.limited_payload(decision, FALLBACK))
            logged = await shop.writer.log_decision("units", decision.decision_id, message, "h", 3600, limited)
            assert logged.draws == (draw(served, number, dict.fromkeys(sorted(out), 1), tiers),)

    run(offers, script)


class Slots:
    """Draws several slots of one decision among the offers of a shop."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    async def draw(self, slots: Sequence[SlotDraw], *, customer: str | None = "c", at: int = NOW) -> tuple[Draw, ...]:
        decision = self.shop.make_decision(f"u{next(_numbers)}", served=slots[0].served)
        limited = LimitedDraw(tuple(slots), at, customer, self.shop.entries())
        asked = [
            replace(decision.slots[0], slot_id=str(index), index=index, chosen=-1) for index in range(len(slots))
        ]  # fmt: skip
        slate = Slate(replace(decision, slots=tuple(asked)), FALLBACK)
        message = events.encode("decision", datetime.now(UTC), events.slate_payload(slate))
        logged = await self.shop.writer.log_decision("units", decision.decision_id, message, "h", 3600, limited)
        return logged.draws


def even(count: int, number: float = 0.0, **more: Any) -> SlotDraw:
    served = (1.0 / count,) * count
    return SlotDraw(served, number, policy=served, **more)


def test_slots_of_one_decision_never_share_an_offer_and_take_their_units(run: Run, installation: Installation) -> None:
    capped = [offer(Limits(stock=2)) for _ in range(2)]

    async def script(shop: Shop) -> None:
        slots = [even(3)] * 3
        assert await Slots(shop).draw(slots) == (Draw((), 0, 2), Draw((), 1, 2), Draw((), 2))
        assert await Slots(shop).draw(slots) == (Draw((), 0, 2), Draw((), 1, 2), Draw((), 2))
        out = ((0, 1), (1, 1))
        assert await Slots(shop).draw(slots) == (Draw(out, 2), Draw(out, -1), Draw(out, -1))
        assert [installation.client.hget(units_key(one.offer_id), "t:stock") for one in capped] == [b"2", b"2"]

    run([*capped, other()], script)


def test_offers_exclude_and_require_each_other_within_one_decision(run: Run) -> None:
    first = other()
    rival = offer(Limits(excludes=(first.offer_id,), relation_days=2.0))
    sequel = offer(Limits(requires=(first.offer_id,), relation_days=2.0))
    customer = f"m{next(_numbers)}"

    async def script(shop: Shop) -> None:
        drawn = await Slots(shop).draw([even(3)] * 3, customer=customer)
        assert drawn == (Draw(((2, 4),), 0, COUNTED), Draw(((1, 3),), 2, COUNTED), Draw(((1, 3),), -1))

    run([first, rival, sequel], script)


def test_a_slot_takes_from_the_highest_priority_that_is_left_to_it(run: Run) -> None:
    tiers = (2, 1, 1)

    async def script(shop: Shop) -> None:
        drawn = await Slots(shop).draw([even(3, tiers=tiers, excluded=frozenset({2}))] * 2)
        assert drawn == (Draw(((1, 5),), 0, HOLDS_STOCK), Draw((), 1))

    run([offer(Limits(stock=1)), other(), other()], script)


weights = st.lists(st.floats(1e-6, 1.0), min_size=5, max_size=5)
one_slot = st.tuples(st.floats(0.0, 0.9999999), st.sets(st.integers(0, 4)), st.booleans())


def test_script_and_arithmetic_agree_to_the_bit_over_several_slots(
    run: Run, installation: Installation, make_decision: Callable[..., Decision]
) -> None:
    offers = [offer(Limits(stock=0)) for _ in range(5)]
    held = entries(offers)
    cases: list[tuple[list[SlotDraw], frozenset[int]]] = []

    @settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
    @given(
        weights, st.lists(one_slot, min_size=1, max_size=5), st.sets(st.integers(0, 4)),
        st.none() | st.lists(st.integers(0, 2), min_size=5, max_size=5), st.floats(0.0, 0.5), st.floats(0.0, 0.5),
        st.lists(st.booleans(), min_size=5, max_size=5), st.booleans(),
    )  # fmt: skip
    def collect(
        masses: list[float], asked: list[Any], out: set[int], tiers: list[int] | None, floor: float, share: float,
        promoted: list[bool], preferred: bool,
    ) -> None:  # fmt: skip
        slots = []
        for number, excluded, turned in asked:
            own = masses[::-1] if turned else masses
            policy = tuple(mass / sum(own) for mass in own)
            served = with_promotion(with_floor(policy, floor), promoted, share)
            slots.append(
                SlotDraw(served, number, tuple(tiers) if tiers else None, preferred, policy, floor, share,
                         tuple(promoted), frozenset(excluded))
            )  # fmt: skip
        cases.append((slots, frozenset(out)))

    collect()

    async def script(shop: Shop) -> None:
        for slots, out in cases:
            decision = make_decision(f"u{next(_numbers)}", served=slots[0].served)
            chosen = tuple((index, held[offers[index].offer_id]) for index in sorted(out))
            message = events.encode("decision", datetime.now(UTC), events.limited_payload(decision, FALLBACK))
            limited = LimitedDraw(tuple(slots), NOW, None, chosen)
            logged = await shop.writer.log_decision("units", decision.decision_id, message, "h", 3600, limited)
            expected = draw_slots(slots, dict.fromkeys(sorted(out), 1))
            assert logged.draws == expected
            shown = [drawn.chosen for drawn in expected if drawn.chosen >= 0]
            assert len(set(shown)) == len(shown)

    run(offers, script)
