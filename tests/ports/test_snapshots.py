"""Policy snapshots on the real stores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from sqlalchemy import delete, select
from sqlalchemy.exc import NoResultFound

from adapters.installation import Installation
from adapters.snapshots import SnapshotStore, snapshot_id
from adapters.streams import VERSIONS_KEY
from adapters.tables import policy_snapshots
from contextual_bandit.types import PolicySnapshot

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


def snapshot(
    loop: str, through: int = 0, generation: int = 1, model: bytes | None = None, challenger: str = ""
) -> PolicySnapshot:
    model = f"{loop} {challenger} {generation} {through}".encode() if model is None else model
    name = snapshot_id(loop, generation, through, challenger)
    at = NOW + timedelta(seconds=through)
    return PolicySnapshot(
        name,
        loop,
        "vw-1",
        generation,
        through,
        at,
        None,
        "--cb_explore_adf",
        -1.0,
        2.0,
        model,
        sha256(model).hexdigest(),
        challenger,
    )


@pytest.fixture
def store(installation: Installation) -> Iterator[SnapshotStore]:
    yield SnapshotStore(installation.engine, installation.client)
    with installation.engine.begin() as connection:
        connection.execute(delete(policy_snapshots))
    installation.client.delete(VERSIONS_KEY)


def test_a_snapshot_comes_back_equal(store: SnapshotStore) -> None:
    added = replace(snapshot("a", 7, model=bytes(range(256))), parent="a-g1-0")
    store.add(added, publish=False, now=NOW)
    assert store.get("a-g1-7") == added
    untimed = replace(snapshot("a", 8), stream_time=None)
    store.add(untimed, publish=False, now=NOW)
    assert store.get("a-g1-8") == untimed


def test_an_unknown_name_is_nothing(store: SnapshotStore) -> None:
    assert store.get("nowhere") is None
    assert store.newest("nowhere") is None
    assert store.newest_published_id("nowhere") is None
    assert store.count("nowhere") == 0
    assert store.reload_points("nowhere", 1) == []
    with pytest.raises(NoResultFound):
        store.base("nowhere", 1)


def test_the_newest_is_the_one_trained_furthest_in_the_newest_generation(store: SnapshotStore) -> None:
    for generation, through in ((1, 500), (2, 20), (2, 100), (2, 3)):
        store.add(snapshot("a", through, generation), publish=through == 20, now=NOW)
    store.add(snapshot("b", 900), publish=True, now=NOW)
    newest = {
        (): store.newest("a"),
        ("published",): store.newest("a", published=True),
        (1,): store.newest("a", generation=1),
        (3,): store.newest("a", generation=3),
    }
    assert {key: found and found.snapshot_id for key, found in newest.items()} == {
        (): "a-g2-100", ("published",): "a-g2-20", (1,): "a-g1-500", (3,): None,
    }  # fmt: skip
    assert store.newest_published_id("a") == "a-g2-20"
    assert store.base("a", 2).snapshot_id == "a-g2-3"
    assert store.count("a") == 1


def test_publishing_tells_the_services_and_a_checkpoint_does_not(
    store: SnapshotStore, installation: Installation
) -> None:
    store.add(snapshot("a", 1), publish=False, now=NOW)
    assert installation.client.hget(VERSIONS_KEY, "snapshot:a") is None
    store.add(snapshot("a", 2), publish=True, now=NOW)
    assert installation.client.hget(VERSIONS_KEY, "snapshot:a") == b"a-g1-2"


def test_adding_one_twice_changes_nothing(store: SnapshotStore, installation: Installation) -> None:
    for minutes in (0, 5):
        store.add(snapshot("a", 1), publish=True, now=NOW + timedelta(minutes=minutes))
    assert store.count("a") == 1
    with installation.engine.connect() as connection:
        published_at = connection.execute(select(policy_snapshots.c.published_at)).scalar_one()
    assert published_at == NOW


def test_a_checkpoint_can_be_published_later(store: SnapshotStore) -> None:
    store.add(snapshot("a", 1), publish=False, now=NOW)
    assert store.newest("a", published=True) is None
    store.add(snapshot("a", 1), publish=True, now=NOW)
    assert store.newest_published_id("a") == "a-g1-1"
    store.add(snapshot("a", 1), publish=False, now=NOW)
    assert store.newest_published_id("a") == "a-g1-1"


def test_other_bytes_under_a_known_name_are_refused(store: SnapshotStore) -> None:
    store.add(snapshot("a", 1), publish=False, now=NOW)
    with pytest.raises(ValueError, match="'a-g1-1' exists with other bytes"):
        store.add(snapshot("a", 1, model=b"other"), publish=True, now=NOW)
    assert store.newest("a", published=True) is None
    with pytest.raises(ValueError, match="do not match their SHA-256"):
        store.add(replace(snapshot("a", 2), model=b"other"), publish=True, now=NOW)
    assert store.get("a-g1-2") is None


def test_reloads_are_remembered_by_generation_in_order(store: SnapshotStore) -> None:
    for through in (30, 5, 10):
        store.add(snapshot("a", through), publish=False, now=NOW)
    store.add(snapshot("a", 7, 2), publish=False, now=NOW)
    for name in ("a-g1-30", "a-g1-5", "a-g1-5", "a-g2-7"):
        store.mark_reload(name)
    assert store.reload_points("a", 1) == [5, 30]
    assert store.reload_points("a", 2) == [7]


def kept(installation: Installation) -> list[str]:
    with installation.engine.connect() as connection:
        return sorted(connection.execute(select(policy_snapshots.c.snapshot_id)).scalars())


def test_old_checkpoints_are_forgotten_but_never_what_a_restart_or_replay_needs(
    store: SnapshotStore, installation: Installation
) -> None:
    for through in (0, 10, 20, 30, 40):
        store.add(snapshot("a", through), publish=through == 30, now=NOW)
    store.mark_reload("a-g1-10")
    assert store.prune(NOW) == 1
    # The base, the reload point, the published one and the newest stay.
    assert kept(installation) == ["a-g1-0", "a-g1-10", "a-g1-30", "a-g1-40"]
    assert store.prune(NOW) == 0


def test_published_snapshots_stay_for_two_days_then_the_last_of_each_day(
    store: SnapshotStore, installation: Installation
) -> None:
    for through, days in ((0, 9.0), (1, 5.2), (2, 5.1), (3, 5.0), (4, 3.0), (5, 1.5), (6, 1.4), (7, 0.0)):
        store.add(snapshot("a", through), publish=True, now=NOW - timedelta(days=days))
    store.prune(NOW)
    assert kept(installation) == [f"a-g1-{through}" for through in (0, 3, 4, 5, 6, 7)]


def test_the_published_one_that_serves_stays_however_old(store: SnapshotStore, installation: Installation) -> None:
    for through, days in ((0, 30.0), (1, 20.2), (2, 20.1)):
        store.add(snapshot("a", through), publish=True, now=NOW - timedelta(days=days))
    store.add(snapshot("a", 3), publish=False, now=NOW)
    store.prune(NOW)
    assert kept(installation) == ["a-g1-0", "a-g1-2", "a-g1-3"]


def test_snapshots_of_challengers_are_nobodys_but_theirs(store: SnapshotStore, installation: Installation) -> None:
    store.add(snapshot("a", 5), publish=True, now=NOW)
    store.add(theirs := snapshot("a", 9, 4, challenger="bold"), publish=True, now=NOW)
    assert store.newest("a", published=True) == snapshot("a", 5)
    assert (store.newest_published_id("a"), store.newest_published_id("a", "bold")) == ("a-g1-5", "a@bold-g4-9")
    assert (store.newest("a", challenger="bold"), store.get("a@bold-g4-9")) == (theirs, theirs)
    assert (store.count("a"), store.base("a", 1).snapshot_id) == (1, "a-g1-5")
    with pytest.raises(NoResultFound):
        store.base("a", 4)
    assert installation.client.hget(VERSIONS_KEY, "snapshot:a") == b"a-g1-5"
    assert installation.client.hget(VERSIONS_KEY, "snapshot:a@bold") == b"a@bold-g4-9"


def test_of_challengers_each_days_last_and_the_newest_stay_and_no_bases(
    store: SnapshotStore, installation: Installation
) -> None:
    store.add(snapshot("a", 50), publish=True, now=NOW - timedelta(days=30))
    for through, days in ((0, 9.0), (1, 5.2), (2, 5.1), (3, 1.0)):
        store.add(snapshot("a", through, challenger="bold"), publish=True, now=NOW - timedelta(days=days))
    for through, days in ((0, 20.2), (1, 20.1)):
        store.add(snapshot("a", through, challenger="calm"), publish=True, now=NOW - timedelta(days=days))
    assert store.prune(NOW) == 2
    assert kept(installation) == ["a-g1-50", "a@bold-g1-0", "a@bold-g1-2", "a@bold-g1-3", "a@calm-g1-1"]
