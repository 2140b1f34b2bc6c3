"""All that an evaluation keeps of one target policy, and how a chunk of the log becomes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from contextual_bandit.types import Estimate
from evaluation.arrays import FloatArray
from evaluation.bootstrap import PoissonBootstrap, estimator_interval
from evaluation.chunks import Chunk
from evaluation.columns import Columns, Hyperparameters
from evaluation.default_interval import default_difference, default_interval
from evaluation.estimators import ESTIMATORS, columns_of
from evaluation.importance import importance_weights
from evaluation.interval_sums import IntervalSums, PairedIntervalSums
from evaluation.intervals import normal_interval
from evaluation.log_columns import ColumnModel
from evaluation.more_robust_rates import MoreRobustRates
from evaluation.reward_model import RewardModel
from evaluation.slate_sums import SlateSums
from evaluation.targets import TargetPolicy, logged
from evaluation.terms import Terms
from evaluation.weights import Weights

# The estimator whose paired difference a verdict rests on.
JUDGED_BY = "dr"
JUDGED_COLUMNS = columns_of((JUDGED_BY,))


@dataclass(frozen=True, slots=True)
class View:
    """A chunk as one target policy sees it.

    Attributes:
        terms: what estimators take.
        possible: the weight that each pair would have had if it had been drawn, (m,).
        weights: for their diagnostics.
    """

    terms: Terms
    possible: FloatArray
    weights: Weights


class Views:
    """Makes a chunk's views, one per target policy; keeps the models that are made for a single target."""

    def __init__(self, targets: Mapping[str, TargetPolicy], model: RewardModel, *, mrdr: bool = True) -> None:
        """Take target policies by name, the reward model that they share, and whether each has one for ``mrdr`` too."""
        self.targets = dict(targets)
        self._model = model
        self._with_mrdr = mrdr
        self._more_robust: dict[str, MoreRobustRates] = {}

    def of(self, chunk: Chunk) -> dict[str, View]:
        """Each policy's view; once for each chunk, in order.

        Raises:
            ValueError: when a policy gives what is no probability.
        """
        q = self._model.predict(chunk)
        return {name: self._view(name, chunk, q) for name in self.targets}

    def close(self) -> None:
        """Give back the memory of policies and models that learned."""
        for one in (*self.targets.values(), self._model):
            close = getattr(one, "close", None)
            if close is not None:
                close()

    def _view(self, name: str, chunk: Chunk, q: FloatArray) -> View:
        if chunk.served is None and self.targets[name] is logged:
            return self._logged(chunk, q)
        target = self._probabilities(name, chunk)
        model = self._model
        if isinstance(model, ColumnModel):
            q_target = model.under_target(chunk, target)
        else:
            q_target = chunk.per_decision(target * q)
        mrdr = self._more_robust.setdefault(name, MoreRobustRates()).predict(chunk, target) if self._with_mrdr else None
        possible = possible_weights(chunk, target)
        terms = Terms(
            hashes=chunk.hashes,
            reward=chunk.reward,
            weight=importance_weights(chunk.propensity, target[chunk.chosen]),
            q_chosen=q[chunk.chosen],
            q_target=q_target,
            largest_weight=float(possible.max(initial=0.0)),
            mrdr_chosen=None if mrdr is None else mrdr[chunk.chosen],
            mrdr_target=None if mrdr is None else chunk.per_decision(target * mrdr),
        )
        return View(terms, possible, Weights.of_chunk(chunk, target))

    def _logged(self, chunk: Chunk, q: FloatArray) -> View:
        """The logged policy where only the chosen actions' probabilities are known: every weight is 1 all the same.

        Its predicted reward is taken to be that of the chosen action, so that its doubly robust term is the reward.
        """
        ones, chosen = np.ones(chunk.n), q[chunk.chosen]
        terms = Terms(chunk.hashes, chunk.reward, ones, chosen, chosen, 1.0, chosen, chosen)
        return View(terms, np.ones(len(chunk.row)), Weights.of(ones, chunk.reward, ones, np.zeros(chunk.n)))

    def _probabilities(self, name: str, chunk: Chunk) -> FloatArray:
        target = np.asarray(self.targets[name](chunk), dtype=np.float64)
        if target.shape != chunk.row.shape or not np.all(target >= 0.0):
            raise ValueError(f"policy {name!r} gave negative, missing or too many probabilities")
        if np.any(chunk.per_decision(target) > 1.0 + 1e-6):
            raise ValueError(f"policy {name!r} gave probabilities that sum to more than 1")
        return target


