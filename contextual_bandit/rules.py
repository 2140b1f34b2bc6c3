"""The language of rules: JSON conditions on facts, checked and compiled once, then asked often.

Logic has three values (Kleene): a test on a missing fact, or on one of another type, is unknown, and a rule holds only
when it is true. docs/RULES.md explains the language.
"""

from __future__ import annotations

import json
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Any, Final, Literal, TypeAlias

Fact: TypeAlias = str | float | bool | tuple[str, ...]
Facts: TypeAlias = Mapping[str, Fact]
FactType: TypeAlias = Literal["text", "number", "boolean", "list"]
# None stands for unknown.
Truth: TypeAlias = bool | None
# What one request found out already, by the text of the expression.
Memo: TypeAlias = dict[str, Truth]
Side: TypeAlias = Literal[0, 1]
# Facts of the request, facts of the offer, and the memo of the request.
Scope: TypeAlias = tuple[Facts, Facts, Memo]
Evaluate: TypeAlias = Callable[[Scope], Truth]
Holds: TypeAlias = Callable[[Any], bool]

DEEPEST = 8
MOST_NODES = 200
MOST_ENTRIES = 1000
LONGEST_TEXT = 256
LONGEST_SHOWN = 80

FORMS = ("all", "any", "not", "fact")
# Facts whose names and types the product fixes; any other namespace is free.
OWN_FACTS: Mapping[str, FactType] = {
    "customer.age": "number",
    "customer.region": "text",
    "customer.consents": "list",
    "customer.segment": "text",
    "request.channel": "text",
    "request.region": "text",
    "offer.id": "text",
    "offer.category": "text",
    "offer.type": "text",
    "offer.discount": "number",
    "offer.price": "number",
    "offer.margin": "number",
    "offer.priority": "number",
    "offer.tags": "list",
}
OFFER = "offer"
OFFER_FEATURES = "offer.features."
_OWN_NAMESPACES = frozenset(name.partition(".")[0] for name in OWN_FACTS)
_REQUEST_SIDE: Final = 0
_OFFER_SIDE: Final = 1


class BadRule(ValueError):
    """A rule that cannot be used; ``path`` names the place in the JSON, ``value`` is what stands there."""

    def __init__(self, path: str, value: object, why: str) -> None:
        super().__init__(f"{path}: {why}, got {_short(value)}")
        self.path = path
        self.value = value
        self.why = why


@dataclass(frozen=True, slots=True)
class Compiled:
    """An expression ready to be asked; ``text`` is its canonical JSON, ``nodes`` the number of its conditions.

    One that is not ``about_offer`` has one value for a whole request, which is kept in the request's memo.
    """

    text: str
    evaluate: Evaluate
    nodes: int
    about_offer: bool

    def value(self, request: Facts, offer: Facts, memo: Memo | None = None) -> Truth:
        """True, False, or None when the facts do not tell; a memo belongs to one set of request facts."""
        return self.evaluate((request, offer, {} if memo is None else memo))

    def holds(self, request: Facts, offer: Facts, memo: Memo | None = None) -> bool:
        """Whether the expression is true: neither false nor unknown."""
        return self.value(request, offer, memo) is True


def compile_rule(require: object, path: str = "require") -> Compiled:
    """Check an expression and make it ready; ``path`` is where it stands, for errors.

    Raises:
        BadRule: an unknown form, operator or fact, a value of the wrong type, or a bound that is exceeded (depth 8,
            200 conditions, lists of 1000 entries, texts of 256 characters).
    """
    return _remembered(_expression(require, path, 1))


# Forms


def _expression(raw: object, path: str, depth: int) -> Compiled:
    if not isinstance(raw, Mapping):
        raise BadRule(path, raw, "a condition must be an object")
    if depth > DEEPEST:
        raise BadRule(path, raw, f"nested deeper than {DEEPEST}")
    forms = [form for form in FORMS if form in raw]
    if not forms and raw:
        key = next(iter(raw))
        raise BadRule(f"{path}.{key}", raw[key], f"no form of this name; there are {', '.join(FORMS)}")
    if len(forms) != 1:
        raise BadRule(path, raw, f"a condition must have exactly one of {', '.join(FORMS)}")
    form = forms[0]
    if form == "fact":
        return _test(raw, path)
    for key in raw:
        if key != form:
            raise BadRule(f"{path}.{key}", raw[key], f"nothing may stand beside {form!r}")
    if form == "not":
        return _not(_expression(raw["not"], f"{path}.not", depth + 1), path)
    parts = _parts(raw[form], f"{path}.{form}", depth + 1)
    return _combined(form, parts, _all if form == "all" else _any)


