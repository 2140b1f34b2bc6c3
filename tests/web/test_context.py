"""What a decision knows: every namespace as it is logged, where it came from, and what consent and schema keep out."""

from __future__ import annotations

import json

import pytest

RATES = ("r4", "r16", "r52")  # shrunk towards everybody's, so they move with the shop
DAYS = """date,precipitation,temp_max,temp_min,wind,weather
2020-01-05,0.0,12.0,4.0,4.7,sun
2020-01-06,10.9,4.0,-2.0,4.5,snow
2020-01-07,0.8,31.0,25.0,2.3,rain
"""
HOURS = """date,hour,precipitation,temperature,condition
2020-01-06,8,0.0,14.0,cloudy
2020-01-06,9,1.5,29.0,thunder
"""


@pytest.fixture(scope="module")
def world(lasting_loop):
    return lasting_loop(simulated=True, time_zone="UTC")


@pytest.fixture(scope="module")
def regions(api, unique):
    """Regions on three sides of the world, by short names."""
    bodies = {
        "seattle": {"time_zone": "America/Los_Angeles", "country": "US", "subdivision": "WA"},
        "sydney": {"time_zone": "Australia/Sydney", "country": "AU", "latitude": -33.87, "longitude": 151.21},
        "berlin": {"time_zone": "Europe/Berlin", "country": "DE"},
        "nowhere": {"time_zone": "UTC"},
    }
    names = {name: unique(name) for name in bodies}
    for name, body in bodies.items():
        assert api.put(f"/v1/regions/{names[name]}", json=body).status_code == 200
    yield names
    for name in names.values():
        assert api.delete(f"/v1/regions/{name}").status_code == 204


@pytest.fixture(scope="module")
def catalogue(api, unique):
    """One offer of each of two categories."""
    offers = {category: unique(category) for category in ("garden", "tools")}
    for category, offer in offers.items():
        assert api.put(f"/v1/offers/{offer}", json={"category": category}).status_code == 200
    yield offers
    for offer in offers.values():
        assert api.delete(f"/v1/offers/{offer}").status_code == 204


@pytest.fixture(scope="module")
def customer(api, unique):
    """Store a customer and return the id."""

    def make(**body):
        name = unique("customer")
        answer = api.put(f"/v1/customers/{name}", json=body)
        assert answer.status_code == 200, answer.text
        return name

    return make


@pytest.fixture(scope="module")
def act(api):
    """Report activities and wait until they are in the profiles."""

    def send(*activities):
        answer = api.post("/v1/activity", params={"wait": "applied"}, json={"activities": list(activities)})
        assert answer.status_code == 202, answer.text
        assert answer.json()["applied"] is True

    return send


@pytest.fixture(scope="module")
def seen(world, at, catalogue):
    """The record of one decision between the two offers."""

    def look(moment=None, loop=world, **body):
        body.setdefault("candidates", list(catalogue.values()))
        return loop.record(loop.rank(occurred_at=moment or at(), **body)["decision_id"])

    return look


def source(record, namespace, name=None):
    """Where a feature came from: its own source goes before that of its namespace."""
    return record["sources"].get(f"{namespace}.{name}", record["sources"].get(namespace))


def affinity(record):
    return {offer["offer_id"]: offer["affinity"] for offer in record["eligible"]}


# Demographics


def test_stored_demographics_are_bands_and_numbers(seen, customer):
    record = seen(customer_id=customer(age=38, demographics={"household_size": 3, "income_band": "50-74K"}))
    assert record["context"]["D"] == {"age_band": "35-44", "household_size": 3, "income_band": "50-74K"}
    assert source(record, "D") == "stored"


