"""Values by slice of a log: by week, by offer, by any feature of the context, with the number of looks paid for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from contextual_bandit.types import Decision, Estimate, FeatureValue
from evaluation.arrays import IntArray
from evaluation.chunks import Chunk
from evaluation.slice_sums import SliceSums
from evaluation.terms import Terms

ALL = "all"
OFFER = "offer"
WEEK = "week"
SLOT = "slot"
NOT_KNOWN = "(not known)"
OTHER = "(other)"
MOST_VALUES = 50
# So many values are told apart while a log is read; the rest is one.
MOST_KEPT = 1000
MOST_DIMENSIONS = 20
LEAST_DECISIONS = 200
LEAST_EFFECTIVE = 50.0
NOT_ENOUGH = "not enough data"


@dataclass(frozen=True, slots=True)
class Slice:
    """One value of one dimension.

    Attributes:
        name: the value, as "2026-03-02" for the week that starts there, "2 to 5" for numbers in (2, 5].
        n: decisions; by offer, those in which it was served.
        share: of the log's decisions.
        values: of each policy; by offer, its mean reward where it picks that offer. None says not enough data.
        differences: from the policy compared with; None says not enough data.
    """

    name: str
    n: int
    share: float
    values: Mapping[str, Estimate | None]
    differences: Mapping[str, Estimate | None]

    @property
    def is_enough(self) -> bool:
        """Whether any policy has a value here."""
        return any(one is not None for one in self.values.values())


@dataclass(frozen=True, slots=True)
class SlicedValues:
    """The slices of all dimensions, the largest first.

    ``level`` is the one that all ``looks`` intervals keep together; each one's own is ``own_level`` (Bonferroni).
    """

    against: str
    level: float
    own_level: float
    looks: int
    dimensions: Mapping[str, tuple[Slice, ...]]

    @property
    def policies(self) -> tuple[str, ...]:
        """Names of the policies that were sliced."""
        first = next((slices[0] for slices in self.dimensions.values() if slices), None)
        return tuple(first.values) if first is not None else ()

    @property
    def caption(self) -> str:
        """How many looks there are and what that costs, in words."""
        return (
            f"{self.looks:,} intervals, each at {self.own_level:.5g}, so that all of them hold together at "
            f"{self.level:.0%} (Bonferroni); decisions count as independent"
        )


@dataclass(slots=True)
class Slices:
    """Sums of policies by slice; adds with ``+``, bounded by the number of values that are told apart.

    A dimension is ``offer``, ``week``, ``slot`` (from 1), the path of a feature ("H.segment", "D.age_band"), or all
    features of a namespace ("D.*"). Numbers fall into bins 1, 2, 5, 10, 20 and so on.

    Attributes:
        dimensions: as asked for.
        sums: by dimension (a feature's path for "D.*") and value; ``ALL`` holds the whole log.
    """

    dimensions: tuple[str, ...]
    against: str = "logged"
    sums: dict[str, dict[str, SliceSums]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what is no dimension, before a log is read.

        Raises:
            ValueError: when a dimension is none, stands twice, or there are too many.
        """
        for one in self.dimensions:
            namespace, dot, name = one.partition(".")
            if one not in (OFFER, WEEK, SLOT) and not (namespace and dot and name):
                raise ValueError(
                    f"slice {one!r} is neither {OFFER!r}, {WEEK!r}, {SLOT!r} nor a path such as 'H.segment' or 'D.*'"
                )
        if len(set(self.dimensions)) < len(self.dimensions):
            raise ValueError(f"a slice stands twice among {', '.join(self.dimensions)}")
        if len(self.dimensions) > MOST_DIMENSIONS:
            raise ValueError(f"{len(self.dimensions)} slices, at most {MOST_DIMENSIONS}")

    def add(self, chunk: Chunk, terms: Mapping[str, Terms]) -> None:
        """Take a chunk's decisions as each policy sees them; ``against`` must be among the policies.

        Raises:
            ValueError: when ``against`` is not among the policies.
        """
        if self.against not in terms:
            raise ValueError(f"policy {self.against!r} to compare against is not among {', '.join(terms)}")
        policies = tuple(terms)
        robust = {name: one.q_target + one.weight * (one.reward - one.q_chosen) for name, one in terms.items()}
        count = {name: np.ones(chunk.n) for name in policies}
        served = {name: one.weight * one.reward for name, one in terms.items()}
        weights = {name: one.weight for name, one in terms.items()}

        def take(dimension: str, codes: IntArray, names: Sequence[str]) -> None:
            # By offer a policy's own choices count, so the weight is the number of decisions.
            above, below = (served, weights) if dimension == OFFER else (robust, count)
            found = SliceSums.by_group(codes, len(names), above, below, weights, terms, self.against)
            self._merge(dimension, dict(zip(names, found, strict=True)))

        take(ALL, np.zeros(chunk.n, dtype=np.int64), [ALL])
        for dimension in self.dimensions:
            for path, codes, names in _codes(chunk, dimension):
                take(path, codes, names)

    def _merge(self, dimension: str, found: Mapping[str, SliceSums]) -> None:
        if dimension not in self.sums and len(self.sums) > 2 * MOST_DIMENSIONS:
            return
        kept = self.sums.setdefault(dimension, {})
        for name, sums in found.items():
            into = name if name in kept or len(kept) < MOST_KEPT else OTHER
            kept[into] = kept[into] + sums if into in kept else sums

    def __add__(self, other: Self) -> Self:
        whole = type(self)(self.dimensions, self.against, {name: dict(kept) for name, kept in self.sums.items()})
        for dimension, kept in other.sums.items():
            whole._merge(dimension, kept)
        return whole

    def result(self, level: float = 0.95, most: int = MOST_VALUES) -> SlicedValues:
        """Values and paired differences of each slice, at a level that all intervals keep together.

        Args:
            level: in (0, 1).
            most: values shown of each dimension, those of the most decisions; the rest is one, ``(other)``.

        Raises:
            ValueError: when the level is outside (0, 1).
        """
        if not 0.0 < level < 1.0:
            raise ValueError(f"interval level {level} is outside (0, 1)")
        whole = self.sums.get(ALL, {}).get(ALL)
        shown = {
            name: _largest(kept, None if name in (OFFER, WEEK, SLOT) else whole, most)
            for name, kept in self.sums.items()
            if name != ALL
        }
        enough = {
            name: {value: sums.enough(LEAST_DECISIONS, LEAST_EFFECTIVE) for value, sums in kept.items()}
            for name, kept in shown.items()
        }
        # A value and a difference of every policy, whether or not its rewards turned out to be enough: to choose looks
        # by what they show would spoil the level.
        looks = sum(
            2 * len(sums.policies) - 1 for kept in shown.values() for sums in kept.values() if sums.n >= LEAST_DECISIONS
        )
        own = 1.0 - (1.0 - level) / max(1, looks)
        total = whole.n if whole is not None else 0
        dimensions = {
            name: tuple(self._slice(value, sums, enough[name][value], own, total) for value, sums in kept.items())
            for name, kept in shown.items()
        }
        return SlicedValues(self.against, level, own, looks, dimensions)

    def _slice(self, name: str, sums: SliceSums, enough: frozenset[str], level: float, total: int) -> Slice:
        values = {policy: sums.value(policy, level) if policy in enough else None for policy in sums.policies}
        differences = {
            policy: sums.difference(policy, level) if {policy, self.against} <= enough else None
            for policy in sums.policies
            if policy != self.against
        }
        return Slice(name, sums.n, sums.n / total if total else 0.0, values, differences)


def _largest(kept: Mapping[str, SliceSums], whole: SliceSums | None, most: int) -> dict[str, SliceSums]:
    """The values with the most decisions, then all others together, then those without the feature."""
    ranked = sorted((name for name in kept if name != OTHER), key=lambda name: (-kept[name].n, name))
    found = {name: kept[name] for name in ranked[:most]}
    rest = [kept[name] for name in [*ranked[most:], *([OTHER] if OTHER in kept else [])]]
    if rest:
        found[OTHER] = _sum(rest)
    if whole is not None:
        missing = whole - _sum(list(kept.values())) if kept else whole
        if missing.n:
            found[NOT_KNOWN] = missing
    return found


def _sum(sums: Sequence[SliceSums]) -> SliceSums:
    total = sums[0]
    for one in sums[1:]:
        total = total + one
    return total


def _codes(chunk: Chunk, dimension: str) -> Iterator[tuple[str, IntArray, Sequence[str]]]:
    """The path, each decision's code (-1 where not known) and the names of the codes."""
    if dimension == OFFER:
        used, codes = np.unique(chunk.offer[chunk.chosen], return_inverse=True)
        offers = list(chunk.codes)
        yield OFFER, codes.astype(np.int64), [offers[code] for code in used.tolist()]
    elif dimension == SLOT:
        codes = np.zeros(chunk.n, dtype=np.int64) if chunk.slot is None else chunk.slot
        yield SLOT, codes, [str(one + 1) for one in range(int(codes.max(initial=0)) + 1)]
    elif dimension == WEEK:
        # 1970 began on a Thursday; weeks on Mondays.
        week, codes = np.unique((chunk.at.astype("datetime64[D]").astype(np.int64) + 3) // 7, return_inverse=True)
        yield WEEK, codes.astype(np.int64), np.datetime_as_string((week * 7 - 3).astype("datetime64[D]")).tolist()
    else:
        namespace, _, name = dimension.partition(".")
        for one in _names(chunk.decisions, namespace) if name == "*" else [name]:
            yield f"{namespace}.{one}", *_feature_codes(chunk, namespace, one)


def _names(decisions: Sequence[Decision], namespace: str) -> list[str]:
    return sorted({name for decision in decisions for name in decision.context.namespaces.get(namespace, {})})


def _feature_codes(chunk: Chunk, namespace: str, name: str) -> tuple[IntArray, list[str]]:
    known: dict[str, int] = {}
    codes = np.full(chunk.n, -1, dtype=np.int64)
    for row, decision in enumerate(chunk.decisions):
        value = decision.context.namespaces.get(namespace, {}).get(name)
        if value is not None:
            codes[row] = known.setdefault(in_words(value), len(known))
    return codes, list(known)


def in_words(value: FeatureValue) -> str:
    """A feature's value as the name of a slice; numbers are put into bins.

    >>> in_words("gold"), in_words(True), in_words(3.0), in_words(0.0), in_words(-12)
    ('gold', 'true', '2 to 5', '0', '-20 to -10')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if not math.isfinite(value) or value == 0.0:
        return "0" if value == 0.0 else NOT_KNOWN
    decade = 10.0 ** math.floor(math.log10(abs(value)))
    edges = [one * decade for one in (0.5, 1.0, 2.0, 5.0, 10.0)]
    above = next((index for index, edge in enumerate(edges) if abs(value) <= edge * (1.0 + 1e-12)), len(edges) - 1)
    low, high = edges[above - 1], edges[above]
    return f"{low:g} to {high:g}" if value > 0.0 else f"{-high:g} to {-low:g}"
