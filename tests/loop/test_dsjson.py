"""Another service's log through the loop's one writer and out again: Vowpal Wabbit must see what it saw before."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from vowpalwabbit.pyvw import Workspace

from adapters.imported_log import ImportedLog
from adapters.installation import Installation
from adapters.interaction_log import count_loop, find_decision
from adapters.recorded_interactions import read_recorded
from contextual_bandit.loops import RewardDefinition
from contextual_bandit.types import Context
from contextual_bandit.vowpal import VowpalPolicy
from learner.export_dsjson import lines
from learner.import_dsjson import ImportCounts, import_file

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
DRINKS = {
    "Flat white": {"type": "hot", "roast": "dark", "strength": 0.75},
    "Iced tea": {"type": "cold", "organic": True},
    "Café crème": {"type": "hot", "origin": "kenya: north|south"},
    "Water": {"price": 0.1},
}


class DrivenLog:
    """Imports into a driven loop, which takes each run as one batch."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.log = ImportedLog(loop.stores.engine, loop.stores.client, loop.name)

    def known(self, decision_ids: Sequence[str]) -> frozenset[str]:
        return self.log.known(decision_ids)

    def append(self, messages: Sequence[bytes]) -> None:
        for message in messages:
            self.loop.stores.reader.append(f"events:{{{self.loop.name}}}", message)
        self.loop.run()


def single(number: int, chance: random.Random) -> dict[str, Any]:
    """One decision among the drinks, as Personalizer logs it; cold ones are liked on warm days."""
    weather = chance.choice(["warm", "cold"])
    favourite = chance.randint(1, len(DRINKS))
    served = {action: 0.7 if action == favourite else 0.1 for action in range(1, len(DRINKS) + 1)}
    (chosen,) = chance.choices(list(served), list(served.values()))
    order = [chosen, *(action for action in served if action != chosen)]
    liked = (weather == "warm") == (chosen == 2)
    cost = -1.0 if liked and chance.random() < 0.8 else 0.0
    return {
        "_label_cost": cost,
        "_label_probability": served[chosen],
        "_label_Action": chosen,
        "_labelIndex": chosen - 1,
        "o": [{"v": -cost, "EventId": f"e{number}", "ActionTaken": False}],
        "Timestamp": f"2021-02-04T16:31:{number % 60:02}.2460000Z",
        "Version": "1",
        "EventId": f"e{number}",
        "a": order,
        "c": {
            "_synthetic": False,
            "FromUrl": [{"weather": weather, "hour": number % 24}, {"device": {"kind": "phone", "_id": 7}}],
            "GUser": {"kind": chance.choice(["new", "old"]), "_age": 30},
            "_multi": [
                {"_tag": name, "i": {"constant": 1, "id": name}, "j": [features], "TAction": {"topic": name[0]}}
                for name, features in DRINKS.items()
            ],
        },
        "p": [served[action] for action in order],
        "VWState": {"m": "model-1"},
        "_original_label_cost": cost,
    }


def slate(number: int, chance: random.Random) -> dict[str, Any]:
    """Two slots of the drinks, the second without what the first shows."""
    first, second, *others = chance.sample(range(len(DRINKS)), len(DRINKS))
    outcomes = [
        {"_id": f"top{number}", "_a": [first, second, *others], "_p": [0.7, 0.1, 0.1, 0.1]},
        {"_id": f"low{number}", "_a": [second, *others], "_p": [0.5, 0.25, 0.25]},
    ]
    plain = single(number, chance)
    is_warm = plain["c"]["FromUrl"][0]["weather"] == "warm"
    slots = [{"_id": f"top{number}", "place": {"size": "large"}}, {"_id": f"low{number}", "place": {"size": 0.5}}]
    return {
        "Timestamp": plain["Timestamp"],
        "Version": "1",
        "EventId": f"slots-{number}",
        "c": plain["c"] | {"_slots": slots},
        "_outcomes": [{"_label_cost": -float(is_warm == (one["_a"][0] == 1)), **one} for one in outcomes],
        "VWState": {"m": "model-1"},
    }


def write(path: Path, objects: Sequence[dict[str, Any] | str]) -> Path:
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in objects))
    return path


def brought_in(path: Path, loop: Any) -> ImportCounts:
    counts = ImportCounts()
    import_file(path, loop.config, DrivenLog(loop), counts, NOW, lambda _: None)
    return counts


def exported(loop: Any, path: Path, since: datetime | None = None, until: datetime | None = None) -> Path:
    counts: Counter[str] = Counter()
    path.write_bytes(b"".join(lines(read_recorded(loop.stores.engine, loop.name), since, until, counts)))
    return path


