"""What Vowpal Wabbit's SquareCB makes of propensities: a fault that settings must know of (docs/QUALITY.md)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest

from contextual_bandit.types import Action, Context, LoggedInteraction
from contextual_bandit.vowpal import VowpalPolicy

MakeInteraction = Callable[..., LoggedInteraction]
SQUARECB = "--cb_explore_adf --squarecb --cb_type mtr"
ACTIONS = [Action(name, {"category": name}) for name in ("first", "middle", "last")]
RARE, USUAL = 0.01, 0.9


def learned(make_interaction: MakeInteraction, arguments: str, chosen: int, propensity: float) -> tuple[float, ...]:
    """Probabilities after one reward for an action that was chosen with some probability."""
    served = [(1.0 - propensity) / 2.0] * len(ACTIONS)
    served[chosen] = propensity
    log = [make_interaction(1, 1.0, served=tuple(served), chosen=chosen, actions=ACTIONS, context={})]
    with closing(VowpalPolicy(arguments)) as policy:
        policy.learn(log)
        return policy.distribution(Context({}), ACTIONS)


@pytest.mark.parametrize("chosen", [0, 1])
def test_squarecb_learns_without_importance_weights(make_interaction: MakeInteraction, chosen: int) -> None:
    rare, usual = (learned(make_interaction, SQUARECB, chosen, propensity) for propensity in (RARE, USUAL))
    assert rare == usual


def test_but_the_last_action_of_a_decision_has_them(make_interaction: MakeInteraction) -> None:
    """A fault of its loop over the actions, which ends one too soon. When this fails it was mended: see QUALITY.md."""
    rare, usual = (learned(make_interaction, SQUARECB, 2, propensity) for propensity in (RARE, USUAL))
    assert rare[2] > usual[2] + 0.05


@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_clip_p_takes_them_from_all(make_interaction: MakeInteraction, chosen: int) -> None:
    rare, usual = (learned(make_interaction, f"{SQUARECB} --clip_p 1", chosen, one) for one in (RARE, USUAL))
    assert rare == usual
