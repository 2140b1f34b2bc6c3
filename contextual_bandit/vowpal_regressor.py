"""A regression of rewards on the features that policies see, in Vowpal Wabbit: what the reward models predict with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pylibvw
from vowpalwabbit.pyvw import Workspace

from contextual_bandit.types import Action, Context
from contextual_bandit.vowpal import UnusableExample, shared_line

# Every namespace times the offer's and the affinity: what tells actions apart. A small rate suits rare, noisy rewards.
DEFAULT_REGRESSION = "-q :O -q :A --learning_rate 0.03"
# The cost regression of Vowpal Wabbit's contextual bandits; it scores all actions of a decision in one call.
_REGRESSION = "--cb_adf --cb_type dm --quiet"
_SHARED = "shared "


class VowpalRegressor:
    """Mean reward of each action by squared loss, learned online; not to be shared between threads.

    The features are those of ``VowpalPolicy``. Nothing is weighted by propensities: where offers are rarely shown,
    their weights would be a few numbers' noise.
    """

    def __init__(self, arguments: str = DEFAULT_REGRESSION) -> None:
        """Build from Vowpal Wabbit's arguments for the terms and the learning rate.

        Raises:
            RuntimeError: the arguments are refused.
        """
        self._workspace = Workspace(f"{_REGRESSION} {arguments}")
        self._offers: dict[tuple[str, int], str] = {}

    def predict_then_learn(
        self, context: Context, actions: Sequence[Action], chosen: int, reward: float
    ) -> list[float]:
        """Predict the reward of each action, and learn from the chosen one's after that.

        Args:
            context: the shared features.
            actions: K of them.
            chosen: index of the one that was shown.
            reward: what followed; best on a scale of about 0 to 1.

        Returns:
            K predictions, not clipped, on the scale of the rewards learned before.

        Raises:
            UnusableExample: the features did not parse to one shared example and one per action.
        """
        lines = [shared_line(context), *map(self._line, actions)]
        lines[1 + chosen] = f"0:{-reward!r}:1 {lines[1 + chosen]}"
        examples: list[Any] = self._workspace._parse("\n".join(lines))
        try:
            if len(examples) != len(lines):
                raise UnusableExample(f"{len(lines)} lines parsed to {len(examples)} examples")
            pylibvw.vw.predict_multi(self._workspace, examples)
            costs: list[float] = examples[0].get_action_scores()
            # The others' costs are not known; given them too, it would learn what they are not.
            pylibvw.vw.learn_multi(self._workspace, [examples[0], examples[1 + chosen]])
        finally:
            if examples:
                pylibvw.vw._finish_example_multi_ex(self._workspace, examples)
        return [-cost for cost in costs]

    def close(self) -> None:
        """Give the memory back."""
        self._workspace.finish()

    def _line(self, action: Action) -> str:
        key = (action.offer_id, action.version)
        offer = self._offers.get(key) if action.version else None
        if offer is None:
            offer = _namespace("O", {"id": action.offer_id, **action.features})
            if action.version:
                self._offers[key] = offer
        return f"{offer} {_namespace('A', action.affinity)}" if action.affinity else offer


def _namespace(name: str, features: Any) -> str:
    return shared_line(Context({name: features})).removeprefix(_SHARED)
