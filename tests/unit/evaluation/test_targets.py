"""What other policies would have done: the campaign manager's, and all of them where offers were used up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contextual_bandit.limits import CAP_EXHAUSTED, Draw, resolve
from contextual_bandit.loops import BaselineSetting
from contextual_bandit.types import Action, LoggedInteraction, SlotDecision
from evaluation import report
from evaluation.chunks import CHUNK_SIZE
from evaluation.evaluate import Choices
from evaluation.evaluate import evaluate as evaluate_log
from evaluation.interactions import Interactions
from evaluation.targets import STANDARD_TARGETS, baseline


def evaluate(interactions, targets=STANDARD_TARGETS, *, chunk_size=CHUNK_SIZE, model=None, progress=None, **chosen):
    log = Interactions(interactions, chunk_size)
    return evaluate_log(log, targets, Choices(**chosen), model=model, progress=progress)


SyntheticLog = Callable[..., list[LoggedInteraction]]
RATES, TRUE = (0.2, 0.3, 0.1), (0.6, 0.2, 0.2)
BASELINE = BaselineSetting(threshold=1.0, top_n=1, priority=("gone", "a2"))
FALLBACK = Action("no-offer", {"type": "none"})


def with_affinities(log: Sequence[LoggedInteraction], *affinities: float) -> list[LoggedInteraction]:
    """Each decision's actions with these affinities."""
    changed = []
    for one in log:
        pairs = zip(one.decision.actions, affinities, strict=True)
        actions = tuple(replace(action, affinity={"r16": value}) for action, value in pairs)
        changed.append(replace(one, decision=replace(one.decision, actions=actions)))
    return changed


def used_up(log: Sequence[LoggedInteraction], index: int) -> list[LoggedInteraction]:
    """The log as if one action's cap had been exhausted; decisions that chose it are left out."""
    changed = []
    for one in log:
        slot = one.decision.slots[0]
        if slot.chosen != index:
            drawn = Draw(((index, CAP_EXHAUSTED),), slot.chosen)
            changed.append(replace(one, decision=resolve(one.decision, drawn, FALLBACK)))
    return changed


def test_the_baseline_is_valued_by_the_offers_it_would_show(synthetic_log: SyntheticLog) -> None:
    log = [
        *with_affinities(synthetic_log(20000, RATES, TRUE), 1.5, 2.0, 0.0),
        *with_affinities(synthetic_log(20000, RATES, TRUE, seed=1), 0.5, 1.0, 0.0),
    ]
    value = evaluate(log, {"baseline": baseline(BASELINE)}).policy("baseline").estimates["snips"].value
    assert value == pytest.approx((RATES[1] + RATES[2]) / 2, abs=0.02)


def test_what_was_used_up_is_no_choice_of_any_policy(synthetic_log: SyntheticLog) -> None:
    log = used_up(with_affinities(synthetic_log(4000, RATES, TRUE), 9.0, 5.0, 3.0), 0)
    found = evaluate(log, {**STANDARD_TARGETS, "baseline": baseline(replace(BASELINE, top_n=2))})
    for name in ("logged", "uniform", "first", "baseline"):
        assert found.policy(name).weights.unsupported_mass == 0.0, name
    rewards = {code: [one.reward for one in log if one.decision.slots[0].chosen == code] for code in (1, 2)}
    first, second = (float(np.mean(rewards[code])) for code in (1, 2))
    values = {name: found.policy(name).estimates["snips"].value for name in ("first", "baseline", "uniform")}
    assert values["first"] == values["baseline"] == pytest.approx(first)
    assert values["uniform"] == pytest.approx((first + second) / 2, abs=0.01)


def test_nothing_is_left_out_where_the_policy_itself_gave_nothing(synthetic_log: SyntheticLog) -> None:
    """An offer that the policy never shows was still a choice, so that a policy which shows it has no support."""
    found = evaluate(synthetic_log(2000, RATES, (0.7, 0.3, 0.0)))
    assert found.policy("uniform").weights.unsupported_mass == pytest.approx(1 / 3)


def test_fallbacks_and_holdouts_pass_through_reports(synthetic_log: SyntheticLog, tmp_path: Path) -> None:
    log = synthetic_log(900, RATES, TRUE)
    for number in range(0, 900, 3):
        decision = log[number].decision
        if number % 2:
            bare = replace(decision, actions=(FALLBACK,), slots=(SlotDecision(0, None, None, None),), use="fallback")
            log[number] = replace(log[number], decision=bare, use="fallback")
        else:
            log[number] = replace(log[number], decision=replace(decision, use="holdout"), use="holdout")
    found = evaluate(log, {**STANDARD_TARGETS, "baseline": baseline(BASELINE)}, fixed_offers=9)
    assert found.n == 600
    assert found.skipped == {"fallback": 150, "holdout": 150}
    assert "offer:no-offer" not in {policy.name for policy in found.policies}
    assert report.write(found, tmp_path).exists()
    nothing = evaluate([one for one in log if one.use == "fallback"], {"baseline": baseline(BASELINE)})
    assert (nothing.n, nothing.verdict) == (0, "refused")
    assert report.write(nothing, tmp_path / "nothing").exists()
