"""What a policy learns a decision from, where of the actions that were not chosen only their number counts."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

import pylibvw
from vowpalwabbit.pyvw import Workspace

from contextual_bandit.types import Context, Features, FeatureValue

# A feature's name and number as Vowpal Wabbit's text format has them.
Spell: TypeAlias = Callable[[str, FeatureValue], tuple[str, float]]
# Features that are remembered per workspace, some 200 bytes each.
MOST_FEATURES = 65_536
# An offer of which nothing is known.
_STAND_IN = "|O"


@lru_cache(maxsize=64)
def learns_chosen_alone(arguments: str) -> bool:
    """Whether a setting learns nothing from the features of actions that were not chosen.

    So it is with importance-weighted regression (mtr), which every setting has that does not say otherwise.

    >>> learns_chosen_alone("--cb_explore_adf --squarecb"), learns_chosen_alone("--cb_explore_adf --cb_type=dm")
    (True, False)
    """
    words = arguments.replace("=", " ").split()
    kind = words[words.index("--cb_type") + 1] if "--cb_type" in words else "mtr"
    return "--cb_explore_adf" in words and kind == "mtr"


class ChosenExamples:
    """Teaches one workspace by examples of chosen actions alone (docs/decisions/0016-learning-the-chosen-offer.md).

    A context's features go straight into the chosen action's example, behind its own, as Vowpal Wabbit itself would
    merge them: sums keep their order, and weights are the same to the bit.
    """

    def __init__(self, workspace: Workspace, token: Callable[[str], str], spell: Spell) -> None:
        """``token`` spells namespaces and ``spell`` features for Vowpal Wabbit."""
        self._workspace = workspace
        self._token = token
        self._spell = spell
        self._numbers = NumberReader()
        self._namespaces: dict[str, _Namespace] = {}
        self._stand_ins: list[Any] = []
        self._probes: list[Any] = []

    def learn(self, example: Any, context: Context, place: int, actions: int) -> None:
        """Learn and finish the example of a chosen action.

        Args:
            example: the labelled action, read, with its affinity.
            context: the shared features.
            place: of the action among the decision's.
            actions: how many there were.
        """
        for name, features in context.namespaces.items():
            namespace = self._namespaces.get(name) or self._namespace(name)
            if not namespace.is_ignored:
                example.ensure_namespace_exists(namespace.letter)
                example.push_feature_list(self._workspace, namespace.letter, 0, self._read(namespace, features))
        while len(self._stand_ins) < actions - 1:
            self._stand_ins.extend(self._workspace._parse(_STAND_IN))
        others = self._stand_ins[: actions - 1]
        pylibvw.vw.learn_multi(self._workspace, [*others[:place], example, *others[place:]])
        # Finishing reads the prediction, which must not speak of the others.
        pylibvw.vw.predict_multi(self._workspace, [example])
        pylibvw.vw._finish_example_multi_ex(self._workspace, [example])

    def close(self) -> None:
        """Give all memory back; to be called before the workspace is finished."""
        kept = [*self._stand_ins, *self._probes]
        if kept:
            # Finishing reads the prediction, which must speak of exactly these.
            pylibvw.vw.predict_multi(self._workspace, kept)
            pylibvw.vw._finish_example_multi_ex(self._workspace, kept)
        self._stand_ins, self._probes = [], []
        self._numbers.close()

    def _namespace(self, name: str) -> _Namespace:
        token = self._token(name)
        letter = token.encode()[0]
        # The setting may leave namespaces out. Finishing would count, so that it waits.
        (probe,) = self._workspace._parse(f"|{token} _")
        self._probes.append(probe)
        found = _Namespace(letter, self._workspace.hash_space(token), not probe.num_features_in(letter))
        self._namespaces[name] = found
        return found

    def _read(self, namespace: _Namespace, features: Features) -> list[tuple[int, float]]:
        known, found = namespace.known, []
        for item in features.items():
            # True equals 1.0 as a key, but is another feature.
            key = item if type(item[1]) is not bool else (item[0], _spelt(item[1]))
            feature = known.get(key)
            if feature is None:
                feature = known[key] = self._feature(namespace, *key)
            # A number of 0 is no feature.
            if feature[1] != 0.0:
                found.append(feature)
        if len(known) > MOST_FEATURES:
            known.clear()
        return found

    def _feature(self, namespace: _Namespace, name: str, value: FeatureValue) -> tuple[int, float]:
        """Index and number of a feature."""
        token, number = self._spell(name, value)
        index = self._workspace.hash_feature(token, namespace.space) * self._workspace.get_stride()
        return index, 1.0 if number == 1.0 else self._numbers.read(number)


def _spelt(value: bool) -> str:
    return "true" if value else "false"


class _Namespace:
    """A context's namespace in a workspace: its first byte, its hash, and the features that were seen in it."""

    __slots__ = ("is_ignored", "known", "letter", "space")

    def __init__(self, letter: int, space: int, is_ignored: bool) -> None:
        self.letter = letter
        self.space = space
        self.is_ignored = is_ignored
        self.known: dict[tuple[str, FeatureValue], tuple[int, float]] = {}


class NumberReader:
    """Numbers as Vowpal Wabbit's text reader understands them: 0.123 becomes 0.12299999, not the nearest float."""

    def __init__(self) -> None:
        # Reading does not depend on settings, and what another workspace counts is in nobody's saved bytes.
        self._workspace = Workspace("--quiet -b 1 --noconstant")

    def read(self, number: float) -> float:
        """The float that stands in a context's example for a number."""
        (example,) = self._workspace._parse(f"|n n:{number!r}")
        found: float = example.feature_weight(ord("n"), 0) if example.num_features_in(ord("n")) else 0.0
        pylibvw.vw._finish_example(self._workspace, example)
        return found

    def close(self) -> None:
        """Give its memory back."""
        self._workspace.finish()
