"""Changes of a loop that more than one interface offers: its settings, its model; plain functions without HTTP.

A change returns when every live worker serves it. Workers tell in Redis what they serve, once a second; one that has
been silent for three seconds counts as dead. If one still lags behind after ``WAIT_SECONDS``, settings stand and the
caller is told how many did; they follow within their next look, or die.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from adapters.live_workers import Served, served_by
from adapters.loop_changes import change_loop, tell_learner
from adapters.model_archive import BadArchive, ModelArchive, installation_key, pack, unpack
from adapters.operations import Operation, OperationKind, OperationStore
from contextual_bandit.eligibility import check_rules
from contextual_bandit.loops import LoopConfig
from contextual_bandit.vowpal import VowpalPolicy, check_arguments
from decision_service.problems import Problem, bad_field, not_found
from decision_service.serving import utc_now
from decision_service.state import Service

# How long a change of the model may wait for a learner, and any change for the workers.
WAIT_SECONDS = 5.0
# How long a learner that has taken it may need.
DONE_SECONDS = 30.0
LOOK_SECONDS = 0.05


class OperationFailed(Problem):
    """The learner could not do what it was asked for."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A loop's settings as they are stored now.

    ``operation_id`` names the replay of the log that was begun, if the change needs one. ``unacknowledged`` is how many
    live workers had not taken the new settings over when the wait ended; 0 is the rule.
    """

    config: LoopConfig
    operation_id: str | None
    unacknowledged: int


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """A model's bytes, or the signed archive of it, with the times of its properties."""

    data: bytes
    created_at: datetime
    modified_at: datetime


async def apply_loop(service: Service, loop: str, changes: Mapping[str, Any], actor: str) -> Applied:
    """Change settings of a loop, or create it; what ``changes`` leaves out stays as it is.

    Exploration floor, modes, waits and rules hold at once. Changed arguments or a changed reward definition are read
    back at once, and serve when the log has been learned again.

    Args:
        service: the worker.
        loop: the loop's name.
        changes: fields of ``LoopConfig`` with their new values (``reward`` as a whole RewardDefinition).
        actor: who asks, for the audit log.

    Raises:
        Problem: 400 that names the field.
        BadArguments: ``arguments`` are not allowed.
        BadRule: a rule cannot be used.
    """
    installation = service.installation
    current = await asyncio.to_thread(lambda: service.sources.loops.get(loop, deleted=True))
    wanted = replace(current or LoopConfig(loop), **changes)
    if current is None or current.arguments != wanted.arguments:
        wanted = replace(wanted, arguments=await asyncio.to_thread(check_arguments, wanted.arguments))
    _check(current, wanted)
    changed = await asyncio.to_thread(
        change_loop, installation.engine, installation.client, current, wanted, actor, utc_now()
    )
    behind = await until_served(service, loop, lambda served: served.version >= changed.config.version)
    return Applied(changed.config, changed.operation_id, behind)


async def reset_model(service: Service, loop: str, actor: str) -> str:
    """Begin anew with an untrained model; returns the snapshot's name once every live worker serves it.

    What was logged before is never learned again, also by replays to come.

    Raises:
        Problem: 404 unknown loop, 503 when no learner takes it within 5 seconds (nothing has changed then).
    """
    await known_loop(service, loop)
    return await _operate(service, loop, "reset", actor, {}, None)


async def import_model(service: Service, loop: str, archive: bytes, actor: str) -> str:
    """Go on from a model that was exported signed; returns the snapshot's name once every live worker serves it.

    The loop's learning setting becomes the model's.

    Raises:
        BadArchive: the bytes are no such archive (adapters.model_archive).
        BadSignature: altered, unsigned, or signed by another installation (adapters.model_archive).
        Problem: 404 unknown loop, 409 another reward range, 503 when no learner takes it within 5 seconds.
    """
    config = await known_loop(service, loop)
    key = await asyncio.to_thread(installation_key, service.installation.engine)
    found = await asyncio.to_thread(_read_archive, key, archive)
    low, high = config.reward.low, config.reward.high
    if (found.setting.reward_low, found.setting.reward_high) != (low, high):
        known = f"[{found.setting.reward_low:g}, {found.setting.reward_high:g}]"
        why = f"the model was trained for rewards in {known}, those of loop {loop!r} lie in [{low:g}, {high:g}]"
        raise Problem(409, "Conflict", why)
    detail = {"arguments": found.setting.arguments, "from": found.snapshot_id}
    return await _operate(service, loop, "import", actor, detail, found.model)


async def delete_log(service: Service, loop: str, actor: str) -> None:
    """Delete all that a loop has logged up to now, also what still waits for rewards; settings and model stay.

    Raises:
        Problem: 404 unknown loop, 503 when no learner takes it within 5 seconds (nothing has changed then).
    """
    await known_loop(service, loop)
    await _operate(service, loop, "delete_log", actor, {}, None)


