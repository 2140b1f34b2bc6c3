"""Challengers on the real store: who was overtaken stores nothing, and no name is given twice."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from adapters.challengers import (
    CHAMPION,
    ChallengerRow,
    ChallengerState,
    ChallengerStore,
    Overtaken,
    restart_challengers,
    shown_record,
)
from adapters.installation import Installation
from adapters.snapshots import SnapshotStore, snapshot_id
from contextual_bandit.types import PolicySnapshot

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
_numbers = itertools.count()


@pytest.fixture
def loop() -> str:
    return f"challenged-{next(_numbers)}"


@pytest.fixture
def store(installation: Installation) -> ChallengerStore:
    return ChallengerStore(installation.engine)


def row(name: str = "bold", generation: int = 1, through: int = 0, **sums: float) -> ChallengerRow:
    state = ChallengerState(name, "--cb_explore_adf", generation, through, NOW, n=through)
    return ChallengerRow(name, generation, through, 0, {"sums": sums, "shown": shown_record(state)}, b"model")


def snapshot(loop: str, name: str, generation: int, through: int) -> PolicySnapshot:
    model = f"{loop} {name} {generation} {through}".encode()
    return PolicySnapshot(
        snapshot_id(loop, generation, through, name), loop, "vw-1", generation, through, NOW, None, "--cb_explore_adf",
        0.0, 1.0, model, sha256(model).hexdigest(), name,
    )  # fmt: skip


def test_what_is_stored_comes_back(store: ChallengerStore, loop: str) -> None:
    assert (store.all(loop), store.rows(loop), store.row(loop, "bold"), store.positions(loop)) == ([], [], None, {})
    begun = row(third=1 / 3)
    store.begin(loop, begun, NOW)
    store.commit(loop, begun, after := row(through=7, third=2 / 3), NOW)
    assert store.row(loop, "bold") == after
    (state,) = store.all(loop)
    assert (state.name, state.n, state.trained_through, state.value) == ("bold", 7, 7, None)
    assert store.positions(loop) == {"bold": (1, 7)}
    assert loop in store.loops()


def test_a_snapshot_is_stored_with_the_position_or_not_at_all(
    store: ChallengerStore, installation: Installation, loop: str
) -> None:
    snapshots = SnapshotStore(installation.engine, installation.client)
    begun = row()
    store.begin(loop, begun, NOW)
    store.commit(loop, begun, row(through=7), NOW, snapshot(loop, "bold", 1, 7))
    with pytest.raises(Overtaken):
        store.commit(loop, begun, row(through=9), NOW, snapshot(loop, "bold", 1, 9))
    assert snapshots.newest_published_id(loop, "bold") == f"{loop}@bold-g1-7"
    assert snapshots.newest_published_id(loop) is None


@pytest.mark.parametrize("happened", ["restarted", "removed", "went on", "began anew"])
def test_a_follower_that_was_overtaken_stores_nothing(
    store: ChallengerStore, installation: Installation, loop: str, happened: str
) -> None:
    begun = row()
    store.begin(loop, begun, NOW)

    def restart() -> None:
        with installation.engine.begin() as connection:
            restart_challengers(connection, loop, NOW)

    does: dict[str, Callable[[], None]] = {
        "restarted": restart,
        "removed": lambda: store.remove(loop, "bold", NOW),
        "went on": lambda: store.commit(loop, begun, row(through=5), NOW),
        "began anew": lambda: store.begin(loop, row(generation=2), NOW),
    }
    does[happened]()
    found = store.row(loop, "bold")
    with pytest.raises(Overtaken, match="'bold'"):
        store.commit(loop, begun, row(through=9), NOW)
    with pytest.raises(Overtaken, match="'bold'"):
        store.attempt(loop, begun)
    with pytest.raises(Overtaken, match="'bold'"):
        store.begin(loop, row(generation=1), NOW)
    assert store.row(loop, "bold") == found


def test_attempts_are_counted_until_something_is_stored(store: ChallengerStore, loop: str) -> None:
    begun = row()
    store.begin(loop, begun, NOW)
    store.attempt(loop, begun)
    store.attempt(loop, begun)
    found = store.row(loop, "bold")
    assert found is not None
    assert found.attempts == 2
    store.commit(loop, found, replace(found, trained_through=3, attempts=0), NOW)
    assert [one.attempts for one in store.rows(loop)] == [0]


def test_no_generation_of_a_name_comes_twice(store: ChallengerStore, installation: Installation, loop: str) -> None:
    assert store.next_generation(loop, "bold") == 1
    store.begin(loop, row(generation=4), NOW)
    store.remove(loop, "bold", NOW)
    assert (store.all(loop), store.positions(loop)) == ([], {})
    assert store.next_generation(loop, "bold") == 5
    SnapshotStore(installation.engine, installation.client).add(snapshot(loop, "new", 7, 1), publish=True, now=NOW)
    assert store.next_generation(loop, "new") == 8


def test_a_restart_reaches_challengers_and_no_watch(
    store: ChallengerStore, installation: Installation, loop: str
) -> None:
    for name in ("bold", "calm"):
        store.begin(loop, row(name), NOW)
    watch = ChallengerRow(CHAMPION, 3, 10, 0, {"watch": None, "served": 4, "guardrails": []}, None)
    store.begin(loop, watch, NOW)
    with installation.engine.begin() as connection:
        restart_challengers(connection, loop, NOW)
    assert {one.name: (one.generation, one.state == {}) for one in store.rows(loop)} == {
        "bold": (2, True), "calm": (2, True), CHAMPION: (3, False),
    }  # fmt: skip
    found = store.watch(loop)
    assert found is not None
    assert (found.generation, found.served, found.guardrails) == (3, 4, ())
    assert store.all(loop) == []
