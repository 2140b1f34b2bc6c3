"""A model trained here, in plain Vowpal Wabbit: the log's own probabilities, from the stored bytes and the export."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import fsum
from pathlib import Path
from typing import Any

import pytest
from vowpalwabbit.pyvw import Workspace

from adapters.recorded_interactions import read_recorded
from contextual_bandit import events
from contextual_bandit.decide import Choice, Moment, ServingPolicy, decide, decide_slots, serve
from contextual_bandit.limits import draw as draw_one
from contextual_bandit.limits import draw_slots, resolve
from contextual_bandit.loops import RewardDefinition
from contextual_bandit.slots import Slate, SlotAsked, slot_view
from contextual_bandit.types import Action, Context, Decision, Features, OwnChoice, PolicySnapshot
from contextual_bandit.vowpal import VowpalPolicy
from learner.export_dsjson import lines

START = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
FALLBACK = Action("no-offer", {"type": "none"})
# Names and words that must be escaped, and affinity that is sometimes 0.
OFFERS: dict[str, Features] = {
    "sofa: red|large": {"category": "furniture", "discount": 0.15, "new": True},
    "lampe d'été": {"category": "lights 50%", "discount": 0.3, "new": False},
    "rug": {"category": "textile", "price.band": 3.0},
    "plant": {},
}
SQUARECB = "--cb_explore_adf --squarecb --gamma_scale 100 --cb_type mtr -q ::"
SOFTMAX = "--cb_explore_adf --softmax --lambda 3 --cb_type dm --interactions HOA -b 20"
DECISIONS = 240
# SquareCB's gamma grows with the square root of what was learned (Foster and Rakhlin 2020), three slots at most.
MOST_GAMMA = 100.0 * (3 * DECISIONS) ** 0.5


def asked(chance: random.Random) -> Choice:
    namespaces: dict[str, Features] = {
        "H": {"segment": chance.choice(["new", "both"]), "visits": chance.choice([0.0, 1.0, 0.1, 17.0])},
        "under way: é": {"device": chance.choice(["phone", "a=b c:d|e"]), "app": chance.random() < 0.5},
    }
    actions = [
        Action(name, features, {"r16": chance.choice([0.0, 1.0 / 3.0, 2.7])}, promoted=name == "rug")
        for name, features in OFFERS.items()
    ]
    chance.shuffle(actions)
    return Choice(Context(namespaces), actions[: chance.randint(2, 4)], (), FALLBACK)


def moment(decision_id: str) -> Moment:
    return Moment(decision_id, None, START, START, False, "h")


def decided(loop: Any, serving: ServingPolicy, number: int, chance: random.Random) -> Decision:
    """One decision, often with offers whose stock ran out at the draw."""
    choice = asked(chance)
    decision = decide(loop.config, serving, moment(f"d{number}"), choice)
    exhausted = {index: 1 for index in range(len(choice.actions)) if chance.random() < 0.2}
    slot = decision.slots[0]
    assert slot.distribution is not None
    assert slot.draw is not None
    return resolve(decision, draw_one(slot.distribution.served, slot.draw, exhausted), FALLBACK)


def decided_slots(loop: Any, serving: ServingPolicy, number: int, chance: random.Random) -> Decision:
    """One decision with slots, of which the last may find nothing left."""
    choice = asked(chance)
    slots = [SlotAsked("top", {"size": 2.0}), SlotAsked("low", {"size": "small"}, exclude=("rug",)), SlotAsked("last")]
    slate = decide_slots(loop.config, serving, moment(f"s{number}"), choice, slots)
    assert isinstance(slate, Slate)
    return slate.resolved(draw_slots(slate.draws, {0: 1} if chance.random() < 0.2 else {}))


def serving_of(snapshot: PolicySnapshot) -> tuple[VowpalPolicy, ServingPolicy]:
    policy = VowpalPolicy(snapshot.setting, snapshot.model)
    return policy, ServingPolicy(policy, snapshot.policy_id, snapshot.snapshot_id)


def play(loop: Any, decide_one: Callable[..., Decision]) -> None:
    """Two rounds of decisions: the second by what was learned from the first."""
    chance, seconds = random.Random(11), 0
    for number in range(DECISIONS):
        if number in (0, 200):
            snapshot = loop.stores.snapshots.newest(loop.name, published=True)
            policy, serving = serving_of(snapshot)
        decision = decide_one(loop, serving, number, chance)
        seconds += 1
        loop.send(seconds, events.DECISION, events.decision_payload(decision))
        segment = decision.context.namespaces["H"]["segment"]
        for index, slot in enumerate(decision.slots):
            liked = "rug" if segment == "new" else "plant"
            name = slot.slot_id or None
            payload = events.outcome_payload(
                f"o{loop.name}{number}-{index}", decision.decision_id, "value",
                float(decision.shown(index).offer_id == liked), False, name,
            )  # fmt: skip
            loop.send(seconds, events.OUTCOME, payload)
        if number in (199, 239):
            policy.close()
            seconds += 1000
            loop.tick(seconds).run()
            seconds += 1000
            loop.tick(seconds).run()


def nearly(probabilities: Sequence[float], arguments: str) -> Any:
    """Equal, but for single precision: sums in another order differ in a last bit or two.

    SquareCB multiplies that: of p = 1 / (K + gamma * gap) the error is gamma * p**2 times that of the gap.
    """
    second = sorted(probabilities)[-2] if len(probabilities) > 1 else 0.0
    blown = MOST_GAMMA * second**2 * 2.0**-22 if "--squarecb" in arguments else 0.0
    return pytest.approx(probabilities, abs=1e-6 + blown)


@contextmanager
def plain_vowpal(arguments: str, model: bytes, folder: Path) -> Iterator[Workspace]:
    """Plain Vowpal Wabbit on a model's bytes, which learns nothing."""
    path = folder / "model.vw"
    path.write_bytes(model)
    workspace = Workspace(f"{arguments} -t --quiet --dsjson -i {path}")
    try:
        yield workspace
    finally:
        workspace.finish()