def _parts(raw: object, path: str, depth: int) -> list[Compiled]:
    entries = _check_list(raw, path)
    parts: list[Compiled] = []
    nodes = 1
    for index, entry in enumerate(entries):
        parts.append(_expression(entry, f"{path}.{index}", depth))
        # Counted on the way, so that what is too large is not read to its end.
        nodes += parts[-1].nodes
        if nodes > MOST_NODES:
            raise BadRule(path, nodes, f"more than {MOST_NODES} conditions")
    return parts


def _not(part: Compiled, path: str) -> Compiled:
    if part.nodes >= MOST_NODES:
        raise BadRule(path, part.nodes + 1, f"more than {MOST_NODES} conditions")
    inner = part.evaluate

    def evaluate(scope: Scope) -> Truth:
        value = inner(scope)
        return None if value is None else not value

    return Compiled(f'{{"not":{part.text}}}', evaluate, part.nodes + 1, part.about_offer)


def _combined(form: str, parts: Sequence[Compiled], combine: Callable[[Sequence[Evaluate]], Evaluate]) -> Compiled:
    about_offer = any(part.about_offer for part in parts)
    # A single test is as cheap as looking it up.
    evaluates = [(_remembered(part) if about_offer and part.nodes > 1 else part).evaluate for part in parts]
    text = f'{{"{form}":[{",".join(part.text for part in parts)}]}}'
    return Compiled(text, combine(evaluates), 1 + sum(part.nodes for part in parts), about_offer)


def _all(parts: Sequence[Evaluate]) -> Evaluate:
    def evaluate(scope: Scope) -> Truth:
        found: Truth = True
        for part in parts:
            value = part(scope)
            if value is None:
                found = None
            elif not value:
                return False
        return found

    return evaluate


def _any(parts: Sequence[Evaluate]) -> Evaluate:
    def evaluate(scope: Scope) -> Truth:
        found: Truth = False
        for part in parts:
            value = part(scope)
            if value is None:
                found = None
            elif value:
                return True
        return found

    return evaluate


def _remembered(compiled: Compiled) -> Compiled:
    """The same expression, evaluated once per request; one about the offer stays as it is."""
    if compiled.about_offer:
        return compiled
    # One object for equal texts makes the look-up a comparison of addresses.
    text, inner = sys.intern(compiled.text), compiled.evaluate

    def evaluate(scope: Scope) -> Truth:
        memo = scope[2]
        if text in memo:
            return memo[text]
        value = memo[text] = inner(scope)
        return value

    return Compiled(text, evaluate, compiled.nodes, compiled.about_offer)


# Tests


def _test(raw: Mapping[Any, Any], path: str) -> Compiled:
    fact = _fact(raw["fact"], f"{path}.fact")
    for key in raw:
        if key != "fact" and key not in OPERATORS:
            raise BadRule(f"{path}.{key}", raw[key], f"no operator of this name; there are {', '.join(OPERATORS)}")
    named = [name for name in OPERATORS if name in raw]
    if len(named) != 1:
        raise BadRule(path, raw, f"a test must have exactly one operator of {', '.join(OPERATORS)}")
    name = named[0]
    asked = OPERATORS[name](raw[name], f"{path}.{name}")
    own = OWN_FACTS.get(fact)
    if own is not None and asked.type not in (None, own):
        raise BadRule(f"{path}.{name}", raw[name], f"{fact} is a {own}, so this can never be true")
    about_offer = fact.partition(".")[0] == OFFER
    text = json.dumps({"fact": fact, name: asked.value}, separators=(",", ":"))
    return Compiled(text, _asking(_OFFER_SIDE if about_offer else _REQUEST_SIDE, fact, asked), 1, about_offer)


