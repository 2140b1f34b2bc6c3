"""Target policies: what each would do with the decisions of a log, as probabilities per eligible action."""

from __future__ import annotations

import math
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from contextual_bandit.baseline import BaselinePolicy
from contextual_bandit.limits import mask, masked_indices
from contextual_bandit.loops import BaselineSetting
from contextual_bandit.types import Decision
from evaluation.arrays import FloatArray
from evaluation.chunks import Chunk

BoolArray: TypeAlias = npt.NDArray[np.bool_]


TargetPolicy: TypeAlias = Callable[[Chunk], FloatArray]
"""Probability of every (decision, eligible action) pair, (m,); what it leaves below 1 in a decision is unsupported."""


def logged(chunk: Chunk) -> FloatArray:
    """The served policy itself; where the log holds the chosen action's probability alone, nothing else is known."""
    if chunk.served is not None:
        return chunk.served
    target = np.zeros(len(chunk.row))
    target[chunk.chosen] = chunk.propensity
    return target


def uniform(chunk: Chunk) -> FloatArray:
    """Every eligible offer alike."""
    left = _left(chunk).astype(np.float64)
    return np.asarray(left / chunk.per_decision(left)[chunk.row])


def first_action(chunk: Chunk) -> FloatArray:
    """Always the first action of the request that was left at the draw."""
    left = np.flatnonzero(_left(chunk))
    _, firsts = np.unique(chunk.row[left], return_index=True)
    target = np.zeros(len(chunk.row))
    target[left[firsts]] = 1.0
    return target


def _left(chunk: Chunk) -> BoolArray:
    """Which pairs (m,) were left at the draw: an exhausted action was no choice, and no other policy had it either."""
    left = np.ones(len(chunk.row), dtype=np.bool_)
    if chunk.served is None:
        return left
    # What was left out has probability 0, so few decisions need to be looked at.
    for row in np.unique(chunk.row[chunk.served == 0.0]).tolist():
        masked = masked_indices(chunk.decisions[row])
        left[[int(chunk.first[row]) + index for index in masked]] = False
    return left


def fixed_offer(offer_id: str) -> TargetPolicy:
    """Always this offer, evenly where it stands twice; where it was not eligible, its mass has no support."""

    def target(chunk: Chunk) -> FloatArray:
        wanted = np.where(chunk.offer == chunk.codes.get(offer_id, -1), 1.0, 0.0)
        return np.asarray(wanted / np.maximum(1.0, chunk.per_decision(wanted))[chunk.row])

    return target


DecisionFunction: TypeAlias = Callable[[Decision], Sequence[float]]
"""Probabilities over ``decision.actions``; what they leave below 1 counts as unsupported."""


class UnusableFunction(ValueError):
    """A policy function that cannot be imported, or whose answer is no distribution."""


def from_function(function: DecisionFunction, name: str = "function") -> TargetPolicy:
    """A function that gives each decision's probabilities over ``decision.actions``.

    The policy raises UnusableFunction, naming ``name`` and the decision, when the function gives another number of
    probabilities, or one that is none.
    """

    def target(chunk: Chunk) -> FloatArray:
        given = [_checked(tuple(function(decision)), decision, name) for decision in chunk.decisions]
        return np.concatenate([np.asarray(one, dtype=np.float64) for one in given])

    return target


def from_path(path: str) -> TargetPolicy:
    """A Python function by import path ``package.module:function``, as ``from_function`` takes it.

    Raises:
        UnusableFunction: there is no such module or function.
    """
    module, _, function = path.partition(":")
    if not module or not function:
        raise UnusableFunction(f"{path!r} is no import path: package.module:function")
    try:
        found = pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise UnusableFunction(f"no function {path!r}: {error}") from None
    if not callable(found):
        raise UnusableFunction(f"{path!r} is no function but {type(found).__name__}")
    return from_function(found, path)


def _checked(given: Sequence[float], decision: Decision, name: str) -> Sequence[float]:
    where = f"{name}, decision {decision.decision_id}"
    if len(given) != len(decision.actions):
        raise UnusableFunction(f"{where}: {len(given)} probabilities for {len(decision.actions)} actions")
    for one in given:
        if not (math.isfinite(one) and one >= 0.0):
            raise UnusableFunction(f"{where}: {one!r} is no probability")
    if math.fsum(given) > 1.0 + 1e-6:
        raise UnusableFunction(f"{where}: the probabilities sum to {math.fsum(given)!r}")
    return given


def baseline(setting: BaselineSetting) -> TargetPolicy:
    """The campaign manager's policy, as it would be served: without what was left out at the draw."""
    policy = BaselinePolicy(setting)

    def probabilities(decision: Decision) -> tuple[float, ...]:
        given, masked = policy.distribution(decision.context, decision.actions), masked_indices(decision)
        return mask(given, masked) if masked else given

    return from_function(probabilities)


STANDARD_TARGETS: Mapping[str, TargetPolicy] = {"logged": logged, "uniform": uniform, "first": first_action}
