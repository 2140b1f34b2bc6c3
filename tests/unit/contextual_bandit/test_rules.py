from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextual_bandit.eligibility import MOST_RULES, REASONS, check_rules
from contextual_bandit.history import SEGMENTS
from contextual_bandit.limits import HOLDOUT
from contextual_bandit.limits import REASONS as REASONS_OF_THE_DRAW
from contextual_bandit.rules import (
    DEEPEST,
    FORMS,
    LONGEST_TEXT,
    MOST_ENTRIES,
    MOST_NODES,
    OPERATORS,
    OWN_FACTS,
    BadRule,
    Fact,
    Memo,
    Truth,
    compile_rule,
)
from contextual_bandit.season import DAY_PARTS, SEASONS
from contextual_bandit.types import SENSITIVE_TAGS, OfferType, Rule
from contextual_bandit.weather import CONDITIONS, PRECIPITATION_BANDS, TEMPERATURE_BANDS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "RULES.md"
RAIN = {"fact": "weather.condition", "is": "rain"}
TRUTHS: tuple[Truth, ...] = (True, False, None)


def value(require: object, request: dict[str, Fact] | None = None, offer: dict[str, Fact] | None = None) -> Truth:
    return compile_rule(require).value(request or {}, offer or {})


def of_truth(truth: Truth) -> tuple[dict[str, Any], dict[str, Fact]]:
    """A test whose value is ``truth``, and its facts."""
    name = f"truth.{truth}"
    return {"fact": name, "is": True}, {} if truth is None else {name: truth}


# Three values


def kleene_and(left: Truth, right: Truth) -> Truth:
    if left is False or right is False:
        return False
    return True if left and right else None


@pytest.mark.parametrize(("left", "right"), [*product(TRUTHS, TRUTHS)])
def test_all_and_any_follow_kleene(left: Truth, right: Truth) -> None:
    (first, facts), (second, more) = of_truth(left), of_truth(right)
    facts = facts | more
    assert value({"all": [first, second]}, facts) is kleene_and(left, right)
    negated = kleene_and(*(None if truth is None else not truth for truth in (left, right)))
    assert value({"any": [first, second]}, facts) is (None if negated is None else not negated)


@pytest.mark.parametrize(("truth", "expected"), [(True, False), (False, True), (None, None)])
def test_not_leaves_the_unknown_unknown(truth: Truth, expected: Truth) -> None:
    test, facts = of_truth(truth)
    assert value({"not": test}, facts) is expected


def test_a_rule_holds_only_when_it_is_true() -> None:
    rule = compile_rule(RAIN)
    assert rule.holds({"weather.condition": "rain"}, {})
    assert not rule.holds({"weather.condition": "snow"}, {})
    assert not rule.holds({}, {})
    assert not compile_rule({"not": RAIN}).holds({}, {})


# Operators


@pytest.mark.parametrize(
    ("operator", "asked", "true", "false", "unknown"),
    [
        ("is", "rain", ["rain"], ["snow", "Rain", ""], [1.0, True, ("rain",)]),
        ("is", 1, [1, 1.0], [2.0, 0], [True, "1", ("1",)]),
        ("is", True, [True], [False], [1, 1.0, "true"]),
        ("is", False, [False], [True], [0, 0.0, "", ()]),
        ("in", ["rain", "snow"], ["rain", "snow"], ["clear"], [1.0, True, ("rain",)]),
        ("in", [1, 2.5], [1.0, 1, 2.5], [2], [True, "1"]),
        ("in", [True], [True], [False], [1, "true"]),
        ("at_least", 5, [5, 5.0, 6], [4.99, -7], ["5", True, ("5",)]),
        ("at_most", 5, [5, 4.99, -7], [5.01], ["5", False]),
        ("more_than", 5, [5.01], [5, 4], ["6", True]),
        ("less_than", 5, [4.99], [5, 6], ["4", False]),
        ("between", [1, 3], [1, 2.0, 3], [0.99, 3.01], ["2", True, ("1", "3")]),
        ("between", [2, 2], [2], [1.0, 3], ["2"]),
        ("has", "health", [("health",), ("a", "health")], [(), ("healthy",)], ["health", "a health", 1, True]),
    ],
)
@pytest.mark.parametrize("side", ["request", "offer"])
def test_an_operator_on_values_of_each_type(
    operator: str, asked: Any, true: list[Fact], false: list[Fact], unknown: list[Fact], side: str
) -> None:
    name = {"request": "device.x", "offer": "offer.features.x"}[side]
    rule = compile_rule({"fact": name, operator: asked})

    def found(fact: Fact) -> Truth:
        return rule.value({name: fact}, {}) if side == "request" else rule.value({}, {name: fact})

    assert [found(fact) for fact in true] == [True] * len(true)
    assert [found(fact) for fact in false] == [False] * len(false)
    assert [found(fact) for fact in unknown] == [None] * len(unknown)
    assert rule.value({}, {}) is None
    assert rule.about_offer is (side == "offer")


