"""Files of offers: what is read from them, what is refused and how, and that an export is read back equal."""

from __future__ import annotations

import csv
import io
import json
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextual_bandit.eligibility import check_offer
from contextual_bandit.rules import BadRule
from contextual_bandit.types import Cap, Limits, Offer, Rule
from decision_service import import_rows
from decision_service.import_rows import BadFile, Checked, check_csv, check_json, write_csv, write_json

RULE = {"code": "rain", "require": {"fact": "weather.condition", "in": ["rain", "drizzle"]}}


def table(*rows: str, separator: str = "\n") -> Checked:
    return check_csv(separator.join(rows).encode())


def only(checked: Checked) -> Offer:
    assert checked.errors == []
    assert (len(checked.offers), checked.rows) == (1, 1)
    return checked.offers[0]


def told(checked: Checked) -> list[tuple[str, object]]:
    assert checked.error_count == len(checked.errors)
    return [(error.path, error.value) for error in checked.errors]


def cell(column: str, text: str) -> Offer:
    file = io.StringIO()
    csv.writer(file).writerows([["offer_id", "category", column], ["a", "c", text]])
    return only(check_csv(file.getvalue().encode()))


def refusal(column: str, text: str) -> str:
    file = io.StringIO()
    csv.writer(file).writerows([["offer_id", "category", column], ["a", "c", text]])
    checked = check_csv(file.getvalue().encode())
    assert checked.offers == [] or checked.error_count
    assert [error.path for error in checked.errors] == [f"rows.2.{column}"]
    assert checked.errors[0].value == text
    return checked.errors[0].why


# Reading


def test_every_column_is_read() -> None:
    caps = json.dumps([{"name": "three", "scope": "customer", "shows": 3, "window_seconds": 3600}])
    named = {
        "offer_id": "spring-10", "category": "garden", "status": "paused", "valid_from": "2026-03-01T00:00:00Z",
        "valid_to": "2026-06-01T02:00:00+02:00", "type": "percentage", "discount": "0.1", "price": "24.90",
        "margin": "-.5", "cost": "2e-2", "code": "SPRING10", "priority": "-3", "minimum_age": "18",
        "channels": "web|app", "regions": "US-WA | US-OR", "tags": "promoted", "stock": "5000.0", "budget": "1000",
        "cooldown_days": "14", "excludes": "a|b", "requires": "c", "relation_days": "7", "caps": caps,
        "rules": json.dumps([RULE]), "creative.title": "Spring", "creative.body": "Zwei Zeilen\nText",
        "feature.size": "large", "feature.rank": "3", "feature.new": "TRUE", "feature.sku": "007",
    }  # fmt: skip
    file = io.StringIO()
    csv.writer(file).writerows([named.keys(), named.values()])
    assert only(check_csv(file.getvalue().encode())) == Offer(
        "spring-10", "garden", "paused", datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC),
        {"size": "large", "rank": 3.0, "new": True, "sku": "007"}, 0, "percentage", 0.1, 24.9, -0.5, 0.02, "SPRING10",
        {"title": "Spring", "body": "Zwei Zeilen\nText"}, ("web", "app"), ("US-WA", "US-OR"), -3, ("promoted",), 18,
        (Rule(RULE["code"], RULE["require"]),),
        Limits(5000, 1000.0, (Cap("three", "customer", 3, 3600.0),), 14.0, ("a", "b"), ("c",), 7.0),
    )  # fmt: skip


def test_empty_cells_and_short_rows_are_absent() -> None:
    checked = table("offer_id,category,discount,channels,rules,feature.a,stock", "a,c,,,,,", "b,c", "c,c,,,,,,,")
    assert checked.errors == []
    assert checked.offers == [Offer(name, "c", version=0) for name in "abc"]


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_files_of_spreadsheets_are_read(separator: str, end: str, mark: str, quote: str) -> None:
    lines = [["offer_id", "category", "feature.a,b", "creative.body"], ["ä", "c", "x;y", "one, two; three"]]
    text = mark + end.join(
        separator.join(f'"{word}"' if quote or {",", ";"} & {*word} else word for word in line) for line in lines
    )
    assert only(check_csv(text.encode())) == Offer(
        "ä", "c", version=0, features={"a,b": "x;y"}, creative={"body": "one, two; three"}
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3.0), ("-0.5", -0.5), ("+2", 2.0), (" 7 ", 7.0), ("1e3", 1000.0), ("5.", 5.0), ("true", True),
     ("False", False), ("'3", "3"), ("'true", "true"), ("'3,5", "3,5"), ("007", "007"), ("1,2,3", "1,2,3"),
     ("10.5.3", "10.5.3"), ("'tis", "'tis"), ("''3", "'3"), ("'", ""), ("nan", "nan"), ("'=1+1", "=1+1")],
)  # fmt: skip
def test_a_features_cell_is_a_number_a_boolean_or_text(text: str, value: object) -> None:
    found = cell("feature.x", text).features["x"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "entries"),
    [("a", ("a",)), ("a|b", ("a", "b")), (" a | b c ", ("a", "b c")), (r"a\|b", ("a|b",)), (r"a\\|b", ("a\\", "b")),
     (r"\ a\ |b", (" a ", "b")), (r"c:\x", (r"c:\x",)), ("'-a|b", ("-a", "b"))],
)  # fmt: skip
def test_a_list_is_separated_by_bars(text: str, entries: tuple[str, ...]) -> None:
    assert cell("channels", text).channels == entries


