"""Client JSON rebuilt into plain features: what may reach a policy, and under which name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite
from typing import Any

from contextual_bandit.types import FeatureValue

RESERVED_LETTERS = frozenset("ADHLOPSTW")
OWN_GROUPS = {
    "demographics": "D", "history": "H", "location": "L", "preferences": "P", "season": "S", "weather": "W",
}  # fmt: skip
# Where every name that could be a person's is refused.
PERSONAL_GROUPS = ("demographics", "preferences")
LOOSE_NAMESPACE = "c"
LARGEST_NUMBER = 1e9
DEEPEST = 8
MOST_FEATURES = 1000
# Who someone is, in whatever spelling ("E-Mail", "e_mail"); more words count where the customer is described.
IDENTITY_NAMES = frozenset({
    "email", "emailaddress", "phone", "phonenumber", "telephone", "mobile", "latitude", "longitude", "lat",
    "lon", "lng", "coordinates", "customerid", "userid", "ip", "ipaddress", "ssn", "iban", "firstname", "lastname",
    "fullname", "surname", "birthdate", "dateofbirth", "street", "streetaddress", "postaladdress",
})  # fmt: skip
PERSON_NAMES = IDENTITY_NAMES | {"name", "id", "address", "birthday", "zip", "zipcode", "postcode"}
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
LONGEST_TEXT = 1024


class BadFeature(ValueError):
    """A feature that no policy can use; ``path`` names it, ``value`` is what was sent."""

    def below(self, place: str) -> BadFeature:
        """The same at a place of a larger request, such as ``requests.3.``."""
        return BadFeature(place + self.path, self.value, self.why)

    def __init__(self, path: str, value: object, why: str) -> None:
        super().__init__(f"{path}: {why}, got {_short(value)}")
        self.path = path
        self.value = value
        self.why = why


def rebuild_context(raw: Mapping[str, Any]) -> dict[str, dict[str, FeatureValue]]:
    """Namespaces from a client's context.

    An object becomes a namespace of its name (those of OWN_GROUPS are the product's own), loose values share one.
    Names that begin with "_" and nulls are dropped, nesting is flattened with dots,
    an array of numbers becomes one feature per entry.

    Raises:
        BadFeature: a value that is no finite number, string, boolean, number array or object.
    """
    namespaces: dict[str, dict[str, FeatureValue]] = {}
    for name, value in raw.items():
        if not _kept(name, value, "context"):
            continue
        check_identity({name: value}, "context", PERSON_NAMES if name in PERSONAL_GROUPS else IDENTITY_NAMES)
        if name in OWN_GROUPS and not isinstance(value, Mapping):
            raise BadFeature(f"context.{name}", value, "must be an object of features")
        if isinstance(value, Mapping):
            target = namespaces.setdefault(OWN_GROUPS.get(name) or _namespace(name), {})
            _flatten(target, "", value, f"context.{name}", 1)
        else:
            _put(namespaces.setdefault(LOOSE_NAMESPACE, {}), name, value, f"context.{name}", 1)
    if sum(map(len, namespaces.values())) > MOST_FEATURES:
        raise BadFeature("context", sum(map(len, namespaces.values())), f"more than {MOST_FEATURES} features")
    return {name: features for name, features in namespaces.items() if features}


def rebuild_features(raw: Mapping[str, Any], path: str) -> dict[str, FeatureValue]:
    """One flat set of features (an offer's) from client JSON; rules and errors as for the context."""
    features: dict[str, FeatureValue] = {}
    _flatten(features, "", raw, path, 1)
    if len(features) > MOST_FEATURES:
        raise BadFeature(path, len(features), f"more than {MOST_FEATURES} features")
    return features


def check_identity(raw: Mapping[str, Any], path: str, names: frozenset[str] = PERSON_NAMES, *, depth: int = 0) -> None:
    """Refuse what says who a customer is rather than what they are like, at any depth.

    Raises:
        BadFeature: a name among ``names``, or a value that is an e-mail address.
    """
    for name, value in raw.items():
        spelled = "".join(filter(str.isalnum, name)).lower()
        if spelled in names or (isinstance(value, str) and _EMAIL.fullmatch(value.strip())):
            raise BadFeature(f"{path}.{name}", value, "says who somebody is, which no policy may learn from")
        # What is nested deeper is refused for that when it is rebuilt.
        if isinstance(value, Mapping) and depth < DEEPEST:
            check_identity(value, f"{path}.{name}", names, depth=depth + 1)


def _flatten(into: dict[str, FeatureValue], prefix: str, raw: Mapping[str, Any], path: str, depth: int) -> None:
    if depth > DEEPEST:
        raise BadFeature(path, "...", f"nested deeper than {DEEPEST}")
    for name, value in raw.items():
        if _kept(name, value, path):
            _put(into, prefix + name, value, f"{path}.{name}", depth)


def _put(into: dict[str, FeatureValue], name: str, value: Any, path: str, depth: int) -> None:
    if isinstance(value, Mapping):
        _flatten(into, name + ".", value, path, depth + 1)
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            if isinstance(entry, bool) or not isinstance(entry, int | float):
                raise BadFeature(f"{path}[{index}]", entry, "arrays may hold only numbers")
            into[f"{name}.{index}"] = _number(entry, f"{path}[{index}]")
            if len(into) > MOST_FEATURES:
                raise BadFeature(path, len(value), f"more than {MOST_FEATURES} features")
    else:
        into[name] = _scalar(value, path)


def _scalar(value: Any, path: str) -> FeatureValue:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _number(value, path)
    if isinstance(value, str):
        _check_text(value, path)
        return value
    raise BadFeature(path, value, "must be a number, a string, a boolean, an array of numbers or an object")


def _number(value: float, path: str) -> float:
    # An int may be too large for a float, so it is compared before it is converted.
    if (isinstance(value, float) and not isfinite(value)) or not -LARGEST_NUMBER <= value <= LARGEST_NUMBER:
        raise BadFeature(path, value, f"numbers must be finite and at most {LARGEST_NUMBER:g} in size")
    return float(value)


def _kept(name: str, value: Any, path: str) -> bool:
    if not isinstance(name, str) or not name:
        raise BadFeature(path, name, "a feature's name must be a non-empty string")
    _check_text(name, path)
    return value is not None and not name.startswith("_")


def _check_text(text: str, path: str) -> None:
    if len(text) > LONGEST_TEXT:
        raise BadFeature(path, text, f"longer than {LONGEST_TEXT} characters")
    if "\x00" in text:
        raise BadFeature(path, text, "no NUL character can be stored")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadFeature(path, ascii(text), "not valid Unicode text") from None


def _namespace(name: str) -> str:
    first = name[0]
    if first.isascii() and first.isalpha() and first not in RESERVED_LETTERS:
        return name
    return "x" + name


def _short(value: object) -> str:
    shown = type(value).__name__ if isinstance(value, dict | list) else repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."
