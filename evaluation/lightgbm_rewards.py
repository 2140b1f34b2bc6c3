"""A reward model of boosted trees: an optional extra for logs where products of features are not enough."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from contextual_bandit.types import Features, FeatureValue
from evaluation.arrays import FloatArray, IntArray
from evaluation.chunks import Chunk

FOLDS = 2
MOST_COLUMNS = 256
MOST_ROWS = 200_000
# Fitting costs more than predicting, so it waits until the log has grown by so much.
REFIT_GROWTH = 1.5
LEAST_ROWS = 100
_PARAMETERS = {
    "objective": "regression",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.8,
    "verbosity": -1,
    "num_threads": 1,
    "seed": 0,
    "deterministic": True,
}
_ROUNDS = 100


class BoostingUnavailable(RuntimeError):
    """The library of boosted trees is not installed."""

    def __init__(self) -> None:
        """Say which extra brings it."""
        super().__init__("the reward model 'lightgbm' needs the extra: install offerloop[boosting]")


class LightGbmRewards:
    """Predicts each decision by trees that were fitted on the other fold: a ``RewardModel``.

    Two folds by hash; each fold's trees are fitted on the chosen actions of the other one, of this chunk and of those
    before it (the last 200,000 decisions), when the log has grown by half since the last time. A column is a feature by
    namespace, as the first chunk has them (256 at most); words and booleans are categories, what is missing is missing.
    Predictions stay within the rewards that were fitted. The folds see later decisions of their chunk, so that on the
    log of a policy that learns meanwhile ``VowpalRewards`` is the stricter choice.
    """

    def __init__(self) -> None:
        """Load the library.

        Raises:
            BoostingUnavailable: it is not installed.
        """
        try:
            self._library: Any = importlib.import_module("lightgbm")
        except ImportError as missing:
            raise BoostingUnavailable from missing
        self._columns: dict[str, int] = {}
        self._words: dict[tuple[int, str], int] = {}
        self._categories: set[int] = set()
        self._rows: FloatArray = np.zeros((0, 0))
        self._reward, self._fold = np.zeros(0), np.zeros(0, dtype=np.int64)
        self._seen = self._fitted = 0
        self._trees: dict[int, Any] = {}

    def predict(self, chunk: Chunk) -> FloatArray:
        """Learn from a chunk, and predict each of its pairs, (m,), without its own fold."""
        pairs, fold = self._features(chunk), _fold_of(chunk.hashes)
        self._remember(pairs[chunk.chosen], chunk.reward, fold)
        if self._seen >= REFIT_GROWTH * self._fitted:
            self._fit()
        predicted = np.empty(len(chunk.row))
        for one in range(FOLDS):
            mine = fold[chunk.row] == one
            if mine.any():
                predicted[mine] = self._predict(one, pairs[mine])
        return predicted

    def _remember(self, rows: FloatArray, reward: FloatArray, fold: IntArray) -> None:
        kept = self._rows if self._rows.size else np.zeros((0, rows.shape[1]))
        self._rows = np.concatenate([kept, rows])[-MOST_ROWS:]
        self._reward = np.concatenate([self._reward, reward])[-MOST_ROWS:]
        self._fold = np.concatenate([self._fold, fold])[-MOST_ROWS:]
        self._seen += len(reward)

    def _fit(self) -> None:
        for one in range(FOLDS):
            others = self._fold != one
            if others.sum() >= LEAST_ROWS:
                data = self._library.Dataset(
                    self._rows[others], label=self._reward[others],
                    categorical_feature=sorted(self._categories), params={"verbosity": -1},
                )  # fmt: skip
                self._trees[one] = self._library.train(_PARAMETERS, data, num_boost_round=_ROUNDS)
        self._fitted = self._seen

    def _predict(self, fold: int, pairs: FloatArray) -> FloatArray:
        others = self._reward[self._fold != fold]
        if fold not in self._trees:
            return np.full(len(pairs), float(others.mean()) if others.size else 0.0)
        predicted: npt.NDArray[np.float64] = self._trees[fold].predict(pairs)
        return np.clip(predicted, others.min(), others.max())

    def _features(self, chunk: Chunk) -> FloatArray:
        """A row of columns for each pair, (m, columns)."""
        contexts = [_flat(decision.context.namespaces) for decision in chunk.decisions]
        actions = [
            _flat({"O": {"id": action.offer_id, **action.features}, "A": action.affinity})
            for decision in chunk.decisions
            for action in decision.actions
        ]
        if not self._columns:
            self._columns = _columns_of([*contexts, *actions])
        table = self._table(contexts)[chunk.row]
        of_actions = self._table(actions)
        return np.where(np.isnan(of_actions), table, of_actions)

    def _table(self, found: list[dict[str, FeatureValue]]) -> FloatArray:
        table = np.full((len(found), len(self._columns)), np.nan)
        for row, features in enumerate(found):
            for name, value in features.items():
                column = self._columns.get(name)
                if column is not None:
                    table[row, column] = self._number(column, value)
        return table

    def _number(self, column: int, value: FeatureValue) -> float:
        if isinstance(value, str | bool):
            self._categories.add(column)
            return float(self._words.setdefault((column, str(value)), len(self._words)))
        return float(value)


def _flat(namespaces: Mapping[str, Features]) -> dict[str, FeatureValue]:
    return {f"{space}.{name}": value for space, features in namespaces.items() for name, value in features.items()}


def _columns_of(found: list[dict[str, FeatureValue]]) -> dict[str, int]:
    names = dict.fromkeys(name for features in found for name in features)
    return {name: column for column, name in enumerate(list(names)[:MOST_COLUMNS])}


def _fold_of(hashes: IntArray) -> IntArray:
    return (hashes >> 20) % FOLDS
