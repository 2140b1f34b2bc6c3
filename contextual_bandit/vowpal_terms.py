"""The terms that Vowpal Wabbit sums for an action: features and their products, under the indices that it hashes to.

A prediction is the sum of weight times value over the terms. The rules are those of Vowpal Wabbit 9.11 (its
interactions.h, interactions_predict.h, parse_args.cc); tests/policies/test_explain.py compares with what it predicts.
Indices are its own without the stride, a power of two that all have in common and that products keep.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement, groupby, pairwise, product
from math import comb, prod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from contextual_bandit.explain import ActionExplanation, Contribution, Unexplainable
from contextual_bandit.types import LearningSetting

Floats: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.uint64]
# First bytes of namespaces whose features are multiplied with each other; one byte alone stands for its features.
Letters: TypeAlias = tuple[int, ...]
# Name as shown, first byte of the namespace, index, value.
Feature: TypeAlias = tuple[str, int, int, float]

CONSTANT = 128
CONSTANT_HASH = 11650396
WILDCARD = ord(":")
# What a wildcard stands for: not the constant.
PRINTABLE = range(ord(" "), ord("~") + 1)
# So many terms of one call take about half a second.
MOST_TERMS = 1_000_000
_FNV_PRIME = np.uint64(16777619)


@dataclass(frozen=True, slots=True)
class Group:
    """Features of one action in the namespaces that begin alike: its ``own`` first ones, then the shared ones."""

    names: tuple[str, ...]
    indices: Indices
    values: Floats
    own: int

    def __add__(self, shared: Group) -> Group:
        """An action's own features, followed by shared ones."""
        return Group(
            self.names + shared.names,
            np.concatenate([self.indices, shared.indices]),
            np.concatenate([self.values, shared.values]),
            self.own,
        )


Groups: TypeAlias = Mapping[int, Group]


@dataclass(frozen=True, slots=True)
class Terms:
    """Products of one feature from each of ``groups``: term n has feature ``positions[g][n]`` of group g."""

    groups: tuple[Group, ...]
    positions: tuple[npt.NDArray[np.intp], ...]
    indices: Indices
    values: Floats

    def shared(self) -> npt.NDArray[np.bool_]:
        """Which terms have no feature of the action's own."""
        pairs = zip(self.groups, self.positions, strict=True)
        found: npt.NDArray[np.bool_] = np.logical_and.reduce([position >= some.own for some, position in pairs])
        return found

    def name(self, term: int) -> str:
        """The names of its features, in the order in which they are hashed."""
        pairs = zip(self.groups, self.positions, strict=True)
        return " × ".join([some.names[int(position[term])] for some, position in pairs])


# Terms with what each adds to the reward.
Part: TypeAlias = tuple[Terms, Floats]


@dataclass(frozen=True, slots=True)
class TermRules:
    """Which terms a learning setting has; ``regularised`` weights are kept apart from what is to be taken off them."""

    interactions: tuple[Letters, ...]
    leave_duplicates: bool
    ignored: frozenset[int]
    ignored_linear: frozenset[int]
    constant: bool
    regularised: bool

    def letters(self, sizes: Mapping[int, int]) -> list[Letters]:
        """What is multiplied with what, given how many features there are by letter."""
        alone: list[Letters] = [(letter,) for letter in sizes if letter not in self.ignored_linear]
        return alone + [letters for letters in self._expanded(sizes) if all(letter in sizes for letter in letters)]

    def _expanded(self, letters: Iterable[int]) -> Sequence[Letters]:
        if not any(WILDCARD in interaction for interaction in self.interactions):
            return self.interactions
        present = sorted(letter for letter in letters if letter in PRINTABLE)
        found: list[Letters] = []
        for interaction in self.interactions:
            for chosen in _wildcards(present, interaction.count(WILDCARD), self.leave_duplicates):
                rest = iter(chosen)
                found.append(tuple([next(rest) if letter == WILDCARD else letter for letter in interaction]))
        return _distinct(found, self.leave_duplicates)


@lru_cache(maxsize=256)
def term_rules(arguments: str) -> TermRules:
    """Read from a learning setting's arguments.

    Raises:
        Unexplainable: the setting spells a namespace in hexadecimal.
    """
    words = [part for word in shlex.split(arguments) for part in word.split("=", 1)]
    values: dict[str, list[str]] = {}
    for name, value in pairwise([*words, ""]):
        values.setdefault(name, []).append(value)
    if "\\" in arguments:
        raise Unexplainable(f"predictions of {arguments!r} are not split: a namespace is spelled in hexadecimal")
    leave_duplicates = "--leave_duplicate_interactions" in values
    named = [word for name in ("-q", "--quadratic", "--cubic", "--interactions") for word in values.get(name, ())]
    return TermRules(
        tuple(_distinct([tuple(word.encode()) for word in named], leave_duplicates)),
        leave_duplicates,
        _ignored("".join(values.get("--ignore", ())), values.get("--keep")),
        frozenset("".join(values.get("--ignore_linear", ())).encode()),
        "--noconstant" not in values,
        "--l1" in values or "--l2" in values,
    )


def _ignored(ignored: str, kept: Sequence[str] | None) -> frozenset[int]:
    # --keep goes before --ignore; the constant is kept in any case.
    return frozenset(ignored.encode() if kept is None else set(range(CONSTANT)) - set("".join(kept).encode()))