def predicted(workspace: Workspace, line: Mapping[str, Any]) -> list[float]:
    examples = workspace.parse(json.dumps(line))
    try:
        found: Sequence[float] = workspace.predict(examples)
    finally:
        workspace.finish_example(examples)
    return [one / fsum(found) for one in found]


def exported(loop: Any) -> list[dict[str, Any]]:
    found = lines(read_recorded(loop.stores.engine, loop.name), None, None, Counter())
    return [json.loads(line) for line in found]


def trained(drive: Callable[..., Any], arguments: str, decide_one: Callable[..., Decision]) -> Any:
    loop = drive(
        arguments=arguments, exploration_floor=0.1, promoted_share=0.2, export_frequency_seconds=0.0,
        reward=RewardDefinition(wait_seconds=60.0, aggregation="sum"),
    )  # fmt: skip
    play(loop, decide_one)
    return loop


@pytest.mark.parametrize("arguments", [SQUARECB, SOFTMAX])
def test_plain_vowpal_wabbit_gives_the_probabilities_of_the_log(
    drive: Callable[..., Any], tmp_path: Path, arguments: str
) -> None:
    loop = trained(drive, arguments, decided)
    log = {one.decision.decision_id: one.decision for one in loop.log()}
    checked, masked, spread = 0, 0, 0.0
    by_snapshot: dict[str, list[dict[str, Any]]] = {}
    for line in exported(loop):
        by_snapshot.setdefault(line["VWState"]["m"], []).append(line)
    assert len(by_snapshot) == 2, "decisions of the untrained model and of the one that learned"
    for snapshot_id, found in by_snapshot.items():
        model = loop.stores.snapshots.get(snapshot_id).model
        with plain_vowpal(arguments, model, tmp_path) as workspace:
            for line in found:
                decision = log[line["EventId"]]
                given = predicted(workspace, line)
                slot = decision.slots[0]
                assert slot.distribution is not None
                assert given == nearly(slot.distribution.policy, arguments)
                # Floor, promotion and what ran out make of them what was drawn from.
                served = serve(loop.config, decision, given)
                assert served == nearly(slot.distribution.served, arguments)
                assert line["_label_probability"] == slot.propensity
                told = dict(zip((one - 1 for one in line["a"]), line["p"], strict=True))
                assert [told[index] for index in range(len(told))] == list(slot.distribution.served)
                checked += 1
                masked += 0.0 in slot.distribution.served
                spread = max(spread, max(given) - min(given))
    assert checked == sum(one.use == "learn" for one in log.values()) > 200
    assert masked > 20
    assert spread > 0.3, "a policy that prefers nothing would agree with anything"


def test_learning_the_export_is_learning_what_was_learned_here(drive: Callable[..., Any], tmp_path: Path) -> None:
    loop = trained(drive, SQUARECB, decided)
    path = tmp_path / "export.json"
    path.write_text("".join(json.dumps(line) + "\n" for line in exported(loop)))
    learned = Workspace(f"{SQUARECB} --quiet --dsjson -d {path} -f {tmp_path / 'again.vw'}")
    learned.finish()
    snapshot = loop.stores.snapshots.newest(loop.name, published=True)
    chance = random.Random(2)
    own, _ = serving_of(snapshot)
    again = VowpalPolicy(snapshot.setting, (tmp_path / "again.vw").read_bytes())
    with closing(own), closing(again):
        for _ in range(50):
            choice = asked(chance)
            expected = own.distribution(choice.context, choice.actions)
            assert again.distribution(choice.context, choice.actions) == pytest.approx(expected, abs=1e-4)


