"""The gate on many logs with fixed seeds: wrong propensities are refused as such, right ones hardly ever."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np
import pytest

from contextual_bandit.types import Action, Context, Decision, Estimate
from evaluation.arrays import FloatArray
from evaluation.chunks import Chunk
from evaluation.diagnostics import LogDiagnostics
from evaluation.gates import Gate, gate, weight_faults
from evaluation.weights import Weights

BETTER = Estimate("dr difference", 0.02, 0.01, 0.03, 1000, 500.0, "gamma")
AT = datetime(2026, 3, 1, tzinfo=UTC)
ACTIONS = (Action("a", {}), Action("b", {}), Action("c", {}))


def log(
    true: FloatArray,
    seed: int,
    *,
    logged: FloatArray | None = None,
    propensity: Callable[[FloatArray, np.random.Generator], FloatArray] | None = None,
    chosen_only: bool = False,
    segments: Sequence[str] = (),
) -> Chunk:
    """A log of n decisions over k offers.

    Args:
        true: probabilities that offers are drawn with, (n, k).
        seed: of the draws.
        logged: probabilities that are written down; default: the true ones.
        propensity: what becomes of the chosen action's probability before it is written down.
        chosen_only: whether that is all that is written down.
        segments: of the decisions; with them the decisions themselves are there too.
    """
    rng = np.random.default_rng((2026, seed))
    n, k = true.shape
    logged = true if logged is None else logged
    place = np.minimum((rng.random((n, 1)) > np.cumsum(true, axis=1)).sum(axis=1), k - 1)
    chosen_probability = logged[np.arange(n), place]
    if propensity is not None:
        chosen_probability = propensity(chosen_probability, rng)
    first = np.arange(n) * k
    decisions = [
        Decision(
            "home", f"d{row}", AT, AT, None, Context({"c": {"segment": one}}), ACTIONS[:k], (), (), "p", "s",
            "online", "learn", False, "h",
        )
        for row, one in enumerate(segments)
    ]  # fmt: skip
    return Chunk(
        hashes=rng.integers(0, 2**62, n),
        reward=(rng.random(n) < 0.1).astype(np.float64),
        propensity=chosen_probability,
        at=np.datetime64("2026-03-01") + np.arange(n).astype("timedelta64[m]"),
        row=np.repeat(np.arange(n), k),
        first=first,
        chosen=first + place,
        offer=np.tile(np.arange(k), n),
        codes={f"{'abcdefghijklmnopqrstuvwxyz'[index % 26]}{index}": index for index in range(k)},
        served=None if chosen_only else logged.ravel(),
        decisions=decisions,
    )


def judged(chunk: Chunk, target: FloatArray) -> Gate:
    """The gate, given an interval that would say "better"."""
    found = LogDiagnostics.of(chunk).findings()
    weights = Weights.of_chunk(chunk, target.ravel()).result
    return gate(weights, BETTER, found.faults, doubts=found.doubts)


def flat(*probabilities: float, n: int = 5000) -> FloatArray:
    return np.tile(probabilities, (n, 1))


def greedy(n: int, k: int, exploration: float) -> FloatArray:
    """Each decision has a best offer of its own, every offer as often."""
    best = np.arange(n) % k
    return np.full((n, k), exploration / k) + (1.0 - exploration) * (np.arange(k) == best[:, np.newaxis])


def uniform(n: int, k: int) -> FloatArray:
    return np.full((n, k), 1.0 / k)


TRUE = flat(0.4, 0.35, 0.25)
SHUFFLED: Callable[[FloatArray, np.random.Generator], FloatArray] = lambda p, rng: rng.permutation(p)  # noqa: E731
CASES: dict[str, Callable[[int], Chunk]] = {
    "other numbers": lambda seed: log(TRUE, seed, logged=flat(0.5, 0.3, 0.2)),
    "other numbers, chosen only": lambda seed: log(TRUE, seed, logged=flat(0.5, 0.3, 0.2), chosen_only=True),
    "rows shuffled": lambda seed: log(
        greedy(5000, 3, 0.3), seed, logged=np.random.default_rng(seed).permutation(greedy(5000, 3, 0.3))
    ),
    "column shuffled, chosen only": lambda seed: log(
        flat(0.5, 0.3, 0.2), seed, propensity=SHUFFLED, chosen_only=True
    ),
    "greedy, written as 1/k": lambda seed: log(
        flat(0.98, 0.01, 0.01), seed, logged=uniform(5000, 3)
    ),
    "greedy, written as 1/k, chosen only": lambda seed: log(
        flat(0.98, 0.01, 0.01), seed, logged=uniform(5000, 3), chosen_only=True
    ),
    "greedy by segment, written as 1/k": lambda seed: log(
        greedy(5000, 3, 0.0), seed, logged=uniform(5000, 3), segments=[f"s{row % 3}" for row in range(5000)]
    ),
    "greedy by segment, written as 1/k, chosen only": lambda seed: log(
        greedy(5000, 3, 0.0), seed, logged=uniform(5000, 3), segments=[f"s{row % 3}" for row in range(5000)],
        chosen_only=True,
    ),
    "of another action": lambda seed: log(TRUE, seed, logged=flat(0.25, 0.4, 0.35)),
    "of another action, chosen only": lambda seed: log(TRUE, seed, logged=flat(0.25, 0.4, 0.35), chosen_only=True),
    "of the next action of a greedy policy, chosen only": lambda seed: log(
        greedy(5000, 3, 0.3), seed, logged=np.roll(greedy(5000, 3, 0.3), 1, axis=1), chosen_only=True
    ),
    "too small by 1.3, chosen only": lambda seed: log(
        TRUE, seed, propensity=lambda p, _: p / 1.3, chosen_only=True
    ),
    "too large by 1.3, chosen only": lambda seed: log(
        TRUE, seed, propensity=lambda p, _: p * 1.3, chosen_only=True
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_wrong_propensities_are_refused_as_such(case: str) -> None:
    """All of 20 logs, of 5,000 decisions each."""
    for seed in range(20):
        chunk = CASES[case](seed)
        found = judged(chunk, uniform(chunk.n, 3))
        assert found.verdict == "refused", (case, seed)
        assert any("calibration" in reason for reason in found.reasons), (case, found.reasons)


RIGHT: dict[str, FloatArray] = {
    "even": flat(0.4, 0.35, 0.25, n=3000),
    "greedy": greedy(3000, 4, 0.2),
    "rare": np.tile([0.97] + [0.0025] * 12, (4000, 1)),
    "many offers": greedy(2000, 40, 0.5),
    "uneven": np.random.default_rng(5).dirichlet(np.full(10, 0.3), 3000).clip(1e-4) / 1.0,
}
RIGHT["uneven"] = RIGHT["uneven"] / RIGHT["uneven"].sum(axis=1, keepdims=True)


@pytest.mark.parametrize("chosen_only", [False, True])
@pytest.mark.parametrize("case", RIGHT)
def test_right_propensities_are_hardly_ever_refused(case: str, chosen_only: bool) -> None:
    """None of 200 logs a cell, 2,000 in all, of which 0.1% would be 2; nor any policy for its mean weight."""
    true = RIGHT[case]
    n, k = true.shape
    targets = (uniform(n, k), np.roll(true, 1, axis=1))
    for seed in range(200):
        chunk = log(true, seed, chosen_only=chosen_only)
        found = LogDiagnostics.of(chunk).findings()
        assert (found.faults, found.doubts) == ((), ()), (case, seed)
        for target in targets:
            reasons = weight_faults(Weights.of_chunk(chunk, target.ravel()).result)
            assert all("not enough data" in reason for reason in reasons), (case, seed, reasons)
