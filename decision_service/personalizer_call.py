"""One call of the Personalizer API: who calls, which loop it is about, and what that loop is set to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar

import orjson
from starlette.requests import Request

from adapters.interaction_log import count_loop
from adapters.personalizer_settings import PersonalizerSettings, PersonalizerStore
from contextual_bandit.loops import LoopConfig, RewardDefinition
from decision_service.configure import apply_loop
from decision_service.personalizer_errors import PersonalizerError, invalid
from decision_service.personalizer_policy import DEFAULT_ARGUMENTS, DEFAULT_EPSILON, served_policy
from decision_service.personalizer_shapes import Body
from decision_service.problems import Problem
from decision_service.serving import utc_now
from decision_service.state import Service

LARGEST_BODY = 8 * 1024 * 1024
LARGEST_MODEL = 256 * 1024 * 1024
CURRENT = "2022-09-01-preview"
# The original's, where a loop has nothing of its own yet.
DEFAULT_EXPORT_SECONDS = 300.0
DEFAULT_RETRAIN_DAYS = 2
AnyBody = TypeVar("AnyBody", bound=Body)


@dataclass(slots=True)
class HeldSettings:
    """Documents in memory, by loop, each as of one version of the loop: whoever changes one changes the other."""

    found: dict[str, tuple[int, PersonalizerSettings]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """A call on its way to its route.

    Attributes:
        request: as it came.
        service: the worker.
        loop: the loop's name.
        base: the path before the route, as the client sent it.
        version: of the API: ``2022-09-01-preview``, ``v1.0`` or ``v1.1-preview.N``.
        actor: who calls, for the audit log.
        held: the worker's documents.
        parameters: of the path.
    """

    request: Request
    service: Service
    loop: str
    base: str
    version: str
    actor: str
    held: HeldSettings
    parameters: Mapping[str, str]

    @property
    def store(self) -> PersonalizerStore:
        """The documents and the log."""
        return PersonalizerStore(self.service.installation.engine)

    def event_id(self, code: str) -> str:
        """The id of the event that the path names.

        Raises:
            PersonalizerError: 400 with this code.
        """
        name = self.parameters["event_id"]
        if not 1 <= len(name) <= 256 or any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
            raise invalid(code, "an event id has 1 to 256 characters, and no control characters", "eventId")
        return name

    async def config(self) -> LoopConfig:
        """The loop's settings; a loop without a log of its own is set up for this API at the first call.

        Raises:
            PersonalizerError: 404 for an unknown loop.
        """
        await self.settings()
        return await self.known()

    async def known(self) -> LoopConfig:
        """The loop's settings as they are.

        Raises:
            PersonalizerError: 404 for an unknown loop.
        """
        try:
            return await self.service.ranker.loop(self.loop)
        except Problem as error:
            if error.status != 404:
                raise
            why = f"there is no loop {self.loop!r} behind this endpoint"
            raise PersonalizerError(404, "FrontEndNotFound", why) from None

    async def settings(self) -> PersonalizerSettings:
        """The loop's document.

        Raises:
            PersonalizerError: 404 for an unknown loop.
        """
        config = await self.known()
        version, found = self.held.found.get(self.loop, (-1, None))
        if found is None or version != config.version:
            found = await asyncio.to_thread(self.store.get, self.loop)
            if found is None:
                found = await self._set_up(config)
                config = await self.service.ranker.loop(self.loop)
            self.held.found[self.loop] = (config.version, found)
        return found

    async def change(self, settings: PersonalizerSettings, changes: Mapping[str, Any]) -> None:
        """Store the document and the loop's settings; every worker reads both from the next call on."""
        await asyncio.to_thread(self.store.put, self.loop, settings, utc_now())
        self.held.found.pop(self.loop, None)
        await apply_loop(self.service, self.loop, changes, self.actor)

    async def body(self, most: int = LARGEST_BODY) -> bytes:
        """The whole body.

        Raises:
            PersonalizerError: 400 when it is larger, 408 when it does not arrive in time.
        """
        seconds = self.service.settings.body_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._received(most)
        except TimeoutError:
            why = f"the body did not arrive within {seconds:g} s"
            raise PersonalizerError(408, "RequestTimeout", why) from None

    async def _received(self, most: int) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in self.request.stream():
            size += len(chunk)
            if size > most:
                raise invalid("PayloadSizeExceeded", f"the body is larger than {most} bytes")
            chunks.append(chunk)
        return b"".join(chunks)

    async def json(self, shape: type[AnyBody], code: str) -> AnyBody:
        """The body as JSON of a shape.

        Raises:
            PersonalizerError: 400 with this code when it is no JSON.
            pydantic.ValidationError: it is of another shape.
        """
        raw = await self.body()
        try:
            parsed = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise invalid(code, f"the body is not valid JSON: {error}") from None
        if not isinstance(parsed, dict):
            raise invalid(code, f"the body must be a JSON object, got {type(parsed).__name__}")
        return shape.model_validate(parsed)

    async def _set_up(self, config: LoopConfig) -> PersonalizerSettings:
        """Set a loop up at its first call; one with a log stays as it is.

        Any other takes rewards of -1 to 1 from now on, and the original's defaults where nobody has chosen settings.
        """
        now = utc_now()
        settings = PersonalizerSettings(edited_at=now)
        counts = await asyncio.to_thread(count_loop, self.service.installation.engine, self.loop)
        if counts.decisions:
            await asyncio.to_thread(self.store.put, self.loop, settings, now)
            return settings
        reward = config.reward
        wide = replace(reward, low=min(-1.0, reward.low), high=max(1.0, reward.high))
        changes: dict[str, Any] = {"reward": wide}
        if replace(config, version=LoopConfig(self.loop).version) == LoopConfig(self.loop):
            served = await asyncio.to_thread(served_policy, DEFAULT_ARGUMENTS)
            settings = replace(settings, policy_arguments=DEFAULT_ARGUMENTS, served_arguments=served.arguments)
            changes = {
                "reward": RewardDefinition(low=-1.0, high=1.0, kinds=reward.kinds),
                "arguments": served.arguments,
                "exploration_floor": DEFAULT_EPSILON,
                "export_frequency_seconds": DEFAULT_EXPORT_SECONDS,
                "model_retrain_days": float(DEFAULT_RETRAIN_DAYS),
                "auto_optimisation": replace(config.auto_optimisation, start=now + timedelta(days=7)),
            }
        await self.change(settings, changes)
        return settings
