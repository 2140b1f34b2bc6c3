"""Features under the names that Vowpal Wabbit's JSON reader gives them: for models that were trained on such lines.

Azure AI Personalizer's models were. There an object's key names a namespace, a word is part of its feature's name, an
action's id stands in the namespace ``i`` and its features in ``j``. So a decision is written as the line that
Personalizer would have logged, and Vowpal Wabbit reads it as it did then.

What the product itself adds (history, season, affinities) is left out: such a model has no weights for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum
from typing import Any, Protocol

import orjson
import pylibvw
from vowpalwabbit.pyvw import Workspace

from contextual_bandit.features import LOOSE_NAMESPACE, OWN_GROUPS, RESERVED_LETTERS
from contextual_bandit.types import Action, Context, Features, FeatureValue, LoggedInteraction

LEFT_OUT = frozenset({"H", "S"})
_GROUPS = {letter: name for name, letter in OWN_GROUPS.items() if letter not in LEFT_OUT}
# What the routes and the import make of a null, of which Vowpal Wabbit makes nothing.
_NULL = "null"


class Reader(Protocol):
    """A policy whose workspace reads JSON."""

    @property
    def workspace(self) -> Workspace:
        """Vowpal Wabbit's own."""

    def examples_of(self, lines: Sequence[str], actions: Sequence[Action], count: int) -> list[Any]:
        """Lines that were written out, read as so many examples."""

    def cost(self, reward: float) -> float:
        """A reward as a cost from 0 down to -1."""


def ask_json(reader: Reader, context: Context, actions: Sequence[Action]) -> tuple[float, ...]:
    """Probability of each action; float32 accuracy, normalised to sum to 1.

    Raises:
        UnusableExample: the features did not parse to one shared example and one per action.
    """
    examples = reader.examples_of([json_line(context, actions)], (), 1 + len(actions))
    try:
        pylibvw.vw.predict_multi(reader.workspace, examples)
        scores = examples[0].get_action_scores()
    finally:
        pylibvw.vw._finish_example_multi_ex(reader.workspace, examples)
    total = fsum(scores)
    return tuple(score / total for score in scores) if total else tuple(scores)


def teach_json(reader: Reader, interaction: LoggedInteraction) -> None:
    """Learn a decision of one slot from its logged propensity.

    Raises:
        ValueError: it has none.
    """
    decision = interaction.decision
    slot = decision.slots[0]
    if slot.propensity is None:
        raise ValueError(f"decision {decision.decision_id!r} has no propensity to learn from")
    label = slot.chosen, reader.cost(interaction.reward), slot.propensity
    line = json_line(decision.context, decision.actions, label)
    examples = reader.examples_of([line], (), 1 + len(decision.actions))
    try:
        pylibvw.vw.learn_multi(reader.workspace, examples)
    finally:
        pylibvw.vw._finish_example_multi_ex(reader.workspace, examples)


def json_line(
    context: Context, actions: Sequence[Action], label: tuple[int, float, float] | None = None
) -> str:  # fmt: skip
    """A decision as one line for Vowpal Wabbit's option ``--json``.

    Args:
        context: the shared features.
        actions: in their order.
        label: index of the chosen action, its cost and its propensity.
    """
    line: dict[str, Any] = {}
    if label is not None:
        chosen, cost, propensity = label
        line |= {
            "_label_Action": chosen + 1, "_labelIndex": chosen, "_label_Cost": cost, "_label_Probability": propensity,
        }  # fmt: skip
    for name, features in context.namespaces.items():
        if name == LOOSE_NAMESPACE:
            line |= _nested(features)
        elif name not in LEFT_OUT:
            line[_namespace(name)] = _nested(features)
    line["_multi"] = [
        {"i": {"constant": 1, "id": action.offer_id}, "j": [_nested(action.features)]} for action in actions
    ]
    return orjson.dumps(line).decode()


def _namespace(name: str) -> str:
    """A namespace's name as it was sent: those of the product's letters had an x put before them."""
    if name in _GROUPS:
        return _GROUPS[name]
    is_prefixed = name[0] == "x" and len(name) > 1 and (name[1] in RESERVED_LETTERS or name[1] in "0123456789")
    return name[1:] if is_prefixed else name


def _nested(features: Features) -> dict[str, Any]:
    """Flattened features as the objects and arrays of numbers that they were."""
    found: dict[str, Any] = {}
    for name, value in features.items():
        if value == _NULL:
            continue
        *above, last = _path(name)
        place = found
        for key in above:
            inside = place.setdefault(key, {})
            if not isinstance(inside, dict):
                # The name of an object and of a feature: one of them keeps its dots.
                place, last = found, name
                break
            place = inside
        _put(place, last, value)
    arrays: dict[str, Any] = _with_arrays(found)
    return arrays


def _path(name: str) -> list[str]:
    """The keys that a flattened name was made of; it stands as it is where they cannot be names of namespaces."""
    keys = name.split(".")
    # A namespace must begin with an ASCII letter or digit; with others, Vowpal Wabbit's reader crashes.
    usable = all(key and key[0].isascii() and key[0].isalnum() for key in keys)
    return keys if usable else [name]


def _put(place: dict[str, Any], name: str, value: FeatureValue) -> None:
    # Several words under one name are so many indicators (name=word); to Vowpal Wabbit they are nameword.
    if isinstance(place.get(name), dict):
        # An object has this name, too.
        name += "."
    if value == 1.0 and not isinstance(value, bool) and "=" in name:
        name = name.replace("=", "", 1)
    place[name] = value


def _with_arrays(found: Mapping[str, Any]) -> Any:
    """Objects whose keys are 0, 1, 2 ... and whose values are numbers were arrays."""
    if found and list(found) == [str(index) for index in range(len(found))]:
        values = list(found.values())
        if all(isinstance(value, float) for value in values):
            return values
    return {name: _with_arrays(value) if isinstance(value, Mapping) else value for name, value in found.items()}
