"""From a rank request to a logged decision: everything between the route and the stream."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, cast

import orjson
import redis.asyncio
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from adapters.customers import POPULATION, CustomerStore, customer_cache_key
from adapters.interaction_log import find_decision, known_hashes
from adapters.spool import SPOOLED
from adapters.stream_writer import StreamWriter
from adapters.streams import FIELD, decided_key, loop_stream, profile_key
from adapters.telemetry import ServiceMetrics
from contextual_bandit import events
from contextual_bandit.context import Affinities, build_context
from contextual_bandit.decide import Moment, decide
from contextual_bandit.eligibility import split
from contextual_bandit.features import rebuild_context, rebuild_features
from contextual_bandit.loops import LoopConfig
from contextual_bandit.profile import Population, Profile, decode_population, decode_profile
from contextual_bandit.types import Action, Context, Decision, Features, FeatureValue, Offer, Removed
from decision_service.problems import Problem, bad_field, not_found
from decision_service.schemas import CandidateIn, RankIn
from decision_service.serving import Catalogue, Serving, utc_now
from decision_service.together import Together

MOST_CACHED = 20_000
MOST_PAIRS = 30_000_000
CLOCK_TOLERANCE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Known:
    """What the stores know of a customer, as of the read."""

    profile: Profile | None
    demographics: Mapping[str, FeatureValue]


NOBODY = Known(None, {})


class Customers:
    """Profiles and records on the hot path: in process for at most a second, then Redis, then PostgreSQL."""

    def __init__(
        self, client: redis.asyncio.Redis, writer: StreamWriter, store: CustomerStore, cache_seconds: float
    ) -> None:
        self._client = client
        self._writer = writer
        self._together = Together[str, tuple[bytes, bytes]](
            lambda customer_ids: store.read_through(customer_ids, remember=not writer.is_away)
        )
        self._cache_seconds = cache_seconds
        self._cache: OrderedDict[str, tuple[float, Known]] = OrderedDict()
        self._population: tuple[float, Population] = (0.0, Population())

    async def known(self, customer_id: str | None) -> Known:
        """What is known of a customer; nothing of an unknown or absent one."""
        if customer_id is None:
            return NOBODY
        now = time.monotonic()
        cached = self._cache.get(customer_id)
        if cached is not None and cached[0] > now:
            return cached[1]
        state, record = await self._read(customer_id)
        known = Known(decode_profile(state) if state else None, orjson.loads(record) if record else {})
        self._cache[customer_id] = (now + self._cache_seconds, known)
        if len(self._cache) > MOST_CACHED:
            self._cache.popitem(last=False)
        return known

    async def _read(self, customer_id: str) -> tuple[bytes | None, bytes | None]:
        state = record = None
        if not self._writer.is_away:
            keys = [profile_key(customer_id), customer_cache_key(customer_id)]
            with self._writer.noting_absence():
                state, record = cast("list[bytes | None]", await self._client.mget(keys))
        if state is None or record is None:
            # A decision without history is better than none; what was used is in the log.
            with suppress(SQLAlchemyError):
                found = await self._together.get(customer_id)
                stored_state, stored_record = found or (None, None)
                state, record = state or stored_state, record or stored_record
        return state, record

    async def population(self) -> Population:
        """What is usual among all customers."""
        now = time.monotonic()
        if self._population[0] <= now:
            state = None
            if not self._writer.is_away:
                with self._writer.noting_absence():
                    state = cast("bytes | None", await self._client.get(profile_key(POPULATION)))
            fresh = decode_population(state) if state else self._population[1]
            self._population = (now + max(self._cache_seconds, 0.1), fresh)
        return self._population[1]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An eligible offer, from the catalogue or (version 0) from the request."""

    offer_id: str
    features: Features
    category: str | None
    version: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A decision on its way to the log, or one that was there already."""

    decision: Decision
    is_logged: bool


class Ranker:
    """Answers rank calls of one service process."""

    def __init__(
        self, serving: Serving, writer: StreamWriter, client: redis.asyncio.Redis, engine: Engine,
        customers: Customers, metrics: ServiceMetrics, decided_ttl_seconds: int,
    ) -> None:  # fmt: skip
        self._serving = serving
        self._writer = writer
        self._client = client
        self._engine = engine
        self._customers = customers
        self._metrics = metrics
        self._ttl = decided_ttl_seconds
        self._known_hashes = Together[tuple[str, str], str](lambda keys: known_hashes(engine, keys))

    async def rank(self, request: RankIn, field: str = "") -> Decision:
        """Decide and log one call; a repeated id gets its stored decision.

        Raises:
            Problem: 400, 404 or 409; also the domain's own errors.
        """
        return await self.log(await self.prepare(request, field))

    async def prepare(self, request: RankIn, field: str = "") -> Prepared:
        """Check and decide without logging, so that a batch can be refused as a whole."""
        loop = await self.loop(request.loop)
        now = utc_now()
        client_context = rebuild_context(request.context)
        request_hash = hash_request(request)
        if request.decision_id is not None:
            stored = await self._stored(loop, request.decision_id, request_hash)
            if stored is not None:
                return Prepared(stored, is_logged=True)
        # After the look-up: a retry's moment may be long past, and its answer stands.
        occurred_at = check_time(loop, request.occurred_at, now, field + "occurred_at")
        # On a loop with wall time a sender's clock feeds features, but does not bring an expired offer back.
        candidates, removed = await self._candidates(request, now if loop.clock == "wall" else occurred_at, field)
        known = await self._customers.known(request.customer_id)
        affinities = Affinities(known.profile, await self._customers.population(), occurred_at)
        context = build_context(loop, occurred_at, known.profile, known.demographics, client_context)
        actions = [
            Action(entry.offer_id, entry.features, affinities.of(entry.category), entry.version) for entry in candidates
        ]
        check_size(context, actions, field)
        decision_id = request.decision_id or str(uuid.uuid4())
        moment = Moment(decision_id, request.customer_id, now, occurred_at, request.defer_activation, request_hash)
        serving = self._serving.policies[loop.loop]
        return Prepared(decide(loop, serving, moment, context, actions, removed), is_logged=False)

    async def log(self, prepared: Prepared) -> Decision:
        """Make a decision durable; if its id was logged meanwhile, the one that was logged counts."""
        decision = prepared.decision
        if prepared.is_logged:
            self._metrics.repeats.labels(decision.loop).inc()
            return decision
        message = events.encode(events.DECISION, decision.occurred_at, events.decision_payload(decision))
        logged = await self._writer.log_decision(
            decision.loop, decision.decision_id, message, decision.request_hash, self._ttl
        )
        if not logged.known:
            self._metrics.decisions.labels(decision.loop, decision.use).inc()
            return decision
        if logged.request_hash != decision.request_hash:
            raise repeated_id(decision.decision_id)
        self._metrics.repeats.labels(decision.loop).inc()
        stored = await self.find_logged(decision.loop, decision.decision_id, logged.position)
        return stored or decision

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

    async def _candidates(self, request: RankIn, now: datetime, field: str) -> tuple[list[Candidate], list[Removed]]:
        """Eligible candidates in the sender's order, from one version of the catalogue, and the removed ones."""
        if request.candidates is None:
            eligible, removed = split(self._serving.catalogue.offers.values(), now)
            return [_candidate(self._serving.catalogue, offer) for offer in eligible], removed
        ids = [entry if isinstance(entry, str) else entry.offer_id for entry in request.candidates]
        if len(set(ids)) < len(ids):
            repeated = next(offer_id for index, offer_id in enumerate(ids) if offer_id in ids[:index])
            raise bad_field(field + "candidates", repeated, "an offer may be a candidate once")
        named = [entry for entry in request.candidates if isinstance(entry, str)]
        if any(offer_id not in self._serving.catalogue.offers for offer_id in named):
            await self._serving.refresh()
        catalogue = self._serving.catalogue
        unknown = [offer_id for offer_id in named if offer_id not in catalogue.offers]
        if unknown:
            raise bad_field(field + "candidates", ", ".join(unknown[:10]), "unknown offers")
        eligible, removed = split([catalogue.offers[offer_id] for offer_id in named], now)
        found = {offer.offer_id: _candidate(catalogue, offer) for offer in eligible}
        for index, entry in enumerate(request.candidates):
            if isinstance(entry, CandidateIn):
                features = rebuild_features(entry.features, f"{field}candidates.{index}.features")
                category = features.get("category")
                found[entry.offer_id] = Candidate(
                    entry.offer_id, features, category if isinstance(category, str) else None, 0
                )
        return [found[offer_id] for offer_id in ids if offer_id in found], removed


