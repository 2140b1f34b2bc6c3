"""Marks of what stands in PostgreSQL: each change of a table shows in its mark, and in no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from uuid import uuid4

import pytest
from sqlalchemy import delete

from adapters.catalogue import LoopStore, OfferCatalogue
from adapters.challengers import ChallengerRow, ChallengerState, ChallengerStore, shown_record
from adapters.installation import Installation
from adapters.keys import KeyStore
from adapters.precomputed import PrecomputedStore, precomputed_key
from adapters.regions import RegionStore
from adapters.snapshots import SnapshotStore, snapshot_id
from adapters.table_marks import Marks, TableMarks
from adapters.tables import api_keys, challengers, loops, offer_versions, offers, policy_snapshots, precomputed, regions
from contextual_bandit.loops import DEFAULT_LOOP, LoopConfig
from contextual_bandit.season import Region
from contextual_bandit.types import Offer, PolicySnapshot

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def clean(installation: Installation) -> Iterator[None]:
    yield
    with installation.engine.begin() as connection:
        for table in (offers, offer_versions, regions, api_keys, precomputed, policy_snapshots, challengers):
            connection.execute(delete(table))
        connection.execute(delete(loops).where(loops.c.loop != DEFAULT_LOOP))
    # A key that is no more must not be asked for.
    installation.client.hincrby("versions", "keys", 1)


@pytest.fixture
def changed(installation: Installation) -> Callable[[], set[str]]:
    """The names whose marks differ from those of the last call."""
    reader = TableMarks(installation.engine)
    last = reader.read()

    def ask() -> set[str]:
        nonlocal last
        now, before = reader.read(), last
        last = now
        names = now.tables.keys() | before.tables.keys()
        return {name for name in names if now.tables.get(name) != before.tables.get(name)}

    return ask


def test_offers_are_written_changed_and_deleted(installation: Installation, changed: Callable[[], set[str]]) -> None:
    store = OfferCatalogue(installation.engine, installation.client)
    assert changed() == set()
    store.put(Offer("a", "garden"), "somebody", NOW)
    assert changed() == {"catalogue"}
    store.put(Offer("a", "garden"), "somebody", NOW)
    assert changed() == set(), "it says nothing new"
    store.put(Offer("a", "kitchen"), "somebody", NOW)
    assert changed() == {"catalogue"}
    assert store.delete("a", "somebody", NOW)
    assert changed() == {"catalogue"}


def test_one_thing_deleted_for_another_is_a_change(installation: Installation, changed: Callable[[], set[str]]) -> None:
    store = RegionStore(installation.engine, installation.client)
    store.put(Region("north", "Europe/Berlin"), "somebody", NOW)
    assert changed() == {"regions"}
    store.put(Region("south", "Europe/Rome"), "somebody", NOW)
    assert store.delete("north", "somebody", NOW)
    assert changed() == {"regions"}


def test_loops_keys_and_what_jobs_computed(installation: Installation, changed: Callable[[], set[str]]) -> None:
    store = LoopStore(installation.engine, installation.client)
    config = LoopConfig(f"loop-{uuid4().hex[:8]}")
    for step in (
        lambda: store.put(config, "somebody", NOW),
        lambda: store.put(replace(config, exploration_floor=0.1), "somebody", NOW),
        lambda: store.delete(config.loop, "somebody", NOW),
    ):
        step()
        assert changed() == {"loops"}
    keys = KeyStore(installation.engine, installation.client)
    key, _ = keys.create("page", "read", "somebody", NOW)
    assert changed() == {"keys"}
    assert keys.revoke(key.key_id, "somebody", NOW)
    assert changed() == {"keys"}
    computed = PrecomputedStore(installation.engine, installation.client)
    computed.put("cells", b"1", NOW)
    assert changed() == {precomputed_key("cells")}
    computed.put("cells", b"2", NOW)
    assert changed() == {precomputed_key("cells")}


def test_of_each_policy_the_newest_published_snapshot(installation: Installation) -> None:
    engine, client = installation.engine, installation.client
    loop, deleted = f"loop-{uuid4().hex[:8]}", f"loop-{uuid4().hex[:8]}"
    loops_store, snapshots = LoopStore(engine, client), SnapshotStore(engine, client)
    for name in (loop, deleted):
        loops_store.put(LoopConfig(name), "somebody", NOW)
    state = ChallengerState("bold", "--cb_explore_adf", 1, 0, NOW, n=0)
    row = ChallengerRow("bold", 1, 0, 0, {"sums": {}, "shown": shown_record(state)}, b"model")
    ChallengerStore(engine).begin(loop, row, NOW)

    def add(name: str, generation: int, through: int, challenger: str = "", *, publish: bool = True) -> None:
        model = f"{name} {challenger} {generation} {through}".encode()
        found = PolicySnapshot(
            snapshot_id(name, generation, through, challenger), name, "vw-1", generation, through, NOW, None,
            "--cb_explore_adf", 0.0, 1.0, model, sha256(model).hexdigest(), challenger,
        )  # fmt: skip
        snapshots.add(found, publish=publish, now=NOW)

    def newest() -> Marks:
        return TableMarks(engine).read()

    assert loop not in newest().snapshots
    add(loop, 1, 500)
    add(loop, 2, 20)
    add(loop, 2, 30, publish=False)
    add(loop, 7, 7, "bold")
    add(loop, 9, 9, "gone")
    add(deleted, 1, 1)
    loops_store.delete(deleted, "somebody", NOW)
    mine = {name: found for name, found in newest().snapshots.items() if name.startswith((loop, deleted))}
    assert mine == {loop: f"{loop}-g2-20", f"{loop}@bold": f"{loop}@bold-g7-7"}
    assert mine[loop] == snapshots.newest_published_id(loop)
