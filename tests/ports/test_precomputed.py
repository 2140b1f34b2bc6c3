"""Precomputed values, and the reads they are made from, on the real stores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from sqlalchemy import delete, insert

from adapters import precomputed as module
from adapters.customers import POPULATION
from adapters.installation import Installation
from adapters.precomputed import Behaviour, PrecomputedStore, precomputed_key
from adapters.streams import VERSIONS_KEY
from adapters.tables import activities, customers, precomputed, profiles
from contextual_bandit.profile import Activity, Population, Profile

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=364)


@pytest.fixture(autouse=True)
def clean(installation: Installation) -> Iterator[None]:
    yield
    with installation.engine.begin() as connection:
        for table in (precomputed, profiles, customers, activities):
            connection.execute(delete(table))
    installation.client.delete(precomputed_key("cells"))
    installation.client.hdel(VERSIONS_KEY, precomputed_key("cells"))


@pytest.fixture
def store(installation: Installation) -> PrecomputedStore:
    return PrecomputedStore(installation.engine, installation.client)


@pytest.fixture
def behaviour(installation: Installation) -> Behaviour:
    return Behaviour(installation.engine)


# Values


def test_a_value_comes_back_and_the_next_replaces_it(store: PrecomputedStore) -> None:
    assert store.get("cells") is None
    store.put("cells", b"\x00one", NOW)
    assert store.get("cells") == b"\x00one"
    store.put("cells", b"two", NOW)
    assert store.get("cells") == b"two"
    assert store.get("similarity") is None


def test_every_change_raises_the_version_that_services_watch(store: PrecomputedStore) -> None:
    assert store.version("cells") == 0
    store.put("cells", b"one", NOW)
    store.put("cells", b"one", NOW)
    assert store.version("cells") == 2


def test_with_redis_empty_a_value_comes_from_postgresql_and_goes_back(
    store: PrecomputedStore, installation: Installation
) -> None:
    store.put("cells", b"one", NOW)
    installation.client.delete(precomputed_key("cells"))
    assert store.get("cells") == b"one"
    assert installation.client.get(precomputed_key("cells")) == b"one"


def test_with_redis_away_a_value_comes_from_postgresql(store: PrecomputedStore, installation: Installation) -> None:
    store.put("cells", b"one", NOW)
    with redis.Redis(host="127.0.0.1", port=1) as nobody:
        assert PrecomputedStore(installation.engine, nobody).get("cells") == b"one"
        assert PrecomputedStore(installation.engine, nobody).get("similarity") is None


# Customers


def add_customers(installation: Installation, names: Sequence[str], records: dict[str, Any]) -> None:
    states = {POPULATION: Population().encode()}
    for number, name in enumerate(names):
        profile = Profile()
        profile.apply(Activity(name, name, "purchase", NOW, "garden", None, float(number)))
        states[name] = profile.encode()
    rows = [{"customer_id": n, "state": s, "position": "1-1", "updated_at": NOW} for n, s in states.items()]
    with installation.engine.begin() as connection:
        connection.execute(insert(profiles), rows)
        for name, record in records.items():
            connection.execute(insert(customers).values(customer_id=name, record=record, updated_at=NOW))


def test_every_customer_with_a_profile_is_read_once_in_batches(
    behaviour: Behaviour, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"c{number:03d}" for number in range(20)]
    records = {"c003": {"demographics": {"kids": True}, "age": 40}, "without-profile": {"demographics": {}}}
    add_customers(installation, names, records)
    for size in (3, 10, 20, 21):
        monkeypatch.setattr(module, "BATCH", size)
        found = list(behaviour.customers())
        assert [profile.spend for profile, _ in found] == [float(number) for number in range(20)]
        assert found[3][1].demographics == {"kids": True}
        assert (found[3][1].age, found[4][1].demographics) == (40, {})
    assert behaviour.count() == 20


def test_a_share_of_the_customers_is_the_same_each_time(behaviour: Behaviour, installation: Installation) -> None:
    add_customers(installation, [f"c{number:04d}" for number in range(400)], {})
    spent = [[profile.spend for profile, _ in behaviour.customers(share)] for share in (0.25, 0.25, 0.75, 1.0)]
    assert spent[0] == spent[1]
    assert 60 < len(spent[0]) < 140
    assert set(spent[0]) < set(spent[2]) < set(spent[3])
    assert len(spent[3]) == 400


# Baskets


def add(installation: Installation, *rows: dict[str, Any]) -> None:
    usual = {"kind": "purchase", "category": None, "offer_id": None, "order_id": None, "occurred_at": NOW,
             "position": "1-1"}  # fmt: skip
    with installation.engine.begin() as connection:
        for number, row in enumerate(rows):
            connection.execute(insert(activities).values({"activity_id": f"a{number}", **usual, **row}))


def baskets(behaviour: Behaviour, share: float = 1.0) -> list[list[str]]:
    found: list[list[str]] = []
    for number, item in behaviour.baskets("category", LONG_AGO, NOW, share):
        if number == len(found):
            found.append([])
        assert number == len(found) - 1
        found[number].append(item)
    return sorted(found)


def test_an_order_is_a_basket_and_without_one_a_customers_day(behaviour: Behaviour, installation: Installation) -> None:
    late, early = NOW.replace(hour=23, minute=59) - timedelta(days=1), NOW.replace(hour=0, minute=1)
    add(
        installation,
        {"customer_id": "a", "category": "milk", "order_id": "1", "occurred_at": late},
        {"customer_id": "a", "category": "bread", "order_id": "1", "occurred_at": early},
        {"customer_id": "a", "category": "soap", "order_id": "2", "occurred_at": early},
        {"customer_id": "b", "category": "nails", "order_id": "1"},
        {"customer_id": "c", "category": "beer", "occurred_at": late},
        {"customer_id": "c", "category": "beer", "occurred_at": late - timedelta(hours=2)},
        {"customer_id": "c", "category": "chips", "occurred_at": late - timedelta(hours=23)},
        {"customer_id": "c", "category": "aspirin", "occurred_at": early},
    )
    assert baskets(behaviour) == [["aspirin"], ["beer", "chips"], ["bread", "milk"], ["nails"], ["soap"]]


def test_only_purchases_of_the_window_count(behaviour: Behaviour, installation: Installation) -> None:
    add(
        installation,
        {"customer_id": "a", "category": "milk"},
        {"customer_id": "a", "category": "seen", "kind": "view"},
        {"customer_id": "a", "offer_id": "offer-1"},
        {"customer_id": "a", "category": "old", "occurred_at": LONG_AGO},
        {"customer_id": "a", "category": "later", "occurred_at": NOW + timedelta(seconds=1)},
    )
    assert baskets(behaviour) == [["milk"]]
    assert behaviour.items("category", LONG_AGO, NOW, 1, 10) == {"milk": 1}
    assert behaviour.items("offer_id", LONG_AGO, NOW, 1, 10) == {"offer-1": 1}
    assert behaviour.newest() == NOW + timedelta(seconds=1)


def test_items_are_the_most_purchased(behaviour: Behaviour, installation: Installation) -> None:
    assert behaviour.newest() is None
    lines = ["milk"] * 4 + ["bread"] * 3 + ["eggs"] * 3 + ["salt"]
    add(installation, *({"customer_id": "a", "category": category} for category in lines))
    assert behaviour.items("category", LONG_AGO, NOW, 2, 10) == {"milk": 4, "bread": 3, "eggs": 3}
    assert list(behaviour.items("category", LONG_AGO, NOW, 1, 2)) == ["milk", "bread"]


def test_a_share_of_the_baskets_is_whole_baskets(behaviour: Behaviour, installation: Installation) -> None:
    add(
        installation,
        *(
            {"customer_id": f"c{number}", "category": category}
            for number in range(100)
            for category in (f"x{number}", f"y{number}")
        ),
    )
    some = baskets(behaviour, 0.3)
    assert some == baskets(behaviour, 0.3)
    assert 15 < len(some) < 45
    assert all(x[1:] == y[1:] for x, y in some)
