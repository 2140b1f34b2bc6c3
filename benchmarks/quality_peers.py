"""Policies side by side: the product as it serves, and what others would take instead.

Each decides a whole round before it learns of the rewards of its own choices.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp

from benchmarks.processes import CannotMeasure
from benchmarks.quality_features import Columns, JointFeatures, context_columns, flat_context
from benchmarks.quality_worlds import Episode, Floats, Indices, Round
from contextual_bandit.actions import no_offer
from contextual_bandit.decide import Choice, Moment, ServingPolicy, decide
from contextual_bandit.policy import Policy
from contextual_bandit.types import Decision, LoggedInteraction
from contextual_bandit.vowpal import VowpalPolicy


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """A round's choices, shape (decisions,): places among the episode's offers.

    ``value`` is the expected reward of what was drawn from: of the chosen offer where a policy draws nothing.
    """

    chosen: Indices
    value: Floats


class Contender(Protocol):
    """A policy that plays an episode."""

    def choose(self, each: Round) -> Served:
        """Decide all of a round."""

    def learn(self, each: Round, chosen: Indices, rewards: Floats) -> None:
        """Learn what came of the choices of a round, shape (decisions,)."""

    def close(self) -> None:
        """Give memory back."""


class Product:
    """A policy on the service's own path: exact probabilities, floor, seeded draw, and one lesson per decision."""

    def __init__(self, episode: Episode, policy: Policy, floor: float | None = None) -> None:
        loop = episode.loop
        self._loop = loop if floor is None else replace(loop, exploration_floor=floor)
        self._serving = ServingPolicy(policy, "policy", "snapshot")
        self._seed = episode.seed
        self._waiting: list[Decision] = []
        self._made = 0

    def choose(self, each: Round) -> Served:
        """Decide as a rank call does."""
        chosen, value = np.zeros(each.size, dtype=np.int64), np.zeros(each.size)
        self._waiting = []
        for row in range(each.size):
            moment = Moment(
                f"s{self._seed}-{self._made + row}", each.customers[row], each.at[row], each.at[row], False, ""
            )
            choice = Choice(each.contexts[row], each.actions[row], (), no_offer())
            decision = decide(self._loop, self._serving, moment, choice)
            slot = decision.slots[0]
            assert slot.distribution is not None
            places = each.offers[row]
            chosen[row] = places[slot.chosen]
            value[row] = float(np.dot(slot.distribution.served, each.expected[row, places]))
            self._waiting.append(decision)
        return Served(chosen, value)

    def learn(self, each: Round, chosen: Indices, rewards: Floats) -> None:
        """Learn as the learner does, from the logged decisions."""
        closed = [
            LoggedInteraction(self._made + number + 1, decision, float(reward), decision.use, decision.decided_at)
            for number, (decision, reward) in enumerate(zip(self._waiting, rewards, strict=True))
        ]
        self._serving.policy.learn(closed)
        self._made += each.size

    def close(self) -> None:
        """Close Vowpal Wabbit's workspace, if it is one."""
        if isinstance(self._serving.policy, VowpalPolicy):
            self._serving.policy.close()


class SharedLinUcb:
    """LinUCB with one parameter vector for all offers (arXiv 1003.0146, algorithm 1 with its features of pairs).

    Ridge regression of rewards, theta = A^-1 b with A = ridge I + X'X, and the offer with the largest
    theta'x + alpha sqrt(x' A^-1 x).
    """

    def __init__(self, features: JointFeatures, alpha: float, ridge: float = 1.0) -> None:
        self._features = features
        self._alpha = alpha
        self.inverse = np.eye(features.size) / ridge
        self._moment = np.zeros(features.size)
        self._table: sp.csr_matrix | None = None
        self._starts: list[int] = []

    @property
    def theta(self) -> Floats:
        """The regression's weights, shape (columns,)."""
        return np.asarray(self.inverse @ self._moment)

    def choose(self, each: Round) -> Served:
        """The highest upper bound among each decision's offers; of equals the first."""
        table = self._features.table(each)
        self._table = table
        spread = np.asarray(table.multiply(table @ self.inverse).sum(axis=1)).ravel()
        bounds = table @ self.theta + self._alpha * np.sqrt(np.maximum(spread, 0.0))
        self._starts = np.cumsum([0, *(len(places) for places in each.offers)]).tolist()
        best = [int(bounds[start:end].argmax()) for start, end in zip(self._starts, self._starts[1:], strict=False)]
        return _chosen(each, best)

    def learn(self, each: Round, chosen: Indices, rewards: Floats) -> None:
        """Add the rows of the choices by Woodbury's identity."""
        assert self._table is not None
        places = [int(np.flatnonzero(each.offers[row] == offer)[0]) for row, offer in enumerate(chosen.tolist())]
        rows = self._table[[start + place for start, place in zip(self._starts[:-1], places, strict=True)]]
        seen = rows @ self.inverse
        middle = np.eye(rows.shape[0]) + (rows @ seen.T)
        self.inverse = self.inverse - seen.T @ np.linalg.solve(middle, seen)
        self._moment = self._moment + rows.T @ rewards

    def close(self) -> None:
        """Nothing to give back."""


