"""The policy that Personalizer's resources begin with."""

from __future__ import annotations

from contextual_bandit.served_arguments import ServedPolicy, served_policy

__all__ = ["DEFAULT_ARGUMENTS", "DEFAULT_EPSILON", "ServedPolicy", "served_policy"]

DEFAULT_ARGUMENTS = "--cb_explore_adf --epsilon 0.2 --power_t 0 -l 0.001 --cb_type mtr -q ::"
DEFAULT_EPSILON = 0.2
