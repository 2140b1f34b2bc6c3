"""What namespaces are worth: an informative one is found, and one of noise is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from contextual_bandit.loops import LoopConfig
from contextual_bandit.types import Context, LoggedInteraction
from evaluation.feature_report import FeatureReport, feature_report, in_words, to_json
from evaluation.interactions import Interactions

ContextualLog = Callable[..., list[LoggedInteraction]]
LOOP = LoopConfig("homepage", arguments="--cb_explore_adf --epsilon 0.1 --cb_type mtr -q :O")


@pytest.fixture
def log(contextual_log: ContextualLog) -> list[LoggedInteraction]:
    made = []
    for one in contextual_log(2500):
        spaces = dict(one.decision.context.namespaces)
        spaces["D"] = {**spaces["D"], "household_size": float(one.sequence % 4)}
        made.append(replace(one, decision=replace(one.decision, context=Context(spaces))))
    return made


def report_of(log: list[LoggedInteraction], **named: object) -> FeatureReport:
    return feature_report(Interactions(log), LOOP, processes=1, **named)  # type: ignore[arg-type]


def test_the_informative_namespace_is_found_and_noise_is_not(log: list[LoggedInteraction]) -> None:
    found = report_of(log)
    assert (found.loop, found.n, found.level) == ("homepage", 2500, 0.95)
    assert found.worth[0].name == "D"
    worth = {one.name: one for one in found.worth}
    assert set(worth) == {"D", "O", "W"}
    assert worth["D"].shown
    assert 0.05 < worth["D"].lost.low < worth["D"].lost.value < 0.4
    for name in ("O", "W"):
        assert not worth[name].shown
        assert worth[name].lost.low < 0.02
    assert in_words(found) == "Leaving out D costs reward, of 3 tried."


def test_single_features_are_told_apart(log: list[LoggedInteraction]) -> None:
    found = report_of(log, features=True)
    worth = {one.name: one for one in found.worth}
    # O and W have one feature each, which is the namespace.
    assert set(worth) == {"D", "O", "W", "D.age_band", "D.household_size"}
    assert worth["D.age_band"].shown
    assert not worth["D.household_size"].shown
    told = to_json(found)
    assert told["worth"][0]["name"] in ("D", "D.age_band")
    assert told["worth"][0]["lost"]["low"] > 0.0
    assert told["in_words"] == in_words(found)


def test_more_names_make_wider_intervals(log: list[LoggedInteraction]) -> None:
    alone, beside = report_of(log[:1000], names=["W"]), report_of(log[:1000], names=["W", "D", "O", "D.age_band"])
    one, other = alone.worth[0].lost, {each.name: each for each in beside.worth}["W"].lost
    assert one.value == other.value
    assert one.high - one.low < other.high - other.low


def test_bad_names_are_refused(log: list[LoggedInteraction]) -> None:
    with pytest.raises(ValueError, match=r"no namespace or feature 'X'; it has D, O, W, D\.age_band"):
        report_of(log[:50], names=["X"])
    with pytest.raises(ValueError, match=r"level 1\.0 is outside"):
        report_of(log[:50], level=1.0)


def test_estimated_propensities_show_nothing(log: list[LoggedInteraction]) -> None:
    source = Interactions(log[:1000])
    source.found.estimated = True
    found = feature_report(source, LOOP, names=["D"], processes=1)
    assert not found.worth[0].shown
    assert found.worth[0].doubts == ("the propensities are estimates",)


def test_an_empty_log_has_nothing_to_leave_out() -> None:
    assert in_words(report_of([])) == "No namespace or feature could be left out: the log holds none."
