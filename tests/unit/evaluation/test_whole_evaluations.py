"""Whole evaluations: a loop with a holdout, decisions of several slots, logs of numbers alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from contextual_bandit.decide import Choice, Moment, ServingPolicy, decide_slots
from contextual_bandit.limits import draw_slots
from contextual_bandit.loops import BaselineSetting, Holdout, LoopConfig
from contextual_bandit.policy import UniformPolicy
from contextual_bandit.slots import Slate, SlotAsked
from contextual_bandit.types import Action, Context, LoggedInteraction
from evaluation import __main__ as command
from evaluation import report
from evaluation.evaluate import Choices, HoldoutArm, evaluate
from evaluation.holdout import HoldoutLog, holdout_target
from evaluation.interactions import Interactions
from evaluation.targets import fixed_offer

SyntheticLog = Callable[..., list[LoggedInteraction]]
BASELINE = BaselineSetting(priority=("a0",))
AT = datetime(2026, 3, 1, tzinfo=UTC)
LOOP = LoopConfig("drawer", exploration_floor=0.0)


def test_the_holdout_stands_beside_the_estimate(synthetic_log: SyntheticLog) -> None:
    served = synthetic_log(7000, (0.2, 0.5), (0.4, 0.6), seed=1)
    held_out = synthetic_log(3000, (0.2, 0.5), (1.0, 0.0), seed=2, use="holdout")
    log = []
    for number, (one, name) in enumerate([*((each, "s") for each in served), *((each, "h") for each in held_out)]):
        customer, decision_id = f"{name}{number % (1400 if name == 's' else 600)}", f"{name}-{number}"
        log.append(replace(one, decision=replace(one.decision, customer_id=customer, decision_id=decision_id)))
    watched = HoldoutLog()
    arm = HoldoutArm(watched, holdout_target(Holdout(0.3), BASELINE, "no-offer"), 0.3)
    found = evaluate(Interactions(watched.watch(log)), {"one": fixed_offer("b1")}, holdout=arm)
    assert found.reconciliation is not None
    assert found.reconciliation.agreement == "agree"
    assert found.reconciliation.observed is not None
    assert found.reconciliation.observed.value == pytest.approx(0.18, abs=0.04)
    assert found.skipped == {"holdout": 3000}
    assert {policy.name for policy in found.policies} == {"logged", "one"}
    assert report.to_json(found)["holdout"]["agreement"] == "agree"
    assert "Reconciliation with the holdout" in report.to_html(found)


def slates(n: int, rates: tuple[float, ...], seed: int) -> list[LoggedInteraction]:
    """Two slots drawn evenly without replacement; the second is clicked half as often."""
    rng, log = np.random.default_rng(seed), []
    actions = tuple(Action(f"o{index}", {}) for index in range(len(rates)))
    serving = ServingPolicy(UniformPolicy(), "p", "s")
    asked = (SlotAsked("top"), SlotAsked("below"))
    for number in range(n):
        moment = Moment(f"d{seed}-{number}", None, AT, AT, False, "h")
        drawn = decide_slots(LOOP, serving, moment, Choice(Context({}), actions, (), Action("no-offer", {})), asked)
        assert isinstance(drawn, Slate)
        decision = drawn.resolved(draw_slots(drawn.draws, {}))
        chances = [rates[slot.chosen] * weight for slot, weight in zip(decision.slots, (1.0, 0.5), strict=True)]
        rewards = tuple((rng.random(2) < chances).astype(float).tolist())
        closed = AT + timedelta(seconds=number)
        log.append(LoggedInteraction(number + 1, decision, sum(rewards), "learn", closed, slot_rewards=rewards))
    return log


def test_slots_have_values_of_their_own_and_slates_one_together() -> None:
    rates = (0.1, 0.2, 0.6)

    def best_first(chunk):
        """The best offer that is left."""
        target = np.zeros(len(chunk.row))
        worth = np.where(chunk.served > 0.0, np.array(rates)[chunk.offer], -1.0)
        for first, last in zip(chunk.first, [*chunk.first[1:], len(chunk.row)], strict=True):
            target[first + int(np.argmax(worth[first:last]))] = 1.0
        return target

    found = evaluate(Interactions(slates(6000, rates, seed=1)), {"best": best_first})
    assert found.n == 12_000
    assert found.notes == ("6,000 decisions filled several slots; each slot is a row here",)
    best = found.policy("best")
    # Slot 1 shows the best; slot 2, below what was logged, the best of what is left.
    assert found.slots is not None
    first, second = found.slots.dimensions["slot"]
    assert (first.name, second.name) == ("1", "2")
    assert first.values["best"].value == pytest.approx(0.6, abs=0.03)
    below = 0.5 * (2 / 3 * 0.6 + 1 / 3 * 0.2)
    assert second.values["best"].value == pytest.approx(below, abs=0.03)
    # The whole slate shows both of the policy's own: 0.6, and below it half of 0.2.
    slate = best.slates["ips"]
    assert slate.n == 6000
    assert slate.value == pytest.approx(0.7, abs=0.06)
    assert slate.low < 0.7 < slate.high
    assert found.policy("logged").slates["ips"].value == pytest.approx(0.3 + 0.15, abs=0.03)
    page = report.to_html(found)
    assert "Whole slates" in page
    assert report.to_json(found)["policies"]["best"]["slates"]["ips"]["value"] == slate.value


def test_slots_count_one_by_one_on_both_sides_of_a_holdout() -> None:
    """Both arms were drawn alike, so that nothing is gained; a slate's sum against a slot's reward would show a loss."""
    log = []
    for number, one in enumerate(slates(3000, (0.4, 0.4), seed=3)):
        is_held_out = number % 500 < 150
        decision = replace(one.decision, customer_id=f"c{number % 500}")
        log.append(replace(one, decision=decision, use="holdout" if is_held_out else "learn"))
    watched = HoldoutLog()
    arm = HoldoutArm(watched, lambda chunk: chunk.served, 0.3)
    found = evaluate(Interactions(watched.watch(log)), {"one": fixed_offer("o0")}, holdout=arm).reconciliation
    assert found is not None
    assert (found.learned, found.held_out) == (4200, 1800)
    assert found.observed is not None
    # Four standard errors; whether a 95% interval agrees is chance in one log of twenty, and tested over many elsewhere.
    assert found.observed.value == pytest.approx(0.0, abs=0.05)


def test_only_the_estimators_that_are_asked_for_are_computed(synthetic_log: SyntheticLog) -> None:
    log = synthetic_log(2000, (0.2, 0.5), (0.4, 0.6))
    found = evaluate(Interactions(log), {"one": fixed_offer("b1")}, Choices(estimators=("ips", "snips")))
    assert list(found.policy("one").estimates) == ["ips", "snips", "dr"]
    whole = evaluate(Interactions(log), {"one": fixed_offer("b1")})
    assert whole.policy("one").estimates["snips"] == found.policy("one").estimates["snips"]
    assert whole.policy("one").difference == found.policy("one").difference
    with pytest.raises(ValueError, match="estimator 'magic'"):
        Choices(estimators=("magic",))
    with pytest.raises(ValueError, match="no estimator"):
        Choices(estimators=())


def flat(path: Path, n: int = 3000) -> Path:
    """A log of the chosen actions alone: numbers, and nothing to choose from."""
    rng = np.random.default_rng(5)
    propensity = rng.choice([0.3, 0.7], n, p=[0.3, 0.7])
    with path.open("w", encoding="utf-8") as file:
        for row in range(n):
            weight = 0.5 / 0.3 if propensity[row] == 0.3 else 0.5 / 0.7
            line = {
                "event_id": f"e{row}", "ts": "2026-03-01T00:00:00Z", "propensity": float(propensity[row]),
                "reward": float(rng.random() < (0.6 if propensity[row] == 0.3 else 0.2)),
                "target_prob": weight * float(propensity[row]), "q_chosen": 0.3, "q_target": 0.3,
            }  # fmt: skip
            file.write(json.dumps(line) + "\n")
    return path


def test_a_log_of_numbers_alone_is_judged_by_its_own_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = flat(tmp_path / "flat.jsonl"), tmp_path / "out.json"
    words = ["--log", str(path), "--q", "column:q_chosen", "--json", str(out)]
    assert command.main([*words, "--target", "column:target_prob"]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["verdict"] == "better"
    assert found["estimates"]["ips"]["value"] == pytest.approx(0.4, abs=0.04)
    out.unlink()
    assert command.main([*words, "--target", "uniform"]) == 2
    assert "'uniform' cannot be evaluated" in capsys.readouterr().err
    assert not out.exists()
