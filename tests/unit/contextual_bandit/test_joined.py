from __future__ import annotations

from contextual_bandit.joined import Batch, JoinState


def test_a_join_begins_before_every_message() -> None:
    assert JoinState() == JoinState("0-0", None, 0, {}, {})


def test_states_and_batches_share_nothing() -> None:
    one, other = JoinState(), JoinState()
    one.orphans["d1"] = []
    assert other.orphans == {}
    first, second = Batch("0-0", None, 0), Batch("0-0", None, 0)
    first.inactive.append("d1")
    assert second.inactive == []