def test_json_is_an_array_or_an_object_of_one() -> None:
    offers = [{"offer_id": "a", "category": "c", "features": {"x": 1}, "limits": {"stock": 3}}]
    expected = Offer("a", "c", version=0, features={"x": 1.0}, limits=Limits(stock=3))
    for file in (offers, {"offers": offers}):
        assert only(check_json(json.dumps(file).encode())) == expected
    assert only(check_json(b"\xef\xbb\xbf" + json.dumps(offers).encode())) == expected


# Refusing


@pytest.mark.parametrize(
    ("column", "text", "why"),
    [
        ("discount", "0,1", "decimal point"),
        ("price", "1.234,50", "decimal point"),
        ("price", "1,234.50", "decimal point"),
        ("stock", "5,000", "decimal point"),
        ("feature.x", "0,1", "apostrophe"),
        ("discount", "10%", "must be a number"),
        ("price", "24.90 €", "must be a number"),
        ("price", "nan", "must be a number"),
        ("price", "1_000", "must be a number"),
        ("price", "0x10", "must be a number"),
        ("price", "٣", "must be a number"),
        ("valid_from", "20260301", "time zone"),
        ("valid_from", "46082.5", "time zone"),
        ("valid_from", "01.03.2026", "time zone"),
        ("valid_from", "2026-03-01", "time"),
        ("valid_from", "2026-03-01T00:00:00", "time"),
        ("rules", "[{", "JSON"),
        ("caps", "NaN", "JSON"),
        ("status", "sleeping", "draft"),
        ("type", "gift", "free_gift"),
    ],
)
def test_a_bad_cell_is_refused(column: str, text: str, why: str) -> None:
    assert why in refusal(column, text)


@pytest.mark.parametrize(
    ("column", "text", "path"),
    [
        ("discount", "2", "discount"),
        ("stock", "1.5", "stock"),
        ("stock", "-1", "stock"),
        ("price", "1e400", "price"),
        ("priority", "1e999", "priority"),
        ("feature.x", "1e12", "feature.x"),
        ("feature.x", "1e400", "feature.x"),
        ("channels", "web||app", "channels.1"),
        ("tags", "ok|Not OK", "tags.1"),
        ("creative.NOT OK", "x", "creative.NOT OK"),
        ("creative.title", "\x00", "creative.title"),
        ("caps", '[{"name": "a", "scope": "customer", "shows": -1}]', "caps.0.shows"),
        ("caps", '[{"name": "a", "scope": "all", "shows": 1}]', "caps.0.scope"),
        ("caps", '[{"name": "a", "scope": "total", "shows": 1}, {"name": "a", "scope": "total", "shows": 2}]', "caps"),
        ("rules", '[{"code": "x", "require": {"fact": "no dot", "is": 1}}]', "rules.0.require.fact"),
        ("rules", '[{"code": "x", "require": {"fact": "a.b", "like": 1}}]', "rules.0.require.like"),
        ("rules", '{"code": "x"}', "rules"),
    ],
)
def test_a_value_that_an_offer_may_not_have_is_refused(column: str, text: str, path: str) -> None:
    file = io.StringIO()
    csv.writer(file).writerows([["offer_id", "category", column], ["a", "c", text]])
    checked = check_csv(file.getvalue().encode())
    assert [error.path for error in checked.errors] == [f"rows.2.{path}".rstrip(".")]


def test_errors_of_all_rows_are_told_by_line_and_column() -> None:
    checked = table(
        'offer_id,category,discount,stock,creative.body', 'a,c,2,x,"two', 'lines"', "", ",,,,", "b,,0.5,1,",
        ",c,0.5,1,", "d,c,0.5,1,,more",
    )  # fmt: skip
    assert told(checked) == [
        ("rows.2.stock", "x"), ("rows.2.discount", 2), ("rows.6.category", {"offer_id": "b", "discount": 0.5, "limits": {"stock": 1}}),
        ("rows.7.offer_id", {"category": "c", "discount": 0.5, "limits": {"stock": 1}}), ("rows.8", "6 cells"),
    ]  # fmt: skip
    assert checked.rows == 4


