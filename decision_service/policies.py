"""Several policies on one loop: challengers set, given customers, promoted, rolled back; and kill switches. No HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adapters.challengers import CHAMPION, PREVIOUS, ChallengerState, ChallengerStore, ChampionWatch
from adapters.kill_switches import KillSwitch, KillSwitchStore, Scope
from adapters.loop_changes import tell_learner
from adapters.operations import Operation
from adapters.promotions import PROMOTED, ROLLED_BACK
from adapters.snapshots import snapshot_generation
from contextual_bandit.loops import Challenger, LoopConfig
from contextual_bandit.vowpal import check_arguments, policy_id
from decision_service.configure import ask_learner, known_loop, until_served
from decision_service.problems import Problem, bad_field, not_found
from decision_service.serving import utc_now
from decision_service.state import Service

MOST_CHALLENGERS = 10
# A promotion that takes longer is answered as it runs.
PROMOTED_SECONDS = 5.0
# Names that a loop gives itself.
GIVEN_NAMES = frozenset({CHAMPION, PREVIOUS})


@dataclass(frozen=True, slots=True)
class ChallengerStanding:
    """A challenger as it is set, and what is known of it; ``state`` is None until it has begun under these settings.

    ``snapshot_id`` names its newest published model.
    """

    challenger: Challenger
    snapshot_id: str | None
    state: ChallengerState | None


@dataclass(frozen=True, slots=True)
class Policies:
    """All policies of a loop.

    Attributes:
        config: the loop's settings; its own arguments are the champion's.
        policy_id: the champion's.
        snapshot_id: the champion's newest published model.
        share: of the customers whom the champion decides for, in [0, 1].
        watch: the champion since it was promoted; None when it never was, or was watched long enough.
        challengers: in the order of the settings.
    """

    config: LoopConfig
    policy_id: str
    snapshot_id: str | None
    share: float
    watch: ChampionWatch | None
    challengers: tuple[ChallengerStanding, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """A loop's settings as they are stored now, and how many live workers had not taken them over; 0 is the rule."""

    config: LoopConfig
    unacknowledged: int


async def find_policies(service: Service, loop: str) -> Policies:
    """What each policy of a loop is, and is worth.

    Raises:
        Problem: 404 unknown loop.
    """
    config = await known_loop(service, loop)
    store, snapshots = ChallengerStore(service.installation.engine), service.sources.snapshots
    states = {state.name: state for state in await asyncio.to_thread(store.all, loop)}
    watch = await asyncio.to_thread(store.watch, loop)
    found = []
    for one in config.challengers:
        snapshot_id = await asyncio.to_thread(snapshots.newest_published_id, loop, one.name)
        state = states.get(one.name)
        if state is None or state.arguments != one.arguments:
            found.append(ChallengerStanding(one, None, None))
            continue
        is_of_now = snapshot_id is not None and snapshot_generation(snapshot_id) == state.generation
        found.append(ChallengerStanding(one, snapshot_id if is_of_now else None, state))
    own = await asyncio.to_thread(snapshots.newest_published_id, loop)
    share = max(1.0 - sum(one.share for one in config.challengers), 0.0)
    return Policies(config, policy_id(config.arguments), own, share, watch, tuple(found))


async def put_challenger(service: Service, loop: str, wanted: Challenger, actor: str) -> Changed:
    """Add a challenger, or change one; with other arguments it begins anew.

    Raises:
        Problem: 404 unknown loop, 400 a name that the loop gives itself, too many challengers, or too large a share.
        BadArguments: ``arguments`` are not allowed.
    """
    await known_loop(service, loop)
    if wanted.name in GIVEN_NAMES:
        raise bad_field("name", wanted.name, "is a name that the loop gives itself")
    wanted = replace(wanted, arguments=await asyncio.to_thread(check_arguments, wanted.arguments))

    def change(found: tuple[Challenger, ...]) -> tuple[Challenger, ...]:
        if any(one.name == wanted.name for one in found):
            return tuple(wanted if one.name == wanted.name else one for one in found)
        if len(found) >= MOST_CHALLENGERS:
            raise bad_field("name", wanted.name, f"the loop has {MOST_CHALLENGERS} challengers, no more are possible")
        return (*found, wanted)

    detail = {"name": wanted.name, "arguments": wanted.arguments, "share": wanted.share}
    return await _change(service, loop, change, actor, "challenger.put", detail)