def test_an_age_is_only_ever_a_band_that_holds_it(world, at, api):
    ages = [0, 12, 17, 18, 24, 25, 34, 35, 44, 45, 54, 55, 64, 65, 80, 120]
    requests = [
        {"loop": world.name, "occurred_at": at(), "candidates": [{"offer_id": "o"}], "context": {"demographics": age}}
        for age in ({"age": age} for age in ages)
    ]
    answer = api.post("/v1/rank/batch", json={"requests": requests})
    assert answer.status_code == 200, answer.text
    bands = []
    for age, decision in zip(ages, answer.json()["decisions"], strict=True):
        demographics = world.record(decision["decision_id"])["context"]["D"]
        assert set(demographics) == {"age_band"}
        low, _, high = demographics["age_band"].rstrip("+").partition("-")
        assert int(low) <= age <= int(high or 150)
        bands.append(demographics["age_band"])
    assert len(set(bands)) < len(ages) / 2 + 1, "a band is more than one year"


@pytest.mark.parametrize("name", ["name", "email", "phone", "first_name", "address", "latitude", "customer_id"])
@pytest.mark.parametrize("part", ["demographics", "preferences"])
def test_identity_is_refused_by_name(world, api, unique, problem, at, part, name):
    who = unique("identity")
    refused = problem(api.put(f"/v1/customers/{who}", json={part: {name: "x"}}), 400)
    assert f"{part}.{name}" in json.dumps(refused["errors"])
    problem(api.get(f"/v1/customers/{who}"), 404)
    body = {"loop": world.name, "decision_id": who, "occurred_at": at(), "candidates": [{"offer_id": "o"}]}
    refused = problem(api.post("/v1/rank", json={**body, "context": {part: {name: "x"}}}), 400)
    assert f"context.{part}.{name}" in json.dumps(refused["errors"])
    world.record(who, expect=404)


def test_sent_demographics_go_before_stored_ones_and_the_log_says_which(seen, customer):
    who = customer(age=38, demographics={"household_size": 3, "homeowner": "yes"})
    record = seen(customer_id=who, context={"demographics": {"age": 70, "household_size": 5}})
    demographics = record["context"]["D"]
    assert (demographics["household_size"], demographics["homeowner"]) == (5, "yes")
    assert demographics["age_band"].startswith("65")
    assert source(record, "D", "household_size") == source(record, "D", "age_band") == "request"
    assert source(record, "D", "homeowner") == "stored"


def test_what_nobody_says_is_missing(seen, unique):
    for who in (unique("stranger"), None):
        record = seen(customer_id=who)
        assert not {"D", "P", "W", "L"} & set(record["context"])
        assert record["context"]["H"]["segment"] == "new"
        assert {source(record, namespace) for namespace in "DPWLH"} == {"missing"}


def test_the_id_and_the_key_of_a_customer_are_no_features(seen, customer):
    who = customer(age=40, demographics={"household_size": 1})
    record = seen(customer_id=who)
    assert record["customer_id"] == who
    assert who not in json.dumps([record["context"], record["eligible"]])


# Preferences


def test_stated_preferences_stay_apart_from_inferred_ones(seen, customer, unique, at):
    stated = seen(customer_id=customer(preferences={"likes": "garden", "newsletter": True}))
    assert stated["context"]["P"] == {"likes": "garden", "newsletter": True}
    assert source(stated, "P") == "stored"
    stranger = seen(customer_id=unique("stranger"))
    assert affinity(stated) == affinity(stranger)
    assert stated["context"]["H"] == stranger["context"]["H"]


def test_inferred_preferences_do_not_become_stated_ones(seen, unique, act, at, catalogue):
    who = unique("customer")
    act({"customer_id": who, "kind": "purchase", "category": "garden", "amount": 9, "occurred_at": at(days=-2)})
    record = seen(customer_id=who)
    assert "P" not in record["context"]
    found = affinity(record)
    assert found[catalogue["garden"]] != found[catalogue["tools"]]


