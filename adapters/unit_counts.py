"""Counts of units: what comes back when decisions close, and all of it made anew from the log when it was lost."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

import orjson
import redis
from sqlalchemy import Connection, Engine, delete, func, select, text

from adapters.records import offer_from
from adapters.tables import offer_versions, offers, performance, unit_changes
from adapters.units import EPOCH_KEY, Entry, entries, seen_key, units_key
from contextual_bandit.joined import REDEEMING

APPLIED_KEY = "units:applied"
LOCK_KEY = "units:rebuilding"
LOCK_SECONDS = 60
WAIT_SECONDS = 10.0

# Changes of one loop come in the order of their numbers and are applied once, however often they are sent.
_APPLY = """
if tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0') >= tonumber(ARGV[2]) then return 0 end
for _, op in ipairs(cjson.decode(ARGV[3])) do
  local what, key, field, value, step = op[1], op[2], op[3], op[4], op[5]
  if what == 'give' then
    local have = tonumber(redis.call('HGET', key, field) or '0')
    redis.call('HSET', key, field, string.format('%.0f', math.max(have - value, 0)))
  elseif what == 'set' then
    redis.call('HSET', key, field, string.format('%.0f', value))
  elseif what == 'unset' then
    if redis.call('HGET', key, field) == string.format('%.0f', value) then redis.call('HDEL', key, field) end
  elseif what == 'unlist' then
    local at, kept, found = string.format('%.0f', math.floor(value / step)), {}, false
    for when, n in string.gmatch(redis.call('HGET', key, field) or '', '(%-?%d+):(%d+)') do
      if when == at and not found then
        found = true
        n = string.format('%.0f', n - 1)
      end
      if n ~= '0' then kept[#kept + 1] = when .. ':' .. n end
    end
    if found then redis.call('HSET', key, field, table.concat(kept, ' ')) end
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""
# What each slot of a decision shows; a decision without slots shows one offer.
_EACH_SHOWN = """
CROSS JOIN LATERAL (
  SELECT d.offer_id AS offer_id, 0 AS place, NULL AS slot_id WHERE d.shown IS NULL
  UNION ALL
  SELECT one.value->>1, one.ordinality::int - 1, one.value->>0
  FROM jsonb_array_elements(d.shown) WITH ORDINALITY AS one
) s
"""
_OF_THE_SLOT = """(CASE jsonb_typeof(r.slot) WHEN 'number' THEN (r.slot #>> '{}')::int = s.place
  WHEN 'string' THEN r.slot #>> '{}' = s.slot_id ELSE s.place = 0 END)"""
# Decisions that still count: open, or closed as interactions. Deferred ones that nobody saw have given units back.
_SHOWN = text(f"""
SELECT s.offer_id, d.customer_id, d.decided_at, o.decision_id IS NOT NULL AS is_open,
       o.decision_id IS NULL AND i.sequence IS NULL AS is_inactive,
       EXISTS (SELECT 1 FROM outcomes r WHERE r.loop = d.loop AND r.decision_id = d.decision_id
               AND r.state = 'joined' AND r.kind = ANY(:redeeming) AND {_OF_THE_SLOT}) AS is_redeemed
FROM decisions d
{_EACH_SHOWN}
LEFT JOIN open_decisions o ON o.loop = d.loop AND o.decision_id = d.decision_id
LEFT JOIN interactions i ON i.loop = d.loop AND i.decision_id = d.decision_id AND i.decided_at = d.decided_at
     AND i.revision = 0
WHERE s.offer_id = ANY(:offers) AND d.use <> 'fallback'
""")
_REDEEMED = text(f"""
SELECT s.offer_id, d.customer_id, max(r.received_at) AS at
FROM outcomes r JOIN decisions d ON d.loop = r.loop AND d.decision_id = r.decision_id
{_EACH_SHOWN}
WHERE r.kind = ANY(:redeeming) AND r.state = 'joined' AND d.customer_id IS NOT NULL AND s.offer_id = ANY(:offers)
  AND {_OF_THE_SLOT}
GROUP BY s.offer_id, d.customer_id
""")


@dataclass(frozen=True, slots=True)
class Show:
    """One show of a limited offer."""

    customer_id: str | None
    at: datetime
    holds_stock: bool


class UnitCounts:
    """The service's side: counts that the store has lost are made anew, once, whoever asks first."""

    def __init__(self, engine: Engine, client: redis.Redis) -> None:
        self._engine = engine
        self._client = client
        self._running: asyncio.Task[None] | None = None

    async def rebuild(self) -> None:
        """Make the counts whole; callers that come meanwhile wait for the same work."""
        if self._running is None:
            self._running = asyncio.create_task(asyncio.to_thread(rebuild_counts, self._engine, self._client))
            self._running.add_done_callback(lambda _: setattr(self, "_running", None))
        await asyncio.shield(self._running)


def rebuild_counts(engine: Engine, client: redis.Redis) -> None:
    """Count all units again from PostgreSQL and mark the counts as whole; another process's work is waited for."""
    if not client.set(LOCK_KEY, "1", nx=True, ex=LOCK_SECONDS):
        deadline = time.monotonic() + WAIT_SECONDS
        while not client.exists(EPOCH_KEY) and time.monotonic() < deadline:
            time.sleep(0.05)
        return
    try:
        if client.exists(EPOCH_KEY):
            return
        with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection, connection.begin():
            hashes, applied = _counted(connection)
        pipeline = client.pipeline(transaction=True)
        for key, values in hashes.items():
            pipeline.delete(key)
            pipeline.hset(key, mapping=cast("Any", values))
        if applied:
            pipeline.hset(APPLIED_KEY, mapping=cast("Any", applied))
        pipeline.set(EPOCH_KEY, "1")
        pipeline.execute()
    finally:
        client.delete(LOCK_KEY)


def apply_changes(engine: Engine, client: redis.Redis, loop: str) -> int:
    """Bring what a loop's closed decisions changed to the counts, each change once; returns how many there were."""
    with engine.begin() as connection:
        query = select(unit_changes).where(unit_changes.c.loop == loop).order_by(unit_changes.c.change_id).limit(1000)
        rows = connection.execute(query).mappings().all()
        if not rows:
            return 0
        prepared = _versions(connection, {(row["offer_id"], row["version"]) for row in rows})
        pipeline = client.pipeline(transaction=False)
        for row in rows:
            operations = _operations(row, prepared.get((row["offer_id"], row["version"])))
            pipeline.eval(_APPLY, 1, APPLIED_KEY, loop, str(row["change_id"]), orjson.dumps(operations).decode())
        pipeline.execute()
        connection.execute(
            delete(unit_changes).where(unit_changes.c.loop == loop, unit_changes.c.change_id <= rows[-1]["change_id"])
        )
    return len(rows)


def _versions(connection: Connection, wanted: set[tuple[str, int]]) -> dict[tuple[str, int], Entry]:
    """The counted offers among these versions; version 0 (sent with a request) stands for the newest."""
    names = {offer_id for offer_id, _ in wanted}
    query = select(offer_versions).where(offer_versions.c.offer_id.in_(names)).order_by(offer_versions.c.version)
    found: dict[tuple[str, int], Entry] = {}
    for row in connection.execute(query):
        for version in {row.version, 0}:
            if (row.offer_id, version) in wanted:
                prepared = entries([offer_from(row.offer_id, row.version, row.record)])
                if row.offer_id in prepared:
                    found[row.offer_id, version] = prepared[row.offer_id]
    return found


def _operations(row: Mapping[Any, Any], entry: Entry | None) -> list[list[Any]]:
    """What one change does to the counts."""
    offer_id, customer_id = row["offer_id"], row["customer_id"]
    units, shown_ms = units_key(offer_id), _ms(row["shown_at"])
    if row["change"] == "redeemed":
        return [["set", seen_key(customer_id), f"r:{offer_id}", _ms(row["changed_at"])]] if customer_id else []
    if row["change"] == "unredeemed":
        return [["give", units, "t:stock", 1]] if entry and _has_stock(entry) else []
    found: list[list[Any]] = []
    if customer_id:
        found.append(["unset", seen_key(customer_id), f"s:{offer_id}", shown_ms])
    if entry is None:
        return found
    spec = entry.spec
    found += [["give", units, field, take] for field, take, _ in spec["total"]]
    found += [["unlist", units, field, shown_ms, step] for field, _, _, step in spec["window"]]
    if customer_id:
        seen = seen_key(customer_id)
        found += [["give", seen, field, 1] for field, _ in spec["ever"]]
        found += [["unlist", seen, field, shown_ms, 1] for field, _, _ in spec["each"]]
    return found


def _has_stock(entry: Entry) -> bool:
    return any(field == "t:stock" for field, _, _ in entry.spec["total"])


def _counted(connection: Connection) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """All counts by key and field, and the newest change of each loop that they contain."""
    rows = connection.execute(select(offers).where(~offers.c.deleted))
    held = entries([offer_from(row.offer_id, row.version, row.record) for row in rows])
    wanted = {"offers": list(held), "redeeming": sorted(REDEEMING)}
    lasting_query = (
        select(performance.c.offer_id, func.sum(performance.c.decisions))
        .where(performance.c.offer_id == func.any(list(held)))
        .group_by(performance.c.offer_id)
    )
    ever = {row[0]: int(row[1]) for row in connection.execute(lasting_query)}
    shows: dict[str, list[Show]] = defaultdict(list)
    inactive: Counter[str] = Counter()
    for row in connection.execute(_SHOWN, wanted):
        if row.is_inactive:
            inactive[row.offer_id] += 1
        else:
            shows[row.offer_id].append(Show(row.customer_id, row.decided_at, row.is_open or row.is_redeemed))
    hashes: dict[str, dict[str, str]] = defaultdict(dict)
    for offer_id, entry in held.items():
        # Days that retention dropped are known by the aggregates alone.
        lasting = max(len(shows[offer_id]), ever.get(offer_id, 0) - inactive[offer_id])
        _count_offer(hashes, entry, shows[offer_id], lasting)
    for row in connection.execute(_REDEEMED, wanted):
        hashes[seen_key(row.customer_id)][f"r:{row.offer_id}"] = str(_ms(row.at))
    newest = select(unit_changes.c.loop, func.max(unit_changes.c.change_id)).group_by(unit_changes.c.loop)
    applied = {loop: str(change_id) for loop, change_id in connection.execute(newest)}
    return {key: values for key, values in hashes.items() if values}, applied


def _count_offer(hashes: dict[str, dict[str, str]], entry: Entry, shows: Sequence[Show], lasting: int) -> None:
    units, spec = hashes[units_key(entry.offer_id)], entry.spec
    for field, take, _ in spec["total"]:
        count = sum(show.holds_stock for show in shows) if field == "t:stock" else lasting
        units[field] = str(take * count)
    newest = max((show.at for show in shows), default=None)
    if newest is None:
        return
    for field, _, span, step in spec["window"]:
        units[field] = _listed((show.at for show in shows if show.at >= newest - timedelta(milliseconds=span)), step)
    by_customer: dict[str, list[datetime]] = defaultdict(list)
    for show in shows:
        if show.customer_id is not None:
            by_customer[show.customer_id].append(show.at)
    for customer_id, times in by_customer.items():
        seen = hashes[seen_key(customer_id)]
        for field, _ in spec["ever"]:
            seen[field] = str(len(times))
        for field, _, span in spec["each"]:
            seen[field] = _listed((at for at in times if at >= newest - timedelta(milliseconds=span)), 1)
        if "shown" in spec:
            seen[spec["shown"]] = str(_ms(max(times)))


def _listed(times: Iterable[datetime], step: float) -> str:
    counts = Counter(int(_ms(at) // step) for at in times)
    return " ".join(f"{at}:{count}" for at, count in sorted(counts.items()))


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
