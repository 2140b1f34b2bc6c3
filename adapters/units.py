"""Units of limited offers, counted where decisions are logged: one script masks, draws, takes and logs at once.

Several slots of a decision are drawn there one after the other, without replacement.

Kept in Redis: ``units:{offer}`` (a hash: ``t:NAME`` counts for good, ``w:NAME`` by window) and ``seen:{customer}``
(``l:OFFER:NAME`` and ``c:OFFER:NAME`` alike, ``s:OFFER`` last shown, ``r:OFFER`` last redeemed; times in
milliseconds). A window is text "time:count ..." in steps of a 24th of it, the customer's in milliseconds; a step counts
as long as any of it lies in the window, so that a cap is never exceeded. ``units:epoch`` says that the counts are
whole: an emptied store lacks it, and counts are then made anew from the log before any limited offer is drawn.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from contextual_bandit.limits import CAP_EXHAUSTED, COUNTED, HOLDS_STOCK, UNLIMITED, Draw, SlotDraw, draw_slots
from contextual_bandit.types import Offer

EPOCH_KEY = "units:epoch"
MONEY_UNIT = 1_000_000
STEPS = 24
DAY_MS = 86_400_000.0
# How long a customer's counts are kept after the last show, unless a cap counts for good or looks back longer.
SEEN_SECONDS = 400 * 86_400

# One atomic step: answer a known id with what was logged; else, for a limited decision, mask what is exhausted, draw
# from the rest and take the drawn offer's units, slot by slot; then log it and remember where. What an earlier slot
# took or the slot must not show is gone first. contextual_bandit/limits.py has the same arithmetic. What was drawn
# elsewhere is taken and logged, unless anything that it was drawn among is exhausted: then nothing is done but to say
# what, whether it was drawn or not, since a refusal that depends on the draw would change its probabilities. A decision
# that begins a customer's session is logged only while the session is still the one (or none) that was looked up.
LOG_ONCE = """
local known = redis.call('HMGET', KEYS[2], 'hash', 'position')
if known[1] then return {1, known[1], known[2]} end
local session = ARGV[5] and KEYS[#KEYS]
if session and ARGV[5] ~= '*' and (redis.call('GET', session) or '') ~= ARGV[5] then return {3, '', ''} end
local function log(message)
  local position = redis.call('XADD', KEYS[1], '*', 'e', message)
  redis.call('HSET', KEYS[2], 'hash', ARGV[2], 'position', position)
  redis.call('EXPIRE', KEYS[2], ARGV[3])
  if session then redis.call('SET', session, ARGV[6], 'PX', ARGV[7]) end
  return position
end
if ARGV[4] and ARGV[4] ~= '' then
  if redis.call('EXISTS', KEYS[3]) == 0 then return {2, '', ''} end
  local spec = cjson.decode(ARGV[4])
  local now, seen = spec.now, spec.seen and KEYS[4] or nil
  local function live(text, window, step)
    local total, kept = 0, {}
    for at, n in string.gmatch(text or '', '(%-?%d+):(%d+)') do
      if (at + 1) * step > now - window then
        total = total + n
        kept[#kept + 1] = at .. ':' .. n
      end
    end
    return total, kept
  end
  local function lately(fields, window)
    if not seen then return false end
    for _, at in ipairs(redis.call('HMGET', seen, unpack(fields))) do
      if at and at + window > now then return true end
    end
    return false
  end
  local function exhausted(offer, units)
    for _, one in ipairs(offer.total) do
      local used = tonumber(redis.call('HGET', units, one[1]) or '0')
      if used + one[2] > one[3] then return 1 end
    end
    for _, one in ipairs(offer.window) do
      if live(redis.call('HGET', units, one[1]), one[3], one[4]) + 1 > one[2] then return 1 end
    end
    if seen then
      for _, one in ipairs(offer.ever) do
        if tonumber(redis.call('HGET', seen, one[1]) or '0') + 1 > one[2] then return 1 end
      end
      for _, one in ipairs(offer.each) do
        if live(redis.call('HGET', seen, one[1]), one[3], 1) + 1 > one[2] then return 1 end
      end
    end
    if offer.cool and lately({offer.cool[1]}, offer.cool[2]) then return 2 end
    return 0
  end
  local function related(offer)
    if offer.excludes and lately(offer.excludes[1], offer.excludes[2]) then return 3 end
    if offer.requires and not lately(offer.requires[1], offer.requires[2]) then return 4 end
    return 0
  end
  local owners, spent, promoted = {}, {}, {}
  for number, entry in ipairs(spec.offers) do
    owners[entry[1] + 1] = number
    spent[number] = exhausted(entry[2], KEYS[4 + number])
  end
  for _, index in ipairs(spec.promoted) do promoted[index + 1] = true end
  local function rescaled(served, masked)
    local total, first, shares = 0, nil, {}
    for index, probability in ipairs(served) do
      if not masked[index] then
        total = total + probability
        first = first or index
      end
    end
    for index, probability in ipairs(served) do
      if masked[index] then shares[index] = 0
      elseif total > 0 then shares[index] = probability / total
      else shares[index] = index == first and 1 or 0 end
    end
    return shares, first
  end
  local function left_over(policy, gone, left)
    local served, count = rescaled(policy, gone), 0
    local kept, each = 1 - spec.floor, spec.floor / left
    for index, one in ipairs(served) do
      if not gone[index] then
        served[index] = kept * one + each
        if promoted[index] then count = count + 1 end
      end
    end
    if count > 0 and spec.share > 0 then
      local extra = spec.share / count
      kept = 1 - spec.share
      for index, one in ipairs(served) do
        if not gone[index] then served[index] = kept * one + (promoted[index] and extra or 0) end
      end
    end
    return served
  end
  local function pick(served, number)
    local cumulative, last = 0, 1
    for index, share in ipairs(served) do
      if share > 0 then
        cumulative = cumulative + share
        last = index
        if number < cumulative then break end
      end
    end
    return last
  end
  local function take(number)
    local offer, units = spec.offers[number][2], KEYS[4 + number]
    local function put(key, field, window, step)
      local _, kept = live(redis.call('HGET', key, field), window, step)
      local at = string.format('%.0f', math.floor(now / step))
      local last = kept[#kept]
      if last and string.sub(last, 1, #at + 1) == at .. ':' then
        kept[#kept] = at .. ':' .. string.format('%.0f', string.sub(last, #at + 2) + 1)
      else
        kept[#kept + 1] = at .. ':1'
      end
      redis.call('HSET', key, field, table.concat(kept, ' '))
    end
    for _, one in ipairs(offer.total) do redis.call('HINCRBY', units, one[1], string.format('%.0f', one[2])) end
    for _, one in ipairs(offer.window) do put(units, one[1], one[3], one[4]) end
    if seen then
      local before = redis.call('EXISTS', seen) == 1
      for _, one in ipairs(offer.ever) do redis.call('HINCRBY', seen, one[1], 1) end
      for _, one in ipairs(offer.each) do put(seen, one[1], one[3], 1) end
      if offer.shown then redis.call('HSET', seen, offer.shown, string.format('%.0f', now)) end
      if offer.keep == 0 then
        redis.call('PERSIST', seen)
      else
        local left = redis.call('TTL', seen)
        if not before or (left >= 0 and left < offer.keep) then redis.call('EXPIRE', seen, offer.keep) end
      end
    end
    return offer.took
  end
  if spec.drawn then
    local closed = {}
    for number, entry in ipairs(spec.offers) do
      local code = spent[number]
      if code == 0 then code = related(entry[2]) end
      if code > 0 then closed[#closed + 1] = '[' .. entry[1] .. ',' .. code .. ']' end
    end
    if #closed > 0 then return {0, ARGV[2], '', '[[[' .. table.concat(closed, ',') .. '],-1,0]]'} end
    for _, index in ipairs(spec.drawn) do
      if owners[index + 1] then take(owners[index + 1]) end
    end
    return {0, ARGV[2], log(ARGV[1])}
  end
  local taken, results = {}, {}
  for _, slot in ipairs(spec.slots) do
    local source = spec.sources[slot.source + 1]
    local served, masked, gone, left = source.served, {}, {}, #source.served
    for index in pairs(taken) do gone[index] = true end
    for _, index in ipairs(slot.excluded) do gone[index + 1] = true end
    for index in pairs(gone) do
      masked[index] = 6
      left = left - 1
    end
    if next(gone) and left > 0 then served = left_over(source.policy, gone, left) end
    local is_masked, best = false, nil
    for number, entry in ipairs(spec.offers) do
      local index = entry[1] + 1
      if not masked[index] then
        local code = spent[number]
        if code == 0 then code = related(entry[2]) end
        if code > 0 then
          masked[index] = code
          is_masked = true
        end
      end
    end
    if slot.tiers then
      for index, tier in ipairs(slot.tiers) do
        if not masked[index] and (not best or tier > best) then best = tier end
      end
      for index, tier in ipairs(slot.tiers) do
        if not masked[index] and tier < best then
          masked[index] = 5
          is_masked = true
        end
      end
    end
    local shares, first = rescaled(served, masked)
    local chosen, took = nil, 0
    if first then chosen = pick(is_masked and shares or served, slot.number) end
    if chosen then taken[chosen] = true end
    if chosen and owners[chosen] then took = take(owners[chosen]) end
    local listed = {}
    for index = 1, #served do
      local code = masked[index]
      if code and code ~= 6 and not (spec.preferred and code == 5) then
        listed[#listed + 1] = '[' .. (index - 1) .. ',' .. code .. ']'
      end
    end
    results[#results + 1] = '[[' .. table.concat(listed, ',') .. '],' .. ((chosen or 0) - 1) .. ',' .. took .. ']'
  end
  local drawn = '[' .. table.concat(results, ',') .. ']'
  return {0, ARGV[2], log(string.sub(ARGV[1], 1, -3) .. ',"limited":' .. drawn .. '}}'), drawn}
end
return {0, ARGV[2], log(ARGV[1])}
"""


@dataclass(frozen=True, slots=True)
class LimitedDraw:
    """Draws that must happen where units are counted, slot by slot.

    ``slots`` are what each is drawn from, over the same actions, with one floor and one share of the promoted;
    ``offers`` are the (index, entry) of the actions whose shows are counted, ``now_ms`` the moment that windows are
    about.
    """

    slots: tuple[SlotDraw, ...]
    now_ms: int
    customer_id: str | None
    offers: tuple[tuple[int, Entry], ...]

    def keys(self) -> list[str]:
        """The script's keys after the stream and the decision's own."""
        seen = seen_key(self.customer_id or "")
        return [EPOCH_KEY, seen, *(units_key(entry.offer_id) for _, entry in self.offers)]

    def argument(self) -> bytes:
        """The script's argument."""
        first = self.slots[0]
        # Slots that share their features share their distributions.
        places: dict[tuple[tuple[float, ...], tuple[float, ...]], int] = {}
        for slot in self.slots:
            places.setdefault((slot.policy, slot.served), len(places))
        spec: dict[str, Any] = {
            "now": self.now_ms,
            "seen": self.customer_id is not None,
            "offers": [[index, entry.spec] for index, entry in self.offers],
            "sources": [{"policy": policy, "served": served} for policy, served in places],
            "slots": [_slot_spec(slot, places[slot.policy, slot.served]) for slot in self.slots],
            "promoted": [index for index, is_promoted in enumerate(first.promoted) if is_promoted],
            "floor": first.floor,
            "share": first.share,
            "preferred": first.preferred,
        }
        return orjson.dumps(spec)

    def without_units(self) -> tuple[Draw, ...]:
        """The draws while the counts are away: what has limits counts as exhausted, so that none is exceeded."""
        closed = {index: CAP_EXHAUSTED for index, entry in self.offers if entry.is_limited}
        return draw_slots(self.slots, closed)


@dataclass(frozen=True, slots=True)
class LimitedTake(LimitedDraw):
    """Offers that were drawn elsewhere and are to be taken; ``slots`` has none.

    Nothing is taken or logged while any of ``offers`` is exhausted: those are then told in place of draws, and the
    position is empty. ``shown`` are the indices of what was drawn, ``places`` is how many slots there were.
    """

    shown: tuple[int, ...] = ()
    places: int = 1

    def argument(self) -> bytes:
        """The script's argument."""
        return orjson.dumps({
            "now": self.now_ms,
            "seen": self.customer_id is not None,
            "offers": [[index, entry.spec] for index, entry in self.offers],
            "promoted": [],
            "drawn": self.shown,
        })  # fmt: skip

    def without_units(self) -> tuple[Draw, ...]:
        """Nothing, slot by slot: what was drawn cannot be taken, and nobody is there to draw again."""
        return (Draw((), -1),) * self.places


@dataclass(frozen=True, slots=True)
class Entry:
    """An offer whose shows are counted, as the script reads it; prepared once per version of the catalogue."""

    offer_id: str
    is_limited: bool
    spec: Mapping[str, Any]


def _slot_spec(slot: SlotDraw, source: int) -> dict[str, Any]:
    spec = {"source": source, "number": slot.number, "excluded": sorted(slot.excluded)}
    return spec if slot.tiers is None else {**spec, "tiers": slot.tiers}


def units_key(offer_id: str) -> str:
    """The key of an offer's counts."""
    return "units:" + offer_id


def seen_key(customer_id: str) -> str:
    """The key of what a customer was shown and redeemed."""
    return "seen:" + customer_id


def entries(offers: Sequence[Offer]) -> dict[str, Entry]:
    """The offers with limits, and those that another offer's limits name, by id."""
    named = {name for offer in offers for name in (*offer.limits.excludes, *offer.limits.requires)}
    return {
        offer.offer_id: _entry(offer, named) for offer in offers if offer.limits != UNLIMITED or offer.offer_id in named
    }


def _entry(offer: Offer, named: Collection[str]) -> Entry:
    limits, name = offer.limits, offer.offer_id
    relation_ms = limits.relation_days * DAY_MS
    customer = [cap for cap in limits.caps if cap.scope == "customer"]
    total: list[list[Any]] = []
    if limits.stock is not None:
        total.append(["t:stock", 1, limits.stock])
    if limits.budget is not None:
        total.append(["t:budget", round(offer.cost * MONEY_UNIT), round(limits.budget * MONEY_UNIT)])
    window: list[list[Any]] = []
    for cap in limits.caps:
        if cap.scope == "total" and cap.window_seconds is None:
            total.append([f"t:cap:{cap.name}", 1, cap.shows])
        elif cap.scope == "total" and cap.window_seconds is not None:
            span = cap.window_seconds * 1000.0
            window.append([f"w:{cap.name}", cap.shows, span, max(span / STEPS, 1.0)])
    spec: dict[str, Any] = {
        "took": COUNTED if limits.stock is None else HOLDS_STOCK,
        "total": total,
        "window": window,
        "ever": [[f"l:{name}:{cap.name}", cap.shows] for cap in customer if cap.window_seconds is None],
        "each": [
            [f"c:{name}:{cap.name}", cap.shows, cap.window_seconds * 1000.0]
            for cap in customer if cap.window_seconds is not None
        ],
        "keep": _keep_seconds(offer),
    }  # fmt: skip
    if limits.cooldown_days is not None:
        spec["cool"] = [f"r:{name}", limits.cooldown_days * DAY_MS]
    if limits.excludes:
        spec["excludes"] = [[f"s:{other}" for other in limits.excludes], relation_ms]
    if limits.requires:
        spec["requires"] = [[f"s:{other}" for other in limits.requires], relation_ms]
    if name in named:
        spec["shown"] = f"s:{name}"
    return Entry(name, limits != UNLIMITED, spec)


def _keep_seconds(offer: Offer) -> int:
    """How long a customer's counts must stay after a show of this offer; 0 = for good."""
    customer = [cap for cap in offer.limits.caps if cap.scope == "customer"]
    if any(cap.window_seconds is None for cap in customer):
        return 0
    windows = [cap.window_seconds for cap in customer if cap.window_seconds is not None]
    return int(max([SEEN_SECONDS, *windows])) + 1