def test_known_is_never_unknown() -> None:
    for fact in ("", "rain", 0.0, False, ()):
        assert value({"fact": "a.b", "known": True}, {"a.b": fact}) is True
        assert value({"fact": "a.b", "known": False}, {"a.b": fact}) is False
    assert value({"fact": "a.b", "known": True}) is False
    assert value({"fact": "a.b", "known": False}) is True


def test_facts_of_the_offer_come_from_the_offer_alone() -> None:
    test = {"fact": "offer.category", "is": "garden"}
    assert value(test, {"offer.category": "garden"}, {}) is None
    assert value(test, {"offer.category": "toys"}, {"offer.category": "garden"}) is True
    assert value(RAIN, {}, {"weather.condition": "rain"}) is None


# What is refused


@pytest.mark.parametrize(
    ("require", "path", "why"),
    [
        ([], "require", "must be an object"),
        ("rain", "require", "must be an object"),
        (None, "require", "must be an object"),
        ({}, "require", "exactly one of all, any, not, fact"),
        ({"al": [RAIN]}, "require.al", "no form of this name"),
        ({"is": "rain"}, "require.is", "no form of this name"),
        ({"all": [RAIN], "any": [RAIN]}, "require", "exactly one of"),
        ({"all": [RAIN], **RAIN}, "require", "exactly one of"),
        ({"all": [RAIN], "note": "x"}, "require.note", "nothing may stand beside 'all'"),
        ({"not": RAIN, "is": "x"}, "require.is", "nothing may stand beside 'not'"),
        ({"all": []}, "require.all", "not empty"),
        ({"any": RAIN}, "require.any", "must be a list"),
        ({"all": [RAIN, {"any": [RAIN, 7]}]}, "require.all.1.any.1", "must be an object"),
        ({"not": [RAIN]}, "require.not", "must be an object"),
        ({"fact": "weather.condition"}, "require", "exactly one operator"),
        ({**RAIN, "in": ["rain"]}, "require", "exactly one operator"),
        ({"fact": "a.b", "equals": 1}, "require.equals", "no operator of this name"),
        ({**RAIN, "why": "x"}, "require.why", "no operator of this name"),
        ({"fact": 7, "is": 1}, "require.fact", "must be a text"),
        ({"fact": "weather", "is": 1}, "require.fact", "its namespace, a dot and its name"),
        ({"fact": "weather.", "is": 1}, "require.fact", "its namespace, a dot and its name"),
        ({"fact": ".rain", "is": 1}, "require.fact", "its namespace, a dot and its name"),
        ({"fact": "", "is": 1}, "require.fact", "its namespace, a dot and its name"),
        ({"fact": "offer.colour", "is": "x"}, "require.fact", "there are offer.id, offer.category"),
        ({"fact": "offer.features.", "is": "x"}, "require.fact", "offer.features.*"),
        ({"fact": "customer.name", "is": "x"}, "require.fact", "there are customer.age"),
        ({"fact": "request.ip", "is": "x"}, "require.fact", "there are request.channel"),
        ({"fact": "offer.discount", "is": "big"}, "require.is", "offer.discount is a number"),
        ({"fact": "offer.tags", "is": "promoted"}, "require.is", "offer.tags is a list"),
        ({"fact": "offer.category", "has": "garden"}, "require.has", "offer.category is a text"),
        ({"fact": "customer.age", "in": ["18"]}, "require.in", "customer.age is a number"),
        ({"fact": "customer.segment", "at_least": 1}, "require.at_least", "customer.segment is a text"),
        ({"fact": "a.b", "is": ["x"]}, "require.is", "a list goes with in"),
        ({"fact": "a.b", "is": None}, "require.is", "a text, a number or a boolean"),
        ({"fact": "a.b", "is": {}}, "require.is", "a text, a number or a boolean"),
        ({"fact": "a.b", "in": "x"}, "require.in", "must be a list"),
        ({"fact": "a.b", "in": []}, "require.in", "not empty"),
        ({"fact": "a.b", "in": ["x", 1]}, "require.in.1", "of one type"),
        ({"fact": "a.b", "in": [1, True]}, "require.in.1", "of one type"),
        ({"fact": "a.b", "in": ["x", ["y"]]}, "require.in.1", "a text, a number or a boolean"),
        ({"fact": "a.b", "in": ["x"] * (MOST_ENTRIES + 1)}, "require.in", f"more than {MOST_ENTRIES} entries"),
        ({"fact": "a.b", "at_least": "5"}, "require.at_least", "must be a number"),
        ({"fact": "a.b", "at_most": True}, "require.at_most", "must be a number"),
        ({"fact": "a.b", "more_than": None}, "require.more_than", "must be a number"),
        ({"fact": "a.b", "less_than": [1]}, "require.less_than", "must be a number"),
        ({"fact": "a.b", "at_least": math.nan}, "require.at_least", "must be finite"),
        ({"fact": "a.b", "is": math.inf}, "require.is", "must be finite"),
        ({"fact": "a.b", "in": [1, -math.inf]}, "require.in.1", "must be finite"),
        ({"fact": "a.b", "is": 10**400}, "require.is", "must be finite"),
        ({"fact": "a.b", "is": 10**5000}, "require.is", "must be finite"),
        ({"fact": "a.b", "between": [1]}, "require.between", "a list of two numbers"),
        ({"fact": "a.b", "between": 5}, "require.between", "a list of two numbers"),
        ({"fact": "a.b", "between": [1, "2"]}, "require.between.1", "must be a number"),
        ({"fact": "a.b", "between": [2, 1]}, "require.between", "must not exceed"),
        ({"fact": "a.b", "has": 5}, "require.has", "must be a text"),
        ({"fact": "a.b", "has": ["x"]}, "require.has", "must be a text"),
        ({"fact": "a.b", "known": "yes"}, "require.known", "true or false"),
        ({"fact": "a.b", "known": 1}, "require.known", "true or false"),
        ({"fact": "a." + "b" * LONGEST_TEXT, "is": 1}, "require.fact", f"longer than {LONGEST_TEXT}"),
        ({"fact": "a.b", "is": "x" * (LONGEST_TEXT + 1)}, "require.is", f"longer than {LONGEST_TEXT}"),
        ({"fact": "a.b", "is": "a\x00"}, "require.is", "NUL"),
        ({"fact": "a.b", "is": "\ud800"}, "require.is", "Unicode"),
    ],
)  # fmt: skip
def test_a_bad_expression_is_refused_by_the_name_of_its_place(require: object, path: str, why: str) -> None:
    with pytest.raises(BadRule, match=re.escape(why)) as caught:
        compile_rule(require)
    assert caught.value.path == path
    assert str(caught.value).startswith(path + ": ")
    assert len(str(caught.value)) < 400