def _wildcards(letters: Sequence[int], count: int, leave_duplicates: bool) -> Iterator[Letters]:
    if leave_duplicates:
        return product(letters, repeat=count)
    if count > 2:
        # Three and more come in falling order, which changes their hashes.
        return (chosen[::-1] for chosen in combinations_with_replacement(letters, count))
    return combinations_with_replacement(letters, count)


def _distinct(interactions: Iterable[Letters], leave_duplicates: bool) -> list[Letters]:
    """Each set of namespaces once, as first in order; equal ones side by side, as only neighbours are compared."""
    found: set[Letters] = set()
    kept: list[Letters] = []
    for letters in sorted(interactions, key=lambda letters: (len(letters), letters)):
        ordered = tuple(sorted(letters))
        if leave_duplicates or ordered not in found:
            repeats = 1 < len(set(letters)) < len(letters)
            found.add(ordered)
            kept.append(ordered if repeats else letters)
    return kept


def group(rules: TermRules, features: Iterable[Feature], *, own: bool) -> dict[int, Group]:
    """Features by the first byte of their namespace, as an action's ``own`` or as shared ones."""
    found: dict[int, list[Feature]] = {}
    for feature in features:
        if feature[1] not in rules.ignored and feature[3] != 0.0:
            found.setdefault(feature[1], []).append(feature)
    groups = {}
    for letter, together in found.items():
        names, _, indices, values = zip(*together, strict=True)
        # Values have float32 precision in Vowpal Wabbit.
        numbers = np.array(values, dtype=np.float32).astype(np.float64)
        groups[letter] = Group(names, np.array(indices, dtype=np.uint64), numbers, len(names) if own else 0)
    return groups


@dataclass(frozen=True, slots=True)
class Listing:
    """How many contributions to list for each offer, and whether those that all offers share may be among them."""

    largest: int
    own_only: bool


def explain_offers(
    rules: TermRules,
    setting: LearningSetting,
    shared: Groups,
    offers: Sequence[tuple[str, Groups]],
    weights: Callable[[Indices], Floats],
    listing: Listing,
) -> tuple[ActionExplanation, ...]:
    """Explanations in the order of ``offers``, each an id with the features of its own; ``weights`` are of costs.

    Raises:
        Unexplainable: more than ``MOST_TERMS`` terms.
    """
    known: dict[Letters, Part] = {}
    explanations, count = [], 0
    for offer_id, own in offers:
        groups = {**own, **{letter: own[letter] + some if letter in own else some for letter, some in shared.items()}}
        sizes = {letter: len(some.names) for letter, some in groups.items()}
        parts = []
        for letters in rules.letters(sizes):
            alike = own.keys().isdisjoint(letters)
            if alike and letters in known:
                parts.append(known[letters])
                continue
            count += _count(letters, sizes)
            if count > MOST_TERMS:
                raise Unexplainable(f"the predictions of {len(offers)} offers have more than {MOST_TERMS} terms")
            terms = _multiply(letters, groups)
            # Costs from 0 down to -1 are rewards from the lower to the upper end of the range.
            part = terms, (setting.reward_low - setting.reward_high) * weights(terms.indices) * terms.values
            parts.append(part)
            if alike:
                known[letters] = part
        explanations.append(_explained(offer_id, setting.reward_low, parts, listing))
    return tuple(explanations)


def _count(letters: Letters, sizes: Mapping[int, int]) -> int:
    runs = [(letter, len(list(run))) for letter, run in groupby(letters)]
    return prod([comb(sizes[letter] + length - 1, length) for letter, length in runs])


def _multiply(letters: Letters, groups: Groups) -> Terms:
    """All products; those of a group with itself without regard to order, squares included."""
    first = groups[letters[0]]
    indices, values = first.indices, first.values
    positions = [np.arange(len(first.names))]
    for before, letter in pairwise(letters):
        other = groups[letter]
        rows = np.repeat(np.arange(len(indices)), len(other.names))
        columns = np.tile(np.arange(len(other.names)), len(indices))
        if letter == before:
            kept = columns >= positions[-1][rows]
            rows, columns = rows[kept], columns[kept]
        indices = (indices[rows] * _FNV_PRIME) ^ other.indices[columns]
        values = values[rows] * other.values[columns]
        positions = [*(position[rows] for position in positions), columns]
    return Terms(tuple(groups[letter] for letter in letters), tuple(positions), indices, values)


def _explained(offer_id: str, base: float, parts: Sequence[Part], listing: Listing) -> ActionExplanation:
    rewards = np.concatenate([np.zeros(0), *(found for _, found in parts)])
    shared = np.concatenate([np.zeros(0, dtype=np.bool_), *(terms.shared() for terms, _ in parts)])
    starts = np.cumsum([0, *(len(found) for _, found in parts)])
    sizes = np.where(shared, 0.0, np.abs(rewards)) if listing.own_only else np.abs(rewards)
    order = np.argsort(-sizes, kind="stable")[: max(listing.largest, 0)]
    listed = []
    for place in order[sizes[order] > 0.0].tolist():
        part = int(np.searchsorted(starts, place, side="right")) - 1
        terms, term = parts[part][0], place - int(starts[part])
        value = float(terms.values[term])
        listed.append(Contribution(terms.name(term), value, float(rewards[place]), bool(shared[place])))
        rewards[place] = 0.0
    rest = float(rewards.sum())
    score = base + sum([contribution.reward for contribution in listed]) + rest
    return ActionExplanation(offer_id, score, base, tuple(listed), rest, int(np.count_nonzero(rewards)))
