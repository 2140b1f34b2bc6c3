"""Features as the Personalizer API sends them, arrays of objects, as one object that the native calls take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from contextual_bandit.features import (
    DEEPEST,
    IDENTITY_NAMES,
    OWN_GROUPS,
    PERSON_NAMES,
    PERSONAL_GROUPS,
    BadFeature,
    check_identity,
)

# The original's name for features of the context that stand outside any namespace.
LOOSE = "FromUrl"
# What a null is treated like.
NULL = "null"


def merged(objects: Sequence[Mapping[str, Any]], path: str) -> dict[str, Any]:
    """Objects as one; their order does not matter. Names that begin with "_" are left out, a null is "null".

    Several words under one name are so many indicators, several numbers add up.

    Raises:
        BadFeature: an entry is no object, or a name is empty.

    >>> merged([{"a": 1, "n": {"b": None}}, {"a": 2, "n": {"c": "x"}}], "features")
    {'a': 3, 'n': {'b': 'null', 'c': 'x'}}
    >>> merged([{"tag": "new"}, {"tag": "red"}], "features")
    {'tag=new': 1.0, 'tag=red': 1.0}
    """
    values: dict[str, list[Any]] = {}
    for index, entry in enumerate(objects):
        if not isinstance(entry, Mapping):
            raise BadFeature(f"{path}[{index}]", entry, "must be an object of features")
        for name, value in entry.items():
            if not name:
                raise BadFeature(f"{path}[{index}]", name, "a feature's name must be a non-empty string")
            if not name.startswith("_"):
                values.setdefault(name, []).append(NULL if value is None else value)
    found: dict[str, Any] = {}
    for name, listed in values.items():
        nested = [value for value in listed if isinstance(value, Mapping)]
        plain = [value for value in listed if not isinstance(value, Mapping)]
        found |= _plain(name, plain)
        if nested:
            if path.count(".") > 2 * DEEPEST:
                raise BadFeature(path, "...", f"nested deeper than {DEEPEST}")
            found[f"{name}." if name in found else name] = merged(nested, f"{path}.{name}")
    return found


def context_features(objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The context of a rank call: namespaces as they are sent, all else in one of its own.

    What says who somebody is never reaches a policy: it is left out here, where a native call would be refused.

    Raises:
        BadFeature: as of ``merged``.
    """
    context: dict[str, Any] = {}
    loose: dict[str, Any] = {}
    for name, value in merged(objects, "contextFeatures").items():
        names = PERSON_NAMES if name in PERSONAL_GROUPS else IDENTITY_NAMES
        kept = anonymous({name: value}, names)
        if isinstance(value, Mapping) and name != LOOSE:
            context |= kept
        elif isinstance(value, Mapping):
            loose |= kept.get(name, {})
        else:
            loose |= kept
    return {**context, LOOSE: loose} if loose else context


def anonymous(features: Mapping[str, Any], names: frozenset[str] = IDENTITY_NAMES) -> dict[str, Any]:
    """Features without those that say who somebody is, at any depth.

    >>> anonymous({"email": "a@b.example", "user": {"phone": 1, "kind": "new"}})
    {'user': {'kind': 'new'}}
    """
    kept: dict[str, Any] = {}
    for name, value in features.items():
        try:
            check_identity({name: None if isinstance(value, Mapping) else value}, "features", names)
        except BadFeature:
            continue
        kept[name] = anonymous(value, names) if isinstance(value, Mapping) else value
    return kept


def shown_name(name: str) -> tuple[str, str]:
    """A feature of the model, "NAMESPACE.feature", as the original's namespace and name.

    >>> shown_name("O.id"), shown_name("O.colour"), shown_name("O.size.small"), shown_name("FromUrl.day")
    (('i', 'id'), ('j', 'colour'), ('size', 'small'), ('FromUrl', 'day'))
    """
    namespace, _, feature = name.partition(".")
    if namespace != "O":
        groups = {letter: group for group, letter in OWN_GROUPS.items()}
        return groups.get(namespace, namespace), feature
    if feature == "id" or feature.startswith("id="):
        return "i", feature
    group, dot, rest = feature.partition(".")
    return (group, rest) if dot and rest and "=" not in group else ("j", feature)


def _plain(name: str, values: Sequence[Any]) -> dict[str, Any]:
    if len(values) < 2:
        return {name: values[0]} if values else {}
    words = {f"{name}={_word(value)}": 1.0 for value in sorted(values, key=repr) if isinstance(value, str | bool)}
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    arrays = [value for value in values if isinstance(value, list)]
    if arrays and not numbers:
        if any(isinstance(one, bool) or not isinstance(one, int | float) for array in arrays for one in array):
            raise BadFeature(name, arrays[0], "arrays may hold only numbers")
        return {**words, name: [sum(entries) for entries in zip_longest(*arrays, fillvalue=0)]}
    return {**words, name: sum(numbers)} if numbers else words


def _word(value: str | bool) -> str:
    return value if isinstance(value, str) else "true" if value else "false"
