"""What is known of customers on the hot path: in process for at most a second, then Redis, then PostgreSQL.

Who is asked about again and again is read anew, many customers at a time, before that second is over: their calls need
not wait for a read of their own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import cast

from sqlalchemy.exc import SQLAlchemyError

from adapters.customers import POPULATION, CustomerStore, customer_cache_key
from adapters.records import customer_from
from adapters.stream_writer import StreamWriter
from adapters.streams import profile_key
from contextual_bandit.profile import Population, Profile, decode_population, decode_profile
from contextual_bandit.types import CustomerRecord
from decision_service.together import Together

log = logging.getLogger(__name__)
# What has less than this share of its time left when it is asked for is read anew, after a further share.
AGEING_SHARE, GATHER_SHARE = 0.5, 0.1
# So many customers in one read: its answer keeps the calls waiting for some tenths of a millisecond.
READ_AT_A_TIME = 32
# Profiles in a process's memory, at some kilobytes each: more than it can be asked for while one may be used.
MOST_CACHED = 5_000


@dataclass(frozen=True, slots=True)
class Customer:
    """What the stores hold of a customer, as of the read; ``mark`` is the same as long as that is."""

    profile: Profile | None
    record: CustomerRecord
    mark: bytes = b""


NOBODY = Customer(None, CustomerRecord())


def _customer(state: bytes | None, record: bytes | None, before: Customer | None) -> Customer:
    """A customer as the stores have them; the one from ``before`` while they say the same."""
    mark = blake2b((state or b"") + b"\x00" + (record or b""), digest_size=16).digest()
    if before is not None and before.mark == mark:
        return before
    return Customer(decode_profile(state) if state else None, customer_from(record or b""), mark)


class Customers:
    """Profiles, records and the population; a decision without them is better than none."""

    def __init__(self, writer: StreamWriter, store: CustomerStore, cache_seconds: float) -> None:
        self._writer = writer
        self._together = Together[str, tuple[bytes, bytes]](
            lambda customer_ids: store.read_through(customer_ids, remember=not writer.is_away)
        )
        self._cache_seconds = cache_seconds
        self._cache: OrderedDict[str, tuple[float, Customer]] = OrderedDict()
        self._population: tuple[float, Population] = (0.0, Population())
        self._population_state = b""
        self._ageing: dict[str, None] = {}
        self._renewal: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """Read nothing more on its own."""
        if self._renewal is not None:
            self._renewal.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewal

    async def known(self, customer_id: str | None, before: Customer | None = None) -> Customer:
        """What is known of a customer; nothing of an unknown or absent one.

        What was known ``before`` is given again while the stores say the same.
        """
        if customer_id is None:
            return NOBODY
        now = time.monotonic()
        cached = self._cache.get(customer_id)
        if cached is not None and cached[0] > now:
            if cached[0] - now < AGEING_SHARE * self._cache_seconds:
                self._renew_soon(customer_id)
            return cached[1]
        state, record = await self._read(customer_id)
        customer = _customer(state, record, before)
        self._remember(customer_id, customer, now)
        return customer

    def _renew_soon(self, customer_id: str) -> None:
        """Have a customer read with others whose time is nearly over."""
        self._ageing[customer_id] = None
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._renew(), name="renew-customers")

    async def _renew(self) -> None:
        """Read all who are ageing; of whom nothing is found, or while Redis is away, the next call finds out itself."""
        await asyncio.sleep(GATHER_SHARE * self._cache_seconds)
        try:
            while self._ageing and not self._writer.is_away:
                names = list(self._ageing)[:READ_AT_A_TIME]
                for name in names:
                    del self._ageing[name]
                await self._renew_these(names)
        except Exception:
            log.exception("cannot read customers before their time is over; their calls read them")
        finally:
            self._ageing.clear()

    async def _renew_these(self, names: Sequence[str]) -> None:
        now = time.monotonic()
        keys = [key.encode() for name in names for key in (profile_key(name), customer_cache_key(name))]
        with self._writer.noting_absence():
            found = cast("list[bytes | None]", await self._writer.ask(b"MGET", *keys))
            for name, state, record in zip(names, found[::2], found[1::2], strict=True):
                kept = self._cache.get(name)
                # A call may have read it meanwhile, and later than this.
                if state is None or record is None or kept is None or kept[0] >= now + self._cache_seconds:
                    continue
                self._remember(name, _customer(state, record, kept[1]), now)

    def _remember(self, customer_id: str, customer: Customer, now: float) -> None:
        """Keep what was read at ``now``, and let go of what is too old to be used."""
        cache = self._cache
        # Those that were read last are at the end, also one that was there before.
        cache.pop(customer_id, None)
        cache[customer_id] = (now + self._cache_seconds, customer)
        while cache and (len(cache) > MOST_CACHED or next(iter(cache.values()))[0] <= now):
            cache.popitem(last=False)

    async def _read(self, customer_id: str) -> tuple[bytes | None, bytes | None]:
        state = record = None
        if not self._writer.is_away:
            keys = [profile_key(customer_id).encode(), customer_cache_key(customer_id).encode()]
            with self._writer.noting_absence():
                state, record = cast("list[bytes | None]", await self._writer.ask(b"MGET", *keys))
        if state is None or record is None:
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
                    state = cast("bytes | None", await self._writer.ask(b"GET", profile_key(POPULATION).encode()))
            if state is None:
                with suppress(SQLAlchemyError):
                    stored = await self._together.get(POPULATION)
                    state = stored[0] if stored else None
            if state and state != self._population_state:
                self._population_state, fresh = state, decode_population(state)
            else:
                fresh = self._population[1]
            self._population = (now + max(self._cache_seconds, 0.1), fresh)
        return self._population[1]