def _candidate(catalogue: Catalogue, offer: Offer) -> Candidate:
    return Candidate(offer.offer_id, catalogue.features[offer.offer_id], offer.category, offer.version)


def check_size(context: Context, actions: Sequence[Action], field: str) -> None:
    """Refuse a decision that would hold the process up: pairs of features times actions are bounded.

    Raises:
        Problem: 400.
    """
    shared = sum(map(len, context.namespaces.values()))
    pairs = sum((shared + len(action.features) + len(action.affinity)) ** 2 for action in actions)
    if pairs > MOST_PAIRS:
        raise bad_field(
            field + "candidates", len(actions), f"{pairs} pairs of features over all candidates, {MOST_PAIRS} at most"
        )


def hash_request(request: RankIn) -> str:
    """A hash of everything that was asked except the id."""
    body = request.model_dump(mode="json", exclude={"decision_id"})
    return blake2b(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def check_time(loop: LoopConfig, occurred_at: datetime | None, now: datetime, field: str) -> datetime:
    """The moment that features speak of.

    Raises:
        Problem: missing on a loop with a simulated clock, or more than 5 minutes off on any other.
    """
    if loop.clock == "simulated":
        if occurred_at is None:
            raise bad_field(field, None, f"is required: the clock of loop {loop.loop!r} is simulated")
        return occurred_at
    if occurred_at is None:
        return now
    if abs(occurred_at - now) > CLOCK_TOLERANCE:
        raise bad_field(field, occurred_at.isoformat(), "is more than 5 minutes off the service's clock")
    return occurred_at


def repeated_id(decision_id: str) -> Problem:
    """A 409: the id stands for another request."""
    return Problem(409, "Conflict", f"decision_id {decision_id!r} was used for another request")


def check_batch_ids(requests: Sequence[RankIn]) -> None:
    """Refuse a batch in which one id stands for two different requests."""
    seen: dict[tuple[str, str], str] = {}
    for request in requests:
        if request.decision_id is not None:
            mark = hash_request(request)
            if seen.setdefault((request.loop, request.decision_id), mark) != mark:
                raise repeated_id(request.decision_id)