async def delete_challenger(service: Service, loop: str, name: str, actor: str) -> Changed:
    """Take a challenger out; the champion decides for its customers from now on.

    Raises:
        Problem: 404 unknown loop or policy.
    """

    def change(found: tuple[Challenger, ...]) -> tuple[Challenger, ...]:
        _check_known(found, name)
        return tuple(one for one in found if one.name != name)

    return await _change(service, loop, change, actor, "challenger.delete", {"name": name})


async def set_share(service: Service, loop: str, name: str, share: float, reason: str, actor: str) -> Changed:
    """Let a challenger decide for a share of the customers; 0 takes it back into the shadow.

    Raises:
        Problem: 404 unknown loop or policy, 400 when all shares together exceed 1.
    """

    def change(found: tuple[Challenger, ...]) -> tuple[Challenger, ...]:
        _check_known(found, name)
        return tuple(replace(one, share=share) if one.name == name else one for one in found)

    detail = {"name": name, "share": share, "reason": reason}
    return await _change(service, loop, change, actor, "challenger.share", detail)


async def promote(service: Service, loop: str, name: str, reason: str, actor: str) -> Operation:
    """Make a challenger the loop's own policy; the one before it becomes the challenger ``previous``.

    Raises:
        Problem: 404 unknown loop or policy, 409 when it cannot be done, 503 when no learner takes it within 5 seconds.
    """
    _check_known((await known_loop(service, loop)).challengers, name)
    return await _promote(service, loop, name, PROMOTED, reason, actor)


async def roll_back(service: Service, loop: str, reason: str, actor: str) -> Operation:
    """Take the last promotion back.

    Raises:
        Problem: 404 unknown loop, 409 when nothing was promoted or it cannot be done, 503 when no learner takes it.
    """
    if all(one.name != PREVIOUS for one in (await known_loop(service, loop)).challengers):
        raise Problem(409, "Conflict", f"loop {loop!r} has no policy {PREVIOUS!r} to go back to")
    return await _promote(service, loop, PREVIOUS, ROLLED_BACK, reason, actor)


async def throw_switch(
    service: Service, scope: Scope, name: str, is_on: bool, reason: str, actor: str
) -> tuple[KillSwitch, int]:
    """Throw a kill switch; returns it, and how many live workers did not go by it when the wait ended.

    Raises:
        Problem: 404 unknown loop. Offers need not be known: requests may bring their own.
    """
    if scope == "loop":
        await known_loop(service, name)
    switch = KillSwitch(scope, name, is_on, reason, actor, utc_now())
    version = await asyncio.to_thread(service.sources.kill_switches.throw, switch)
    return switch, await until_served(service, name, lambda served: served.switches >= version)


async def find_switch(service: Service, scope: Scope, name: str) -> KillSwitch | None:
    """A kill switch as it was last thrown; None when it never was.

    Raises:
        Problem: 404 unknown loop.
    """
    if scope == "loop":
        await known_loop(service, name)
    store: KillSwitchStore = service.sources.kill_switches
    return await asyncio.to_thread(store.get, scope, name)


async def _promote(service: Service, loop: str, name: str, action: str, reason: str, actor: str) -> Operation:
    detail = {"name": name, "action": action, "reason": reason, "actor": actor}
    return await ask_learner(service, loop, "promote", actor, detail, done_seconds=PROMOTED_SECONDS)


async def _change(
    service: Service, loop: str, change: Callable[[tuple[Challenger, ...]], tuple[Challenger, ...]], actor: str,
    action: str, detail: Any,
) -> Changed:  # fmt: skip
    """Change a loop's challengers, and wait until the live workers go by it."""

    def changed(config: LoopConfig) -> LoopConfig:
        challengers = change(config.challengers)
        _check_shares(challengers, detail)
        return replace(config, challengers=challengers)

    loops = service.sources.loops
    stored = await asyncio.to_thread(loops.edit, loop, changed, actor, utc_now(), action, detail)
    if stored is None:
        raise not_found("loop", loop)
    await asyncio.to_thread(
        tell_learner, service.installation.client, loop, "loop_changed", actor, {"version": stored.version}
    )
    behind = await until_served(service, loop, lambda served: served.version >= stored.version)
    return Changed(stored, behind)


def _check_known(found: Sequence[Challenger], name: str) -> None:
    if all(one.name != name for one in found):
        raise not_found("policy", name)


def _check_shares(found: Sequence[Challenger], detail: Any) -> None:
    total = sum(one.share for one in found)
    # Shares such as 0.1 and 0.7 and 0.2 may add up to a hair more than 1.
    if total > 1.0 + 1e-9:
        raise bad_field("share", detail.get("share"), f"the shares of all challengers would sum to {total:g}")