def possible_weights(chunk: Chunk, target: FloatArray) -> FloatArray:
    """The weight that each pair would have had if it had been drawn, (m,).

    Where the log holds the chosen actions' propensities alone, an offer's smallest one in the chunk stands for all its
    pairs, and for offers that were never drawn the chunk's smallest.
    """
    if chunk.served is not None:
        return np.divide(target, chunk.served, out=np.zeros_like(target), where=chunk.served > 0.0)
    least = np.full(int(chunk.offer.max(initial=0)) + 1, float(chunk.propensity.min(initial=1.0)))
    drawn = chunk.offer[chunk.chosen]
    smallest = np.full(len(least), math.inf)
    np.minimum.at(smallest, drawn, chunk.propensity)
    least = np.where(np.isfinite(smallest), smallest, least)
    found = np.asarray(target / least[chunk.offer])
    found[chunk.chosen] = target[chunk.chosen] / chunk.propensity
    return found


@dataclass(frozen=True, slots=True, eq=False)
class PolicySums:
    """What is kept of a target policy, beside the policy that it is compared with; adds with ``+``.

    ``sums`` holds the columns of all estimators, ``paired`` those that a verdict needs, under both policies.
    """

    sums: IntervalSums
    paired: PairedIntervalSums
    bootstrap: PoissonBootstrap
    weights: Weights
    slates: SlateSums

    @classmethod
    def empty(cls, columns: Columns, hyperparameters: Hyperparameters) -> Self:
        """No decisions yet."""
        return cls(
            IntervalSums.empty(columns, hyperparameters),
            PairedIntervalSums.empty(JUDGED_COLUMNS, hyperparameters),
            PoissonBootstrap.empty(len(columns.names)),
            Weights.empty(),
            SlateSums(),
        )

    @classmethod
    def of(cls, chunk: Chunk, view: View, against: View, columns: Columns, hyperparameters: Hyperparameters) -> Self:
        """Take a chunk's decisions as the policy and the one it is compared with see them."""
        apart = view.possible - against.possible
        gap = (float(apart.min(initial=0.0)), float(apart.max(initial=0.0)))
        return cls(
            IntervalSums.of(columns, view.terms, hyperparameters),
            PairedIntervalSums.of(JUDGED_COLUMNS, view.terms, against.terms, hyperparameters, gap),
            PoissonBootstrap.of(chunk.hashes, *columns.table(view.terms, hyperparameters)),
            view.weights,
            SlateSums() if chunk.slot is None else SlateSums.of(chunk, view.terms.weight, view.possible),
        )

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.sums + other.sums,
            self.paired + other.paired,
            self.bootstrap + other.bootstrap,
            self.weights + other.weights,
            self.slates + other.slates,
        )

    @property
    def mean_reward(self) -> float:
        """Mean reward of the logged decisions."""
        return float(self.sums.reward.moments.mean[0])

    @property
    def observed(self) -> tuple[float, float]:
        """The smallest and the largest reward seen; (inf, -inf) before the first."""
        return self.sums.reach.reward

    def estimates(self, keys: Sequence[str], rewards: tuple[float, float], level: float) -> dict[str, Estimate]:
        """Values by these estimators with their default intervals."""
        low, high = rewards
        return {key: default_interval(self.sums, key, low, high, level) for key in keys}

    def normal(self, keys: Sequence[str], level: float) -> dict[str, Estimate]:
        """The same with normal intervals, for comparison."""
        return {key: normal_interval(self.sums.point(key), key, level) for key in keys}

    def bootstrapped(self, keys: Sequence[str], level: float, replicates: int, seed: int) -> dict[str, Estimate]:
        """The same with the bootstrap's percentiles, for comparison."""
        columns, drawn = self.sums.columns, self.bootstrap.replicates(replicates, seed)
        found = {}
        for key in keys:
            point = self.sums.point(key)
            low, high = estimator_interval(columns, drawn, ESTIMATORS[key].ratios, level)
            found[key] = Estimate(
                key, point.value, low, high, point.n, point.effective_sample_size, "Poisson bootstrap", False
            )
        return found

    def difference(self, rewards: tuple[float, float], level: float) -> Estimate:
        """How much more the policy earns than the one it is compared with, on the same decisions."""
        return default_difference(self.paired, JUDGED_BY, *rewards, level)
