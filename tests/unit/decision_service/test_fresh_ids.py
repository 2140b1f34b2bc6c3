"""Ids of decisions: random UUIDs, however many are asked for."""

from __future__ import annotations

from uuid import RFC_4122, UUID

from decision_service.fresh_ids import IDS_AT_ONCE, FreshIds


def test_ids_are_version_4_and_differ_also_from_another_makers() -> None:
    one, other = FreshIds(), FreshIds()
    found = [maker.next() for maker in (one, other) for _ in range(3 * IDS_AT_ONCE + 1)]
    assert len(set(found)) == len(found)
    for text in found:
        parsed = UUID(text)
        assert str(parsed) == text
        assert (parsed.version, parsed.variant) == (4, RFC_4122)


def test_every_digit_varies() -> None:
    maker = FreshIds()
    found = [maker.next() for _ in range(1000)]
    for place in range(36):
        seen = {text[place] for text in found}
        expected = {8: {"-"}, 13: {"-"}, 18: {"-"}, 23: {"-"}, 14: {"4"}, 19: set("89ab")}
        assert seen == expected.get(place, set("0123456789abcdef"))