def average_loss(arguments: str, path: Path) -> tuple[float, float]:
    """Progressive loss over a file, and how many examples it was."""
    workspace = Workspace(f"{arguments} --dsjson -d {path} --quiet")
    try:
        weight = workspace.get_weighted_examples()
        return workspace.get_sum_loss() / weight, weight
    finally:
        workspace.finish()


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (single, "--cb_explore_adf --epsilon 0.2 --quadratic GT"),
        (single, "--cb_explore_adf --squarecb -q :: --chain_hash"),
        (slate, "--ccb_explore_adf --epsilon 0.2 -q Fj -q GT"),
    ],
)
def test_vowpal_wabbit_gives_the_same_loss_on_what_went_through(
    drive: Callable[..., Any], tmp_path: Path, make: Callable[..., dict[str, Any]], arguments: str
) -> None:
    chance = random.Random(5)
    original = write(tmp_path / "original.json", [make(number, chance) for number in range(80)])
    loop = drive()
    counts = brought_in(original, loop)
    assert (counts.imported, dict(counts.found.skipped)) == (80, {})
    expected, examples = average_loss(arguments, original)
    assert expected < -0.05, "something must be learned for the comparison to mean anything"
    found, exported_examples = average_loss(arguments, exported(loop, tmp_path / "export.json"))
    assert found == pytest.approx(expected, abs=1e-6)
    assert exported_examples == examples
    # A namespace that got lost would show.
    fewer = [json.loads(line) for line in original.read_text().splitlines()]
    for one in fewer:
        del one["c"]["GUser"], one["c"]["FromUrl"]
    changed, _ = average_loss(arguments, write(tmp_path / "fewer.json", fewer))
    assert abs(changed - expected) > 1e-5


def test_imported_decisions_are_closed_learned_and_there_once(
    drive: Callable[..., Any], installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(7)
    dirty: list[dict[str, Any] | str] = ["{", '{"checkpoint_info":{}}', {**single(1000, chance), "_skipLearn": True}]
    path = write(tmp_path / "log.json", [*(single(number, chance) for number in range(300)), *dirty])
    loop = drive(arguments="--cb_explore_adf --squarecb --gamma_scale 1000 -q ::", export_frequency_seconds=0.0)
    loop.decide(0, "open").run()
    assert brought_in(path, loop).imported == 300
    log = loop.log(learnable=True)
    assert [one.decision.decision_id for one in log] == [f"e{number}" for number in range(300)]
    assert log[0].decision.occurred_at == datetime(2021, 2, 4, 16, 31, 0, 246000, tzinfo=UTC)
    counted = count_loop(installation.engine, loop.name)
    assert (counted.decisions, counted.open, counted.interactions, counted.set_aside) == (301, 1, 300, 0)
    assert loop.performance() == (300, sum(one.reward for one in log))
    stored = find_decision(installation.engine, loop.name, "e3")
    assert stored is not None
    assert (stored.state, [outcome.value for outcome, _ in stored.outcomes]) == ("closed", [log[3].reward])
    snapshot = loop.stores.snapshots.newest(loop.name, published=True)
    assert snapshot.trained_through == 300
    with closing(VowpalPolicy(snapshot.setting, snapshot.model)) as policy:
        actions = log[0].decision.actions
        warm, cold = (
            policy.distribution(Context({"FromUrl": {"weather": weather, "hour": 3.0}}), actions)
            for weather in ("warm", "cold")
        )
    assert warm[1] > 0.5 > cold[1]

    again = brought_in(path, loop)
    assert (again.imported, again.repeated) == (0, 300)
    assert loop.log(learnable=True) == log
    # Also when it reaches the stream twice, which a client that was cut off may cause.
    with monkeypatch.context() as patch:
        patch.setattr(DrivenLog, "known", lambda self, decision_ids: frozenset())
        assert brought_in(path, loop).imported == 300
    assert loop.log(learnable=True) == log
    loop.restart(killed=True)
    loop.tick(10_000).run()
    assert [one.decision.decision_id for one in loop.log()][-1] == "open"
    assert loop.verified().equal


def test_late_outcomes_add_to_an_imported_reward(drive: Callable[..., Any], tmp_path: Path) -> None:
    chance = random.Random(3)
    lines_ = [single(0, chance) | {"_label_cost": -0.5}, slate(1, chance)]
    for one in lines_[1]["_outcomes"]:
        one["_label_cost"] = -0.25
    loop = drive(reward=RewardDefinition(low=0.0, high=5.0, aggregation="sum", late_outcomes="rebuild"))
    brought_in(write(tmp_path / "log.json", lines_), loop)
    loop.outcome(5, "e0", 1.0).outcome(6, "slots-1", 1.0).run()
    assert loop.rewards() == {"e0": 0.5, "slots-1": 0.5}
    assert loop.rewards(latest=True) == {"e0": 1.5, "slots-1": 1.5}
    loss = [json.loads(line) for line in exported(loop, tmp_path / "late.json").read_text().splitlines()]
    assert loss[0]["_label_cost"] == -1.5, "the export has the newest rewards"
    assert [one["_label_cost"] for one in loss[1]["_outcomes"]] == [-1.25, -0.25]


def test_an_export_can_be_a_part(drive: Callable[..., Any], tmp_path: Path) -> None:
    chance = random.Random(3)
    loop = drive()
    brought_in(write(tmp_path / "log.json", [single(number, chance) for number in range(6)]), loop)
    second = datetime(2021, 2, 4, 16, 31, 2, 246000, tzinfo=UTC)
    part = exported(loop, tmp_path / "part.json", second, second.replace(second=4)).read_text().splitlines()
    assert [json.loads(line)["EventId"] for line in part] == ["e2", "e3"]
