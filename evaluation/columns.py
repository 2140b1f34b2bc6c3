"""The columns per decision that estimators are made of, and which of them an estimator adds up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

import numpy as np

from evaluation.arrays import FloatArray
from evaluation.terms import Terms

Column: TypeAlias = Literal[
    "weight",
    "weighted_reward",
    "clipped_reward",
    "prediction",
    "correction",
    "switch_correction",
    "shrunk_correction",
    "mrdr_prediction",
    "mrdr_correction",
]
Ratio: TypeAlias = tuple[Column, Literal["count", "weight"]]
"""One ratio of sums: a column over the number of decisions (a mean) or over the weights (self-normalised)."""


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """What bounds the weights of three of the estimators.

    Attributes:
        clip: largest weight of clipped IPS, > 0.
        switch_tau: largest weight that Switch-DR corrects with, > 0.
        dros_lambda: of DR with optimistic shrinkage, > 0; towards 0 it is DM, towards infinity DR.
    """

    clip: float = 10.0
    switch_tau: float = 10.0
    dros_lambda: float = 100.0

    def __post_init__(self) -> None:
        for name in ("clip", "switch_tau", "dros_lambda"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} {getattr(self, name)} is not above 0")


DEFAULT_HYPERPARAMETERS = Hyperparameters()


def _switch_correction(terms: Terms, chosen: Hyperparameters) -> FloatArray:
    kept = np.where(terms.weight <= chosen.switch_tau, terms.weight, 0.0)
    return np.asarray(kept * (terms.reward - terms.q_chosen))


def _shrunk_correction(terms: Terms, chosen: Hyperparameters) -> FloatArray:
    shrunk = chosen.dros_lambda * terms.weight / (terms.weight**2 + chosen.dros_lambda)
    return np.asarray(shrunk * (terms.reward - terms.q_chosen))


def _of_mrdr(prediction: FloatArray | None) -> FloatArray:
    if prediction is None:
        raise ValueError("estimator mrdr needs predictions of a model fitted with the MRDR weights, and there are none")
    return prediction


_COLUMNS: Mapping[Column, Callable[[Terms, Hyperparameters], FloatArray]] = {
    "weight": lambda terms, _: terms.weight,
    "weighted_reward": lambda terms, _: terms.weight * terms.reward,
    "clipped_reward": lambda terms, chosen: np.minimum(terms.weight, chosen.clip) * terms.reward,
    "prediction": lambda terms, _: terms.q_target,
    "correction": lambda terms, _: terms.weight * (terms.reward - terms.q_chosen),
    "switch_correction": _switch_correction,
    "shrunk_correction": _shrunk_correction,
    "mrdr_prediction": lambda terms, _: _of_mrdr(terms.mrdr_target),
    "mrdr_correction": lambda terms, _: terms.weight * (terms.reward - _of_mrdr(terms.mrdr_chosen)),
}


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns are added up, each once however many estimators use it; ``weight`` is always the first.

    Attributes:
        names: of the k columns.
        normalised: places of those that some estimator divides by the sum of weights.
    """

    names: tuple[Column, ...]
    normalised: tuple[int, ...]

    @classmethod
    def of(cls, ratios: Iterable[Ratio]) -> Self:
        """The columns that these ratios need."""
        given = tuple(ratios)
        names = tuple(dict.fromkeys(("weight", *(above for above, _ in given))))
        return cls(names, tuple(names.index(name) for name in names if (name, "weight") in given))

    def table(self, terms: Terms, hyperparameters: Hyperparameters = DEFAULT_HYPERPARAMETERS) -> FloatArray:
        """Compute the columns of n decisions, shape (k, n).

        Raises:
            ValueError: when ``mrdr`` is asked for and the terms have no predictions for it.
        """
        table = np.empty((len(self.names), len(terms.weight)))
        for place, name in enumerate(self.names):
            table[place] = _COLUMNS[name](terms, hyperparameters)
        return table