def test_the_path_begins_where_the_expression_stands() -> None:
    with pytest.raises(BadRule) as caught:
        compile_rule({"all": [RAIN, {"fact": "a.b", "at_least": "x"}]}, "rules.0.require")
    assert (caught.value.path, caught.value.value) == ("rules.0.require.all.1.at_least", "x")


def nested(depth: int) -> dict[str, Any]:
    return RAIN if depth == 1 else {"not": nested(depth - 1)}


def test_depth_is_bounded() -> None:
    assert compile_rule(nested(DEEPEST)).nodes == DEEPEST
    with pytest.raises(BadRule, match=f"nested deeper than {DEEPEST}") as caught:
        compile_rule(nested(DEEPEST + 1))
    assert caught.value.path == "require" + ".not" * DEEPEST


def test_conditions_are_bounded_however_they_are_spread() -> None:
    wide = {"all": [RAIN] * (MOST_NODES - 1)}
    assert compile_rule(wide).nodes == MOST_NODES
    for require, path in [
        ({"all": [RAIN] * MOST_NODES}, "require.all"),
        ({"not": wide}, "require"),
        ({"any": [{"all": [RAIN] * 19}] * 11}, "require.any"),
    ]:
        with pytest.raises(BadRule, match=f"more than {MOST_NODES} conditions") as caught:
            compile_rule(require)
        assert caught.value.path == path


def test_lists_and_texts_may_be_as_long_as_their_bounds() -> None:
    assert value({"fact": "a.b", "in": [*range(MOST_ENTRIES)]}, {"a.b": MOST_ENTRIES - 1.0}) is True
    assert value({"fact": "a.b", "is": "x" * LONGEST_TEXT}, {"a.b": "x" * LONGEST_TEXT}) is True


# Random expressions


