"""Policies by name: every form, and errors that name the word."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType

import numpy as np
import pytest

from contextual_bandit.loops import BaselineSetting, LoopConfig
from contextual_bandit.types import Decision, LoggedInteraction, PolicySnapshot
from contextual_bandit.vowpal import VowpalPolicy
from evaluation.chunks import Chunk
from evaluation.interactions import Interactions
from evaluation.policy_names import PolicySources, UnknownPolicy, parse, parse_all
from evaluation.targets import TargetPolicy, UnusableFunction, fixed_offer

ContextualLog = Callable[..., list[LoggedInteraction]]
LOOP = LoopConfig("homepage", baseline=BaselineSetting(priority=("b1",)))
ARGUMENTS = "--cb_explore_adf --epsilon 0.2"
NO_COLUMN = "no column"


def snapshot(snapshot_id: str) -> PolicySnapshot | None:
    if snapshot_id != "homepage-g1-0":
        return None
    policy = VowpalPolicy(ARGUMENTS)
    model = policy.save()
    policy.close()
    return PolicySnapshot(snapshot_id, "homepage", "p", 1, 0, None, None, ARGUMENTS, 0.0, 1.0, model, "")


def column(name: str) -> TargetPolicy:
    return lambda chunk: chunk.columns[name]


SOURCES = PolicySources(LOOP, snapshot, column)


@pytest.fixture
def chunk(contextual_log: ContextualLog) -> Chunk:
    (found,) = Interactions(contextual_log(40, shown=(0.5, 0.3, 0.2))).chunks()
    return Chunk(**{name: getattr(found, name) for name in Chunk.__dataclass_fields__} | {
        "columns": {"target_probs": np.tile([0.1, 0.2, 0.7], found.n)}})  # fmt: skip


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of policies, as a user would have one."""
    made = ModuleType("their_policies")
    made.last = lambda decision: [0.0] * (len(decision.actions) - 1) + [1.0]  # type: ignore[attr-defined]
    made.too_few = lambda decision: [1.0]  # type: ignore[attr-defined]
    made.too_much = lambda decision: [0.5, 0.5, 0.5]  # type: ignore[attr-defined]
    made.negative = lambda decision: [1.5, -0.5, 0.0]  # type: ignore[attr-defined]
    made.number = 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "their_policies", made)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("logged", (0.5, 0.3, 0.2)),
        ("uniform", (1 / 3, 1 / 3, 1 / 3)),
        ("first", (1.0, 0.0, 0.0)),
        ("baseline", (0.0, 1.0, 0.0)),
        ("offer:a2", (0.0, 0.0, 1.0)),
        ("column:target_probs", (0.1, 0.2, 0.7)),
        ("python:their_policies:last", (0.0, 0.0, 1.0)),
    ],
)
def test_words_name_policies(word: str, expected: Sequence[float], chunk: Chunk, module: None) -> None:
    given = parse(word, SOURCES)(chunk).reshape(-1, 3)
    assert given == pytest.approx(np.tile(expected, (chunk.n, 1)))


@pytest.mark.parametrize("word", ["vw", f"vw:{ARGUMENTS}", "snapshot:homepage-g1-0"])
def test_learned_policies_give_distributions(word: str, chunk: Chunk) -> None:
    given = parse(word, SOURCES)(chunk)
    assert chunk.per_decision(given) == pytest.approx(np.ones(chunk.n))
    assert given.min() >= LOOP.exploration_floor / 3


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("", "no policy ''; there are logged, uniform"),
        ("best", "no policy 'best'"),
        ("offer:", "no policy 'offer:'"),
        ("offers:a2", "no policy 'offers:a2'"),
        ("snapshot:gone", "policy 'snapshot:gone': there is no snapshot 'gone'"),
        ("vw:--cb_explore_adf --bag 5", "policy 'vw:--cb_explore_adf --bag 5': argument '--bag' is not allowed"),
        ("vw:--epsilon 0.1", "lack --cb_explore_adf"),
        ("python:their_policies", "'their_policies' is no import path"),
        ("python:no_such_module_here:f", "no function 'no_such_module_here:f'"),
        ("python:their_policies:best", "no function 'their_policies:best'"),
        ("python:their_policies:number", "is no function but int"),
    ],
)
def test_bad_words_are_named(word: str, reason: str, module: None) -> None:
    with pytest.raises(UnknownPolicy) as raised:
        parse(word, SOURCES)
    assert reason in str(raised.value)


def test_what_a_log_does_not_have_cannot_be_named() -> None:
    with pytest.raises(UnknownPolicy, match="policy 'snapshot:s1': snapshots are found with --loop only"):
        parse("snapshot:s1", PolicySources(LOOP))
    with pytest.raises(UnknownPolicy, match="policy 'column:x': columns are found with --log only"):
        parse("column:x", PolicySources(LOOP))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("too_few", "1 probabilities for 3 actions"),
        ("too_much", "the probabilities sum to 1.5"),
        ("negative", "-0.5 is no probability"),
    ],
)
def test_a_functions_answer_is_checked(function: str, reason: str, chunk: Chunk, module: None) -> None:
    target = parse(f"python:their_policies:{function}", SOURCES)
    with pytest.raises(UnusableFunction, match=f"their_policies:{function}, decision s0-0: {reason}"):
        target(chunk)


def test_equal_words_count_once_and_keep_their_order(chunk: Chunk) -> None:
    found = parse_all(["offer:b1", "uniform", "offer:b1"], SOURCES)
    assert list(found) == ["offer:b1", "uniform"]
    assert found["offer:b1"](chunk) == pytest.approx(fixed_offer("b1")(chunk))


def test_a_function_reads_the_whole_decision(chunk: Chunk) -> None:
    def by_age(decision: Decision) -> list[float]:
        return [1.0, 0.0, 0.0] if decision.context.namespaces["D"]["age_band"] == "young" else [0.0, 0.5, 0.5]

    made = ModuleType("by_age_policies")
    made.by_age = by_age  # type: ignore[attr-defined]
    sys.modules["by_age_policies"] = made
    try:
        given = parse("python:by_age_policies:by_age", SOURCES)(chunk).reshape(-1, 3)
    finally:
        del sys.modules["by_age_policies"]
    young = [decision.context.namespaces["D"]["age_band"] == "young" for decision in chunk.decisions]
    assert given[:, 0] == pytest.approx(np.array(young, dtype=float))
