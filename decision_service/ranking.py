"""From a rank request to a logged decision: everything between the route and the stream."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import redis.asyncio
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from adapters.interaction_log import find_decision, known_hashes
from adapters.spool import SPOOLED
from adapters.stream_writer import Logged, StreamWriter, UnitsUnknown
from adapters.streams import FIELD, decided_key, loop_stream
from adapters.telemetry import ServiceMetrics
from adapters.unit_counts import UnitCounts
from adapters.units import Entry, LimitedDraw
from contextual_bandit import events
from contextual_bandit.actions import action_of, no_offer
from contextual_bandit.baseline import BaselinePolicy
from contextual_bandit.context import build_context, derive
from contextual_bandit.decide import Choice, Moment, combined, decide, decide_slots
from contextual_bandit.features import BadFeature, rebuild_context
from contextual_bandit.limits import SlotDraw, draw, draw_slots, resolve
from contextual_bandit.loops import LoopConfig
from contextual_bandit.schema import apply_schema
from contextual_bandit.slots import Slate
from contextual_bandit.types import Action, Decision, Distribution, Removed
from decision_service.candidates import asked, eligible, fallback_of, unknown_ids
from decision_service.checks import RepeatedId, check_size, check_time, hash_request, repeated_id
from decision_service.circumstances import Circumstances
from decision_service.held import Candidate, Catalogue
from decision_service.problems import Problem, not_found
from decision_service.schemas import RankIn
from decision_service.serving import Serving, utc_now
from decision_service.slates import check_named, named_by_slots, slots_asked
from decision_service.together import Together

# The reason of candidates that the sender of a call excluded.
EXCLUDED = "excluded"
# Counts of units that were lost are made anew and the draw is tried again, so often.
TRIES = 3


@dataclass(frozen=True, slots=True)
class Prepared:
    """A decision on its way to the log, or one that was there already; a ``limited`` one is drawn as it is logged.

    ``slate`` has its slots, where slots were asked for and wait for that.
    """

    decision: Decision
    is_logged: bool = False
    fallback: Action = field(default_factory=no_offer)
    limited: LimitedDraw | None = None
    preferred: tuple[int, ...] | None = None
    slate: Slate | None = None

    def payload(self) -> dict[str, Any]:
        """What is logged, before any draw that happens there."""
        if self.limited is None:
            return events.decision_payload(self.decision)
        if self.slate is not None:
            return events.slate_payload(self.slate)
        return events.limited_payload(self.decision, self.fallback, self.preferred)

    def drawn(self, logged: Logged) -> Decision:
        """The decision as it was logged just now."""
        if not logged.draws:
            return self.decision
        if self.slate is not None:
            return self.slate.resolved(logged.draws)
        return resolve(self.decision, logged.draws[0], self.fallback, self.preferred)

    def drawn_aside(self) -> Decision:
        """The decision where no units are counted: what has limits counts as exhausted."""
        draws = () if self.limited is None else self.limited.without_units()
        return self.drawn(Logged(False, self.decision.request_hash, "", draws))


class Ranker:
    """Answers rank calls of one service process."""

    def __init__(
        self, serving: Serving, writer: StreamWriter, client: redis.asyncio.Redis, engine: Engine,
        circumstances: Circumstances, units: UnitCounts, metrics: ServiceMetrics, decided_ttl_seconds: int,
    ) -> None:  # fmt: skip
        self._serving = serving
        self._writer = writer
        self._client = client
        self._engine = engine
        self._circumstances = circumstances
        self._units = units
        self._metrics = metrics
        self._ttl = decided_ttl_seconds
        self._known_hashes = Together[tuple[str, str], str](lambda keys: known_hashes(engine, keys))

    async def rank(self, request: RankIn, field: str = "") -> Decision:
        """Decide and log one call; a repeated id gets its stored decision.

        Raises:
            Problem: 400, 404 or 409; also the domain's own errors.
        """
        return await self.log(await self.prepare(request, field))

    async def rank_afresh(self, request: RankIn, excluded: Sequence[str] = ()) -> Decision:
        """As ``rank``, but an id that stands for another request is answered afresh.

        That answer is in the stream as ``rank_repeated``: it is no decision, takes no units and is never learned from.

        Args:
            request: the call; its candidates are what may be chosen.
            excluded: offers that the sender named and excluded; they are logged as removed.

        Raises:
            Problem: 400, 404 or 503; also the domain's own errors.
        """
        try:
            return await self.log(await self.prepare(request, excluded=excluded))
        except RepeatedId:
            prepared = await self.prepare(request, excluded=excluded, is_repeated=True)
        decision = prepared.drawn_aside()
        message = events.encode(events.RANK_REPEATED, decision.occurred_at, events.decision_payload(decision))
        await self._writer.append(loop_stream(decision.loop), message)
        return decision

    async def prepare(
        self, request: RankIn, field: str = "", *, excluded: Sequence[str] = (), is_repeated: bool = False
    ) -> Prepared:
        """Check and decide without logging, so that a batch can be refused as a whole.

        With ``is_repeated`` nobody asks whether the id was decided before. ``excluded`` are logged as removed.
        """
        loop = await self.loop(request.loop)
        now = utc_now()
        try:
            sent, dropped = apply_schema(loop.schema, rebuild_context(request.context))
            sent = derive(sent)
        except BadFeature as error:
            raise error.below(field) from None
        slots = slots_asked(request, field)
        request_hash = hash_request(request, excluded)
        if request.decision_id is not None and not is_repeated:
            stored = await self._stored(loop, request.decision_id, request_hash)
            if stored is not None:
                return Prepared(stored, is_logged=True)
        # After the look-up: a retry's moment may be long past, and its answer stands.
        occurred_at = check_time(loop, request.occurred_at, now, field + "occurred_at")
        catalogue = await self._catalogue(request)
        asked_for = asked(request, catalogue, field)
        if slots is not None:
            check_named(slots, {candidate.offer.offer_id for candidate in asked_for.offers}, field)
        known = await self._circumstances.of(loop, request, occurred_at)
        context, sources = build_context(loop, occurred_at, known.known, sent)
        # On a loop with wall time a sender's clock feeds features, but does not bring an expired offer back.
        situation = known.situation(now if loop.clock == "wall" else occurred_at, context, request)
        rules = self._serving.rules_of(loop.loop)
        candidates, removed = eligible(asked_for, situation, rules)
        removed += [Removed(offer_id, EXCLUDED) for offer_id in excluded]

        def action(candidate: Candidate) -> Action:
            affinity = known.affinity(candidate.category)
            return action_of(candidate.offer, candidate.features, affinity, loop.promoted_tag)

        actions = [action(candidate) for candidate in candidates]
        check_size(context, actions, field, slots or ())
        fallback = fallback_of(loop.fallback, catalogue, situation, rules, action)
        moment = Moment(
            request.decision_id or str(uuid.uuid4()), request.customer_id, now, occurred_at,
            request.defer_activation, request_hash,
        )  # fmt: skip
        choice = Choice(context, actions, removed, fallback, sources, tuple(dropped))
        serving = self._serving.policies[loop.loop]
        if slots is not None:
            found = decide_slots(loop, serving, moment, choice, slots, _priorities(loop, candidates))
            return _slate(loop, catalogue, found, candidates)
        decision = decide(loop, serving, moment, choice)
        return _limited(loop, catalogue, Prepared(decision, fallback=fallback), candidates)

    async def _catalogue(self, request: RankIn) -> Catalogue:
        """One version of the catalogue; an offer created a moment ago by another worker is looked for."""
        held = self._serving.catalogue
        named = named_by_slots(request) if request.candidates is None else ()
        if unknown_ids(request, held) or any(name not in held.offers for name in named):
            await self._serving.refresh()
        return self._serving.catalogue

    async def log(self, prepared: Prepared) -> Decision:
        """Make a decision durable; if its id was logged meanwhile, the one that was logged counts."""
        decision = prepared.decision
        if prepared.is_logged:
            self._metrics.repeats.labels(decision.loop).inc()
            return decision
        logged = await self._append(prepared)
        if not logged.known:
            if decision.dropped:
                self._metrics.dropped.labels(decision.loop).inc(len(decision.dropped))
            decision = prepared.drawn(logged)
            self._metrics.decisions.labels(decision.loop, decision.use).inc()
            return decision
        if logged.request_hash != decision.request_hash:
            raise repeated_id(decision.decision_id)
        self._metrics.repeats.labels(decision.loop).inc()
        stored = await self.find_logged(decision.loop, decision.decision_id, logged.position)
        return stored or decision

    async def _append(self, prepared: Prepared) -> Logged:
        decision = prepared.decision
        message = events.encode(events.DECISION, decision.occurred_at, prepared.payload())
        for _ in range(TRIES):
            try:
                return await self._writer.log_decision(
                    decision.loop, decision.decision_id, message, decision.request_hash, self._ttl, prepared.limited
                )
            except UnitsUnknown:
                await self._units.rebuild()
        raise Problem(503, "Store unavailable", "the counts of limited offers are being made anew, try again")

    async def loop(self, name: str) -> LoopConfig:
        """A loop's settings; one created a moment ago by another worker is looked for."""
        if name not in self._serving.policies:
            await self._serving.refresh()
        config = self._serving.loops.get(name)
        if config is None:
            raise not_found("loop", name)
        if name not in self._serving.policies:
            raise Problem(503, "Not ready", f"the policy of loop {name!r} is not loaded yet")
        return config

    async def find_logged(self, loop: str, decision_id: str, position: str) -> Decision | None:
        """The decision at a stream position, or from PostgreSQL when the stream was trimmed."""
        waiting = self._writer.spooled_decision(loop, decision_id)
        if waiting is not None:
            return events.decision_from(events.decode(SPOOLED, waiting.message).payload)
        entries = cast("list[Any]", await self._client.xrange(loop_stream(loop), position, position))
        if entries:
            return events.decision_from(events.decode(position, entries[0][1][FIELD]).payload)
        stored = await asyncio.to_thread(find_decision, self._engine, loop, decision_id)
        return stored.decision if stored else None

    async def _stored(self, loop: LoopConfig, decision_id: str, request_hash: str) -> Decision | None:
        known, position = await self._remembered(loop.loop, decision_id)
        if known is None:
            # Older than Redis remembers, perhaps: the log knows every id.
            try:
                found = await self._known_hashes.get((loop.loop, decision_id))
            except SQLAlchemyError:
                return None
            if found is None:
                return None
            known, position = found, "0-0"
        if known != request_hash:
            raise repeated_id(decision_id)
        return await self.find_logged(loop.loop, decision_id, position)

    async def _remembered(self, loop: str, decision_id: str) -> tuple[str | None, str]:
        """The hash and position of an id that was decided lately."""
        waiting = self._writer.spooled_decision(loop, decision_id)
        if waiting is not None:
            return waiting.request_hash, SPOOLED
        if self._writer.is_away:
            return None, ""
        known = position = None
        with self._writer.noting_absence():
            found = await self._client.hmget(decided_key(loop, decision_id), ["hash", "position"])
            known, position = cast("list[bytes | None]", found)
        return (known.decode(), position.decode()) if known and position else (None, "")