def test_sent_preferences_go_before_stored_ones(seen, customer):
    who = customer(preferences={"likes": "garden", "newsletter": True})
    record = seen(customer_id=who, context={"preferences": {"likes": "tools"}})
    assert record["context"]["P"] == {"likes": "tools", "newsletter": True}
    assert (source(record, "P", "likes"), source(record, "P", "newsletter")) == ("request", "stored")


# History


@pytest.mark.parametrize(
    ("kinds", "segment"),
    [
        ([], "new"),
        (["view"], "browsing_only"),
        (["view", "click", "cart_add"], "browsing_only"),
        (["purchase"], "transactions_only"),
        (["view", "purchase"], "both"),
    ],
)
def test_segments(seen, unique, act, at, kinds, segment):
    who = unique("customer")
    if kinds:
        act(
            *(
                {"customer_id": who, "kind": kind, "category": "garden", "amount": 9, "occurred_at": at(hours=-40)}
                for kind in kinds
            )
        )
    record = seen(customer_id=who)
    assert record["context"]["H"]["segment"] == segment
    assert source(record, "H") == ("stored" if kinds else "missing")


def test_recent_activity_stands_in_windows_and_leaves_them(seen, unique, act, at):
    who = unique("customer")
    act(
        *(
            {"customer_id": who, "kind": kind, "category": "garden", "occurred_at": at()}
            for kind in ("view", "click", "cart_add")
        )
    )
    counted = {
        window: {
            name
            for name in seen(at(**{unit: value}), customer_id=who)["context"]["H"]
            if name.endswith(("_minute", "_hour", "_day"))
        }
        for window, unit, value in (("minute", "seconds", 20), ("hour", "seconds", 1200), ("day", "hours", 10))
    }
    for kind in ("views", "clicks", "cart_adds"):
        assert {f"{kind}_minute", f"{kind}_hour", f"{kind}_day"} <= counted["minute"]
        assert {f"{kind}_hour", f"{kind}_day"} <= counted["hour"]
        assert f"{kind}_day" in counted["day"]
    assert not {name for name in counted["hour"] if name.endswith("_minute")}
    assert not {name for name in counted["day"] if not name.endswith("_day")}
    later = seen(at(days=3), customer_id=who)["context"]["H"]
    assert not {name for name in later if name.endswith(("_minute", "_hour", "_day"))}


def test_a_cart_is_abandoned_until_it_is_bought(seen, unique, act, at, catalogue):
    who = unique("customer")
    cart = {"customer_id": who, "kind": "cart_add", "category": "garden", "occurred_at": at()}
    act(cart, {**cart, "kind": "purchase", "amount": 20, "occurred_at": at(hours=8)})
    left = seen(at(hours=5), customer_id=who)
    assert "abandoned" in left["context"]["H"]
    assert "abandoned" in affinity(left)[catalogue["garden"]]
    assert "abandoned" not in affinity(left)[catalogue["tools"]]
    bought = seen(at(hours=9), customer_id=who)
    assert "abandoned" not in bought["context"]["H"]
    assert "abandoned" not in affinity(bought)[catalogue["garden"]]


def test_history_is_of_its_moment(seen, unique, act, at, until):
    """What a customer did after a moment does not show in it, also when it is known by now."""
    who, other = unique("customer"), unique("customer")
    view = {"customer_id": who, "kind": "view", "category": "tools", "occurred_at": at(days=1)}
    act(view)
    before = seen(at(days=2), customer_id=who)
    act(
        {**view, "kind": "purchase", "category": "garden", "amount": 80, "occurred_at": at(days=3)},
        {**view, "kind": "cart_add", "category": "garden", "occurred_at": at(days=4)},
    )
    until(lambda: seen(at(days=5), customer_id=who)["context"]["H"]["segment"] == "both", 2, "the purchase shows")
    again = seen(at(days=2), customer_id=who)
    assert again["context"]["H"] == before["context"]["H"]
    for offer, shown in affinity(again).items():
        own = {name: value for name, value in shown.items() if name not in RATES}
        assert own == {name: value for name, value in affinity(before)[offer].items() if name not in RATES}

    def looks_new():
        """Their rates are those of anybody, which move with the shop and are cached for a moment."""
        first, never = seen(at(hours=1), customer_id=who), seen(at(hours=1), customer_id=other)
        return (first["context"]["H"], affinity(first)) == (never["context"]["H"], affinity(never))

    until(looks_new, 3, "looking new before the first activity")


