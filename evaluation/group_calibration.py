"""Calibration by offer, position or feature: sees errors that cancel over a whole log, and needs one probability only.

For a group of (decision, action) pairs, such as one offer wherever it was eligible,

    sum over pairs of (1{chosen} / p - 1)

has mean 0 if the propensities are right, and variance 1/p - 1 for each pair (Horvitz and Thompson 1952). It needs the
chosen action's probability alone. A log of whole distributions allows sum (1{chosen} - p) too, with variance p (1 - p).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Self, TypeAlias

import numpy as np

from evaluation.arrays import FloatArray, IntArray
from evaluation.calibration import CALIBRATION_EDGES, bucket_of
from evaluation.chunks import Chunk
from evaluation.moments import compensated_add, with_zero_error
from evaluation.significance import DEFAULT_LIMITS, GateLimits, bonferroni_z, skewed_limit, z_score

GroupKind: TypeAlias = Literal["offer", "position", "feature", "probability"]
# "too rare" is doubtful rather than wrong where the other offers' probabilities are not known: they may have been 0.
GroupFinding: TypeAlias = Literal["right", "too often", "too rarely", "never", "not tested"]

MOST_TESTED = 200
MOST_GROUPS = 4096
MOST_POSITIONS = 64
SAMPLED = 1024
LONGEST_VALUE = 60
# A file may hold probabilities that were rounded for printing; errors below this share are no fault of its log.
ROUNDING = 0.01
_ELIGIBLE, _OBSERVED, _EXPECTED, _VARIANCE, _INVERSE, _INVERSE_VARIANCE, _SUPPORTED = range(7)


@dataclass(frozen=True, slots=True)
class GroupCheck:
    """One group: how often it was served, and how often its logged probabilities say.

    Attributes:
        kind: what the group is made of.
        name: offer id, position, "path=value: offer", or a range of probabilities.
        eligible: pairs.
        observed: how often one of them was chosen.
        expected: sum of their logged probabilities; None where they are not known.
        ratio: sum of 1/p of the chosen, over the pairs that could be served; 1 when propensities are right.
        z: the score that is farthest from its limit's inside; None if the group is not tested.
        finding: what the scores say.
    """

    kind: GroupKind
    name: str
    eligible: int
    observed: int
    expected: float | None
    ratio: float
    z: float | None
    finding: GroupFinding


@dataclass(frozen=True, slots=True, eq=False)
class GroupCalibration:
    """Sums by group; adds with ``+``, by the groups' names.

    Attributes:
        kind: what groups are made of.
        names: of the g groups.
        sums: shape (2, g, 7): eligible, observed, expected, its variance, sum of 1/p of the chosen, its variance,
            supported; each with its rounding error.
        smallest: least logged probability of each group, (g,); inf without any.
        is_known: whether all probabilities were known, not the chosen actions' alone.
    """

    kind: GroupKind
    names: tuple[str, ...]
    sums: FloatArray
    smallest: FloatArray
    is_known: bool = True

    @classmethod
    def empty(cls, kind: GroupKind) -> Self:
        """No decisions yet."""
        return cls(kind, (), np.zeros((2, 0, 7)), np.zeros(0))

    @classmethod
    def of(
        cls, kind: GroupKind, names: Sequence[str], chunk: Chunk, group: IntArray, pair: IntArray | None = None
    ) -> Self:
        """Take pairs of a chunk and the group of each.

        Args:
            kind: what groups are made of.
            names: of the groups.
            chunk: the decisions.
            group: of each pair, (m,), or of each that ``pair`` names.
            pair: some of the pairs, rising; one may stand in several groups, once in each. None: all.
        """
        size = len(names)
        if pair is None:
            chosen_group, inverse = group[chunk.chosen], 1.0 / chunk.propensity
        else:
            is_chosen = np.zeros(len(chunk.row), dtype=np.bool_)
            is_chosen[chunk.chosen] = True
            mine = is_chosen[pair]
            chosen_group, inverse = group[mine], 1.0 / chunk.propensity[chunk.row[pair[mine]]]
        sums = np.zeros((size, 7))
        sums[:, _ELIGIBLE] = np.bincount(group, minlength=size)
        sums[:, _OBSERVED] = np.bincount(chosen_group, minlength=size)
        sums[:, _INVERSE] = np.bincount(chosen_group, inverse, minlength=size)
        smallest = np.full(size, math.inf)
        if chunk.served is None:
            sums[:, _SUPPORTED] = sums[:, _ELIGIBLE]
            sums[:, _INVERSE_VARIANCE] = np.bincount(chosen_group, inverse**2 - inverse, minlength=size)
            np.minimum.at(smallest, chosen_group, 1.0 / inverse)
            return cls(kind, tuple(names), with_zero_error(sums), smallest, False)
        served = chunk.served if pair is None else chunk.served[pair]
        could = served > 0.0
        if not could.all():
            group, served = group[could], served[could]
        sums[:, _SUPPORTED] = np.bincount(group, minlength=size)
        sums[:, _EXPECTED] = np.bincount(group, served, minlength=size)
        sums[:, _VARIANCE] = np.maximum(0.0, sums[:, _EXPECTED] - np.bincount(group, served * served, minlength=size))
        sums[:, _INVERSE_VARIANCE] = np.maximum(
            0.0, np.bincount(group, 1.0 / served, minlength=size) - sums[:, _SUPPORTED]
        )
        np.minimum.at(smallest, group, served)
        return cls(kind, tuple(names), with_zero_error(sums), smallest)

    @classmethod
    def by_offer(cls, chunk: Chunk) -> Self:
        """Groups: each offer wherever it was eligible."""
        return cls.of("offer", tuple(chunk.codes), chunk, chunk.offer)

    @classmethod
    def by_position(cls, chunk: Chunk) -> Self:
        """Groups: the first action of each decision, the second, and so on; those from the 64th on are one."""
        place = np.arange(len(chunk.row))
        place -= chunk.first[chunk.row]
        np.minimum(place, MOST_POSITIONS - 1, out=place)
        names = [f"action {number + 1}" for number in range(int(place.max(initial=-1)) + 1)]
        return cls.of("position", names, chunk, place)

    @classmethod
    def by_feature(cls, chunk: Chunk) -> Self:
        """Groups: each offer in decisions with one value of a word or yes/no feature; at most 1,024 of the chunk's.

        It sees a policy that decided by the customer while the log says that it did not.
        """
        codes: dict[str, int] = {}
        rows: list[int] = []
        values: list[int] = []
        for row in range(0, len(chunk.decisions), max(1, -(-chunk.n // SAMPLED))):
            for namespace, features in chunk.decisions[row].context.namespaces.items():
                for name, value in features.items():
                    if isinstance(value, str | bool) and len(str(value)) <= LONGEST_VALUE:
                        rows.append(row)
                        values.append(codes.setdefault(f"{namespace}.{name}={value}", len(codes)))
        if not rows:
            return cls.empty("feature")
        sizes = np.diff(chunk.first, append=len(chunk.row))[rows]
        starts = np.repeat(chunk.first[rows] - (np.cumsum(sizes) - sizes), sizes)
        pair = starts + np.arange(int(sizes.sum()))
        key = np.repeat(np.array(values, dtype=np.int64), sizes) * len(chunk.codes) + chunk.offer[pair]
        kinds, group = np.unique(key, return_inverse=True)
        labels, offers = list(codes), list(chunk.codes)
        names = [f"{labels[one // len(offers)]}: {offers[one % len(offers)]}" for one in kinds.tolist()]
        return cls.of("feature", names, chunk, group.astype(np.int64), pair)

    @classmethod
    def by_probability(cls, chunk: Chunk) -> Self:
        """Groups: ranges of the chosen action's probability, and all offers together; for logs of that alone.

        Of K actions at most min(K, 1 / low) can have had a probability above ``low``, so the sum of 1/p of those
        chosen in a range can exceed that only if probabilities were written down too small.
        """
        buckets = len(CALIBRATION_EDGES) - 1
        names = [f"{low:g} to {high:g}" for low, high in pairwise(CALIBRATION_EDGES)]
        if chunk.served is not None:
            return cls.empty("probability")
        bucket, inverse = bucket_of(chunk.propensity), 1.0 / chunk.propensity
        sizes = np.diff(chunk.first, append=len(chunk.row))
        sums = np.zeros((buckets + 1, 7))
        for index, low in enumerate(CALIBRATION_EDGES[:-1]):
            sums[index, _ELIGIBLE] = np.minimum(sizes, math.floor(1.0 / low) if low else sizes).sum()
        sums[buckets, _ELIGIBLE] = len(chunk.row)
        for column, weights in ((_OBSERVED, np.ones(chunk.n)), (_INVERSE, inverse), (_INVERSE_VARIANCE, inverse**2)):
            sums[:buckets, column] = np.bincount(bucket, weights, minlength=buckets)
            sums[buckets, column] = weights.sum()
        # All together, the spread about the number of actions is what counts: 1/K written everywhere has none.
        sums[buckets, _INVERSE_VARIANCE] = ((inverse - sizes) ** 2).sum()
        sums[:, _SUPPORTED] = sums[:, _ELIGIBLE]
        smallest = np.full(buckets + 1, math.inf)
        np.minimum.at(smallest, bucket, chunk.propensity)
        smallest[buckets] = smallest.min()
        return cls("probability", (*names, "all"), with_zero_error(sums), smallest, False)

    def __add__(self, other: Self) -> Self:
        if not other.names:
            return self
        if not self.names:
            return other
        names, sums, smallest = self.names, self.sums, self.smallest
        # The codes of one log only ever grow, so mostly the longer list begins with the shorter.
        if other.names[: len(names)] == names:
            into = np.arange(len(other.names))
            names = other.names
        else:
            place = {name: index for index, name in enumerate(names)}
            into = np.array([place.setdefault(name, len(place)) for name in other.names])
            names = tuple(place)
        more = len(names) - len(self.names)
        sums = np.concatenate((sums, np.zeros((2, more, 7))), axis=1)
        smallest = np.concatenate((smallest, np.full(more, math.inf)))
        sums[:, into] = compensated_add(sums[:, into], other.sums)
        smallest[into] = np.minimum(smallest[into], other.smallest)
        whole = type(self)(self.kind, names, sums, smallest, self.is_known and other.is_known)
        return whole._bounded() if self.kind == "feature" and len(names) > 2 * MOST_GROUPS else whole

    def _bounded(self) -> Self:
        keep = np.sort(np.argsort(-self.sums[0, :, _ELIGIBLE], kind="stable")[:MOST_GROUPS])
        names = tuple(self.names[index] for index in keep.tolist())
        return type(self)(self.kind, names, self.sums[:, keep], self.smallest[keep], self.is_known)

    def checks(self, limits: GateLimits = DEFAULT_LIMITS, most: int = MOST_TESTED) -> tuple[GroupCheck, ...]:
        """The groups that were served most, tested together: Bonferroni shares one family's false alarms."""
        totals = self.sums[0] + self.sums[1]
        order = np.lexsort((-totals[:, _ELIGIBLE], -totals[:, _OBSERVED]))[:most]
        # Two scores a group where distributions are known, else one on either side.
        limit = bonferroni_z(limits.calibration_z, 2 * len(order))
        least = float(self.smallest.min(initial=1.0))
        return tuple(self._check(index, totals[index], limit, least, limits) for index in order.tolist())

    def _check(self, index: int, sums: FloatArray, limit: float, least: float, limits: GateLimits) -> GroupCheck:
        eligible, observed, expected, _, inverse, _, supported = (float(one) for one in sums)
        scores = list(
            self._known_scores(index, sums, limit, limits)
            if self.is_known
            else self._scores(sums, limit, least, limits)
        )
        # The score that is nearest to its limit, or farthest beyond it, speaks for the group.
        z, allowed = max(scores, key=lambda one: abs(one[0]) / one[1], default=(None, limit))
        finding: GroupFinding = "not tested"
        if z is not None and abs(z) <= allowed:
            finding = "right"
        elif z is not None:
            finding = "too often" if z > 0.0 else "too rarely" if observed else "never"
        return GroupCheck(
            self.kind,
            self.names[index],
            int(eligible),
            int(observed),
            expected if self.is_known else None,
            inverse / supported if supported else math.nan,
            z,
            finding,
        )

    def _known_scores(
        self, index: int, sums: FloatArray, limit: float, limits: GateLimits
    ) -> Iterable[tuple[float, float]]:
        _, observed, expected, variance, inverse, inverse_variance, supported = (float(one) for one in sums)
        if variance >= limits.least_calibration_variance:
            z = z_score(observed - expected, variance)
            yield z, skewed_limit(limit, 1.0, variance) if z > 0.0 else limit
            z = z_score(inverse - supported, inverse_variance)
            largest = 1.0 / float(self.smallest[index])
            yield z, skewed_limit(limit, largest, inverse_variance) if z > 0.0 else limit
        elif variance <= 1e-9 * max(1.0, expected) and abs(observed - expected) > 0.5:
            yield math.copysign(math.inf, observed - expected), limit

    def _scores(
        self, sums: FloatArray, limit: float, least: float, limits: GateLimits
    ) -> Iterable[tuple[float, float]]:
        eligible, observed, _, _, inverse, variance, _ = (float(one) for one in sums)
        surplus = inverse - eligible
        if surplus > ROUNDING * eligible:
            if observed >= limits.least_calibration_variance:
                yield z_score(surplus, variance, eligible), limit
        elif surplus < 0.0 and self.kind != "probability":
            # As with mean weights, what is missing may be rare draws: so many, each with its own square.
            yield z_score(surplus, variance - surplus / least, eligible), limit