NAMES = ("weather.a", "history.b", "device.c", "customer.age", "customer.consents",
         "offer.discount", "offer.tags", "offer.category", "offer.features.d")  # fmt: skip
SCALARS = st.sampled_from(["", "x", "y"]) | st.sampled_from([-1, 0, 1, 1.0, 2.5]) | st.booleans()
FACTS = st.dictionaries(
    st.sampled_from(NAMES), SCALARS | st.lists(st.sampled_from(["x", "y"]), max_size=2).map(tuple), max_size=len(NAMES)
)
NUMBERS = st.sampled_from([-1, 0, 1, 2.5])
WITH_OPERATOR = st.one_of(
    st.tuples(st.just("is"), SCALARS),
    st.tuples(st.just("in"), st.lists(st.sampled_from(["", "x"]), min_size=1) | st.lists(NUMBERS, min_size=1)),
    st.tuples(st.sampled_from(["at_least", "at_most", "more_than", "less_than"]), NUMBERS),
    st.tuples(st.just("between"), st.tuples(NUMBERS, NUMBERS).map(sorted)),
    st.tuples(st.just("has"), st.sampled_from(["x", "z"])),
    st.tuples(st.just("known"), st.booleans()),
)


def can_be_true(test: dict[str, Any]) -> bool:
    try:
        compile_rule(test)
    except BadRule as refused:
        assert "can never be true" in refused.why
        return False
    return True


TESTS = st.builds(lambda name, asked: {"fact": name, asked[0]: asked[1]}, st.sampled_from(NAMES), WITH_OPERATOR)
EXPRESSIONS = st.recursive(
    TESTS.filter(can_be_true),
    lambda inner: st.one_of(
        st.builds(lambda form, parts: {form: parts}, st.sampled_from(["all", "any"]), st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part: {"not": part}, inner),
    ),
    max_leaves=8,
).filter(lambda expression: depth_of(expression) <= DEEPEST)  # fmt: skip


def depth_of(expression: dict[str, Any]) -> int:
    parts = [
        *expression.get("all", []),
        *expression.get("any", []),
        *([expression["not"]] if "not" in expression else []),
    ]
    return 1 + max(map(depth_of, parts), default=0)


def naive(expression: dict[str, Any], request: dict[str, Fact], offer: dict[str, Fact]) -> Truth:
    """The language a second time, as plainly as it goes."""
    if "not" in expression:
        inner = naive(expression["not"], request, offer)
        return None if inner is None else not inner
    for form, decisive in (("all", False), ("any", True)):
        if form in expression:
            values = [naive(part, request, offer) for part in expression[form]]
            return decisive if decisive in values else None if None in values else not decisive
    ((name, asked),) = [(key, entry) for key, entry in expression.items() if key != "fact"]
    fact = (offer if expression["fact"].startswith("offer.") else request).get(expression["fact"])
    if name == "known":
        return (fact is not None) is asked
    return None if fact is None else naive_test(name, asked, fact)


def naive_test(name: str, asked: Any, fact: Fact) -> Truth:
    if name == "has":
        return asked in fact if isinstance(fact, tuple) else None
    if name in ("is", "in"):
        options = asked if name == "in" else [asked]
        return any(fact == option for option in options) if kind(fact) == kind(options[0]) else None
    if kind(fact) != "number":
        return None
    low, high = asked if name == "between" else (asked, asked)
    return {"between": low <= fact <= high, "at_least": fact >= low, "at_most": fact <= low,
            "more_than": fact > low, "less_than": fact < low}[name]  # type: ignore[operator]  # fmt: skip


def kind(entry: object) -> str:
    return {str: "text", bool: "boolean", int: "number", float: "number", tuple: "list"}[type(entry)]


@given(EXPRESSIONS, FACTS, FACTS)
def test_compiled_expressions_agree_with_a_plain_interpreter(
    expression: dict[str, Any], request_facts: dict[str, Fact], offer: dict[str, Fact]
) -> None:
    assert value(expression, request_facts, offer) is naive(expression, request_facts, offer)


@given(st.lists(EXPRESSIONS, min_size=1, max_size=6), FACTS, st.lists(FACTS, min_size=1, max_size=3))
def test_a_memo_changes_no_value(
    expressions: list[dict[str, Any]], request_facts: dict[str, Fact], offers: list[dict[str, Fact]]
) -> None:
    memo: Memo = {}
    rules = [compile_rule(expression) for expression in [*expressions, *expressions]]
    for offer in offers:
        for rule in rules:
            assert rule.value(request_facts, offer, memo) is rule.value(request_facts, offer)