def test_errors_in_json_are_told_by_index_and_field() -> None:
    rows: list[Any] = [
        {"offer_id": "a", "category": "c"}, 7, {"offer_id": "b", "category": "c", "limits": {"stock": -1}, "colour": 1},
        {"category": "c"}, {"offer_id": "d", "category": "c", "features": {"x": [None]}}, {"offer_id": 5, "category": "c"},
    ]  # fmt: skip
    paths = [path for path, _ in told(check_json(json.dumps(rows).encode()))]
    assert paths == [
        "rows.1", "rows.2.limits.stock", "rows.2.colour", "rows.3.offer_id", "rows.4.features.x[0]", "rows.5.offer_id",
    ]  # fmt: skip


def test_an_offer_may_be_in_a_file_once() -> None:
    checked = table("offer_id,category", "a,c", "b,c", "a,d", "a,", "'=b,c", "=b,c")
    assert [(path, value) for path, value in told(checked) if path.endswith("offer_id")] == [
        ("rows.4.offer_id", "a"), ("rows.5.offer_id", "a"), ("rows.7.offer_id", "=b"),
    ]  # fmt: skip
    assert [error.why for error in checked.errors if error.path == "rows.5.offer_id"] == ["row 2 has it too"]


def test_bad_columns_are_named_and_their_rows_not_read() -> None:
    assert told(table("offer_id,category,colour,category,feature.,,Category", "x")) == [
        ("columns.colour", "colour"), ("columns.category", "category"), ("columns.feature.", "feature."),
        ("columns.6", ""), ("columns.Category", "Category"),
    ]  # fmt: skip


def test_only_the_first_errors_are_kept_and_all_are_counted() -> None:
    checked = table("offer_id,category,discount", *(f"o{number},c,{2 + number}" for number in range(1000)))
    assert (checked.error_count, checked.rows) == (1000, 1000)
    assert [error.path for error in checked.errors] == [f"rows.{line}.discount" for line in range(2, 102)]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "offer_id"),
        (b"\n\n", "offer_id"),
        (b"category\nc\n", "offer_id"),
        (b"offer_id\tcategory\na\tc\n", "offer_id"),
        ("offer_id,category\nä,c\n".encode("latin-1"), "UTF-8"),
        ("offer_id,category\na,c\n".encode("utf-16"), "UTF-8"),
        (b'offer_id,category\na,c\nb,"open\n', "line 3"),
        (b'offer_id,category\n\na,"c"d\n', "line 3"),
    ],
)
def test_a_file_that_is_no_table_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(BadFile, match=why):
        check_csv(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [(b"", "JSON"), (b"[", "JSON"), (b"[NaN]", "JSON"), (b"7", "array"), (b"{}", "array"),
     (b'{"offers": 7}', "array"), (b'{"offers": [], "more": 1}', "array"), (b'["\\ud800"]', "JSON"), (b'["\xff"]', "JSON")],
)  # fmt: skip
def test_json_that_is_no_list_of_offers_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(BadFile, match=why):
        check_json(data)


def test_a_file_may_have_so_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_rows, "MOST_ROWS", 3)
    offers = [{"offer_id": f"o{number}", "category": "c"} for number in range(4)]
    rows = ["offer_id,category", *(f"{offer['offer_id']},c" for offer in offers)]
    assert len(check_json(json.dumps(offers[:3]).encode()).offers) == len(table(*rows[:4]).offers) == 3
    with pytest.raises(BadFile, match=r"4 rows; 3"):
        check_json(json.dumps(offers).encode())
    with pytest.raises(BadFile, match="more than 3 rows"):
        table(*rows)


@pytest.mark.parametrize(
    "text",
    [
        "offer_id," * 500_000,
        "offer_id,category,channels\na,c," + " " * 5_000_000,
        "offer_id,category,feature.x\na,c," + "9" * 5_000_000,
        "offer_id,category,feature.x\na,c," + "'" * 5_000_000,
        "offer_id,category,price\na,c," + "1,111" * 1_000_000,
        'offer_id,category\na,"' + '""' * 2_000_000,
        "offer_id," + "x" * 5_000_000,
    ],
    ids=["columns", "blanks", "digits", "apostrophes", "commas", "quotes", "a long name"],
)
def test_large_nonsense_is_refused_soon(text: str) -> None:
    started = time.process_time()
    try:
        checked = check_csv(text.encode())
    except BadFile as error:
        assert len(str(error)) < 1000
    else:
        assert checked.errors
        assert max(len(error.path) for error in checked.errors) <= 200
    assert time.process_time() - started < 20


# Writing

