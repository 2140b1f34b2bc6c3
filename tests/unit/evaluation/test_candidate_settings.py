"""Settings that are drawn are allowed, different, and the same for the same seed."""

from __future__ import annotations

import random

import pytest

from contextual_bandit.vowpal import check_arguments
from evaluation.candidate_settings import interaction_makers, propose

NAMES = ("D", "H", "W", "O", "A")


@pytest.mark.parametrize("seed", range(3))
def test_each_is_allowed_and_new(seed: int) -> None:
    found = propose(NAMES, 24, seed=seed)
    assert len(set(found)) == 24
    for arguments in found:
        assert check_arguments(arguments) == arguments


def test_the_seed_decides() -> None:
    assert propose(NAMES, 6, seed=1) == propose(NAMES, 6, seed=1) != propose(NAMES, 6, seed=2)


def test_the_current_setting_is_no_candidate() -> None:
    current = propose(NAMES, 1, seed=5)[0]
    assert current not in propose(NAMES, 12, current=current, seed=5)
    assert current not in propose(NAMES, 12, current=current.replace(" -", "  -"), seed=5)


def test_explorers_and_interactions_vary() -> None:
    found = propose(NAMES, 40, seed=0)
    for word in ("--epsilon", "--squarecb", "--softmax", "--regcb", "-q ::", "-q DO", "-q HO"):
        assert any(word in arguments for arguments in found), word
    assert any("-q" not in arguments for arguments in found)


def test_interactions_name_what_is_there() -> None:
    dice = random.Random(0)
    with_affinity = {maker(dice) for maker in interaction_makers(NAMES)}
    assert "-q :O -q :A" in with_affinity
    assert "-q :O" in {maker(dice) for maker in interaction_makers(("D", "O"))}
    odd = {maker(dice) for _ in range(20) for maker in interaction_makers(("::", "é", "weather"))}
    assert all(word in ("", "-q ::", "-q :O", "-q wO") for word in odd)
    assert {maker(dice) for maker in interaction_makers(())} == {"", "-q ::", "-q :O"}
