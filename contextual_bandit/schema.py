"""A loop's feature schema at the door: what a request's context may hold, by path, and of which type."""

from __future__ import annotations

from collections.abc import Mapping

from contextual_bandit.features import LOOSE_NAMESPACE, OWN_GROUPS, RESERVED_LETTERS, BadFeature
from contextual_bandit.loops import FeatureSchema, FeatureSpec
from contextual_bandit.types import Features, FeatureValue

# "embedding.*" declares all features below a name.
ALL_BELOW = ".*"
_GROUPS = {letter: name for name, letter in OWN_GROUPS.items()}


class BadSchema(ValueError):
    """A schema that contradicts itself; ``path`` names the feature, ``value`` is what was sent."""

    def __init__(self, path: str, value: object, why: str) -> None:
        super().__init__(f"{path}: {why}, got {value!r}")
        self.path = path
        self.value = value
        self.why = why


def check_schema(schema: FeatureSchema) -> FeatureSchema:
    """The schema itself, when it can be kept to.

    Raises:
        BadSchema: limits or values that do not fit the type.
    """
    for path, spec in schema.features.items():
        at = f"features.{path}"
        if spec.type != "number" and (spec.low is not None or spec.high is not None):
            name, value = ("low", spec.low) if spec.low is not None else ("high", spec.high)
            raise BadSchema(f"{at}.{name}", value, "only numbers have low and high")
        if spec.type != "string" and spec.values:
            raise BadSchema(f"{at}.values", list(spec.values), "only strings have values")
        if spec.low is not None and spec.high is not None and spec.low > spec.high:
            raise BadSchema(f"{at}.low", spec.low, f"low must not be above high ({spec.high:g})")
    return schema


def apply_schema(
    schema: FeatureSchema | None, sent: Mapping[str, Features]
) -> tuple[Mapping[str, Features], list[str]]:
    """What of the sent namespaces the schema lets in, and the paths of what it drops.

    The product's own groups (``demographics`` and so on) need no declaration; a declared feature of theirs is checked.

    Raises:
        BadFeature: a feature is unknown or ill-typed and the schema refuses such ones.
    """
    if schema is None:
        return sent, []
    dropped: list[str] = []
    kept: dict[str, Features] = {}
    for namespace, features in sent.items():
        good: dict[str, FeatureValue] = {}
        for name, value in features.items():
            path = path_of(namespace, name)
            fault = _fault(schema, namespace, path, value)
            if fault is None:
                good[name] = value
            elif schema.unknown == "refuse":
                raise BadFeature(f"context.{path}", value, fault)
            else:
                dropped.append(path)
        if good:
            kept[namespace] = good
    return kept, dropped


def path_of(namespace: str, name: str) -> str:
    """A feature's path as its sender wrote it: ``device.kind``, ``demographics.age_band``, or a loose name alone."""
    if namespace == LOOSE_NAMESPACE:
        return name
    if namespace in _GROUPS:
        return f"{_GROUPS[namespace]}.{name}"
    # A client's namespace that begins like one of the product's got an x before it.
    if namespace[0] == "x" and (namespace[1:2] in RESERVED_LETTERS or not namespace[1:2].isalpha()):
        namespace = namespace[1:]
    return f"{namespace}.{name}"


def spec_of(schema: FeatureSchema, path: str) -> FeatureSpec | None:
    """What the schema declares of a path, by its own name or by that of a group above it."""
    found = schema.features.get(path)
    while found is None and "." in path:
        path = path.rpartition(".")[0]
        found = schema.features.get(path + ALL_BELOW)
    return found


def _fault(schema: FeatureSchema, namespace: str, path: str, value: FeatureValue) -> str | None:
    spec = spec_of(schema, path)
    if spec is None:
        return None if namespace in _GROUPS else "is not in the loop's schema"
    if spec.type == "boolean":
        return None if isinstance(value, bool) else "must be a boolean"
    if spec.type == "string":
        if not isinstance(value, str):
            return "must be a string"
        return None if not spec.values or value in spec.values else f"must be one of {', '.join(spec.values)}"
    if isinstance(value, bool | str):
        return "must be a number"
    if spec.low is not None and value < spec.low:
        return f"must be at least {spec.low:g}"
    if spec.high is not None and value > spec.high:
        return f"must be at most {spec.high:g}"
    return None