@given(EXPRESSIONS, FACTS)
def test_an_expression_survives_json_and_says_itself_in_canonical_json(
    expression: dict[str, Any], facts: dict[str, Fact]
) -> None:
    rule = compile_rule(expression)
    again = compile_rule(json.loads(json.dumps(expression)))
    assert compile_rule(json.loads(rule.text)).text == rule.text == again.text
    assert again.value(facts, facts) is rule.value(facts, facts)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(NAMES),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*FORMS, *OPERATORS]) | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(JSON_VALUES, FACTS)
def test_any_json_is_compiled_or_refused(raw: object, facts: dict[str, Fact]) -> None:
    try:
        rule = compile_rule(raw)
    except BadRule as refused:
        assert refused.path.startswith("require")
    else:
        assert rule.value(facts, facts) in TRUTHS


class Counting(dict[str, Fact]):
    """Facts that count how often they are asked."""

    asked = 0

    def get(self, *arguments: Any) -> Any:
        self.asked += 1
        return super().get(*arguments)


def test_what_is_not_about_the_offer_is_asked_once_per_request() -> None:
    facts = Counting({"weather.condition": "rain", "season.month": "m4"})
    wet = {"all": [RAIN, {"fact": "season.month", "in": ["m4", "m5"]}]}
    memo: Memo = {}
    alone = [compile_rule(json.loads(json.dumps(wet))) for _ in range(5)]
    inside = [compile_rule({"all": [{"fact": "offer.price", "at_most": n}, wet]}) for n in (10, 20, 30)]
    for rule in [*alone, *inside]:
        assert rule.holds(facts, {"offer.price": 5.0}, memo)
    assert facts.asked == 2
    assert [rule.about_offer for rule in [*alone, *inside]] == [False] * 5 + [True] * 3


# The page


def page_blocks() -> list[Any]:
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)]


def section(title: str) -> str:
    return re.split(r"^## ", PAGE.read_text().split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def first_cells(text: str) -> list[str]:
    """The names in code type that begin a table's rows."""
    cells = re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def test_every_example_of_the_page_is_a_rule_or_rules() -> None:
    blocks = page_blocks()
    assert len(blocks) >= 8
    for block in blocks:
        if isinstance(block, dict) and "rules" in block:
            assert set(block) == {"rules"}
            check_rules([Rule(**rule) for rule in block["rules"]], "rules")
        else:
            compile_rule(block)


def test_the_page_explains_the_forms_and_operators_that_there_are() -> None:
    assert first_cells(section("Forms")) == list(FORMS)
    assert first_cells(section("Operators")) == list(OPERATORS)


def test_the_page_lists_the_facts_that_the_product_names() -> None:
    listed = [
        name for name in first_cells(section("Facts")) if name.partition(".")[0] in ("customer", "request", "offer")
    ]
    assert sorted(listed) == sorted([*OWN_FACTS, "offer.features.*"])
    for name, fact_type in OWN_FACTS.items():
        assert re.search(rf"^\| `{re.escape(name)}` \| {fact_type} \|", PAGE.read_text(), re.MULTILINE), name


@pytest.mark.parametrize(
    ("fact", "values"),
    [
        ("history.segment", SEGMENTS),
        ("season.season", SEASONS),
        ("season.day_part", DAY_PARTS),
        ("weather.condition", CONDITIONS),
        ("weather.band", [name for _, name in TEMPERATURE_BANDS]),
        ("weather.precipitation", [name for _, name in PRECIPITATION_BANDS]),
        ("offer.type", get_args(OfferType)),
        ("customer.consents", ["personalise", *SENSITIVE_TAGS]),
    ],
)
def test_the_page_gives_the_words_that_a_fact_can_be(fact: str, values: Sequence[str]) -> None:
    row = re.search(rf"^\| `{re.escape(fact)}` \| \w+ \|(.*)$", PAGE.read_text(), re.MULTILINE)
    assert row
    assert set(re.findall(r"`([^`]+)`", row[1])) - {"weather"} == set(values)


def test_the_page_lists_every_reason_and_no_other() -> None:
    listed = first_cells(section("Reasons"))
    assert listed == [*REASONS, *REASONS_OF_THE_DRAW.values(), HOLDOUT]


def test_the_page_gives_the_bounds_that_there_are() -> None:
    bounds = {
        "levels": DEEPEST,
        "conditions": MOST_NODES,
        "entries": MOST_ENTRIES,
        "characters": LONGEST_TEXT,
        "rules": MOST_RULES,
    }
    for word, bound in bounds.items():
        assert f"{bound} {word}" in section("Bounds")
