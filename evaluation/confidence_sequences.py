"""Confidence sequences: intervals that hold at every moment at once, for pages that are watched and for stopping."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from evaluation.arrays import FloatArray

_RATES = 0.97 * 1.5 ** -np.arange(48.0)
_PRIOR = (np.arange(48.0) + 1.0) ** -1.2
_LOG_PRIOR = np.log(_PRIOR / _PRIOR.sum())
_NEWTON_STEPS = 30


@dataclass(slots=True)
class ConfidenceSequence:
    """The mean of bounded outcomes that come in order: (low, high) holds at all times together with the level.

    For decisions logged with known propensities x_t is the outcome's pseudo-outcome under the target policy, w r or the
    doubly robust term, or the difference of two policies' terms; its mean given the past is the policy's value, also
    when the logging policy changes on the way. If the value itself drifts, the interval is about its mean so far.

    With any guess g_t made from x_1 .. x_(t-1), exp(l sum (x_t - mean) / s - psi(l) sum (x_t - g_t)^2 / s^2) with
    psi(l) = -log(1 - l) - l is a supermartingale for each l in [0, 1) when g_t - x_t <= s, whatever the largest x
    (Fan, Grama, Liu 2015, "Exponential inequalities for martingales with applications"; Howard, Ramdas, McAuliffe,
    Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences"). A fixed mixture over l is one too,
    and stays below 2 / a for ever with probability 1 - a / 2 (Ville's inequality): that gives the lower bound, and the
    mirrored outcomes the upper one. Karampatziakis, Mineiro, Ramdas 2021, "Off-policy confidence sequences"; Waudby-
    Smith, Wu, Ramdas, Karampatziakis, Mineiro 2022, "Anytime-valid off-policy inference for contextual bandits".

    The state is three numbers. Outcomes must come in the order of their decisions, and be computed without what came
    later: predictions of a doubly robust term from a model trained on earlier decisions only. Hence no ``+``.

    Attributes:
        low: smallest value that the mean can have.
        high: largest.
        least: smallest possible outcome, at most ``low``.
        most: largest possible outcome, at least ``high``.
        level: in (0, 1).
        n: outcomes so far.
        total: their sum.
        squares: sum of squared distances to the guesses.
    """

    low: float
    high: float
    least: float
    most: float
    level: float = 0.95
    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.level < 1.0:
            raise ValueError(f"interval level {self.level} is outside (0, 1)")
        numbers = (self.least, self.low, self.high, self.most, self.total, self.squares)
        if not (np.all(np.isfinite(numbers)) and self.least <= self.low < self.high <= self.most):
            raise ValueError(
                f"least {self.least} <= low {self.low} < high {self.high} <= most {self.most} does not hold, "
                "or a number is not finite"
            )
        if self.n < 0 or self.squares < 0.0:
            raise ValueError(f"{self.n} outcomes with squares {self.squares}")

    @classmethod
    def of_ips(cls, low: float, high: float, largest_weight: float, level: float = 0.95) -> Self:
        """Nothing yet; outcomes will be w r with r in [low, high] and w at most the policy's bound."""
        bound = max(1.0, largest_weight)
        return cls(low, high, min(low, low * bound), max(high, high * bound), level)

    @classmethod
    def of_doubly_robust(
        cls,
        low: float,
        high: float,
        largest_weight: float,
        level: float = 0.95,
        predictions: tuple[float, float] | None = None,
    ) -> Self:
        """Nothing yet; outcomes will be sum_a pi(a) q(a) + w (r - q) with r in [low, high].

        ``predictions`` is the range of q, [low, high] without it. Where rewards are rare a small largest prediction, to
        which a model's are cut, makes the lower bound much better: -w q reaches less far down.
        """
        least, most = predictions or (low, high)
        bound = max(1.0, largest_weight)
        return cls(low, high, min(low, least + bound * (low - most)), max(high, most + bound * (high - least)), level)

    @classmethod
    def of_difference(cls, least: float, most: float, span: float, level: float = 0.95) -> Self:
        """Nothing yet; outcomes will be differences of two policies' terms, in [least, most], on the same decisions.

        ``span`` is high - low of the rewards. For IPS terms x = (w - w') r with r in [0, high] the bounds are the
        smallest and the largest difference of weights that is possible, times high.
        """
        return cls(-span, span, min(least, -span), max(most, span), level)

    def update(self, outcomes: FloatArray) -> None:
        """Take the next outcomes in order, shape (k,).

        Raises:
            ValueError: when one is not finite or outside [least, most]; then none was taken.
        """
        values = np.asarray(outcomes, dtype=np.float64)
        slack = 1e-9 * (self.most - self.least)
        if outside := values[~((values >= self.least - slack) & (values <= self.most + slack))].tolist():
            raise ValueError(f"outcome {outside[0]} is outside [{self.least}, {self.most}]")
        self.squares += float(squared_surprise(values, self.low, self.high, self.n, self.total).sum())
        self.total += float(values.sum())
        self.n += len(values)

    @property
    def mean(self) -> float:
        """Mean outcome so far; nan before the first."""
        return self.total / self.n if self.n else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """The interval (low, high) now; [low, high] of the mean before the first outcome."""
        low, high = confidence_bounds(
            np.array(float(self.n)), np.array(self.total), np.array(self.squares), (self.low, self.high),
            (self.least, self.most), self.level,
        )  # fmt: skip
        return float(low), float(high)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for a store."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """What ``to_dict`` gave.

        Raises:
            ValueError: when the numbers do not make a sequence.
        """
        try:
            return cls(**stored)
        except TypeError as error:
            raise ValueError(f"{sorted(stored)} are not the numbers of a confidence sequence") from error


def squared_surprise(
    outcomes: FloatArray, low: float, high: float, n: int = 0, total: FloatArray | float = 0.0
) -> FloatArray:
    """Squared distance of each outcome to the guess that the ones before it gave, shape (..., k) as the outcomes.

    The guess is (x_0 + sum of the outcomes before) / (their number + 1), inside [low, high]; x_0 is the value of that
    range that is nearest to 0. ``n`` outcomes with the sum ``total``, shape (...), came before the first.
    """
    before = np.cumsum(outcomes, axis=-1) - outcomes + np.asarray(total)[..., np.newaxis]
    first = min(max(0.0, low), high)
    guess = np.clip((before + first) / (n + np.arange(1, outcomes.shape[-1] + 1)), low, high)
    return np.asarray((outcomes - guess) ** 2)


def confidence_bounds(
    n: FloatArray,
    total: FloatArray,
    squares: FloatArray,
    limits: tuple[float, float],
    reach: tuple[float, float],
    level: float = 0.95,
) -> tuple[FloatArray, FloatArray]:
    """Give the bounds (low, high) of a ``ConfidenceSequence`` from its state; arrays of one shape.

    Args:
        n: outcomes so far.
        total: their sum.
        squares: the sum of ``squared_surprise``.
        limits: smallest and largest possible mean.
        reach: smallest and largest possible outcome.
        level: in (0, 1).
    """
    threshold = np.log(2.0 / (1.0 - level))
    count = np.maximum(n, 1.0)
    below = _excess(squares, limits[1] - reach[0], threshold) / count
    above = _excess(squares, reach[1] - limits[0], threshold) / count
    low = np.where(n > 0, np.clip(total / count - below, *limits), limits[0])
    high = np.where(n > 0, np.clip(total / count + above, *limits), limits[1])
    return low, high


def _excess(squares: FloatArray, scale: float, threshold: float) -> FloatArray:
    """How far the sum may lie above its mean: where the mixture over rates reaches the threshold."""
    variance = np.asarray(squares)[..., np.newaxis] / scale**2
    cost = (-np.log1p(-_RATES) - _RATES) * variance
    # The mixture is at least each of its parts: the smallest excess of one part is not below the root, and from there
    # Newton's method on the convex logarithm of the mixture comes down to it without ever passing it.
    excess = ((threshold - _LOG_PRIOR + cost) / _RATES).min(axis=-1)
    for _ in range(_NEWTON_STEPS):
        parts = _LOG_PRIOR + _RATES * excess[..., np.newaxis] - cost
        top = parts.max(axis=-1)
        shares = np.exp(parts - top[..., np.newaxis])
        whole = shares.sum(axis=-1)
        step = (top + np.log(whole) - threshold) / ((shares @ _RATES) / whole)
        if np.all(step <= 1e-10 * excess):
            break
        excess = excess - np.maximum(step, 0.0)
    return np.asarray(excess * scale)
