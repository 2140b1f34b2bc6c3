"""The campaign manager's policy: the offers that a customer is close to, else a priority list. It learns nothing."""

from __future__ import annotations

from collections.abc import Sequence

from contextual_bandit.loops import BaselineSetting
from contextual_bandit.types import Action, Context, LoggedInteraction

# The policy and snapshot id of decisions that it made in place of a loop's own policy, while a kill switch was on.
BASELINE = "baseline"


class BaselinePolicy:
    """The ``top_n`` actions with the highest affinity above the threshold, evenly; the earlier one of equals.

    When none is above it: the first offer of the priority list among the actions, else the first action.
    """

    def __init__(self, setting: BaselineSetting) -> None:
        self.setting = setting

    def distribution(self, context: Context, actions: Sequence[Action]) -> tuple[float, ...]:
        """Probabilities in the order of ``actions``; they sum to 1."""
        chosen = self._close(actions) or [self._preferred(actions)]
        share = 1.0 / len(chosen)
        return tuple(share if index in chosen else 0.0 for index in range(len(actions)))

    def tiers(self, actions: Sequence[Action]) -> tuple[int, ...]:
        """The order in which actions are preferred, for a draw that may leave some out: the highest left is served."""
        close = self._above(actions)
        listed = [index for _, index in sorted(
            (self.setting.priority.index(action.offer_id), index)
            for index, action in enumerate(actions) if action.offer_id in self.setting.priority
        )]  # fmt: skip
        order = list(dict.fromkeys([*close, *listed, *range(len(actions))]))
        places = {index: len(order) - place for place, index in enumerate(order)}
        return tuple(
            len(order) + 1 if index in close[: self.setting.top_n] else places[index] for index in range(len(actions))
        )

    def learn(self, interactions: Sequence[LoggedInteraction]) -> None:
        """Nothing to learn."""

    def _close(self, actions: Sequence[Action]) -> list[int]:
        return self._above(actions)[: self.setting.top_n]

    def _above(self, actions: Sequence[Action]) -> list[int]:
        affinities = [_number(action, self.setting.affinity) for action in actions]
        above = [index for index, value in enumerate(affinities) if value > self.setting.threshold]
        return sorted(above, key=lambda index: -affinities[index])

    def _preferred(self, actions: Sequence[Action]) -> int:
        places = {action.offer_id: index for index, action in enumerate(actions)}
        return next((places[offer_id] for offer_id in self.setting.priority if offer_id in places), 0)


def _number(action: Action, name: str) -> float:
    """An Affinity feature; 0 when it is missing or no number."""
    value = action.affinity.get(name, 0.0)
    return 0.0 if isinstance(value, bool | str) else value
