"""The jobs that compute ahead of decisions, from rows in PostgreSQL to values that a decision uses."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import delete, insert

from adapters import jobs as stored_jobs
from adapters.catalogue import OfferCatalogue
from adapters.customers import POPULATION
from adapters.installation import Installation
from adapters.jobs import JobStatus, JobStore
from adapters.precomputed import PrecomputedStore, precomputed_key
from adapters.streams import VERSIONS_KEY
from adapters.tables import (
    activities,
    audit_log,
    customers,
    jobs,
    offer_versions,
    offers,
    precomputed,
    profiles,
    regions,
)
from contextual_bandit.cells import Cells, decode_cells
from contextual_bandit.history import Affinities
from contextual_bandit.profile import Activity, Population, Profile
from contextual_bandit.similarity import Similarity, decode_similarity
from contextual_bandit.thresholds import RfmThresholds, decode_thresholds
from contextual_bandit.types import Offer
from learner import precompute, work
from learner.precompute import CELLS, SIMILARITY, THRESHOLDS, neighbours_of

# Long ago by the wall clock, as on a simulated installation.
NOW = datetime(2019, 3, 2, 9, 30, tzinfo=UTC)
NAMES = (CELLS, SIMILARITY, THRESHOLDS)


@pytest.fixture(autouse=True)
def clean(installation: Installation) -> Iterator[None]:
    def empty() -> None:
        with installation.engine.begin() as connection:
            for table in (
                activities,
                audit_log,
                customers,
                jobs,
                offer_versions,
                offers,
                precomputed,
                profiles,
                regions,
            ):
                connection.execute(delete(table))
        for name in NAMES:
            installation.client.delete(precomputed_key(name))
            installation.client.hdel(VERSIONS_KEY, precomputed_key(name))

    empty()
    yield
    empty()


@pytest.fixture
def values(installation: Installation) -> PrecomputedStore:
    return PrecomputedStore(installation.engine, installation.client)


class Shop:
    """Customers and what they bought, written as the learner writes it."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.population = Population()
        self.profiles: dict[str, Profile] = {}
        self.bought: list[dict[str, Any]] = []
        self.records: dict[str, Mapping[str, Any]] = {}

    def buy(self, customer: str, category: str, days_ago: int, offer: str | None = None) -> None:
        """One purchase, worth 5."""
        at = NOW - timedelta(days=days_ago)
        profile = self.profiles.setdefault(customer, Profile())
        first = profile.first_purchase_day
        activity = Activity(f"a{len(self.bought)}", customer, "purchase", at, category, offer, 5.0)
        for name, day in profile.apply(activity):
            self.population.add_day(name, day)
        self.population.move_first(first, profile.first_purchase_day)
        self.bought.append({
            "activity_id": activity.activity_id, "customer_id": customer, "kind": "purchase", "category": category,
            "offer_id": offer, "amount": 5.0, "occurred_at": at, "position": "1-1",
        })  # fmt: skip

    def fill(self, families: int) -> None:
        """So many families: with a child nappies fortnightly and bread, else beer fortnightly and bread."""
        for number in range(families):
            name, child = f"c{number:04d}", number % 2 == 0
            self.records[name] = {"demographics": {"child": child}, "age": 30 + number // 2 % 20}
            for day in range(0, 84, 14):
                self.buy(name, "nappies" if child else "beer", day, "nappies-5" if child else "beer-5")
                self.buy(name, "bread", day, "bread-5")

    def save(self) -> None:
        """Everything to PostgreSQL."""
        states = {POPULATION: self.population.encode(), **{n: p.encode() for n, p in self.profiles.items()}}
        rows = [{"customer_id": n, "state": s, "position": "1-1", "updated_at": NOW} for n, s in states.items()]
        people = [{"customer_id": n, "record": record, "updated_at": NOW} for n, record in self.records.items()]
        with self.installation.engine.begin() as connection:
            connection.execute(insert(profiles), rows)
            connection.execute(insert(activities), self.bought)
            if people:
                connection.execute(insert(customers), people)


@pytest.fixture
def shop(installation: Installation) -> Shop:
    return Shop(installation)


def run(installation: Installation, kind: str = "precompute") -> JobStatus:
    """Ask for a job and work until it has ended."""
    store = JobStore(installation.engine)
    job_id = store.add(kind, {}, datetime.now(UTC))
    assert work.run_one(installation, store)
    job = store.get(job_id)
    assert job is not None
    return job


def done(installation: Installation, kind: str = "precompute") -> Mapping[str, Any]:
    job = run(installation, kind)
    assert (job.state, job.error, job.progress) == ("done", None, 1.0)
    assert job.result is not None
    return job.result


def test_what_may_be_asked_for_is_what_there_is() -> None:
    assert {*stored_jobs.KINDS, *stored_jobs.OWN_ROUTES} == set(work.KINDS)
    assert set(work.HOUSEKEEPING) <= set(work.KINDS)


# From rows to a decision's features


def test_a_customer_without_history_gets_the_rates_of_the_cell(
    installation: Installation, shop: Shop, values: PrecomputedStore
) -> None:
    shop.fill(400)
    shop.save()
    assert done(installation)["cell_features"] == ["child"]
    cells = decode_cells(values.get(CELLS) or b"")

    def yearly(demographics: Mapping[str, bool], category: str) -> float:
        prior = cells.prior(shop.population, demographics, "winter", NOW)
        return float(Affinities(None, prior, NOW).of(category)["r16"])

    # Whose child is known of is expected to buy far more nappies than somebody unknown; bread is bought by all.
    unknown, parent, other = ({}, {"child": True}, {"child": False})
    assert yearly(parent, "nappies") > 1.5 * yearly(unknown, "nappies") > 4.0 * yearly(other, "nappies")
    assert yearly(other, "beer") > 1.5 * yearly(unknown, "beer") > 4.0 * yearly(parent, "beer")
    assert yearly(parent, "bread") == pytest.approx(yearly(unknown, "bread"), rel=0.02)
    # The customer's own history takes over.
    drinker = Profile()
    for day in range(0, 336, 7):
        at = NOW - timedelta(days=day)
        drinker.apply(Activity(f"own-{day}", "new", "purchase", at, "beer", None, 5.0))
    prior = cells.prior(shop.population, parent, "winter", NOW)
    own = float(Affinities(drinker, prior, NOW).of("beer")["r16"])
    assert own == pytest.approx(52.0, rel=0.3)


def test_ages_are_cells_as_bands(installation: Installation, shop: Shop, values: PrecomputedStore) -> None:
    for number in range(400):
        name = f"c{number:04d}"
        shop.records[name] = {"demographics": {}, "age": 20 + 20 * (number % 2)}
        for day in range(0, 84, 14):
            shop.buy(name, "games" if number % 2 else "garden", day)
    shop.save()
    assert done(installation, "precompute_cells")["cell_features"] == ["age_band"]
    cells = decode_cells(values.get(CELLS) or b"")
    assert cells.rate({"age_band": "35-44"}, "none", "games", 1.0) > 1.5
    assert cells.rate({"age_band": "18-24"}, "none", "games", 1.0) < 0.5


def test_what_is_bought_together_is_near(installation: Installation, shop: Shop, values: PrecomputedStore) -> None:
    shop.fill(40)
    for number in range(4):
        shop.buy(f"c{number:04d}", "caviar", 1)
    shop.save()
    assert done(installation, "precompute_similarity") == {"similar_categories": 3, "similar_offers": 3}
    found = decode_similarity(values.get(SIMILARITY) or b"")
    near = {"bread": {"beer": 0.7071, "nappies": 0.7071}, "beer": {"bread": 0.7071}, "nappies": {"bread": 0.7071}}
    assert found.categories == near, "caviar was bought four times only"
    assert found.offers["beer-5"] == {"bread-5": 0.7071}
    assert found.affinity({"beer": 3.0}, "bread") == 1.5
    assert found.affinity({"beer": 3.0}, "nappies") == 0.0


def test_thresholds_are_those_of_the_customers(
    installation: Installation, shop: Shop, values: PrecomputedStore
) -> None:
    for number in range(100):
        shop.buy(f"c{number:04d}", "bread", number)
    shop.save()
    done(installation, "precompute_thresholds")
    found = decode_thresholds(values.get(THRESHOLDS) or b"")
    assert found.recency_days == (19.0, 39.0, 59.0, 79.0), "days before the newest activity, not before today"


def test_regions_of_the_south_have_winter_in_july(
    installation: Installation, shop: Shop, values: PrecomputedStore
) -> None:
    with installation.engine.begin() as connection:
        record = {"time_zone": "Australia/Sydney", "latitude": -33.9}
        connection.execute(insert(regions).values(region="AU-NSW", record=record, updated_at=NOW))
    for number in range(200):
        name = f"c{number:04d}"
        shop.records[name] = {"demographics": {}, "region": "AU-NSW"}
        for day in range(0, 364, 14):
            at = NOW - timedelta(days=day)
            shop.buy(name, "soup" if at.month in (6, 7, 8) else "bread", day)
    shop.save()
    done(installation, "precompute_cells")
    cells = decode_cells(values.get(CELLS) or b"")
    assert cells.rate({}, "winter", "soup", 1.0) > 1.5 > 0.5 > cells.rate({}, "summer", "soup", 1.0)


def test_sensitive_purchases_say_nothing_about_others(
    installation: Installation, shop: Shop, values: PrecomputedStore
) -> None:
    """What goes with a pregnancy is not to be guessed from who somebody is or what else they buy."""
    shop.fill(400)
    for number in range(0, 400, 2):
        shop.buy(f"c{number:04d}", "Pregnancy ", 1, "vitamins")
    shop.save()
    catalogue = OfferCatalogue(installation.engine, installation.client)
    catalogue.put(Offer("nappies-5", "nappies", tags=("pregnancy",)), "ann", NOW)
    done(installation)
    stored = b"".join(values.get(name) or b"" for name in NAMES)
    assert b"bread" in stored
    for word in (b"nappies", b"regnancy"):
        assert word not in stored
    assert decode_cells(values.get(CELLS) or b"").rate({"child": True}, "winter", "nappies", 0.3) == 0.3


# As jobs


def test_running_again_changes_nothing(installation: Installation, shop: Shop, values: PrecomputedStore) -> None:
    shop.fill(60)
    shop.save()
    first = done(installation)
    stored = {name: values.get(name) for name in NAMES}
    assert None not in stored.values()
    assert done(installation) == first
    assert {name: values.get(name) for name in NAMES} == stored
    assert [values.version(name) for name in NAMES] == [2, 2, 2]


def test_values_come_back_when_redis_was_flushed(
    installation: Installation, shop: Shop, values: PrecomputedStore
) -> None:
    shop.fill(60)
    shop.save()
    done(installation)
    stored = [values.get(name) for name in NAMES]
    for name in NAMES:
        installation.client.delete(precomputed_key(name))
    installation.client.hdel(VERSIONS_KEY, *(precomputed_key(name) for name in NAMES))
    assert [values.get(name) for name in NAMES] == stored
    assert [installation.client.get(precomputed_key(name)) for name in NAMES] == stored


def test_an_empty_installation_gets_values_that_say_nothing(
    installation: Installation, values: PrecomputedStore
) -> None:
    done(installation)
    assert decode_cells(values.get(CELLS) or b"").encode() == Cells().encode()
    assert decode_similarity(values.get(SIMILARITY) or b"") == Similarity()
    assert decode_thresholds(values.get(THRESHOLDS) or b"") == RfmThresholds()


def test_an_erased_customer_is_gone_from_what_is_computed_next(
    installation: Installation, shop: Shop, values: PrecomputedStore
) -> None:
    shop.fill(60)
    for day in range(10):
        shop.buy("collector", "stamps", day)
        shop.buy("collector", "bread", day)
    shop.save()
    done(installation)
    assert b"stamps" in (values.get(SIMILARITY) or b"")
    with installation.engine.begin() as connection:
        for table in (profiles, activities):
            connection.execute(delete(table).where(table.c.customer_id == "collector"))
    done(installation)
    assert not any(b"stamps" in (values.get(name) or b"") for name in NAMES)


def test_progress_is_told_and_only_rises(
    installation: Installation, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.fill(60)
    shop.save()
    monkeypatch.setattr(precompute, "TELL_EVERY", 10)
    told: list[float] = []
    monkeypatch.setattr(JobStore, "progress", lambda self, job, share, now: told.append(share))
    done(installation)
    assert len(told) > 8
    assert told == sorted(told)
    assert 0.0 < told[0] < told[-1] < 1.0


def test_of_more_customers_and_purchases_than_the_bounds_a_share_is_read(
    installation: Installation, shop: Shop, values: PrecomputedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.fill(400)
    shop.save()
    read: list[int] = []

    def counted(found: Any, now: datetime) -> RfmThresholds:
        read.append(sum(1 for _ in found))
        return RfmThresholds()

    monkeypatch.setattr(precompute, "fit_thresholds", counted)
    monkeypatch.setattr(precompute, "MOST_CUSTOMERS", 100)
    monkeypatch.setattr(precompute, "MOST_PURCHASES", 1000)
    monkeypatch.setattr(precompute, "MOST_ITEMS", {"category": 2, "offer_id": 3})
    assert done(installation) == done(installation)
    assert read[0] == read[1]
    assert 60 < read[0] < 140
    # Bread and the first of the others: the same neighbours of fewer baskets.
    found = decode_similarity(values.get(SIMILARITY) or b"")
    assert list(found.categories) == ["beer", "bread"]
    assert found.categories["beer"]["bread"] == pytest.approx(0.7071, abs=0.05)


def test_without_the_extra_the_rest_is_computed(
    installation: Installation, shop: Shop, values: PrecomputedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.fill(60)
    shop.save()

    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    result = done(installation)
    assert "'batch'" in result["similarity_skipped"]
    assert result["cell_features"] == ["child"]
    assert values.get(SIMILARITY) is None
    assert values.get(THRESHOLDS) is not None


def test_a_job_that_fails_keeps_its_error_and_the_old_value(
    installation: Installation, shop: Shop, values: PrecomputedStore
) -> None:
    values.put(CELLS, b"old", NOW)
    shop.fill(4)
    shop.save()
    with installation.engine.begin() as connection:
        connection.execute(profiles.update().where(profiles.c.customer_id == "c0003").values(state=b'{"v":99}'))
    job = run(installation, "precompute_cells")
    assert job.state == "failed"
    assert "99" in (job.error or "")
    assert values.get(CELLS) == b"old"


def test_housekeeping_asks_for_them(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    ran: list[str] = []

    def note(installation: Installation, job: stored_jobs.Job) -> Mapping[str, Any]:
        ran.append(job.kind)
        if len(ran) == len(work.HOUSEKEEPING):
            stop.set()
        return {}

    monkeypatch.setattr(work, "KINDS", dict.fromkeys(work.KINDS, note))
    worker = threading.Thread(target=work.work_forever, args=(installation, stop))
    worker.start()
    worker.join(20)
    assert not worker.is_alive()
    assert sorted(ran) == sorted(work.HOUSEKEEPING)
    assert "precompute" in ran


# Cosines


def test_neighbours_are_those_of_the_plain_formula() -> None:
    random = np.random.default_rng(5)
    matrix = random.random((200, 12)) < random.uniform(0.02, 0.5, 12)
    items = [f"item-{number:02d}" for number in range(12)]
    pairs = [(int(basket), items[column]) for basket, column in zip(*np.nonzero(matrix), strict=True)]
    counts = matrix.T.astype(float) @ matrix
    lengths = np.sqrt(np.diag(counts))
    cosines = counts / np.outer(lengths, lengths)
    np.fill_diagonal(cosines, 0.0)
    for most in (3, 11):
        found = neighbours_of(pairs, items, most)
        for number, item in enumerate(items):
            expected = sorted(zip(-cosines[number], items, strict=True))[:most]
            near = {other: round(-float(cosine), 4) for cosine, other in expected if cosine < 0.0}
            assert found.get(item, {}) == pytest.approx(near, abs=1e-4)


def test_items_outside_the_list_and_never_bought_have_no_part() -> None:
    pairs = [(0, "milk"), (0, "bread"), (1, "milk"), (1, "gum"), (5, "salt")]
    assert neighbours_of(pairs, ["bread", "milk", "salt", "unsold"], 5) == {
        "bread": {"milk": 0.7071},
        "milk": {"bread": 0.7071},
    }
    assert neighbours_of([], ["bread"], 5) == {}


def test_items_always_bought_together_are_all_named() -> None:
    """Among many cosines of 1 an item is never its own neighbour."""
    items = [f"item-{number:02d}" for number in range(8)]
    found = neighbours_of([(basket, item) for basket in range(3) for item in items], items, 4)
    assert {item: len(near) for item, near in found.items()} == dict.fromkeys(items, 4)
    assert all(item not in near and set(near.values()) == {1.0} for item, near in found.items())