def test_quintiles_go_by_the_loops_own_limits(make_loop, seen, unique, act, at):
    limits = {"recency_days": [2, 4, 8, 16], "per_year": [1, 2, 3, 4], "per_order": [10, 20, 30, 40]}
    loop = make_loop(simulated=True, time_zone="UTC", rfm=limits)
    rich, poor = unique("customer"), unique("customer")
    act(
        *(
            {"customer_id": who, "kind": "purchase", "category": "garden", "amount": amount, "occurred_at": moment}
            for who, amount, moment in ((rich, 95, at(days=-1)), (poor, 5, at(days=-100)))
        )
    )
    best, worst = (seen(customer_id=who, loop=loop)["context"]["H"] for who in (rich, poor))
    assert (best["recency_quintile"], worst["recency_quintile"]) == ("r5", "r1")
    assert (best["monetary_quintile"], worst["monetary_quintile"]) == ("m5", "m1")


def test_sent_history_goes_before_the_stored_one(seen, unique, act, at):
    who = unique("customer")
    act({"customer_id": who, "kind": "purchase", "category": "garden", "amount": 9, "occurred_at": at(days=-2)})
    stored = seen(customer_id=who)
    record = seen(customer_id=who, context={"history": {"segment": "browsing_only"}})
    assert record["context"]["H"] == {**stored["context"]["H"], "segment": "browsing_only"}
    assert (source(record, "H", "segment"), source(record, "H", "recency")) == ("request", "stored")


# Weather


@pytest.mark.parametrize(
    ("sent", "logged"),
    [
        (
            {"temperature_c": 3.0, "precipitation_mm": 0.0, "condition": "snow"},
            {"band": "cold", "precipitation": "none", "condition": "snow"},
        ),
        (
            {"temperature_c": 13, "precipitation_mm": 0.2, "condition": "fog"},
            {"band": "mild", "precipitation": "light", "condition": "fog"},
        ),
        (
            {"temperature_c": 27, "precipitation_mm": 10, "condition": "thunder"},
            {"band": "hot", "precipitation": "heavy", "condition": "thunder"},
        ),
        (
            {"temperature_c": 26.9, "precipitation_mm": 9.9, "condition": "sun"},
            {"band": "warm", "precipitation": "light", "condition": "clear"},
        ),
        (
            {"band": "cool", "precipitation": "none", "condition": "cloudy"},
            {"band": "cool", "precipitation": "none", "condition": "cloudy"},
        ),
    ],
)
def test_sent_weather_is_bands_and_its_source_the_request(seen, sent, logged):
    record = seen(context={"weather": sent})
    assert record["context"]["W"] == logged
    assert {source(record, "W", name) for name in logged} == {"request"}


def test_weather_that_was_sent_is_not_called_missing(world, seen, api):
    record = seen(context={"weather": {"temperature_c": 3, "precipitation_mm": 0, "condition": "snow"}})
    assert source(record, "W") == "request"
    answer = api.get(f"/v1/decisions/{record['decision_id']}/why", params={"loop": world.name})
    assert "W" not in answer.json()["missing"]