def _limited(loop: LoopConfig, catalogue: Catalogue, prepared: Prepared, candidates: Sequence[Candidate]) -> Prepared:
    """Leave the draw to where units are counted, if any are; lower priorities alone are masked here."""
    decision = prepared.decision
    slot = decision.slots[0]
    is_held_out = decision.use == "holdout" and loop.holdout.serves == "no_offer"
    if slot.distribution is None or slot.draw is None or is_held_out:
        return prepared
    offers = _counted(catalogue, candidates)
    tiers = tuple(entry.offer.priority for entry in candidates) if loop.priority_tiers else None
    preferred = decision.use == "holdout"
    if preferred and (offers or tiers):
        # A baseline without its first choice has a second one: its order is drawn from, not its distribution.
        tiers = combined(tiers, BaselinePolicy(loop.baseline).tiers(decision.actions))
        even = (1.0 / len(candidates),) * len(candidates)
        slot = replace(slot, distribution=Distribution(slot.distribution.policy, even))
        decision = replace(decision, slots=(slot,))
    served = slot.distribution.served if slot.distribution else ()
    prepared = replace(prepared, decision=decision, preferred=tiers if preferred else None)
    if not offers:
        if tiers is None or len(set(tiers)) == 1:
            return prepared
        drawn = draw(served, slot.draw or 0.0, {}, tiers, preferred=preferred)
        return replace(prepared, decision=resolve(decision, drawn, prepared.fallback, prepared.preferred))
    limited = SlotDraw(served, slot.draw or 0.0, tiers, preferred)
    return replace(prepared, limited=_limited_draw(loop, decision, (limited,), offers))


