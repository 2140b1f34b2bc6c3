"""Which reward model: by name, or the default that fits the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from evaluation.arrays import FloatArray
from evaluation.chunks import Chunk
from evaluation.lightgbm_rewards import LightGbmRewards
from evaluation.reward_model import Rates, RewardModel, by_category
from evaluation.vowpal_rewards import VowpalRewards


class UnknownRewardModel(ValueError):
    """No reward model of that name."""


class FittingRewards:
    """The default ``RewardModel``: a regression where decisions have features, else a table of rates per offer.

    ``low`` and ``high`` are the rewards' range, as the loop defines it; without it, the first chunk's holds.
    """

    def __init__(self, low: float | None = None, high: float | None = None, smoothing: float = 20.0) -> None:
        """Take the rewards' range, and how many decisions the mean is worth in the table of rates."""
        self._low, self._high, self._smoothing = low, high, smoothing
        self._model: RewardModel | None = None

    def predict(self, chunk: Chunk) -> FloatArray:
        """Choose by the first chunk; learn from each and predict each of its pairs, (m,)."""
        if self._model is None:
            has = has_features(chunk)
            self._model = (
                VowpalRewards(self._low, self._high, smoothing=self._smoothing) if has else Rates(self._smoothing)
            )
        return self._model.predict(chunk)


def has_features(chunk: Chunk) -> bool:
    """Whether any decision has features beyond the names of its offers."""
    return any(
        any(decision.context.namespaces.values())
        or any(action.features or action.affinity for action in decision.actions)
        for decision in chunk.decisions
    )


REWARD_MODELS: Mapping[str, Callable[[], RewardModel]] = MappingProxyType(
    {
        "default": FittingRewards,
        "rates": Rates,
        "rates:category": lambda: Rates(key_of=by_category),
        "vowpal": VowpalRewards,
        "lightgbm": LightGbmRewards,
    }
)


def reward_model(name: str) -> RewardModel:
    """A reward model by name, untrained.

    Raises:
        UnknownRewardModel: names those that there are.
        BoostingUnavailable: ``lightgbm`` was asked for and is not installed.
    """
    made = REWARD_MODELS.get(name)
    if made is None:
        raise UnknownRewardModel(f"no reward model {name!r}; there are {', '.join(REWARD_MODELS)}")
    return made()
