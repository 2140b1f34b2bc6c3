"""Features as Vowpal Wabbit's JSON reader names them: a model of plain Vowpal Wabbit on dsjson lines serves as it is."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from math import fsum
from pathlib import Path
from typing import Any

import orjson
import pylibvw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vowpalwabbit.pyvw import Workspace

from contextual_bandit.context import derive
from contextual_bandit.explain import Unexplainable
from contextual_bandit.features import BadFeature, rebuild_context, rebuild_features
from contextual_bandit.learning_arguments import JSON_NAMES, for_vowpal
from contextual_bandit.types import Action, Context, LearningSetting, LoggedInteraction
from contextual_bandit.vowpal import BadArguments, UnusableExample, VowpalPolicy, check_arguments
from contextual_bandit.vowpal_json import json_line
from contextual_bandit.vowpal_progressive import ProgressivePolicy
from contextual_bandit.vowpal_weights import knows
from decision_service.personalizer_features import context_features, merged
from learner.dsjson_decisions import imported_from

PLAIN = "--cb_explore_adf --softmax --lambda 4 -q :: --cb_type mtr"
NAMED = f"{PLAIN} {JSON_NAMES}"
NOW = datetime(2026, 3, 2, tzinfo=UTC)
# A name that the product's own letters would prefix, words, numbers, booleans, nothing, objects in objects, arrays.
KINDS = ("new", "very new", "né|t")


def context_of(rng: random.Random) -> dict[str, Any]:
    return {
        "FromUrl": [
            {
                "timeofday": rng.choice(("Morning", "Night")),
                "visits": rng.randrange(4),
                "score": round(rng.random(), 3),
            },
            {"handheld": rng.random() < 0.5, "nothing": None, "Time": {"hour": rng.randrange(24)}},
        ],
        "User": {"kind": rng.choice(KINDS), "taste": {"sweet": rng.randrange(3), "deep": {"er": rng.random() < 0.5}}},
        "vector": [round(rng.random(), 2), 0, 2.5],
    }


def multi_of(rng: random.Random) -> list[dict[str, Any]]:
    return [
        {
            "_tag": name, "i": {"constant": 1, "id": name},
            "j": [{"type": kind, "price": round(rng.random() * 9, 2), "hot": kind == "hot"}, {"size": {"cl": 25}}],
        }
        for name, kind in (("Cappuccino", "hot"), ("Cold brew", "cold"), ("Iced mocha", "cold"), ("tea: green", "hot"))
    ]  # fmt: skip


def line_of(number: int, *, low: float = 0.0) -> dict[str, Any]:
    rng = random.Random(number)
    context, chosen = context_of(rng), rng.randrange(4)
    reward = 1.0 if (context["User"]["kind"] == "new") == (chosen == 1) else low
    return {
        "_label_cost": -reward, "_label_probability": 0.25, "_label_Action": chosen + 1, "_labelIndex": chosen,
        "Timestamp": "2021-02-04T16:31:29Z", "Version": "1", "EventId": f"e{number}",
        "a": [chosen + 1, *({1, 2, 3, 4} - {chosen + 1})], "c": {**context, "_multi": multi_of(rng)},
        "p": [0.25] * 4, "VWState": {"m": "m"},
    }  # fmt: skip


LINES = [line_of(number) for number in range(300)]


class PlainVowpal:
    """Vowpal Wabbit as its users have it."""

    def __init__(self, arguments: str) -> None:
        self.workspace = Workspace(f"{arguments} --dsjson --quiet")

    def run(self, line: Mapping[str, Any], *, teach: bool) -> list[float]:
        examples = self.workspace._parse(json.dumps(line))
        (pylibvw.vw.learn_multi if teach else pylibvw.vw.predict_multi)(self.workspace, examples)
        scores: list[float] = examples[0].get_action_scores()
        pylibvw.vw._finish_example_multi_ex(self.workspace, examples)
        return [one / fsum(scores) for one in scores]


def closed(line: Mapping[str, Any], number: int = 1) -> LoggedInteraction:
    found = imported_from(line, "coffee", NOW)
    return LoggedInteraction(number, found.decision, found.rewards[0], "learn", NOW)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What plain Vowpal Wabbit learned from lines of another service."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "log.json").write_text("\n".join(map(json.dumps, LINES[:200])))
    Workspace(f"{PLAIN} --dsjson -d {folder / 'log.json'} -f {folder / 'model.vw'} --quiet").finish()
    return (folder / "model.vw").read_bytes()


@pytest.fixture
def plain(model: bytes, tmp_path: Path) -> Iterator[PlainVowpal]:
    (tmp_path / "model.vw").write_bytes(model)
    found = PlainVowpal(f"{PLAIN} --preserve_performance_counters -i {tmp_path / 'model.vw'}")
    yield found
    found.workspace.finish()


def test_a_model_of_dsjson_lines_gives_the_probabilities_that_plain_vowpal_wabbit_gives(
    model: bytes, plain: PlainVowpal
) -> None:
    likeliest = set()
    with closing(VowpalPolicy(NAMED, model)) as policy:
        for line in LINES[200:]:
            decision = closed(line).decision
            given = policy.distribution(decision.context, decision.actions)
            assert given == pytest.approx(plain.run(line, teach=False), abs=1e-6)
            likeliest.add((line["c"]["User"]["kind"] == "new", given.index(max(given))))
    assert (True, 1) in likeliest
    assert (False, 1) not in likeliest


def test_it_goes_on_learning_as_plain_vowpal_wabbit_does(model: bytes, plain: PlainVowpal) -> None:
    with closing(VowpalPolicy(NAMED, model)) as policy, closing(ProgressivePolicy(NAMED, model)) as progressive:
        for number, line in enumerate(LINES[200:260], 1):
            one = closed(line, number)
            expected = plain.run(line, teach=False)
            assert progressive.predict_then_learn(one) == pytest.approx(expected, abs=1e-5)
            plain.run(line, teach=True)
            policy.learn([one])
        for line in LINES[260:]:
            decision = closed(line).decision
            given = policy.distribution(decision.context, decision.actions)
            assert given == pytest.approx(plain.run(line, teach=False), abs=1e-5)


def test_a_killed_writer_goes_on_to_the_same_bytes(model: bytes) -> None:
    found = []
    for reloads in (set[int](), {0, 7, 8, 39}):
        policy = VowpalPolicy(NAMED, model)
        for number, line in enumerate(LINES[200:240]):
            policy.learn([closed(line, number)])
            if number in reloads:
                saved = policy.save()
                policy.close()
                policy = VowpalPolicy(NAMED, saved)
        found.append(policy.save())
        policy.close()
    assert found[0] == found[1]


def test_negative_rewards_stay_the_costs_that_the_model_was_trained_on(model: bytes, plain: PlainVowpal) -> None:
    setting = LearningSetting(NAMED, -1.0, 1.0)
    with closing(VowpalPolicy(setting, model)) as policy:
        assert [policy.cost(reward) for reward in (-1.0, 0.0, 0.5, 7.0)] == [1.0, 0.0, -0.5, -1.0]
        for number in range(500, 560):
            line = line_of(number, low=-1.0)
            plain.run(line, teach=True)
            policy.learn([closed(line)])
        decision = closed(LINES[0]).decision
        given = policy.distribution(decision.context, decision.actions)
    assert given == pytest.approx(plain.run(LINES[0], teach=False), abs=1e-5)


def test_calls_on_the_routes_have_the_same_names(model: bytes, plain: PlainVowpal) -> None:
    """What a client sends to rank is what Personalizer logged of it."""
    with closing(VowpalPolicy(NAMED, model)) as policy:
        for line in LINES[200:240]:
            c = line["c"]
            sent = [*c["FromUrl"], {"User": c["User"]}, {"vector": c["vector"]}]
            # Personalizer logs what is sent as the objects of one array.
            logged = {**line, "c": {"FromUrl": sent, "_multi": c["_multi"]}}
            context = Context(derive(rebuild_context(context_features(sent))))
            actions = [
                Action(one["i"]["id"], rebuild_features(merged(one["j"], "features"), "features"))
                for one in c["_multi"]
            ]
            assert policy.distribution(context, actions) == pytest.approx(plain.run(logged, teach=False), abs=1e-6)


def test_several_words_under_one_name_are_so_many_indicators() -> None:
    sent = [{"tag": "new"}, {"tag": "red"}]
    context = Context(rebuild_context(context_features(sent)))
    assert orjson.loads(json_line(context, ()))["FromUrl"] == {"tagnew": 1.0, "tagred": 1.0}


def test_what_the_product_adds_is_left_out_and_names_are_as_they_were_sent() -> None:
    context = Context({
        "H": {"segment": "new"}, "S": {"month": "m1"}, "W": {"condition": "rain"}, "D": {"age_band": "18-24"},
        "xTime": {"hour": 3.0}, "xylo": {"a": 1.0}, "xétage": {"a": 1.0}, "c": {"loose": True},
    })  # fmt: skip
    actions = [Action("a", {"n.b": 1.0, "n.c": "x", "n": 2.0, "é.f": 1.0}, {"r16": 3.0})]
    line = orjson.loads(json_line(context, actions, (0, -0.5, 0.25)))
    assert line == {
        "_label_Action": 1, "_labelIndex": 0, "_label_Cost": -0.5, "_label_Probability": 0.25,
        "weather": {"condition": "rain"}, "demographics": {"age_band": "18-24"}, "Time": {"hour": 3.0},
        "xylo": {"a": 1.0}, "xétage": {"a": 1.0}, "loose": True,
        "_multi": [{"i": {"constant": 1, "id": "a"}, "j": [{"n": {"b": 1.0, "c": "x"}, "n.": 2.0, "é.f": 1.0}]}],
    }  # fmt: skip


UNTRAINED = VowpalPolicy(NAMED)
_values = st.one_of(
    st.text(max_size=8), st.booleans(), st.none(), st.floats(-1e9, 1e9), st.lists(st.floats(-9, 9), max_size=3)
)
_objects = st.recursive(
    st.dictionaries(st.text(max_size=6), _values, max_size=4),
    lambda inner: st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(_objects, _objects)
def test_whatever_clients_send_is_read_or_refused(sent: dict[str, Any], action: dict[str, Any]) -> None:
    try:
        context = Context(rebuild_context(sent))
        actions = [Action("a", rebuild_features(action, "action")), Action("b", {})]
    except BadFeature:
        return
    assert fsum(UNTRAINED.distribution(context, actions)) == pytest.approx(1.0)


def test_a_model_knows_its_own_names_alone(model: bytes) -> None:
    shown = [closed(line).decision for line in LINES[:40]]

    def share(arguments: str, data: bytes) -> float:
        with closing(VowpalPolicy(arguments, data)) as policy:
            return sum(knows(policy, one.context, one.actions, one.slots[0].chosen) for one in shown) / len(shown)

    assert share(NAMED, model) == 1.0
    assert share(PLAIN, model) < 0.25
    with closing(VowpalPolicy(PLAIN)) as own:
        own.learn([closed(line) for line in LINES])
        ours = own.save()
    assert share(PLAIN, ours) == 1.0
    assert share(NAMED, ours) < 0.25
    with closing(VowpalPolicy("--ccb_explore_adf")) as slates:
        slates.learn([closed(line) for line in LINES])
        assert share("--ccb_explore_adf", slates.save()) == 1.0


def test_the_setting_is_ours_and_checked() -> None:
    assert check_arguments(NAMED) == NAMED
    assert for_vowpal(NAMED) == f"{PLAIN} --json"
    for wrong, why in (
        ("--cb_explore_adf --feature_names other", "unusable value 'other'"),
        (f"--ccb_explore_adf {JSON_NAMES}", "alone, not for --ccb_explore_adf"),
        (f"{NAMED} {JSON_NAMES}", "stands there twice"),
    ):
        with pytest.raises(BadArguments, match=why):
            check_arguments(wrong)


def test_what_it_cannot_do_is_said(model: bytes) -> None:
    one = closed(LINES[0])
    with closing(VowpalPolicy(NAMED, model)) as policy:
        with pytest.raises(Unexplainable):
            policy.contributions(one.decision.context, one.decision.actions)
        slot = replace(one.decision.slots[0], propensity=None)
        with pytest.raises(ValueError, match="'e0' has no propensity"):
            policy.learn([replace(one, decision=replace(one.decision, slots=(slot,)))])
        with pytest.raises(UnusableExample):
            policy.examples_of(["{}"], (), 3)