def test_slots_are_exported_with_what_each_was_drawn_from(drive: Callable[..., Any], tmp_path: Path) -> None:
    loop = trained(drive, SQUARECB, decided_slots)
    log = {one.decision.decision_id: one for one in loop.log()}
    found = exported(loop)
    assert len(found) == len(log) == DECISIONS
    bare = 0
    for line in found:
        one = log[line["EventId"]]
        assert list(line).index("_outcomes") > list(line).index("c"), "Vowpal Wabbit reads slots first"
        snapshot = loop.stores.snapshots.get(one.decision.snapshot_id)
        filled = [slot for slot in one.decision.slots if slot.distribution is not None]
        bare += len(one.decision.slots) - len(filled)
        assert [slot["_id"] for slot in line["c"]["_slots"]] == [slot.slot_id for slot in filled]
        for slot, outcome in zip(filled, line["_outcomes"], strict=True):
            assert outcome["_id"] == slot.slot_id
            index = slot.index
            assert slot.distribution is not None
            assert outcome["_a"][0] == slot.chosen
            assert outcome["_p"][0] == slot.propensity
            assert outcome["_label_cost"] == -one.slot_rewards[index]
            assert dict(zip(outcome["_a"], outcome["_p"], strict=True)) == {
                place: share for place, share in enumerate(slot.distribution.served) if share > 0.0
            }
            if line["EventId"] in ("s0", "s210", "s239"):
                check_slot(loop, snapshot, slot_view(one.decision, index), line, tmp_path)
    assert bare > 5
    path = tmp_path / "export.json"
    path.write_text("".join(json.dumps(line) + "\n" for line in found))
    workspace = Workspace(f"--ccb_explore_adf --epsilon 0.2 -q :: --quiet --dsjson -d {path}")
    assert workspace.get_weighted_examples() == DECISIONS
    assert workspace.get_sum_loss() < 0.0
    workspace.finish()


def check_slot(loop: Any, snapshot: PolicySnapshot, view: Decision, line: Mapping[str, Any], folder: Path) -> None:
    """One slot as a plain line, with its features in the context: plain Vowpal Wabbit gives the slot's policy."""
    slot = view.slots[0]
    assert slot.distribution is not None
    (own,) = [one for one in line["c"]["_slots"] if one["_id"] == slot.slot_id]
    shared = {name: value for name, value in line["c"].items() if name != "_slots"}
    features = {name: value for name, value in own.items() if not name.startswith("_")}
    with plain_vowpal(SQUARECB, snapshot.model, folder) as workspace:
        ranking = list(range(1, len(view.actions) + 1))
        given = predicted(workspace, {"EventId": "x", "a": ranking, "c": {**features, **shared}})
    assert given == nearly(slot.distribution.policy, SQUARECB)
    served = serve(loop.config, view, given)
    assert served == nearly(slot.distribution.served, SQUARECB)


def test_what_no_policy_may_learn_is_marked_and_what_was_not_drawn_is_left_out(drive: Callable[..., Any]) -> None:
    loop = drive(reward=RewardDefinition(wait_seconds=60.0))
    loop.decide(0, "learned").decide(1, "held", use="holdout")
    bare = loop.make_decision("bare", loop=loop.name, use="fallback")
    slot = replace(bare.slots[0], distribution=None, propensity=None, draw=None)
    loop.send(2, events.DECISION, events.decision_payload(replace(bare, slots=(slot,))))
    # An apprentice learned its own choice, not what was served.
    watched = loop.make_decision("watched", loop=loop.name, use="baseline")
    given = watched.slots[0].distribution
    assert given is not None
    own = OwnChoice(1, given, given.served[1], 0.9)
    loop.send(3, events.DECISION, events.decision_payload(replace(watched, own=(own,))))
    loop.tick(500).run()
    counts: Counter[str] = Counter()
    found = [json.loads(line) for line in lines(read_recorded(loop.stores.engine, loop.name), None, None, counts)]
    skipped = {line["EventId"]: line.get("_skipLearn", False) for line in found}
    assert skipped == {"learned": False, "held": True, "watched": True}
    assert counts == {"written": 3, "undrawn": 1}
    assert list(found[0]).index("_label_cost") < list(found[0]).index("c"), "else nothing is learned, silently"
    assert datetime.fromisoformat(found[0]["Timestamp"]) - START < timedelta(days=1)
