"""Features as lines of Vowpal Wabbit's text format: every name and word escaped, indicators as name=value."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from contextual_bandit.types import Action, Context, Features, FeatureValue

_UNSAFE = re.compile("[\x00-\x20|:%\x7f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")


def shared_line(context: Context, line_of: Callable[[Features], str] | None = None) -> str:
    """A context as Vowpal Wabbit reads it: every name and word escaped, indicators as name=value.

    ``line_of`` writes the features of a namespace, where that is not done anew for each.
    """
    line_of = line_of or _line
    parts = ["shared"]
    for namespace, features in context.namespaces.items():
        parts.append(f"|{_token(namespace)} {line_of(features)}")
    return " ".join(parts) if len(parts) > 1 else "shared |"


def context_numbers(context: Context) -> dict[str, dict[str, float]]:
    """A context's namespaces under the names, and with the numbers, by which Vowpal Wabbit knows its features."""
    return {_token(name): _numbers(features) for name, features in context.namespaces.items()}


def action_numbers(action: Action) -> dict[str, dict[str, float]]:
    """The same of an action."""
    return {"O": _numbers(_offer(action)), "A": _numbers(action.affinity)}


def _numbers(features: Features) -> dict[str, float]:
    return dict(_binary(name, value) for name, value in features.items())


def _action(action: Action) -> str:
    # The placeholder makes the namespace A exist; its content is replaced for every decision.
    return f"|O {_line(_offer(action))} |A _"


def _offer(action: Action) -> Features:
    return {"id": action.offer_id, **action.features}


def _line(features: Features) -> str:
    return " ".join(_feature(name, value) for name, value in features.items())


# Few features differ from call to call; 1, 1.0 and True are different ones.
@lru_cache(maxsize=65536, typed=True)
def _feature(name: str, value: FeatureValue) -> str:
    token, number = _binary(name, value)
    return token if number == 1.0 else f"{token}:{number!r}"


def _binary(name: str, value: FeatureValue) -> tuple[str, float]:
    """A feature as Vowpal Wabbit sees it: words and booleans are indicators named name=value."""
    if isinstance(value, str):
        return f"{_token(name)}={_token(value)}", 1.0
    if isinstance(value, bool):
        return f"{_token(name)}={'true' if value else 'false'}", 1.0
    return _token(name), value


def _shown(name: str, value: FeatureValue) -> str:
    """A feature as people know it: nothing escaped."""
    if isinstance(value, bool):
        return f"{name}={'true' if value else 'false'}"
    return f"{name}={value}" if isinstance(value, str) else name


@lru_cache(maxsize=8192)
def _token(text: str) -> str:
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match.group().encode())