def _slate(
    loop: LoopConfig, catalogue: Catalogue, found: Slate | Decision, candidates: Sequence[Candidate]
) -> Prepared:
    """Draw the slots, or leave that to where units are counted, if any are."""
    if isinstance(found, Decision):
        return Prepared(found)
    offers = _counted(catalogue, candidates)
    if not offers:
        return Prepared(found.resolved(draw_slots(found.draws, {})))
    limited = _limited_draw(loop, found.decision, found.draws, offers)
    return Prepared(found.decision, fallback=found.fallback, limited=limited, slate=found)


def _counted(catalogue: Catalogue, candidates: Sequence[Candidate]) -> tuple[tuple[int, Entry], ...]:
    held = catalogue.units
    return tuple((index, held[entry.offer.offer_id]) for index, entry in enumerate(candidates)
                 if entry.offer.offer_id in held)  # fmt: skip


def _limited_draw(
    loop: LoopConfig, decision: Decision, slots: tuple[SlotDraw, ...], offers: tuple[tuple[int, Entry], ...]
) -> LimitedDraw:
    moment = decision.occurred_at if loop.clock == "simulated" else decision.decided_at
    return LimitedDraw(slots, int(moment.timestamp() * 1000), decision.customer_id, offers)


def _priorities(loop: LoopConfig, candidates: Sequence[Candidate]) -> tuple[int, ...] | None:
    """Each candidate's priority, where they make a difference."""
    found = tuple(entry.offer.priority for entry in candidates)
    return found if loop.priority_tiers and len(set(found)) > 1 else None
