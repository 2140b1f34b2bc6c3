"""Offers as Vowpal Wabbit has them: parsed once for each version, with the affinity of whoever asks put in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from contextual_bandit.kept import KeptByObject
from contextual_bandit.types import Action, Features
from contextual_bandit.vowpal_lines import _binary, _line

# Features as (index, value).
Hashed: TypeAlias = list[tuple[int, float]]

_AFFINITY = ord("A")
# Features whose hashes or texts are kept, some hundred bytes each.
MOST_FEATURES = 10_000
# Sets of actions that are kept prepared, some kilobytes each.
MOST_SETS = 1_000


class OfferExample:
    """A parsed offer, and the affinity that was put into it last; None before the first."""

    __slots__ = ("hashed", "parsed")

    def __init__(self, parsed: Any) -> None:
        self.parsed = parsed
        self.hashed: Hashed | None = None


Prepared: TypeAlias = list[tuple[OfferExample, Hashed]]


class OfferExamples:
    """The offers of one workspace, and what was made of the features that calls have in common."""

    def __init__(self, workspace: Any, parse: Callable[[Action], Any], *, keeps: bool) -> None:
        """``parse`` reads an offer without its affinity; with ``keeps`` those of the catalogue are read once."""
        self._workspace = workspace
        self._parse = parse
        self._keeps = keeps
        self._kept: dict[tuple[str, int], OfferExample] = {}
        self._indices: dict[str, int] = {}
        self._numbers: dict[str, int] = {}
        self._hashes = KeptByObject[Features, Hashed](MOST_FEATURES)
        self._texts = KeptByObject[Features, str](MOST_FEATURES)
        self._sets = KeptByObject[Sequence[Action], Prepared](MOST_SETS)

    def parsed(self, actions: Sequence[Action], once: list[Any]) -> list[Any]:
        """The examples of actions with their affinities; those that are used once are added to ``once``."""
        prepared = self._sets.get(actions)
        if prepared is None:
            before = len(once)
            prepared = self._prepared(actions, once)
            # A tuple stays what it is, and what is used once has its end after this call.
            if isinstance(actions, tuple) and len(once) == before:
                self._sets.put(actions, prepared)
        found = []
        for example, hashed in prepared:
            # Few categories mean something to a customer, so that many offers have what they had for the last one.
            if example.hashed != hashed:
                self._put(example.parsed, hashed)
                example.hashed = hashed
            found.append(example.parsed)
        return found

    def put_affinity(self, example: Any, affinity: Features) -> None:
        """Give an example that is not kept here an affinity instead of what it has."""
        self._put(example, self._hashed(affinity))

    def line(self, features: Features) -> str:
        """The text of a context's features."""
        found = self._texts.get(features)
        return self._texts.put(features, _line(features)) if found is None else found

    def take_all(self) -> list[Any]:
        """All that are kept, for their end; nothing is kept after this."""
        taken = [example.parsed for example in self._kept.values()]
        self._kept.clear()
        self._sets.clear()
        return taken

    def _prepared(self, actions: Sequence[Action], once: list[Any]) -> Prepared:
        prepared = []
        for action in actions:
            # Only the catalogue's are kept.
            example = self._kept.get((action.offer_id, action.version))
            if example is None:
                example = OfferExample(self._parse(action))
                if action.version > 0 and self._keeps:
                    self._kept[(action.offer_id, action.version)] = example
                else:
                    once.append(example.parsed)
            # Offers of a category share one object.
            hashed = self._hashes.get(action.affinity)
            if hashed is None:
                hashed = self._hashes.put(action.affinity, self._hashed(action.affinity))
            prepared.append((example, hashed))
        return prepared

    def _put(self, example: Any, hashed: Hashed) -> None:
        example.erase_namespace(_AFFINITY)
        # The third argument is the hash that names given as text would get; these are hashed already.
        example.push_feature_list(self._workspace, _AFFINITY, 0, hashed)

    def _hashed(self, affinity: Features) -> Hashed:
        found = []
        for name, value in affinity.items():
            # Nearly all are numbers.
            if type(value) is float and (index := self._numbers.get(name)) is not None:
                number = value
            else:
                token, number = _binary(name, value)
                index = self._index(token)
                if type(value) is float:
                    self._numbers[name] = index
            if number != 0.0:
                found.append((index, float(number)))
        return found

    def _index(self, token: str) -> int:
        index = self._indices.get(token)
        if index is None:
            space = self._workspace.hash_space("A")
            index = self._workspace.hash_feature(token, space) * self._workspace.get_stride()
            self._indices[token] = index
        return index