@pytest.mark.parametrize(
    ("weather", "named"),
    [
        ({"temperature_c": "warm", "precipitation_mm": 0, "condition": "rain"}, "weather.temperature_c"),
        ({"temperature_c": 300, "precipitation_mm": 0, "condition": "rain"}, "weather.temperature_c"),
        ({"temperature_c": 3, "precipitation_mm": -1, "condition": "rain"}, "weather.precipitation_mm"),
        ({"temperature_c": 3, "precipitation_mm": 0, "condition": "lava"}, "weather.condition"),
        ({"temperature_c": 3, "precipitation_mm": 0}, "weather.condition"),
    ],
)
def test_bad_raw_weather_is_refused_by_field(world, api, at, unique, problem, weather, named):
    decision = unique("bad")
    body = {"loop": world.name, "decision_id": decision, "occurred_at": at(), "candidates": [{"offer_id": "o"}]}
    refused = problem(api.post("/v1/rank", json={**body, "context": {"weather": weather}}), 400)
    assert refused["errors"][0]["field"] == f"context.{named}"
    world.record(decision, expect=404)


@pytest.fixture(scope="module")
def weather_table(service, regions, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weather")
    for region, text in (("seattle", DAYS), ("berlin", HOURS)):
        file = folder / f"{region}.csv"
        file.write_text(text)
        done = service.command("weather", "import", str(file), "--region", regions[region])
        assert done.returncode == 0, done.stdout + done.stderr
    return regions


def test_imported_days_count_in_local_time(seen, weather_table):
    def weather(moment):
        record = seen(moment, region=weather_table["seattle"])
        return record["context"].get("W"), source(record, "W")

    cold = {"band": "cold", "condition": "snow", "precipitation": "heavy"}
    hot = {"band": "hot", "condition": "rain", "precipitation": "light"}
    assert weather("2020-01-06T08:00:00Z") == (cold, "table"), "the first moment of the day in Los Angeles"
    assert weather("2020-01-07T07:59:59Z") == (cold, "table"), "the last one"
    assert weather("2020-01-07T08:00:00Z") == (hot, "table")
    assert weather("2020-01-06T07:59:59Z")[0]["condition"] == "clear"
    assert weather("2020-03-01T08:00:00Z") == (None, "missing")


def test_imported_hours_count_in_local_time(seen, weather_table):
    region = weather_table["berlin"]
    assert seen("2020-01-06T07:30:00Z", region=region)["context"]["W"] == {
        "band": "mild",
        "condition": "cloudy",
        "precipitation": "none",
    }
    assert seen("2020-01-06T08:00:00Z", region=region)["context"]["W"] == {
        "band": "hot",
        "condition": "thunder",
        "precipitation": "heavy",
    }
    assert "W" not in seen("2020-01-06T12:00:00Z", region=region)["context"]


def test_sent_weather_goes_before_the_table(seen, weather_table):
    sent = {"temperature_c": 15, "precipitation_mm": 0, "condition": "fog"}
    moment = "2020-01-06T20:00:00Z"
    record = seen(moment, region=weather_table["seattle"], context={"weather": sent})
    assert record["context"]["W"] == {"band": "mild", "condition": "fog", "precipitation": "none"}
    assert {source(record, "W", name) for name in record["context"]["W"]} == {"request"}
    mixed = seen(moment, region=weather_table["seattle"], context={"weather": {"condition": "fog"}})
    assert mixed["context"]["W"] == {"band": "cold", "condition": "fog", "precipitation": "heavy"}
    assert (source(mixed, "W", "condition"), source(mixed, "W", "band")) == ("request", "table")


def test_a_bad_file_imports_nothing(service, regions, seen, tmp_path):
    file = tmp_path / "bad.csv"
    file.write_text("date,precipitation,temperature,condition\n2020-01-06,1,4,rain\n2020-01-07,1,4,lava\n")
    done = service.command("weather", "import", str(file), "--region", regions["nowhere"])
    assert done.returncode != 0
    assert "lava" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "W" not in seen("2020-01-06T12:00:00Z", region=regions["nowhere"])["context"]


# Season


@pytest.mark.parametrize(
    ("region", "moment", "expected"),
    [
        (None, "2020-01-01T02:00:00Z", {"season": "winter", "month": "m1", "weekday": "d3", "day_part": "night"}),
        (
            "seattle",
            "2020-01-01T02:00:00Z",
            {"month": "m12", "weekday": "d2", "day_part": "evening", "holiday_near": "New Year's Day"},
        ),
        ("seattle", "2020-01-01T08:00:00Z", {"month": "m1", "day_part": "night", "holiday": "New Year's Day"}),
        ("seattle", "2020-07-05T06:59:00Z", {"season": "summer", "holiday": "Independence Day"}),
        ("seattle", "2020-07-05T07:00:00Z", {"weekday": "d7", "holiday": None}),
        ("seattle", "2020-07-03T19:00:00Z", {"holiday": None, "holiday_near": "Independence Day"}),
        ("berlin", "2020-07-04T12:00:00Z", {"holiday": None, "holiday_near": None}),
        ("berlin", "2020-10-02T22:00:00Z", {"month": "m10", "season": "autumn", "holiday": "German Unity Day"}),
        ("sydney", "2020-01-15T12:00:00Z", {"season": "summer", "day_part": "evening"}),
        ("sydney", "2020-06-30T14:00:00Z", {"season": "winter", "month": "m7", "day_part": "night"}),
        ("nowhere", "2020-12-25T12:00:00Z", {"holiday": None, "season": "winter", "day_part": "afternoon"}),
    ],
)
def test_seasons_and_holidays_go_by_local_time(seen, regions, region, moment, expected):
    record = seen(moment, region=regions[region] if region else None)
    season = record["context"]["S"]
    assert {name: season.get(name) for name in expected} == expected
    assert source(record, "S") == "clock"


def test_without_a_region_the_loops_time_zone_counts(make_loop, seen):
    loop = make_loop(simulated=True, time_zone="Asia/Tokyo")
    season = seen("2019-12-31T16:00:00Z", loop=loop)["context"]["S"]
    assert (season["month"], season["weekday"], season["day_part"]) == ("m1", "d3", "night")


def test_distance_to_the_next_sale(make_loop, seen):
    loop = make_loop(simulated=True, time_zone="UTC", sales_dates=["06-15"])
    days = {
        "2020-11-27": "today",  # Black Friday
        "2020-11-30": "today",  # Cyber Monday
        "2020-11-26": "week",
        "2020-06-14": "week",  # the loop's own
        "2020-06-08": "week",
        "2020-06-07": "fortnight",
        "2020-06-01": "fortnight",
        "2020-05-31": "month",
        "2020-05-16": "month",
        "2020-05-15": "far",
        "2020-12-25": "today",
        "2020-12-26": "far",
    }
    found = {day: seen(f"{day}T12:00:00Z", loop=loop)["context"]["S"]["sale"] for day in days}
    assert found == days


def test_a_sent_season_goes_before_the_clock(seen):
    record = seen("2020-01-15T12:00:00Z", context={"season": {"season": "summer"}})
    assert (record["context"]["S"]["season"], record["context"]["S"]["month"]) == ("summer", "m1")
    assert (source(record, "S", "season"), source(record, "S", "month")) == ("request", "clock")


# Location


def test_the_requests_region_goes_before_the_customers_before_the_loops(make_loop, seen, regions, customer, unique):
    loop = make_loop(simulated=True, time_zone="UTC", region=regions["berlin"])
    home = customer(region=regions["seattle"])

    def region(**body):
        record = seen(loop=loop, **body)
        return record["context"]["L"]["region"], source(record, "L", "region")

    assert region(customer_id=home, region=regions["sydney"]) == (regions["sydney"], "request")
    assert region(customer_id=home) == (regions["seattle"], "stored")
    assert region(customer_id=unique("stranger"))[0] == regions["berlin"]


def test_the_distance_to_the_store_is_a_band_and_coordinates_never_show(seen, regions):
    for kilometres, band in ((0, "walk"), (0.99, "walk"), (1, "near"), (5, "drive"), (19.9, "drive"), (20, "far")):
        record = seen(context={"location": {"store_km": kilometres}}, region=regions["sydney"])
        assert record["context"]["L"] == {"region": regions["sydney"], "store_distance": band}
        assert source(record, "L", "store_distance") == "request"
        assert not any(number in json.dumps(record) for number in ("33.87", "151.21"))


# Schema

FEATURES = {
    "device.kind": {"type": "string", "values": ["phone", "desktop"]},
    "basket.total": {"type": "number", "low": 0, "high": 1000},
    "vip": {"type": "boolean"},
    "embedding.*": {"type": "number"},
}
FITTING = {"device": {"kind": "phone"}, "basket": {"total": 1000}, "vip": True, "embedding": {"a": 1, "b": {"c": 2}}}
UNFIT = {
    "device.kind": {"device": {"kind": "tv"}},
    "device.colour": {"device": {"colour": "red"}},
    "basket.total": {"basket": {"total": 1000.5}},
    "vip": {"vip": "yes"},
    "mood": {"mood": "good"},
    "embedding.a": {"embedding": {"a": "x"}},
}


def test_a_schema_refuses_by_name_or_drops_and_counts(make_loop, api, seen, at, problem):
    loop = make_loop(simulated=True)
    route = f"/v1/loops/{loop.name}/schema"
    problem(api.get(route), 404)
    assert api.put(route, json={"features": FEATURES, "unknown": "refuse"}).status_code == 200
    assert set(api.get(route).json()["features"]) == set(FEATURES)
    own = {"demographics": {"age": 30}, "weather": {"band": "hot"}, "location": {"store_km": 3}}
    record = seen(loop=loop, context=FITTING | own)
    assert record["context"]["embedding"] == {"a": 1, "b.c": 2}
    assert record["context"]["c"] == {"vip": True}
    assert (record["context"]["D"], record["context"]["W"]) == ({"age_band": "25-34"}, {"band": "hot"})
    for named, context in UNFIT.items():
        body = {"loop": loop.name, "occurred_at": at(), "candidates": [{"offer_id": "o"}], "decision_id": named}
        refused = problem(api.post("/v1/rank", json={**body, "context": {**FITTING, **context}}), 400)
        assert [error["field"] for error in refused["errors"]] == [f"context.{named}"]
        loop.record(named, expect=404)
    assert api.put(route, json={"features": FEATURES, "unknown": "drop"}).status_code == 200
    for named, context in UNFIT.items():
        record = seen(loop=loop, context={**FITTING, **context})
        assert record["dropped"] == [named]
        assert set(record["context"]) >= {name for name in ("basket", "device") if name not in context}
    counted = [
        line
        for line in api.get("/metrics").text.splitlines()
        if "dropped" in line and "feature" in line and loop.name in line and "_total{" in line
    ]
    assert sum(float(line.split()[-1]) for line in counted) == len(UNFIT)
    assert api.delete(route).status_code == 204
    problem(api.get(route), 404)
    assert seen(loop=loop, context={"mood": "good"})["context"]["c"] == {"mood": "good"}


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"type": "text"}, "type"),
        ({"type": "number", "low": 3, "high": 1}, "low"),
        ({"type": "string", "low": 3}, "low"),
        ({"type": "number", "values": ["a"]}, "values"),
        ({"type": "number", "surprise": 1}, "surprise"),
        ({}, "type"),
    ],
)
def test_a_bad_schema_is_refused_by_field(world, api, problem, spec, named):
    refused = problem(api.put(f"/v1/loops/{world.name}/schema", json={"features": {"a.b": spec}}), 400)
    assert "features.a.b" in refused["errors"][0]["field"]
    assert named in json.dumps(refused["errors"])
    problem(api.get(f"/v1/loops/{world.name}/schema"), 404)