class MabWiser:
    """MABWiser's LinUCB or LinTS: a regression for each offer, on one vector per decision.

    The vector holds the context and what the customer's affinity to each category is.
    """

    def __init__(self, episode: Episode, kind: str, alpha: float, *, contexts: bool, seed: int) -> None:
        try:
            library = importlib.import_module("mabwiser.mab")
        except ImportError:
            raise CannotMeasure("mabwiser is not installed: it is in the extra offerloop[bench]") from None
        self._columns = context_columns(episode) if contexts else None
        self._affinities = Columns.of(
            (affinities_by_category(actions) for each in episode.rounds[:5] for actions in each.actions), 0.0
        )
        policy = getattr(library.LearningPolicy, kind)(alpha=alpha)
        self._model: Any = library.MAB(arms=list(range(episode.offers)), learning_policy=policy, seed=seed)
        self._is_fitted = False
        self._random = np.random.default_rng([seed, 9])
        self._seen = np.zeros((0, 0))

    def choose(self, each: Round) -> Served:
        """The highest expectation among each decision's offers; evenly drawn before anything is known."""
        self._seen = self._vectors(each)
        if not self._is_fitted:
            return _chosen(each, [int(self._random.integers(len(places))) for places in each.offers])
        found = self._model.predict_expectations(self._seen)
        rows = found if isinstance(found, list) else [found]
        values = np.array([list(row.values()) for row in rows])
        return _chosen(each, [int(values[row, places].argmax()) for row, places in enumerate(each.offers)])

    def learn(self, each: Round, chosen: Indices, rewards: Floats) -> None:
        """Fit what was chosen."""
        fit: Callable[..., None] = self._model.partial_fit if self._is_fitted else self._model.fit
        fit(chosen.tolist(), rewards.tolist(), self._seen)
        self._is_fitted = True

    def close(self) -> None:
        """Nothing to give back."""

    def _vectors(self, each: Round) -> Floats:
        parts = [np.ones((each.size, 1)), self._affinities.dense([affinities_by_category(row) for row in each.actions])]
        if self._columns is not None:
            parts.append(self._columns.dense([flat_context(context) for context in each.contexts]))
        return np.concatenate(parts, axis=1)


def affinities_by_category(actions: Sequence[Any]) -> dict[str, float]:
    """A customer's affinities by category and name: the largest among a category's offers."""
    found: dict[str, float] = {}
    for action in actions:
        for name, value in action.affinity.items():
            if not isinstance(value, str):
                key = f"{action.features.get('category', action.offer_id)}.{name}"
                found[key] = max(found.get(key, float(value)), float(value))
    return found


def _chosen(each: Round, best: Sequence[int]) -> Served:
    chosen = np.array([places[one] for places, one in zip(each.offers, best, strict=True)], dtype=np.int64)
    return Served(chosen, each.expected[np.arange(each.size), chosen])


def play(episode: Episode, contender: Contender) -> Floats:
    """The value of every decision of an episode, shape (decisions,)."""
    values = []
    try:
        for each in episode.rounds:
            served = contender.choose(each)
            contender.learn(each, served.chosen, each.rewards[np.arange(each.size), served.chosen])
            values.append(served.value)
    finally:
        contender.close()
    return np.concatenate(values)
