"""From a rank request to a logged decision: everything between the route and the stream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import redis.asyncio
from sqlalchemy import Engine

from adapters.stream_writer import Logged, SessionBegun, StreamWriter, UnitsUnknown
from adapters.streams import loop_stream
from adapters.telemetry import ServiceMetrics
from adapters.unit_counts import UnitCounts
from adapters.units import Entry, LimitedDraw
from contextual_bandit import events
from contextual_bandit.actions import no_offer
from contextual_bandit.baseline import BaselinePolicy
from contextual_bandit.decide import (
    Choice,
    Moment,
    combined,
    decide,
    decide_slots,
    drawn_inside,
    gets_no_offer,
    is_by_campaign_baseline,
)
from contextual_bandit.limits import SlotDraw, draw, draw_slots, resolve
from contextual_bandit.loops import LoopConfig
from contextual_bandit.slots import Slate, SlotAsked
from contextual_bandit.types import Action, Decision, Distribution, Removed
from decision_service.candidates import asked, unknown_ids
from decision_service.checks import RepeatedId, check_size, check_time, hash_request, repeated_id
from decision_service.circumstances import Circumstances
from decision_service.fresh_ids import FreshIds
from decision_service.held import Candidate, Catalogue
from decision_service.inside_draws import REFUSED, InsideDraws, draws_of
from decision_service.logged_decisions import LoggedDecisions
from decision_service.outlook import Outlook, look, question_of
from decision_service.problems import Problem, not_found
from decision_service.schemas import RankIn
from decision_service.sent import SentContexts
from decision_service.serving import Serving, utc_now
from decision_service.slates import check_named, named_by_slots, slots_asked
from decision_service.sticky import SessionDecision, StickySessions, goes_on

# The reason of candidates that the sender of a call excluded.
EXCLUDED = "excluded"
# Counts of units that were lost are made anew and the draw is tried again, so often.
TRIES = 3


@dataclass(frozen=True, slots=True)
class Prepared:
    """A decision on its way to the log, or one that was there already; a ``limited`` one is drawn as it is logged.

    ``slate`` has its slots, where slots were asked for and wait for that. ``inside`` are the draws of a policy that
    draws itself, if offers with limits are among what it drew from. One that goes on with a session is answered to a
    caller whose ``own_id``, with the hash of the request, is to stand for it. ``outlook`` is what it was decided from.
    One that begins a session replaces that of ``before``; where another has begun meanwhile, it is prepared ``again``.
    """

    decision: Decision
    is_logged: bool = False
    fallback: Action = field(default_factory=no_offer)
    limited: LimitedDraw | None = None
    preferred: tuple[int, ...] | None = None
    slate: Slate | None = None
    inside: InsideDraws | None = None
    own_id: tuple[str, str] | None = None
    outlook: Outlook | None = None
    before: str | None = None
    again: Callable[[], Awaitable[Prepared]] | None = None

    def payload(self) -> dict[str, Any]:
        """What is logged, before any draw that happens there."""
        if self.slate is not None and self.limited is not None:
            return events.slate_payload(self.slate)
        outlook, decision = self.outlook, self.decision
        parts = outlook.parts if outlook is not None and outlook.is_of(decision) else None
        if self.limited is None:
            return events.decision_payload(decision, parts)
        return events.limited_payload(decision, self.fallback, self.preferred, parts)

    def drawn(self, logged: Logged) -> Decision:
        """The decision as it was logged just now."""
        if not logged.draws:
            return self.decision
        if self.slate is not None:
            return self.slate.resolved(logged.draws)
        return resolve(self.decision, logged.draws[0], self.fallback, self.preferred)

    def drawn_aside(self) -> Decision:
        """The decision where no units are counted: what has limits counts as exhausted."""
        if self.inside is not None:
            return self.inside.without_units()
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
        self._circumstances = circumstances
        self._units = units
        self._metrics = metrics
        self._ttl = decided_ttl_seconds
        self._sticky = StickySessions(client, writer, engine, decided_ttl_seconds)
        self.logged = LoggedDecisions(client, writer, engine, decided_ttl_seconds)
        self._sent = SentContexts()
        self._fresh_ids = FreshIds()

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
        if self._serving.was_asleep:
            await self._serving.wake()
        loop = await self.loop(request.loop)
        now = utc_now()
        sent = self._sent.read(loop.schema, request.context, field)
        slots = slots_asked(request, field)
        request_hash = hash_request(request, excluded)
        if request.decision_id is not None and not is_repeated:
            stored = await self.logged.find(loop.loop, request.decision_id, request_hash)
            if stored is not None:
                return Prepared(stored, is_logged=True)
        # After the look-up: a retry's moment may be long past, and its answer stands.
        occurred_at = check_time(loop, request.occurred_at, now, field + "occurred_at")
        catalogue = await self._catalogue(request)
        asked_for = asked(request, catalogue, field)
        if slots is not None:
            check_named(slots, {candidate.offer.offer_id for candidate in asked_for.offers}, field)
        circumstance = await self._circumstances.of(loop, request, occurred_at, catalogue)
        context, sources = circumstance.context(sent.namespaces)
        # On a loop with wall time a sender's clock feeds features, but does not bring an expired offer back.
        gates_now = now if loop.clock == "wall" else occurred_at
        rules = self._serving.rules_of(loop.loop)
        killed = self._serving.killed.offers
        question = question_of(request, sent, rules, killed)
        outlook = None if question is None else circumstance.outlooks.get(question, gates_now)
        if outlook is None:
            situation = circumstance.situation(gates_now, context, request)
            outlook = look(asked_for, situation, rules, killed, loop, catalogue, circumstance.affinity)
            if question is not None:
                circumstance.outlooks.put(question, outlook)
        check_size(context, outlook.actions, field, slots or (), outlook.features)
        removed = outlook.removed
        if excluded:
            removed += tuple(Removed(offer_id, EXCLUDED) for offer_id in excluded)
        moment = Moment(
            request.decision_id or self._fresh_ids.next(), request.customer_id, now, occurred_at,
            request.defer_activation, request_hash,
        )  # fmt: skip
        choice = Choice(context, outlook.actions, removed, outlook.fallback, sources, sent.dropped)
        if not loop.sticky_seconds or is_repeated or moment.customer_id is None:
            return self._decided(loop, catalogue, moment, choice, slots, outlook)
        found, before = await self._session(loop, moment.customer_id, moment, choice, slots)
        if found is not None:
            own_id = None if request.decision_id is None else (request.decision_id, moment.request_hash)
            return Prepared(found, is_logged=True, own_id=own_id)
        again = partial(self.prepare, request, field, excluded=excluded)
        return replace(self._decided(loop, catalogue, moment, choice, slots, outlook), before=before, again=again)

    def _decided(
        self, loop: LoopConfig, catalogue: Catalogue, moment: Moment, choice: Choice, slots: Sequence[SlotAsked] | None,
        outlook: Outlook,
    ) -> Prepared:  # fmt: skip
        """What is decided now; draws that depend on what is counted elsewhere are still to be made."""
        candidates = outlook.candidates
        serving = self._serving.policy_for(loop, moment.customer_id)
        inside = drawn_inside(loop, serving, moment, choice, slots)
        if inside is not None:
            offers, tiers = [one.offer for one in candidates], _priorities(loop, candidates)
            return _inside(draws_of(loop, inside, offers, _counted(catalogue, candidates), tiers))
        if slots is not None:
            found = decide_slots(loop, serving, moment, choice, slots, _priorities(loop, candidates))
            return _slate(loop, catalogue, found, candidates)
        prepared = Prepared(
            decide(loop, serving, moment, choice), fallback=outlook.fallback, outlook=outlook
        )  # fmt: skip
        return _limited(loop, catalogue, prepared, candidates)

    async def _session(
        self, loop: LoopConfig, customer_id: str, moment: Moment, choice: Choice, slots: Sequence[SlotAsked] | None
    ) -> tuple[SessionDecision | None, str | None]:
        """The decision of the customer's session, if it still answers what is asked, and what marks the session."""
        at = moment.occurred_at if loop.clock == "simulated" else moment.now
        found, mark = await self._sticky.find(loop, customer_id, at)
        serving = self._serving.policy_for(loop, customer_id)
        if found is None or not goes_on(found, loop, serving, choice, slots, deferred=moment.deferred):
            return None, mark
        return found, mark

    async def _catalogue(self, request: RankIn) -> Catalogue:
        """One version of the catalogue; an offer created a moment ago by another worker is looked for."""
        held = self._serving.catalogue
        named = named_by_slots(request) if request.candidates is None else ()
        if unknown_ids(request, held) or any(name not in held.offers for name in named):
            await self._serving.refresh()
        return self._serving.catalogue

    async def log(self, prepared: Prepared) -> Decision:
        """Make a decision durable; if its id was logged meanwhile, the one that was logged counts.

        So it is with a session that another call has begun meanwhile.
        """
        for _ in range(TRIES):
            try:
                return await self._log(prepared)
            except SessionBegun:
                if prepared.again is None:
                    raise
                prepared = await prepared.again()
        # Calls that no session answers alike take turns: here the last one goes on.
        return await self._log(replace(prepared, before=None))

    async def _log(self, prepared: Prepared) -> Decision:
        decision = prepared.decision
        if prepared.is_logged:
            self._metrics.repeats.labels(decision.loop).inc()
            if prepared.own_id is not None and isinstance(decision, SessionDecision):
                return await self.logged.name(await self.loop(decision.loop), decision, *prepared.own_id)
            return decision
        prepared, logged = await self._append(prepared)
        decision = prepared.decision
        if not logged.known:
            if decision.dropped:
                self._metrics.dropped.labels(decision.loop).inc(len(decision.dropped))
            decision = prepared.drawn(logged)
            self._metrics.decisions.labels(decision.loop, decision.use).inc()
            return decision
        if logged.request_hash != decision.request_hash:
            raise repeated_id(decision.decision_id)
        self._metrics.repeats.labels(decision.loop).inc()
        return await self.logged.find(decision.loop, decision.decision_id, decision.request_hash) or decision

    async def _append(self, prepared: Prepared) -> tuple[Prepared, Logged]:
        """Log it, and give it as it was logged: a policy that draws itself draws again without what is exhausted."""
        tries = 0
        while tries < TRIES:
            if prepared.inside is not None and self._writer.is_away:
                prepared = Prepared(prepared.inside.without_units())
            decision = prepared.decision
            message = events.encode_decision(prepared.payload())
            try:
                logged = await self._writer.log_decision(
                    decision.loop, decision.decision_id, message, decision.request_hash, self._ttl, prepared.limited,
                    self._sticky.mark(self._serving.loops.get(decision.loop), decision, prepared.before),
                )  # fmt: skip
            except UnitsUnknown:
                tries += 1
                await self._units.rebuild()
                continue
            if prepared.inside is None or logged.known or logged.position != REFUSED:
                return prepared, logged
            redrawn = _inside(prepared.inside.without(logged.draws[0].masked))
            prepared = replace(redrawn, before=prepared.before, again=prepared.again)
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


def _limited(loop: LoopConfig, catalogue: Catalogue, prepared: Prepared, candidates: Sequence[Candidate]) -> Prepared:
    """Leave the draw to where units are counted, if any are; lower priorities alone are masked here."""
    decision = prepared.decision
    slot = decision.slots[0]
    if slot.distribution is None or slot.draw is None or gets_no_offer(loop, decision):
        return prepared
    if not catalogue.units and not loop.priority_tiers:
        return prepared
    offers = _counted(catalogue, candidates)
    tiers = tuple(entry.offer.priority for entry in candidates) if loop.priority_tiers else None
    preferred = is_by_campaign_baseline(decision)
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


def _inside(inside: InsideDraws) -> Prepared:
    """Draw inside the policy; what has limits is taken where it is counted, if nothing of it is exhausted there."""
    decision = inside.draws.drawn()
    take = inside.take(decision)
    if take is None:
        return Prepared(decision)
    fallback = inside.draws.fallback
    slate = Slate(decision, fallback) if decision.has_slots else None
    return Prepared(decision, fallback=fallback, limited=take, slate=slate, inside=inside)


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
