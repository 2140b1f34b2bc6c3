"""What the adapter translates: times, durations, features, arguments, exclusions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.personalizer_settings import with_epsilon
from contextual_bandit.features import BadFeature
from contextual_bandit.vowpal import BadArguments
from decision_service.personalizer_features import anonymous, context_features, merged, shown_name
from decision_service.personalizer_policy import DEFAULT_ARGUMENTS, served_policy
from decision_service.personalizer_rank import exclusions
from decision_service.personalizer_shapes import SlotBody
from decision_service.personalizer_times import format_duration, format_time, parse_duration, parse_time


@given(st.timedeltas(min_value=timedelta(), max_value=timedelta(days=40_000)))
def test_a_duration_is_read_back(duration: timedelta) -> None:
    assert abs(parse_duration(format_duration(duration)) - duration) < timedelta(microseconds=2)


@pytest.mark.parametrize("text", ["", "P", "PT", "10M", "PT10", "-PT5S", "P1Y", "P1M", None, 5, "P999999999999D"])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    "text",
    ["2022-09-20", "2022-09-20T00:00:00Z", "2022-09-20T02:00:00+02:00", "2022-09-20T02:00:00 02:00",
     "2022-09-20T00:00:00.0000000Z", "2022-09-20T00:00:00"],
)  # fmt: skip
def test_times_of_every_form(text: str) -> None:
    assert parse_time(text) == datetime(2022, 9, 20, tzinfo=UTC)
    assert format_time(parse_time(text)) == "2022-09-20T00:00:00Z"


@pytest.mark.parametrize("text", ["", "now", "2022", "2022-13-01", None, 20220920])
def test_what_is_no_time_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"time|month|isoformat"):
        parse_time(text)


def test_the_order_of_objects_does_not_matter() -> None:
    objects = [{"a": 1, "t": "x"}, {"t": "y", "n": {"k": [1, 2]}}, {"a": 2.5, "n": {"k": [1], "z": True}}]
    assert merged(objects, "f") == merged(objects[::-1], "f")
    assert merged(objects, "f") == {"a": 3.5, "t=x": 1.0, "t=y": 1.0, "n": {"k": [2, 2], "z": True}}


def test_identity_never_reaches_a_policy() -> None:
    features = {"user": {"phone": "1", "kind": "new"}, "email": "a@b.example", "note": "me@shop.example"}
    assert anonymous(features) == {"user": {"kind": "new"}}
    assert context_features([features, {"FromUrl": {"ip": 1, "page": 2}}]) == {
        "user": {"kind": "new"}, "FromUrl": {"page": 2},
    }  # fmt: skip


@pytest.mark.parametrize("entry", [{"": 1}, {"n": {"": 1}}])
def test_an_empty_name_is_refused(entry: dict[str, object]) -> None:
    with pytest.raises(BadFeature):
        merged([entry], "f")


def test_names_are_shown_as_the_original_did() -> None:
    assert shown_name("W.condition=rain") == ("weather", "condition=rain")
    assert shown_name("O.price=1.5") == ("j", "price=1.5")


def test_exploration_is_the_floor_alone() -> None:
    served = served_policy(DEFAULT_ARGUMENTS)
    assert (served.epsilon, served.is_multi_slot) == (0.2, False)
    assert "--epsilon 0 " in served.arguments + " "
    assert served_policy("--cb_explore_adf --squarecb --epsilon 0.1").arguments == "--cb_explore_adf --squarecb"
    slots = served_policy("--ccb_explore_adf --epsilon=0.1 -q ::")
    assert slots.is_multi_slot
    # Its own epsilon is the loop's floor, which holds at once when it changes.
    assert (slots.arguments, slots.epsilon) == ("--ccb_explore_adf -q ::", 0.1)
    assert served_policy("--ccb_explore_adf --squarecb --epsilon 0.1").arguments == "--cb_explore_adf --squarecb"


@pytest.mark.parametrize("text", ["", "--cb_explore_adf --epsilon x", "--cb_explore_adf -d x", "--cb_explore_adf '"])
def test_unusable_arguments(text: str) -> None:
    with pytest.raises(BadArguments):
        served_policy(text)


def test_epsilon_is_put_where_it_stood() -> None:
    assert with_epsilon("--cb_explore_adf --epsilon=0.2 -q ::", 0.25) == "--cb_explore_adf --epsilon=0.25 -q ::"


@given(st.data())
def test_whatever_earlier_slots_show_every_slot_is_left_something(data: st.DataObject) -> None:
    names = list("abcdef")[: data.draw(st.integers(1, 6))]
    baselines = data.draw(st.permutations(names))[: data.draw(st.integers(1, len(names)))]
    slots = [
        SlotBody(
            id=name, baseline_action=name, excluded_actions=sorted(data.draw(st.sets(st.sampled_from(names))) - {name})
        )
        for name in baselines
    ]
    shown: set[str] = set()
    for slot, out in zip(slots, exclusions(slots, names), strict=True):
        assert set(slot.excluded_actions) <= set(out)
        left = sorted(set(names) - shown - set(out))
        assert left, (slots, shown)
        shown.add(data.draw(st.sampled_from(left)))
