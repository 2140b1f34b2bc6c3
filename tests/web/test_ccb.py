"""Slots that Vowpal Wabbit draws itself, on a running installation: caps before, propensities exact, and the way back."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from adapters.catalogue import LoopStore
from adapters.installation import open_installation
from adapters.interaction_log import read_interactions
from adapters.settings import Settings
from adapters.snapshots import SnapshotStore
from contextual_bandit.policy_draws import SlotDrawn, drawn_again
from contextual_bandit.types import Decision, LoggedInteraction
from contextual_bandit.vowpal import VowpalPolicy
from evaluation.audit_inside import audit_inside
from simulator.calls import Caller

ADMIN = "test-admin-key"
KEY = {"Authorization": f"Bearer {ADMIN}"}
ARGUMENTS = "--ccb_explore_adf --cb_type mtr -q :O"
PLAIN = "--cb_explore_adf --squarecb -q ::"
FLOOR = 0.3
SETTINGS: dict[str, Any] = {
    "exploration_floor": FLOOR, "grace_seconds": 0.2, "export_frequency_seconds": 1, "reward": {"wait_seconds": 1.0},
}  # fmt: skip
CALLS, CAP = 400, 60
# Some 25 of 400 are expected of the least likely: such a count is skewed, and exceeds 4 standard errors once in 5,000.
MOST_ERRORS = 5.0
FIVE = ["a", "b", "c", "d", "e"]
INLINE = [{"offer_id": name, "features": {"category": name}} for name in FIVE]
DRAWER = [
    {"id": "top", "features": {"size": "large"}},
    {"id": "middle", "features": {"size": "small"}, "exclude": ["a"]},
    {"id": "bottom", "features": {"size": "small"}},
]
LIKED = {"top": "a", "middle": "b", "bottom": "c"}


def called(url: str, path: str, bodies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers to many calls at once."""

    async def main() -> list[dict[str, Any]]:
        async with Caller(url, 32, KEY) as caller:
            return await caller.together([caller.call("POST", path, body) for body in bodies])

    return asyncio.run(main())


def z_score(decisions: Sequence[Decision], index: int, offer_id: str) -> float:
    """How far an offer's shows in a slot are from the sum of their logged probabilities, in standard errors."""
    expected = variance = shown = 0.0
    for decision in decisions:
        slot = decision.slots[index]
        assert slot.distribution is not None
        place = next(at for at, action in enumerate(decision.actions) if action.offer_id == offer_id)
        probability = slot.distribution.served[place]
        expected += probability
        variance += probability * (1.0 - probability)
        shown += slot.chosen == place
    return (shown - expected) / math.sqrt(variance) if variance > 1e-9 else shown - expected


def unevenness(numbers: Sequence[float]) -> float:
    """Kolmogorov's statistic of numbers that should be uniform on [0, 1): above 2.23 once in 10,000."""
    count = len(numbers)
    gaps = [max(one - place / count, (place + 1) / count - one) for place, one in enumerate(sorted(numbers))]
    return max(gaps) * math.sqrt(count)


@pytest.fixture
def loop(guarded: Any, unique: Callable[[str], str]) -> str:
    """A loop by single decisions at first, whose decisions close within a second."""
    name = unique("ccb")
    with guarded.client(ADMIN) as client:
        assert client.put(f"/v1/loops/{name}", json={**SETTINGS, "arguments": PLAIN}).status_code == 200
    return name


def ranked(guarded: Any, loop: str, numbers: range, **more: Any) -> list[dict[str, Any]]:
    """Slots are asked for and each place's favourite is rewarded."""
    body = {"loop": loop, "candidates": INLINE, "slots": DRAWER, **more}
    answers = called(guarded.url, "/v1/rank", [{**body, "decision_id": f"{loop}-{number}"} for number in numbers])
    called(guarded.url, "/v1/reward", [
        {"loop": loop, "decision_id": answer["decision_id"], "slot": slot["slot_id"], "kind": "click"}
        for answer in answers for slot in answer["slots"] if slot["offer_id"] == LIKED.get(slot["slot_id"])
    ])  # fmt: skip
    return answers


def switched(guarded: Any, loop: str, arguments: str, until: Callable[..., Any]) -> None:
    """The log is learned again by another setting, which serves after that."""
    with guarded.client(ADMIN) as client:
        assert client.put(f"/v1/loops/{loop}", json={**SETTINGS, "arguments": arguments}).status_code == 200

        def serves() -> bool:
            # On as many connections as reach both workers: each swaps for itself.
            probes = called(guarded.url, "/v1/rank", [{"loop": loop, "candidates": INLINE}] * 16)
            return all(one["policy_id"].startswith("ccb-") == arguments.startswith("--ccb") for one in probes)

        until(serves, seconds=60)


@contextmanager
def opened_log(guarded: Any, loop: str) -> Iterator[tuple[list[LoggedInteraction], Callable[[Decision], Any]]]:
    """What closed, and a way to have a decision drawn again by its own snapshot."""
    settings = Settings(data_dir=guarded.data_dir, database_url=None, redis_url=None, admin_key=None)
    policies: dict[str, VowpalPolicy] = {}
    with open_installation(settings) as installation:
        snapshots = SnapshotStore(installation.engine, installation.client)
        config = LoopStore(installation.engine, installation.client).get(loop)
        assert config is not None

        def again(decision: Decision) -> Sequence[SlotDrawn]:
            name = decision.snapshot_id
            if name not in policies:
                kept = snapshots.get(name)
                policies[name] = VowpalPolicy(kept.setting, kept.model) if kept else VowpalPolicy(config.setting)
            slates = policies[name].slates
            assert slates is not None
            return drawn_again(decision, slates, FLOOR)

        yield list(read_interactions(installation.engine, loop)), again
    for policy in policies.values():
        policy.close()