def _fact(raw: object, path: str) -> str:
    name = _text(raw, path)
    namespace, dot, rest = name.partition(".")
    if not (namespace and dot and rest):
        raise BadRule(path, raw, "a fact is named by its namespace, a dot and its name")
    if namespace in _OWN_NAMESPACES and name not in OWN_FACTS:
        if name.startswith(OFFER_FEATURES) and len(name) > len(OFFER_FEATURES):
            return name
        known = ", ".join(own for own in OWN_FACTS if own.startswith(namespace + "."))
        more = f", {OFFER_FEATURES}*" if namespace == OFFER else ""
        raise BadRule(path, raw, f"no fact of this name; there are {known}{more}")
    return name


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a test asks: the type that the fact must have (None: any), whether its value passes, the JSON value."""

    type: FactType | None
    holds: Holds
    value: object


_CLASSES: Mapping[FactType, type] = {"text": str, "boolean": bool, "list": tuple}


def _asking(side: Side, name: str, asked: _Asked) -> Evaluate:
    holds = asked.holds

    def about_presence(scope: Scope) -> Truth:
        return holds(scope[side].get(name))

    def about_number(scope: Scope) -> Truth:
        fact = scope[side].get(name)
        # Nearly all are floats. To Python a boolean is an integer.
        if isinstance(fact, float) or (isinstance(fact, int) and not isinstance(fact, bool)):
            return holds(fact)
        return None

    if asked.type is None:
        return about_presence
    if asked.type == "number":
        return about_number
    wanted = _CLASSES[asked.type]

    def about_other(scope: Scope) -> Truth:
        fact = scope[side].get(name)
        return holds(fact) if isinstance(fact, wanted) else None

    return about_other


# Operators


def _is(raw: object, path: str) -> _Asked:
    if isinstance(raw, list | tuple):
        raise BadRule(path, raw, "must be one text, number or boolean; a list goes with in")
    kind, value = _scalar(raw, path)
    return _Asked(kind, partial(operator.eq, value), value)


def _in(raw: object, path: str) -> _Asked:
    found = [_scalar(entry, f"{path}.{index}") for index, entry in enumerate(_check_list(raw, path))]
    kind = found[0][0]
    for index, (other, value) in enumerate(found):
        if other != kind:
            raise BadRule(f"{path}.{index}", value, f"all entries must be of one type, the first is a {kind}")
    values = [value for _, value in found]
    return _Asked(kind, frozenset(values).__contains__, values)


def _compared(compare: Callable[[Any, Any], bool]) -> Callable[[object, str], _Asked]:
    def read(raw: object, path: str) -> _Asked:
        bound = _number(raw, path)
        return _Asked("number", partial(compare, bound), bound)

    return read


def _between(raw: object, path: str) -> _Asked:
    if not isinstance(raw, list | tuple) or len(raw) != 2:
        raise BadRule(path, raw, "must be a list of two numbers")
    low, high = (_number(entry, f"{path}.{index}") for index, entry in enumerate(raw))
    if low > high:
        raise BadRule(path, [low, high], "the first number must not exceed the second")
    return _Asked("number", lambda fact: low <= fact <= high, [low, high])


def _has(raw: object, path: str) -> _Asked:
    value = _text(raw, path)
    return _Asked("list", lambda fact: value in fact, value)


def _known(raw: object, path: str) -> _Asked:
    if not isinstance(raw, bool):
        raise BadRule(path, raw, "must be true or false")
    return _Asked(None, partial(operator.is_not if raw else operator.is_, None), raw)


# The bound is the first operand: "at least 5" asks whether 5 <= fact.
OPERATORS: Mapping[str, Callable[[object, str], _Asked]] = {
    "is": _is,
    "in": _in,
    "at_least": _compared(operator.le),
    "at_most": _compared(operator.ge),
    "more_than": _compared(operator.lt),
    "less_than": _compared(operator.gt),
    "between": _between,
    "has": _has,
    "known": _known,
}


# Values


def _scalar(raw: object, path: str) -> tuple[FactType, str | float | bool]:
    if isinstance(raw, bool):
        return "boolean", raw
    if isinstance(raw, str):
        return "text", _text(raw, path)
    if isinstance(raw, int | float):
        return "number", _number(raw, path)
    raise BadRule(path, raw, "must be a text, a number or a boolean")


def _text(raw: object, path: str) -> str:
    if not isinstance(raw, str):
        raise BadRule(path, raw, "must be a text")
    if len(raw) > LONGEST_TEXT:
        raise BadRule(path, raw, f"longer than {LONGEST_TEXT} characters")
    if "\x00" in raw:
        raise BadRule(path, raw, "no NUL character can be stored")
    try:
        raw.encode()
    except UnicodeEncodeError:
        raise BadRule(path, ascii(raw), "not valid Unicode text") from None
    return raw


def _number(raw: object, path: str) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise BadRule(path, raw, "must be a number")
    try:
        number = float(raw)
    except OverflowError:
        raise BadRule(path, raw, "must be finite") from None
    if not isfinite(number):
        raise BadRule(path, raw, "must be finite")
    return number


def _check_list(raw: object, path: str) -> Sequence[object]:
    if not isinstance(raw, list | tuple) or not raw:
        raise BadRule(path, raw, "must be a list that is not empty")
    if len(raw) > MOST_ENTRIES:
        raise BadRule(path, len(raw), f"more than {MOST_ENTRIES} entries")
    return raw


def _short(value: object) -> str:
    # Python refuses to write out integers of thousands of digits.
    is_opaque = isinstance(value, Mapping | list | tuple) or (
        isinstance(value, int) and value.bit_length() > LONGEST_TEXT
    )
    shown = type(value).__name__ if is_opaque else repr(value)
    return shown if len(shown) <= LONGEST_SHOWN else shown[: LONGEST_SHOWN - 3] + "..."