async def export_model(service: Service, loop: str, *, signed: bool = False) -> ExportedModel:
    """The newest published snapshot's bytes exactly as they are stored, or the signed archive with them.

    Raises:
        Problem: 404 unknown loop.
    """
    config = await known_loop(service, loop)
    snapshots = service.sources.snapshots
    snapshot = await asyncio.to_thread(lambda: snapshots.newest(loop, published=True))
    times = await asyncio.to_thread(snapshots.model_times, loop)
    if snapshot is None or times is None:
        # The learner has not begun: untrained, exactly as its first snapshot will be.
        archive = ModelArchive(await asyncio.to_thread(_untrained, config), config.setting, f"{loop}-g1-0")
        times = (utc_now(), utc_now())
    else:
        archive = ModelArchive(snapshot.model, snapshot.setting, snapshot.snapshot_id)
    if not signed:
        return ExportedModel(archive.model, *times)
    key = await asyncio.to_thread(installation_key, service.installation.engine)
    return ExportedModel(await asyncio.to_thread(pack, key, archive), *times)


def _check(current: LoopConfig | None, wanted: LoopConfig) -> None:
    """What no shape can say of settings."""
    try:
        ZoneInfo(wanted.time_zone)
    except (OSError, ValueError, LookupError, ImportError):
        raise bad_field("time_zone", wanted.time_zone, "is no IANA time zone") from None
    if current is not None and current.clock != wanted.clock:
        why = f"cannot change: the log of loop {wanted.loop!r} runs by {current.clock} time"
        raise bad_field("clock", wanted.clock, why)
    if wanted.reward.wait_seconds < wanted.sticky_seconds:
        # The native route's shape says so too; the Personalizer API changes the wait alone.
        why = f"must not be below the loop's sticky_seconds ({wanted.sticky_seconds:g})"
        raise bad_field("reward.wait_seconds", wanted.reward.wait_seconds, why)
    check_rules(wanted.rules, "rules")


async def known_loop(service: Service, loop: str) -> LoopConfig:
    """A loop's settings as they are stored.

    Raises:
        Problem: 404 unknown loop.
    """
    config = await asyncio.to_thread(service.sources.loops.get, loop)
    if config is None:
        raise not_found("loop", loop)
    return config


async def _operate(
    service: Service, loop: str, kind: OperationKind, actor: str, detail: Mapping[str, Any], model: bytes | None
) -> str:
    """Have the learner replace a model, and wait until the workers serve the new one."""
    operation = await ask_learner(service, loop, kind, actor, detail, model)
    if operation.is_open:
        raise Problem(503, "No learner", f"the learner is still at it; see operation {operation.operation_id!r}")
    return str(operation.detail["snapshot_id"])


async def ask_learner(
    service: Service, loop: str, kind: OperationKind, actor: str, detail: Mapping[str, Any],
    model: bytes | None = None, done_seconds: float = DONE_SECONDS,
) -> Operation:  # fmt: skip
    """Have the learner do something to a model; returns the operation when the workers serve what came of it.

    After ``done_seconds`` it is returned as it runs on.

    Raises:
        OperationFailed: the learner could not.
        Problem: 503 when no learner takes it within 5 seconds (nothing has changed then).
    """
    installation = service.installation
    store = OperationStore(installation.engine)
    operation_id = await asyncio.to_thread(
        lambda: store.add(loop, kind, actor, utc_now(), detail=detail, model=model)
    )  # fmt: skip
    await asyncio.to_thread(
        tell_learner, installation.client, loop, kind if kind == "delete_log" else f"{kind}_model", actor,
        {"operation_id": operation_id},
    )  # fmt: skip
    operation = await _ended(store, operation_id, done_seconds)
    if operation.is_open:
        return operation
    if operation.state != "done":
        raise OperationFailed(409, "Conflict", f"the {kind} failed: {operation.error or operation.state}")
    generation = int(operation.detail["generation"])
    await until_served(service, loop, lambda served: served.generation >= generation)
    return operation


async def _ended(store: OperationStore, operation_id: str, done_seconds: float) -> Operation:
    """An operation when it has ended, or runs for so long; taken back when no learner takes it."""
    taken_by = time.monotonic() + WAIT_SECONDS
    done_by = taken_by + done_seconds
    while True:
        operation = await asyncio.to_thread(store.get, operation_id)
        if operation is None:
            raise not_found("operation", operation_id)
        if not operation.is_open:
            return operation
        now = time.monotonic()
        if now >= taken_by and await asyncio.to_thread(store.withdraw, operation_id, utc_now()):
            raise Problem(503, "No learner", f"no learner took it within {WAIT_SECONDS:g} s; nothing has changed")
        if now >= done_by:
            return operation
        await asyncio.sleep(LOOK_SECONDS)


async def until_served(service: Service, loop: str, is_served: Callable[[Served], bool]) -> int:
    """Wait for the live workers, ``WAIT_SECONDS`` at most; returns how many do not serve it yet when the wait ends."""
    deadline = time.monotonic() + WAIT_SECONDS
    await service.serving.refresh()
    while True:
        behind = sum(not is_served(served) for served in await served_by(service.client, loop))
        if not behind or time.monotonic() >= deadline:
            return behind
        await asyncio.sleep(LOOK_SECONDS)


def _read_archive(key: bytes, data: bytes) -> ModelArchive:
    """Unpack, and see that Vowpal Wabbit takes the model."""
    found = unpack(key, data)
    try:
        VowpalPolicy(replace(found.setting, arguments=check_arguments(found.setting.arguments)), found.model).close()
    except (RuntimeError, ValueError) as error:
        raise BadArchive(f"the archive's model cannot be used: {error}") from None
    return found


def _untrained(config: LoopConfig) -> bytes:
    policy = VowpalPolicy(config.setting)
    try:
        return policy.save()
    finally:
        policy.close()