def likeliest(answer: dict[str, Any], slot: int) -> str:
    """The offer that a slot most likely shows."""
    return str(max(answer["slots"][slot]["ranking"], key=lambda entry: entry["probability"])["offer_id"])


def closed(guarded: Any, loop: str, until: Callable[..., Any], least: int) -> None:
    with guarded.client(ADMIN) as client:
        until(lambda: client.get(f"/v1/loops/{loop}").json()["status"]["interactions"] >= least, seconds=90)


def test_a_loop_goes_over_to_slates_and_back_with_its_log(guarded: Any, loop: str, until: Callable[..., Any]) -> None:
    ranked(guarded, loop, range(100))
    switched(guarded, loop, ARGUMENTS, until)
    for start in range(100, 100 + CALLS, CALLS // 2):
        answers = ranked(guarded, loop, range(start, start + CALLS // 2))
        for answer in answers:
            shown = [slot["offer_id"] for slot in answer["slots"]]
            assert len(set(shown)) == 3
            assert shown[1] != "a"
            for slot in answer["slots"]:
                left = {entry["offer_id"]: entry["probability"] for entry in slot["ranking"]}
                assert slot["propensity"] == left[slot["offer_id"]]
                assert math.fsum(left.values()) == pytest.approx(1.0)
                assert min(left.values()) >= FLOOR / len(left) * (1 - 1e-6)
        closed(guarded, loop, until, start + CALLS // 2)
    probe = {"loop": loop, "candidates": INLINE, "slots": DRAWER}
    until(lambda: likeliest(called(guarded.url, "/v1/rank", [probe])[0], 0) == "a", seconds=20)
    # By the policy that has learned, however fast the others were.
    last = range(100 + CALLS, 120 + CALLS)
    ranked(guarded, loop, last)
    with guarded.client(ADMIN) as client:
        # Probes are decisions too, so that counts do not tell.
        for number in last:
            path = f"/v1/decisions/{loop}-{number}?loop={loop}"
            until(lambda path=path: client.get(path).json()["state"] == "closed", seconds=90)
    replayed = guarded.command("replay", "--loop", loop, "--verify")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert "equal         true" in replayed.stdout
    with opened_log(guarded, loop) as (found, again):
        mine = [one for one in found if one.decision.policy_id.startswith("ccb-")]
        result = audit_inside([one.decision for one in mine], again)
        assert result.passed, result.examples
        decisions = [one.decision for one in mine if one.decision.has_slots]
        assert len(decisions) >= CALLS
        assert len({decision.snapshot_id for decision in decisions}) > 1, "the policy changed on the way"
        # The audit above: what is shown follows from probabilities and numbers. The numbers know nothing of what was learned.
        numbers = [slot.draw for decision in decisions for slot in decision.slots if slot.draw is not None]
        assert len(numbers) == 3 * len(decisions)
        assert unevenness(numbers) < 2.23
        scores = {(index, name): z_score(decisions, index, name) for index in range(3) for name in FIVE}
        assert max(map(abs, scores.values())) < MOST_ERRORS, scores
    switched(guarded, loop, PLAIN, until)
    answers = ranked(guarded, loop, range(CALLS + 100, CALLS + 110))
    assert all(slot["propensity"] for answer in answers for slot in answer["slots"])
    replayed = guarded.command("replay", "--loop", loop, "--verify")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr


def test_caps_hold_under_many_calls_at_once_and_propensities_stay_exact(
    guarded: Any, loop: str, unique: Callable[[str], str], until: Callable[..., Any]
) -> None:
    switched(guarded, loop, ARGUMENTS, until)
    limits = {"caps": [{"name": "all", "scope": "total", "shows": CAP}]}
    capped, free = [unique("capped") for _ in range(3)], [unique("free") for _ in range(2)]
    with guarded.client(ADMIN) as client:
        for offer_id in capped + free:
            body = {"category": offer_id, **({"limits": limits} if offer_id in capped else {})}
            assert client.put(f"/v1/offers/{offer_id}", json=body).status_code == 200
    total = 220
    bodies = [
        {"loop": loop, "decision_id": f"{loop}-c{number}", "candidates": capped + free, "slots": 3}
        for number in range(total)
    ]
    answers = called(guarded.url, "/v1/rank", bodies * 2)
    by_id: dict[str, set[tuple[Any, ...]]] = {}
    for answer in answers:
        seen = tuple((slot["offer_id"], slot["propensity"]) for slot in answer["slots"])
        by_id.setdefault(answer["decision_id"], set()).add(seen)
    assert all(len(shown) == 1 for shown in by_id.values()), "an id was answered in two ways"
    slots = [slot for (shown,) in by_id.values() for slot in shown]
    counts = Counter(offer_id for offer_id, _ in slots)
    assert {name: counts[name] for name in capped} == dict.fromkeys(capped, CAP)
    assert {offer_id for offer_id, propensity in slots if propensity is None} == {"no-offer"}
    closed(guarded, loop, until, total)
    with opened_log(guarded, loop) as (found, again):
        decisions = [one.decision for one in found if one.decision.has_slots]
        result = audit_inside(decisions, again)
        assert result.passed, result.examples
        assert all(
            slot.took_units == (decision.actions[slot.chosen].offer_id in capped)
            for decision in decisions for slot in decision.slots if slot.distribution
        )  # fmt: skip
        whole = [decision for decision in decisions if not any(slot.removed for slot in decision.slots)]
        assert len(whole) > 40
        assert all(abs(z_score(whole, index, name)) < MOST_ERRORS for index in range(3) for name in capped + free)
