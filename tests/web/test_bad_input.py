"""Bad input of every kind: a 4xx as problem JSON that names the field and its value, and no trace in any store."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import text

from adapters.embedded import join
from adapters.installation import Installation, open_installation
from adapters.settings import Settings
from migrations.__main__ import migrate

REPOSITORY = Path(__file__).resolve().parents[2]
AT = "2020-01-06T12:00:00Z"
ABSENT = "(absent)"
PAIR = [{"offer_id": "a"}, {"offer_id": "b"}]
RANK: dict[str, Any] = {"loop": "plain", "candidates": PAIR}
RULE = {"code": "rain", "require": {"fact": "weather.condition", "is": "rain"}}
ALWAYS = {"code": "always", "require": {"fact": "season.month", "known": True}}
CAP = {"name": "week", "scope": "customer", "shows": 3, "window_seconds": 604800}
SEATTLE = {
    "time_zone": "America/Los_Angeles", "country": "US", "subdivision": "WA", "latitude": 47.6, "longitude": -122,
}  # fmt: skip
OFFER = {"category": "garden", "valid_from": "2026-03-01T00:00:00Z", "rules": [RULE], "limits": {"caps": [CAP]}}
SCHEMA = {
    "device.kind": {"type": "string", "values": ["phone", "desktop"]}, "basket": {"type": "number", "low": 0, "high": 100},
    "member": {"type": "boolean"}, "embedding.*": {"type": "number"},
    "demographics.household_size": {"type": "number", "low": 1},
}  # fmt: skip
JSON_TYPE, CSV_TYPE = {"content-type": "application/json"}, {"content-type": "text/csv"}

# A good call of each operation, so that a row is bad for its own reason alone.
GOOD: dict[str, tuple[str, Any]] = {
    "PUT /v1/loops/{loop}": ("/v1/loops/plain", {"rules": [ALWAYS], "baseline": {"priority": ["known"]}}),
    "PUT /v1/loops/{loop}/schema": ("/v1/loops/typed/schema", {"features": SCHEMA}),
    "PUT /v1/regions/{region}": ("/v1/regions/Seattle", SEATTLE),
    "PUT /v1/offers/{offer_id}": ("/v1/offers/known", OFFER),
    "PUT /v1/customers/{customer_id}": ("/v1/customers/known", {"demographics": {"household_size": 3}, "age": 40}),
    "POST /v1/rank": ("/v1/rank", RANK),
    "POST /rank": ("/rank", RANK),
    "POST /v1/rank/batch": ("/v1/rank/batch", {"requests": [RANK, RANK, RANK]}),
    "POST /v1/reward": ("/v1/reward", {"loop": "plain", "decision_id": "taken", "kind": "click"}),
    "POST /reward": ("/reward", {"loop": "plain", "decision_id": "taken", "value": 1.0}),
    "POST /v1/activate": ("/v1/activate", {"loop": "plain", "decision_id": "taken"}),
    "POST /v1/activity": ("/v1/activity", {"activities": [{"customer_id": "known", "kind": "view"}] * 2}),
    "POST /v1/loops/{loop}/ticks": ("/v1/loops/driven/ticks", {"occurred_at": AT}),
    "POST /v1/offers/import": (
        "/v1/offers/import",
        {"offers": [{**OFFER, "offer_id": one} for one in ("known", "new")]},
    ),
    "POST /v1/keys": ("/v1/keys", {"name": "shop", "role": "admin"}),
    "POST /v1/jobs": ("/v1/jobs", {"kind": "retention"}),
    "POST /v1/evaluations": ("/v1/evaluations", {"loop": "plain", "policies": ["uniform"]}),
}
SETTING_UP: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/loops/plain", {}),
    ("/v1/loops/typed", {}),
    ("/v1/loops/driven", {"clock": "simulated"}),
    ("/v1/loops/money", {"reward": {"high": 100, "kinds": {"sale": {"measure": "revenue"}, "big": 1000}}}),
)


@dataclass(frozen=True)
class Row:
    """One bad call: what is wrong with it, where the answer must say so, and the value that it must show."""

    operation: str
    url: str
    body: Any
    field: str | None
    got: Any
    status: int = 400
    headers: dict[str, str] | None = None

    def __str__(self) -> str:
        return f"{self.operation.replace('/v1/', '')} {self.field} {self.got!r:.30}".encode("ascii", "replace").decode()


def changed(body: Any, where: str, value: Any) -> Any:
    """The body with one place set, or taken away; "a.0.b" is the place b of the first entry of a."""
    made = json.loads(json.dumps(body))
    into = made
    *way, last = where.split(".")
    for name in way:
        into = into[int(name)] if isinstance(into, list) else into.setdefault(name, {})
    if value is ABSENT:
        into.pop(last, None)
    else:
        into[int(last) if isinstance(into, list) else last] = value
    return made


def rows(operation: str, plain: dict[str, list[Any]], *others: tuple[Any, ...], loop: str | None = None) -> list[Row]:
    """Rows of one operation: values by the place that is named with them, then (place, value, field named, shown)."""
    url, good = GOOD[operation]
    good = {**good, "loop": loop} if loop else good
    cases = [*((place, value, place, value) for place, values in plain.items() for value in values), *others]
    return [Row(operation, url, changed(good, place, value), field, got) for place, value, field, got in cases]


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"n": value}
    return value


def denied(times: int) -> dict[str, Any]:
    value: dict[str, Any] = {"fact": "a.b", "known": True}
    for _ in range(times):
        value = {"not": value}
    return value


LONG, NUL, PAST, MAIL = "x" * 1025, "a\0b", "2020-01-06T12:00:00+00:00", "ann@example.org"
IDS = ["", NUL, "tab\t", 17, ["a"], "x" * 257]
MOMENTS = ["yesterday", 1.7e9, "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", "1969-12-31T00:00Z", "2500-01-01T00:00Z"]
KNOWN = {"fact": "a.b", "known": True}
SUNNY = {"temperature_c": 20, "precipitation_mm": 0, "condition": "clear"}

# fmt: off
RANKS = rows(
    "POST /v1/rank",
    {
        "colour": ["red"], "loop": ["Upper Case", "", 5, None],
        "customer_id": IDS,
        "decision_id": IDS,
        "channel": IDS,
        "region": ["not a name", "x" * 65, "", 5], "defer_activation": ["perhaps", None, 2, 1, "true"],
        "explain": ["perhaps", {}, 0, "yes"],
        "occurred_at": MOMENTS,
        "context": [None, [1], "phone"], "context.x": [MAIL],
        "context.x.y": [1e10, -2e9, 2**63, NUL, LONG, f" {MAIL} "],
        # Who somebody is, in any spelling and at any depth.
        "context.email": ["hidden"], "context.x.E-Mail": ["hidden"], "context.x.y.z.phone number": ["hidden"],
        "context.customer_id": ["c-1"], "context.device.ip_address": ["192.0.2.1"], "context.location.latitude": [47.6],
        "context.place.coordinates": [[47.6, -122.3]], "context.demographics.name": ["Ann"],
        "context.demographics.more.zip code": ["98101"], "context.demographics.age": [300, -1, "old", True],
        "context.location.store_km": [-1, "far", True], "context.location.store_distance": ["galaxy", 5],
        "context.weather.band": ["tepid", 5], "context.weather.condition": ["lava", True],
        "context.weather.precipitation": ["soup", 0.5],
        # What the product makes features of is an object, or it would be something else under the same name.
        "context.weather": ["rain", [1]], "context.demographics": ["adult", 40], "context.location": ["home"],
        "context.season": ["summer"], "candidates": [[], "a", [{"offer_id": str(number)} for number in range(1001)]],
        "candidates.0": [5, *IDS[:3]], "candidates.0.offer_id": [ABSENT, *IDS], "candidates.0.price": [5],
        "candidates.0.features": [5, None], "candidates.0.features.x": [1e300, NUL, LONG],
    },
    ("occurred_at", AT, "occurred_at", PAST), ("context.x", [1, "a"], "context.x[1]", "a"),
    ("context.x", [True], "context.x[0]", True), ("context.x.y", [1e300], "context.x.y[0]", 1e300),
    ("context.x", {NUL: 1}, "context.x", NUL), ("context.x", {"": 1}, "context.x", ""),
    ("context", {LONG: 1}, "context", LONG), ("context", nested(10), "context" + ".n" * 9, "..."),
    ("context.x", {f"f{number}": 1 for number in range(1001)}, "context", 1001),
    ("context.x", [0.5] * 1001, "context.x", 1001),
    *(
        ("context.weather", {**SUNNY, name: value}, f"context.weather.{name}", value)
        for name, value in (
            ("temperature_c", 80), ("temperature_c", -100), ("temperature_c", "warm"), ("temperature_c", None),
            ("precipitation_mm", -1), ("precipitation_mm", 1e6), ("precipitation_mm", None), ("condition", "lava"),
            ("condition", 5), ("condition", None),
        )
    ),
    ("candidates", [*PAIR, "a"], "candidates", "a"), ("candidates", ["known", "known"], "candidates", "known"),
    ("candidates", ["known", "never-made"], "candidates", "never-made"),
    ("candidates.1.features.x.y", ["a"], "candidates.1.features.x.y[0]", "a"),
    ("candidates.1.features", nested(10), "candidates.1.features" + ".n" * 8, "..."),
    ("candidates", [{"offer_id": str(n), "features": {"v": [n] * 900}} for n in range(50)], "candidates", 50),
)
RANKS += rows(
    "POST /v1/rank",
    {
        "context.device.kind": ["fridge", 5], "context.device.model": ["x1"], "context.colour": ["red"],
        "context.basket": [100.5, -1, "full", True], "context.member": ["yes", 1], "context.embedding.a": [True, "x"],
        "context.demographics.household_size": [0, "three"],
    },
    loop="typed",
)
RANKS += rows("POST /v1/rank", {"occurred_at": [ABSENT, None]}, loop="driven")
RANKS += rows("POST /v1/rank", {"slots": [0, 51, 1.5, True, "3", [], [{}] * 51]}, *(
    ("slots", [{}, {name: value}], f"slots.1.{name}{below}", got) for name, value, below, got in (
        ("id", "0", "", "0"), ("id", NUL, "", NUL), ("id", 5, "", 5), ("baseline", "z", "", "z"), ("colour", 1, "", 1),
        ("exclude", ["a", "z"], ".1", "z"), ("exclude", "a", "", "a"), ("exclude", [""], ".0", ""),
        ("features", {"x": 1e300}, ".x", 1e300), ("features", {"E-Mail": "y"}, ".E-Mail", "y"), ("features", 5, "", 5),
    )), ("slots", [{"baseline": "a", "exclude": ["a"]}], "slots.0.baseline", "a"))
RANKS += rows("POST /rank", {"customer_id": [""], "context.x.y": [1e10]})
RANKS += rows(
    "POST /v1/rank/batch",
    {
        "requests": [[], [RANK] * 101, {"0": RANK}], "requests.0.colour": ["red"],
        "requests.1.customer_id": IDS,
        "requests.1.context.x.y": [1e10], "requests.1.context.location.store_km": [-1],
        "requests.2.context.demographics.name": ["Ann"], "requests.2.candidates.1.features.x": [1e300], "more": [1],
    },
    ("requests.2.occurred_at", AT, "requests.2.occurred_at", PAST),
    ("requests.2.context.weather", {**SUNNY, "condition": "lava"}, "requests.2.context.weather.condition", "lava"),
    ("requests.2.candidates", ["known", "never-made"], "requests.2.candidates", "never-made"),
    ("requests.1", {**RANK, "loop": "driven"}, "requests.1.occurred_at", None),
    ("requests.1", {**RANK, "slots": [{"id": "1"}, {}]}, "requests.1.slots.1.id", "1"),
    ("requests.1", {**RANK, "loop": "typed", "context": {"colour": "red"}}, "requests.1.context.colour", "red"),
)
OUTCOMES = rows(
    "POST /v1/reward",
    {
        "colour": ["red"], "loop": ["Upper Case", ""], "decision_id": [ABSENT, *IDS], "kind": ["sneeze", *IDS],
        "value": [1.0], "amount": [1.5, -1, "much", "1", True, 1e30],
        "outcome_id": IDS,
        "occurred_at": MOMENTS,
        "final": ["perhaps", None, 1, "yes"], "slot": [-1, 50, 1.5, True, "", NUL],
    },
    ("kind", ABSENT, "value", None), ("occurred_at", AT, "occurred_at", PAST),
)
OUTCOMES += rows("POST /reward", {"value": [1.5, -0.5, "good", "1", True, None], "amount": [5]})
OUTCOMES += rows("POST /v1/reward", {"kind": ["big"]}, ("kind", "sale", "amount", None), loop="money")
OUTCOMES += rows("POST /v1/reward", {"occurred_at": [ABSENT]}, loop="driven")
OUTCOMES += rows(
    "POST /v1/activate",
    {"colour": ["red"], "loop": ["Upper Case", ""], "decision_id": [ABSENT, *IDS], "occurred_at": MOMENTS},
    ("occurred_at", AT, "occurred_at", PAST),
)
OUTCOMES += rows("POST /v1/activate", {"occurred_at": [ABSENT]}, loop="driven")
OUTCOMES += rows(
    "POST /v1/activity",
    {
        "activities": [[], "view", [{"customer_id": "known", "kind": "view"}] * 5001], "activities.1": ["view"],
        "activities.1.customer_id": [ABSENT, *IDS], "activities.1.kind": [ABSENT, "sneeze", None],
        "activities.1.occurred_at": MOMENTS,
        "activities.1.amount": [-0.01, 1e10, "five", "5", True],
        "activities.1.category": IDS,
        "activities.1.offer_id": IDS,
        "activities.1.activity_id": IDS,
        "activities.1.order_id": IDS,
        "activities.1.colour": ["red"],
    },
    ("activities.1.occurred_at", "2199-01-01T00:00:00Z", "activities.1.occurred_at", "2199-01-01T00:00:00+00:00"),
)
OUTCOMES += rows("POST /v1/loops/{loop}/ticks", {"occurred_at": [ABSENT, None, *MOMENTS], "colour": ["red"]})
OFFERS = rows(
    "PUT /v1/offers/{offer_id}",
    {
        "colour": ["red"], "category": [ABSENT, *IDS], "status": ["sleeping", None], "type": ["surprise", 5],
        "discount": [1.01, -0.1, "half", "0.5", True], "margin": [1.5, -1.5], "price": [-1, 1e10, "cheap", "5", True],
        "cost": [-0.5, None], "code": ["x" * 257, NUL, 5], "creative": ["banner"],
        "creative.title": [NUL, 5, "x" * 4097], "channels": ["web", ["a"] * 101], "regions": ["US-WA"],
        "priority": [1001, -1001, 0.5], "tags": ["promoted", ["a"] * 101], "minimum_age": [-1, 121, 17.5],
        "valid_from": MOMENTS,
        "valid_to": MOMENTS,
        "features": [[1], None], "features.size": [1e300, NUL, LONG], "rules": [{"code": "x"}, [RULE] * 101],
        "rules.0": ["rain"], "rules.0.code": [ABSENT, "Only Rain", "", None], "rules.0.note": ["wet"],
        "rules.0.require": [ABSENT, "rain", {}, {"fact": "a.b"}, {"fact": "a.b", "is": 1, "known": True},
                            {"all": [KNOWN], "any": [KNOWN]}],
        "rules.0.require.fact": [5, "weather", ".band", NUL + ".b", "customer.shoe_size", "offer.colour", f"x.{LONG}"],
        "rules.0.require.is": [None, ["rain"], {}], "rules.0.require.like": ["ra%"], "limits": [5], "limits.units": [5],
        "limits.stock": [-1, 1.5, 10**10, "5", True], "limits.budget": [-1, "all"], "limits.cooldown_days": [0, 4000],
        "limits.excludes": ["known", [NUL] * 101], "limits.requires": ["known"], "limits.relation_days": [-1, None],
        "limits.caps": [CAP, [CAP, CAP], [{**CAP, "name": f"c{number}"} for number in range(11)]],
        "limits.caps.0.name": [ABSENT, "Three A Week"], "limits.caps.0.scope": ["household"],
        "limits.caps.0.shows": [ABSENT, -1, 1001, 1.5], "limits.caps.0.window_seconds": [0.5, 1e12],
        "limits.caps.0.colour": ["red"],
    },
    ("valid_to", "2026-01-01T00:00:00Z", "valid_to", "2026-01-01"),
    ("creative.Title", "Spring", "creative.Title", "Title"), ("channels", ["web", ""], "channels.1", ""),
    ("regions", ["US-WA", "not a name"], "regions.1", "not a name"), ("tags", ["ok", "Not Ok"], "tags.1", "Not Ok"),
    ("limits.excludes", ["known", ""], "limits.excludes.1", ""),
    ("features.size", ["large"], "features.size[0]", "large"), ("features", nested(10), "features" + ".n" * 8, "..."),
    ("features", {NUL: 1}, "features", NUL), ("rules", [RULE, RULE], "rules.1.code", "rain"),
    *(
        ("rules.0.require", require, f"rules.0.require.{field}", got)
        for require, field, got in (
            ({"none": []}, "none", []), ({"all": []}, "all", []), ({"all": KNOWN}, "all", {}), ({"not": 5}, "not", 5),
            ({"not": KNOWN, "note": "wet"}, "note", "wet"), ({"any": [KNOWN, "rain"]}, "any.1", "rain"),
            ({"any": [KNOWN] * 200}, "any", 201),
            (denied(8), "not" + ".not" * 7, {}),
            ({"fact": "a.b", "in": []}, "in", []), ({"fact": "a.b", "in": ["a"] * 1001}, "in", 1001),
            ({"fact": "a.b", "in": ["a", 1]}, "in.1", 1), ({"fact": "a.b", "at_least": "18"}, "at_least", "18"),
            ({"fact": "a.b", "between": [5]}, "between", []), ({"fact": "a.b", "between": [5, 1]}, "between", []),
            ({"fact": "a.b", "between": [1, "x"]}, "between.1", "x"), ({"fact": "a.b", "known": "yes"}, "known", "yes"),
            ({"fact": "a.b", "has": 5}, "has", 5), ({"fact": "a.b", "is": NUL}, "is", NUL),
            ({"fact": "offer.category", "more_than": 5}, "more_than", 5),
            ({"fact": "customer.consents", "is": "health"}, "is", "health"),
        )
    ),
)
CUSTOMERS = rows(
    "PUT /v1/customers/{customer_id}",
    {
        "colour": ["red"], "email": [MAIL], "age": [-1, 121, 300, 40.5, "old", "40", True],
        "region": ["not a name", ""], "consents": [["health"], None],
        # What is no plain true was not agreed to.
        "consents.health": ["perhaps", None, 2, 1, "yes", "on"], "demographics": [[1], None, "adult"],
        "demographics.age": [40], "demographics.name": ["Ann"], "demographics.more.postcode": ["98101"],
        "demographics.band": [MAIL, 1e300, NUL, LONG], "preferences": [[1]], "preferences.e-mail": [MAIL],
        "preferences.Address": ["1 Main St"], "preferences.likes.birthday": ["1 May"],
    },
    ("consents.newsletter", True, "consents.newsletter", "newsletter"),
    ("preferences.likes", ["garden"], "preferences.likes[0]", "garden"),
    ("demographics", nested(10), "demographics" + ".n" * 8, "..."),
    ("demographics", {f"f{number}": 1 for number in range(1001)}, "demographics", 1001),
)
LOOPS = rows(
    "PUT /v1/loops/{loop}",
    {
        "colour": ["red"], "arguments": ["", LONG, "--epsilon 0.1", '--cb_explore_adf "', 5, None],
        "exploration_floor": [-0.1, 1.1, "some", "0.5", True], "grace_seconds": [-1, 3601],
        "export_frequency_seconds": [0, 1e9], "learning_mode": ["offline", None], "clock": ["sundial", "simulated"],
        "close_on_final": ["perhaps", 1, "yes"], "time_zone": ["Mars/Olympus", "../../etc/passwd", "", NUL, 5],
        "retention_days": [0, 4000, 1.5], "rules": [[RULE] * 101], "rules.0.require": [ABSENT, "rain"],
        "fallback": IDS,
        "priority_tiers": ["perhaps"], "promoted_share": [-0.1, 1.1], "promoted_tag": ["Not Ok", ""],
        "consent_required": ["perhaps"], "region": ["not a name", ""],
        "sales_dates": ["02-29", ["02-28"] * 51, ["02-30"], ["11-27", "06-31"]], "lookback_days": [0, -1, 4000],
        "reward": [5], "reward.low": [1.0, 2.0, "little", None], "reward.default": [-0.1, 1.1],
        "reward.wait_seconds": [0, 1e9, "long"], "reward.aggregation": ["mean"], "reward.late_outcomes": ["count"],
        "reward.kinds": ["click", {f"k{number}": 1 for number in range(101)}],
        "reward.kinds.click": ["much", "1", True], "reward.kinds.sale.measure": ["profit"],
        "reward.kinds.sale.worth": ["much"], "reward.kinds.sale.colour": ["red"], "baseline.threshold": ["low"],
        "baseline.top_n": [0, 1001, 1.5], "baseline.affinity": ["", "x" * 65, NUL], "baseline.priority": ["known"],
        "holdout.share": [-0.1, 0.91], "holdout.serves": ["nothing"],
    },
    ("sales_dates", ["13-01"], "sales_dates.0", "13-01"), ("sales_dates", ["11-27", "1-2"], "sales_dates.1", "1-2"),
    ("baseline.priority", ["known", ""], "baseline.priority.1", ""),
    ("reward.kinds", {"tab\t": 1}, "reward.kinds.tab\t", "tab\t"),
    *(("arguments", f"--cb_explore_adf {more}", "arguments", part)
      for more, part in (("-f /tmp/model", "-f"), ("--epsilon lots", "lots"), ("-b 40", "40"), ("--cb_type dr", "dr"))),
    ("rules", [RULE, RULE], "rules.1.code", "rain"),
    ("rules", [{**RULE, "require": {"fact": "weather.band", "likes": 1}}], "rules.0.require.likes", 1),
    ("reward.wait_seconds", 90 * 86400, "retention_days", 90),
    ("reward", {"low": -1.7e308, "high": 1.7e308}, "reward.low", -1.7e308),
)
OTHERS = rows(
    "PUT /v1/loops/{loop}/schema",
    {
        "colour": ["red"],
        "features": [ABSENT, ["device.kind"], {f"f{number}": {"type": "number"} for number in range(1001)}],
        "features.basket": [5], "features.basket.type": [ABSENT, "integer"], "features.basket.low": ["none", 101],
        "features.basket.values": [["a"], "a", ["a"] * 1001], "features.basket.personal": ["perhaps"],
        "features.basket.colour": ["red"], "features.member.high": [5], "unknown": ["ignore", None],
    },
    ("features", {NUL: {"type": "number"}}, f"features.{NUL}", NUL),
    ("features.x", {"type": "string", "values": [NUL]}, "features.x.values.0", NUL),
)
OTHERS += rows(
    "PUT /v1/regions/{region}",
    {
        "colour": ["red"], "time_zone": [ABSENT, "Mars/Olympus", "", NUL, "../../etc/passwd", "x" * 65],
        "country": ["XX", "us", "U", NUL], "subdivision": ["Atlantis", "", NUL],
        "latitude": [91, -90.5, "north", "47.6", True], "longitude": [181, -200, None],
        "southern": ["perhaps", 1, "yes"],
    },
    ("country", None, "subdivision", "WA"),
)
OTHERS += rows("POST /v1/keys", {"name": [ABSENT, *IDS], "role": ["king", None, "read", "write"], "colour": ["red"]})
OTHERS += rows("POST /v1/jobs", {"kind": [ABSENT, "mischief", *IDS], "colour": ["red"], "arguments": [{}]})
# fmt: on


def sent(
    operation: str, body: Any, field: str | None, got: Any, status: int = 400, headers: dict[str, str] | None = None
) -> Row:
    """A row of one operation whose body, or its headers, are out of the ordinary; no field: the detail shows it."""
    return Row(operation, GOOD[operation][0], body, field, got, status, {**JSON_TYPE, **(headers or {})})


def asked(operation: str, url: str, field: str | None, got: Any, status: int = 400) -> Row:
    """A row whose address is bad, and its body good."""
    return Row(operation, url, GOOD.get(operation, ("", None))[1], field, got, status)


# fmt: off
WITH_BODY = [operation for operation in GOOD if operation != "POST /v1/offers/import"]
BODIES = [
    *(sent(operation, b'{"a": ', None, "not valid JSON") for operation in WITH_BODY),
    *(sent(operation, body, "body", got) for operation in WITH_BODY
      for body, got in ((b"", None), (b"null", None), (b"[1]", []), (b'"text"', "text"), (b"5", 5))),
    *(sent(operation, b"{}", "body", "{}", headers={"content-type": "text/plain"}) for operation in WITH_BODY),
    *(
        sent("POST /v1/rank", b'{"context": {"x": ' + raw + b"}}", None, "not valid JSON")
        for raw in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b'"\\ud800"', b'"\xff"', b"[" * 5000, b"01")
    ),
    sent("POST /v1/rank", b'{"customer_id": "' + b"x" * 2**23 + b'"}', None, 2**23, 413),
    sent("POST /v1/reward", b'{"decision_id": "d", "value": NaN}', None, "not valid JSON"),
    *(sent(operation, GOOD[operation][1], "header.idempotency-key", key, headers={"idempotency-key": key})
      for operation in ("POST /v1/reward", "POST /reward") for key in ("", LONG)),
    # Refused only after the stores were asked who this is.
    sent("POST /v1/rank", {**RANK, "customer_id": "stranger", "context": {"weather": {**SUNNY, "condition": "lava"}}},
         "context.weather.condition", "lava"),
    sent("POST /v1/rank", {**RANK, "decision_id": "taken", "customer_id": "other"}, None, "taken", 409),
    sent("POST /v1/rank/batch", {"requests": [{**RANK, "decision_id": "two", "channel": name} for name in "ab"]}, None,
         "two", 409),
    *(sent(operation, {**GOOD[operation][1], "loop": "never-made"}, None, "never-made", 404)
      for operation in ("POST /v1/rank", "POST /rank", "POST /v1/reward", "POST /reward", "POST /v1/activate")),
    sent("POST /v1/rank/batch", {"requests": [RANK, {**RANK, "loop": "never-made"}]}, None, "never-made", 404),
]
LONG_ID, LONG_NAME = "x" * 257, "x" * 65
PLACES = [
    *(asked(f"{method} /v1/{kind}", f"/v1/{kind.split('{')[0]}{quote(name)}{kind.partition('}')[2]}", field, name)
      for methods, kind, field, names in (
          ("GET PUT DELETE", "offers/{offer_id}", "offer_id", (NUL, LONG_ID)),
          ("GET", "offers/{offer_id}/versions", "offer_id", (NUL, LONG_ID)),
          ("GET PUT DELETE", "customers/{customer_id}", "customer_id", (NUL, "a\n", LONG_ID)),
          ("GET PUT DELETE", "loops/{loop}", "loop", ("Upper", "a b", NUL, LONG_NAME)),
          ("GET PUT DELETE", "loops/{loop}/schema", "loop", ("Upper", LONG_NAME)),
          ("POST", "loops/{loop}/ticks", "loop", ("Upper", LONG_NAME, "plain")),
          ("GET PUT DELETE", "regions/{region}", "region", ("a b", NUL, LONG_NAME)),
          ("DELETE", "keys/{key_id}", "key_id", (NUL, LONG_ID)), ("GET", "jobs/{job_id}", "job_id", (NUL, LONG_ID)),
          ("GET DELETE", "evaluations/{evaluation_id}", "evaluation_id", (NUL, LONG_ID)),
          ("GET", "evaluations/{evaluation_id}/report", "evaluation_id", (NUL, LONG_ID)),
          ("GET", "erasures/{receipt_id}", "receipt_id", (NUL, LONG_ID)),
          ("GET", "decisions/{decision_id}", "decision_id", (NUL, LONG_ID)),
          ("GET", "decisions/{decision_id}/why", "decision_id", (NUL, LONG_ID)),
      ) for method in methods.split() for name in names),
    *(asked(f"{method} /v1/{kind}", f"/v1/{kind.split('{')[0]}never-made{kind.partition('}')[2]}", None, "never-made",
            404)
      for methods, kind in (
          ("GET DELETE", "offers/{offer_id}"), ("GET", "offers/{offer_id}/versions"),
          ("GET DELETE", "customers/{customer_id}"), ("GET DELETE", "loops/{loop}"),
          ("GET PUT DELETE", "loops/{loop}/schema"), ("POST", "loops/{loop}/ticks"), ("GET DELETE", "regions/{region}"),
          ("DELETE", "keys/{key_id}"), ("GET", "jobs/{job_id}"), ("GET", "erasures/{receipt_id}"), ("GET", "decisions/{decision_id}"),
          ("GET DELETE", "evaluations/{evaluation_id}"), ("GET", "evaluations/{evaluation_id}/report"),
          ("GET", "decisions/{decision_id}/why"),
      ) for method in methods.split()),
    *(asked("GET /v1/offers/{offer_id}/versions/{version}", f"/v1/offers/known/versions/{version}", "version", version)
      for version in ("0", "-1", "newest", str(2**31))),
    asked("GET /v1/offers/{offer_id}/versions/{version}", "/v1/offers/%00/versions/1", "offer_id", "\0"),
    asked("GET /v1/offers/{offer_id}/versions/{version}", "/v1/offers/known/versions/99", None, "99", 404),
    asked("GET /v1/offers/export", "/v1/offers/export?format=xml", "format", "xml"),
    asked("GET /v1/decisions/{decision_id}", "/v1/decisions/taken?loop=Upper", "loop", "Upper"),
    asked("GET /v1/decisions/{decision_id}/why", "/v1/decisions/taken/why?loop=Upper", "loop", "Upper"),
    asked("POST /v1/activity", "/v1/activity?wait=later", "wait", "later"),
    asked("POST /v1/loops/{loop}/ticks", "/v1/loops/driven/ticks?wait=later", "wait", "later"),
    asked("POST /v1/jobs", "/v1/jobs?wait=later", "wait", "later"),
    asked("POST /v1/evaluations", "/v1/evaluations?wait=later", "wait", "later"),
    asked("GET /v1/evaluations", "/v1/evaluations?loop=Upper", "loop", "Upper"),
    asked("POST /v1/offers/import", "/v1/offers/import?dry_run=perhaps", "dry_run", "perhaps"),
    asked("DELETE /v1/loops/{loop}", "/v1/loops/default", None, "default", 409),
]
EVALUATIONS = [sent("POST /v1/evaluations", {"loop": "never-made"}, None, "never-made", 404), *rows(
    "POST /v1/evaluations",
    {"loop": ["Upper", 3, NUL], "evaluation_id": IDS[1:], "name": ["x" * 257, 3], "level": [0.5, 1, "much"],
     "closed_from": MOMENTS, "closed_to": MOMENTS, "fixed_offers": [-1, 201, 1.5], "reward_model": ["magic", None],
     "against": ["", "nobody", "python:os:getcwd", "column:x", 3], "slices": ["offer", ["nothing"], ["week", "week"]],
     "policies.0": ["nobody", "python:os:getcwd", "column:x", "vw:--data x", "", 3]},
)]
IMPORT = "POST /v1/offers/import"
IMPORTS = rows(
    IMPORT,
    {},
    *(
        (f"offers.1.{place}", value, f"rows.1.{place}", value)
        for place, value in (
            ("offer_id", ABSENT), ("offer_id", ""), ("offer_id", NUL), ("category", ABSENT), ("discount", 1.5),
            ("price", -1), ("status", "sleeping"), ("colour", "red"), ("rules.0.code", ABSENT), ("limits.stock", -1),
            ("limits.caps.0.shows", -1), ("code", NUL), ("features.size", 1e300),
        )
    ),
    ("offers.1.offer_id", "known", "rows.1.offer_id", "known"),
    ("offers.1.rules.0.require.like", "ra%", "rows.1.rules.0.require.like", "ra%"),
    ("offers.1.valid_to", "2026-01-01T00:00:00Z", "rows.1.valid_to", "2026-01-01"),
)
IMPORTS += [
    sent(IMPORT, f"offer_id;category;{column}\na;b;{cell}\n".encode(), f"rows.2.{named}", got, headers=CSV_TYPE)
    for column, cell, named, got in (
        ("discount", "1.5", "discount", 1.5), ("discount", "10%", "discount", "10%"),
        ("price", "1,50", "price", "1,50"), ("valid_from", "1 May", "valid_from", "1 May"),
        ("tags", "ok|Not Ok", "tags.1", "Not Ok"),
        ("rules", "[{", "rules", "[{"), ("caps", "5", "caps", 5), ("stock", "-1", "stock", -1),
        ("status", "sleeping", "status", "sleeping"), ("creative.Title", "Spring", "creative.Title", "Title"),
    )
]
IMPORTS += [
    sent(IMPORT, b"offer_id,category,colour\na,b,red\n", "columns.colour", "colour", headers=CSV_TYPE),
    sent(IMPORT, b"offer_id,category,category\na,b,c\n", "columns.category", "category", headers=CSV_TYPE),
    sent(IMPORT, b"offer_id,category\na,b\na,c\n", "rows.3.offer_id", "a", headers=CSV_TYPE),
    sent(IMPORT, b"category\na\n", None, "offer_id", headers=CSV_TYPE),
    sent(IMPORT, b"", None, "offer_id", headers=CSV_TYPE),
    sent(IMPORT, b"offer_id,category\na,\xff\n", None, "0xff", headers=CSV_TYPE),
    sent(IMPORT, b"[NaN]", None, "not valid JSON"),
    sent(IMPORT, b'{"offer": []}', None, "offers"),
    sent(IMPORT, b"[" + b"{}," * 50_000 + b"{}]", None, "50001"),
    sent(IMPORT, b"[]" + b" " * 20 * 2**20, None, 20 * 2**20, 413),
    sent(IMPORT, b"<offers/>", None, "application/xml", 415, headers={"content-type": "application/xml"}),
]
# fmt: on
# Their rows are in test_bad_models.py, test_bad_policies.py and test_audit.py.
ELSEWHERE = ("/v1/loops/{loop}/model", "/v1/loops/{loop}/operations", "/v1/loops/{loop}/policies", "/v1/audit")
ROWS = [*RANKS, *OUTCOMES, *OFFERS, *CUSTOMERS, *LOOPS, *OTHERS, *BODIES, *PLACES, *EVALUATIONS, *IMPORTS]


class Quiet:
    """A decision service and its stores, with no learner and no job beside it: only calls can change anything."""

    def __init__(self, stores: Installation, client: httpx.Client) -> None:
        self.client = client
        self._stores = stores

    def call(self, operation: str, url: str, body: Any, headers: dict[str, str] | None = None) -> httpx.Response:
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        return self.client.request(operation.split(maxsplit=1)[0], url, content=content, headers=headers or JSON_TYPE)

    def traces(self) -> dict[str, str]:
        """A digest of each table, each key and each spooled file."""
        found: dict[str, str] = {}
        with self._stores.engine.connect() as connection:
            tables = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars()
            digests = " UNION ALL ".join(
                f"SELECT '{table}', count(*) || ' ' || md5(coalesce(string_agg(md5(t::text), '' ORDER BY t::text), ''))"
                f' FROM "{table}" t'
                for table in tables
            )
            found |= {f"table {name}": digest for name, digest in connection.execute(text(digests))}
        for key in self._stores.client.scan_iter(count=1000):
            found[f"key {key!r}"] = hashlib.sha256(self._stores.client.dump(key) or b"").hexdigest()
        for path in (self._stores.settings.data_dir / "spool").rglob("*"):
            found[f"file {path}"] = str(path.stat().st_size)
        return found


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quiet]:
    data_dir = tmp_path_factory.mktemp("quiet") / "var"
    settings = Settings(data_dir=data_dir, database_url=None, redis_url=None, admin_key=None)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OFFERLOOP_", "PROMETHEUS_"))}
    with join(data_dir), open_installation(settings) as stores:
        migrate(stores)
        with subprocess.Popen(
            [sys.executable, "-m", "offerloop", "serve", "--port", "0"],
            env={**kept, "OFFERLOOP_DATA_DIR": str(data_dir), "OFFERLOOP_LOG_LEVEL": "WARNING"},
            cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            try:
                assert process.stdout is not None
                url = process.stdout.readline().removeprefix("serving ").strip()
                with httpx.Client(base_url=url, timeout=60.0, trust_env=False) as client:
                    yield set_up(Quiet(stores, client))
            finally:
                process.terminate()


def set_up(quiet: Quiet) -> Quiet:
    """What bad calls may be about: each good call once, so that it is known to be good, and loops of other kinds."""
    for _ in range(1200):
        with suppress(httpx.TransportError):
            if quiet.client.get("/readyz").status_code == 200:
                break
        time.sleep(0.05)
    for url, body in SETTING_UP:
        assert quiet.client.put(url, json=body).status_code == 200, url
    assert quiet.client.post("/v1/rank", json={**RANK, "decision_id": "taken", "customer_id": "known"}).is_success
    for operation, (url, body) in GOOD.items():
        if operation != "POST /v1/keys":
            answer = quiet.call(operation, url, body)
            assert answer.is_success, f"{operation}: {answer.text}"
    return quiet


def is_shown(got: Any, error: dict[str, Any]) -> bool:
    """Whether a refusal shows the value that it is about; what is no scalar is only told by its kind."""
    if got is ABSENT or isinstance(got, dict | list):
        return True
    if got is None or got == "":
        return bool(error["value"] == got)
    said = f"{error['value']} {error['message']}"
    return str(got)[:150] in said or (isinstance(got, int) and str(float(got)) in said)


def test_there_are_rows_for_every_operation_that_takes_input(quiet: Quiet) -> None:
    paths = quiet.client.get("/openapi.json").json()["paths"]
    wanted = {
        f"{method.upper()} {path}"
        for path, operations in paths.items()
        for method, operation in operations.items()
        if (operation.get("parameters") or "requestBody" in operation)
        and not (path.startswith(ELSEWHERE) or path.endswith("/kill-switch"))
    }
    assert wanted == {row.operation for row in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_bad_input_is_refused_by_name_and_leaves_no_trace(row: Row, quiet: Quiet, problem: Any) -> None:
    before = quiet.traces()
    refused = problem(quiet.call(row.operation, row.url, row.body, row.headers), row.status)
    if row.field is None:
        assert str(row.got) in refused["detail"]
    else:
        named = {error["field"]: error for error in refused.get("errors", [])}
        assert row.field in named, refused
        assert is_shown(row.got, named[row.field]), refused
    assert quiet.traces() == before