text = st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=12) | st.text(
    "'=+-@\t\r\n |\\,;\"1.eE", max_size=6
)
ids = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8) | st.text(
    "'=+-@ |\\,;\"1", min_size=1, max_size=5
)
tags = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,5}", fullmatch=True)
regions = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,5}", fullmatch=True)
money = st.floats(0, 1e9)
zones = st.sampled_from([UTC, timezone(timedelta(hours=-5, minutes=-30))])
moments = st.datetimes(datetime(1971, 1, 1), datetime(2199, 1, 1), timezones=zones)
days = st.floats(0.001, 3650)
requires = st.builds(
    lambda value: {"all": [{"fact": "a.b", "is": value}]},
    st.booleans() | text | st.integers(-(2**53), 2**53) | st.floats(-1e15, 1e15),
)
offers = st.builds(
    Offer,
    offer_id=ids,
    category=ids,
    status=st.sampled_from(["draft", "active", "paused", "ended"]),
    valid_from=st.none() | moments,
    features=st.dictionaries(
        text.filter(lambda name: name and not name.startswith("_")),
        text | st.booleans() | st.floats(-1e9, 1e9),
        max_size=4,
    ),
    version=st.just(0),
    type=st.none() | st.sampled_from(["percentage", "none"]),
    discount=st.none() | st.floats(0, 1),
    price=st.none() | money,
    margin=st.none() | st.floats(-1, 1),
    cost=money,
    code=st.none() | text,
    creative=st.dictionaries(tags, text, max_size=3),
    channels=st.lists(ids, max_size=3).map(tuple),
    regions=st.lists(regions, max_size=3).map(tuple),
    priority=st.integers(-1000, 1000),
    tags=st.lists(tags, max_size=3).map(tuple),
    minimum_age=st.none() | st.integers(0, 120),
    rules=st.lists(st.builds(Rule, tags, requires), max_size=2, unique_by=lambda rule: rule.code).map(tuple),
    limits=st.builds(
        Limits,
        stock=st.none() | st.integers(0, 10**9),
        budget=st.none() | money,
        caps=st.lists(
            st.builds(
                Cap, tags, st.sampled_from(["total", "customer"]), st.integers(0, 1000), st.none() | st.floats(1, 1e8)
            ),
            max_size=2,
            unique_by=lambda cap: cap.name,
        ).map(tuple),
        cooldown_days=st.none() | days,
        excludes=st.lists(ids, max_size=2).map(tuple),
        requires=st.lists(ids, max_size=2).map(tuple),
        relation_days=days,
    ),
)


def _is_good(offer: Offer) -> bool:
    try:
        check_offer(offer)
    except BadRule:
        return False
    return True


# What the door refuses was never stored, and is not exported.
catalogues = st.lists(offers.filter(_is_good), max_size=4, unique_by=lambda offer: offer.offer_id)


def kinds(offer: Offer) -> dict[str, type]:
    return {name: type(value) for name, value in offer.features.items()}


@given(catalogues)
def test_an_exported_table_is_read_back_equal(catalogue: list[Offer]) -> None:
    checked = check_csv(write_csv(catalogue))
    assert checked.errors == []
    assert checked.offers == catalogue
    assert list(map(kinds, checked.offers)) == list(map(kinds, catalogue))


@given(catalogues)
def test_an_exported_json_file_is_read_back_equal(catalogue: list[Offer]) -> None:
    checked = check_json(write_json(catalogue))
    assert checked.errors == []
    assert checked.offers == catalogue


@given(catalogues)
def test_no_cell_of_an_export_is_a_formula(catalogue: list[Offer]) -> None:
    for record in csv.reader(io.StringIO(write_csv(catalogue).decode("utf-8-sig"), newline=""), strict=True):
        for found in record:
            if found.lstrip()[:1] and found.lstrip()[0] in "=+-@":
                float(found)


def test_what_spreadsheets_would_run_is_written_as_text() -> None:
    offer = Offer("=cmd|' /C calc'!A0", "@x", version=0, code="\t=1", creative={"title": "-2+3"}, margin=-0.5,
                  features={"a": "＝1", "b": "-1", "c": -1.0, "d": "1,5"})  # fmt: skip
    [row] = csv.DictReader(io.StringIO(write_csv([offer]).decode("utf-8-sig")))
    assert (row["offer_id"], row["category"], row["code"]) == ("'=cmd|' /C calc'!A0", "'@x", "'\t=1")
    assert (row["creative.title"], row["margin"]) == ("'-2+3", "-0.5")
    assert [row[f"feature.{name}"] for name in "abcd"] == ["'＝1", "'-1", "-1", "'1,5"]


def test_an_empty_catalogue_is_a_header() -> None:
    assert check_csv(write_csv([])) == check_json(write_json([])) == Checked()
    assert write_csv([]).decode().startswith("\ufeffoffer_id,category,status,")
    large = Offer("a", "c", version=0, rules=(Rule("big", {"fact": "a.b", "at_least": 10**20}),))
    assert check_json(write_json([large])).offers == check_csv(write_csv([large])).offers == [large]
