"""Regions over HTTP."""

from __future__ import annotations

import json

import pytest

SEATTLE = {
    "time_zone": "America/Los_Angeles",
    "country": "US",
    "subdivision": "WA",
    "latitude": 47.61,
    "longitude": -122.33,
    "southern": False,
}


def test_regions_are_created_changed_listed_and_deleted(api, unique, problem):
    name = unique("Region")
    problem(api.get(f"/v1/regions/{name}"), 404)
    made = api.put(f"/v1/regions/{name}", json=SEATTLE)
    assert made.status_code == 200, made.text
    assert made.json() == {"region": name, **SEATTLE}
    assert api.get(f"/v1/regions/{name}").json() == made.json()
    changed = api.put(f"/v1/regions/{name}", json={"time_zone": "Europe/Berlin", "country": "DE"})
    nothing = dict.fromkeys(("subdivision", "latitude", "longitude", "southern"))
    assert changed.json() == {"region": name, "time_zone": "Europe/Berlin", "country": "DE", **nothing}
    assert changed.json() in api.get("/v1/regions").json()["regions"]
    assert api.delete(f"/v1/regions/{name}").status_code == 204
    problem(api.get(f"/v1/regions/{name}"), 404)
    problem(api.delete(f"/v1/regions/{name}"), 404)
    assert name not in [region["region"] for region in api.get("/v1/regions").json()["regions"]]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"time_zone": "Mars/Olympus"}, "Mars/Olympus"),
        ({"time_zone": "../../etc/passwd"}, "time_zone"),
        ({"time_zone": "\x00"}, "time_zone"),
        ({"time_zone": None}, "time_zone"),
        ({"country": "XX"}, "XX"),
        ({"country": "us"}, "country"),
        ({"country": "country_holidays"}, "country"),
        ({"country": None}, "subdivision"),
        ({"subdivision": "Atlantis"}, "Atlantis"),
        ({"latitude": 90.1}, "latitude"),
        ({"latitude": "north"}, "latitude"),
        ({"latitude": None}, "latitude"),
        ({"longitude": -180.5}, "longitude"),
        ({"longitude": None}, "longitude"),
        ({"southern": "perhaps"}, "southern"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_bad_regions_are_refused_by_field(api, unique, problem, changes, named):
    name = unique("bad")
    refused = problem(api.put(f"/v1/regions/{name}", json=SEATTLE | changes), 400)
    assert named in json.dumps(refused["errors"])
    problem(api.get(f"/v1/regions/{name}"), 404)


def test_a_region_needs_a_time_zone(api, unique, problem):
    refused = problem(api.put(f"/v1/regions/{unique('bad')}", json={"country": "US"}), 400)
    assert refused["errors"][0]["field"] == "time_zone"


@pytest.mark.parametrize("name", ["a b", "_x", "-x", "x" * 65, "ä", "a.b"])
def test_bad_region_names_are_refused(api, problem, name):
    problem(api.put(f"/v1/regions/{name}", json=SEATTLE), 400)
    problem(api.get(f"/v1/regions/{name}"), 400)


def test_readers_read_and_admins_write(guarded, unique, problem, until):
    name = unique("region")
    with guarded.client("test-admin-key") as admin:
        key = admin.post("/v1/keys", json={"name": "shop", "role": "write"}).json()
        with guarded.client(key["secret"]) as shop, guarded.client() as nobody:
            # Another worker hears of a new key within a moment.
            for _ in range(4):
                until(lambda: shop.get("/v1/regions").status_code == 200, 3, "the key is known")
            problem(shop.put(f"/v1/regions/{name}", json=SEATTLE), 403)
            assert admin.put(f"/v1/regions/{name}", json=SEATTLE).status_code == 200
            assert shop.get(f"/v1/regions/{name}").status_code == 200
            assert shop.get("/v1/regions").status_code == 200
            problem(shop.delete(f"/v1/regions/{name}"), 403)
            problem(nobody.get("/v1/regions"), 401)
        assert admin.delete(f"/v1/regions/{name}").status_code == 204
        assert admin.delete(f"/v1/keys/{key['key_id']}").status_code == 204
