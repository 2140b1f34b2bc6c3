"""Sessions of customers: which decision each is shown again, kept in Redis beside the log.

``session:{loop}:customer`` holds the moment (milliseconds) and the id of the decision that began a session. A caller's
own id for a repeated answer stands for that decision: its ``decided:`` key has the request's hash, the decision's
position and, in ``first``, its id. The decision's own ``decided:`` key names such ids, so that an erasure finds them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import cast

import redis.asyncio

from adapters.streams import StreamReader, decided_key, loop_stream

FIRST = "first"
# For the script that logs: whatever session there is. No mark looks so.
ANY = "*"
_STANDS_FOR = "alias:"
# Nothing changes when the caller's id is known already.
_STAND_FOR = """
if redis.call('HSETNX', KEYS[1], 'hash', ARGV[1]) == 0 then
  local known = redis.call('HMGET', KEYS[1], 'hash', 'first')
  return {known[1], known[2] or ''}
end
redis.call('HSET', KEYS[1], 'position', ARGV[2], 'first', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('HSET', KEYS[2], ARGV[5], '')
redis.call('EXPIRE', KEYS[2], ARGV[4])
return {ARGV[1], ARGV[3]}
"""
# The decision's own key lies beside the others: all have the loop in braces.
_FIND = """
local mark = redis.call('GET', KEYS[1])
if not mark then return false end
local id = string.sub(mark, string.find(mark, ' ', 1, true) + 1)
local position = redis.call('HGET', ARGV[1] .. id, 'position')
local entry = position and redis.call('XRANGE', KEYS[2], position, position)[1]
return {mark, position or '', entry and entry[2][2] or ''}
"""


def session_key(loop: str, customer_id: str) -> str:
    """The key of a customer's session on a loop."""
    return "session:{" + loop + "}:" + customer_id


@dataclass(frozen=True, slots=True)
class SessionMark:
    """What is written with a decision that begins a session: the key, its value, and how long it is kept.

    Nothing is written or logged unless the key holds ``before`` ("" is nothing), as it did when the customer's session
    was looked up; None where nobody could say.
    """

    key: str
    value: str
    keep_ms: int
    before: str | None = None

    def arguments(self) -> list[bytes]:
        """As the script that logs takes it."""
        before = ANY if self.before is None else self.before
        return [before.encode(), self.value.encode(), b"%d" % self.keep_ms]


def session_mark(
    loop: str, customer_id: str, decision_id: str, at_ms: int, keep_ms: int, before: str | None = None
) -> SessionMark:
    """The mark of a session that a decision begins at a moment (milliseconds since 1970)."""
    return SessionMark(session_key(loop, customer_id), f"{at_ms} {decision_id}", keep_ms, before)


@dataclass(frozen=True, slots=True)
class Session:
    """A session as it is found: its decision's moment, id, position and message.

    ``position`` is empty when nobody remembers it, ``message`` when the stream was trimmed.
    """

    at_ms: int
    decision_id: str
    position: str
    message: bytes

    @property
    def value(self) -> str:
        """What its key holds."""
        return f"{self.at_ms} {self.decision_id}"


class Sessions:
    """The services' side of it."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._find = client.register_script(_FIND)
        self._stand_for = client.register_script(_STAND_FOR)

    async def find(self, loop: str, customer_id: str) -> Session | None:
        """A customer's session, with its decision, in one round trip; None when there is none."""
        keys = [session_key(loop, customer_id), loop_stream(loop)]
        found = cast("list[bytes] | None", await self._find(keys=keys, args=[decided_key(loop, "")]))
        if not found:
            return None
        mark, position, message = found
        at, _, decision_id = mark.decode().partition(" ")
        return Session(int(at), decision_id, position.decode(), message)

    async def stand_for(
        self, loop: str, own_id: str, request_hash: str, first_id: str, position: str, keep_seconds: int
    ) -> tuple[str, str | None]:
        """Let a caller's own id stand for a session's decision, unless it is known already.

        Args:
            loop: the loop's name.
            own_id: the caller's.
            request_hash: of the caller's request.
            first_id: of the session's decision.
            position: of that in the stream, empty when nobody remembers it.
            keep_seconds: how long it stands.

        Returns:
            The hash that stands under the id now, and the decision that it stands for; None when it is a decision's.
        """
        keys = [decided_key(loop, own_id), decided_key(loop, first_id)]
        arguments: list[str | int] = [request_hash, position or "0-0", first_id, keep_seconds, _STANDS_FOR + own_id]
        known, stands_for = cast("list[bytes]", await self._stand_for(keys=keys, args=tuple(arguments)))
        return known.decode(), stands_for.decode() or None

    async def first_of(self, loop: str, decision_id: str) -> str:
        """The decision that an id stands for: itself, unless it was a caller's own for a repeated answer."""
        found = await cast("Awaitable[bytes | None]", self._client.hget(decided_key(loop, decision_id), FIRST))
        return found.decode() if found else decision_id


def forget_sessions(reader: StreamReader, loop: str, customer_id: str, decision_ids: Sequence[str]) -> None:
    """Delete a customer's session on a loop, and the ids that stand for any of these decisions."""
    names = reader.fields([decided_key(loop, decision_id) for decision_id in decision_ids])
    own_ids = [name.removeprefix(_STANDS_FOR) for name in names if name.startswith(_STANDS_FOR)]
    reader.delete([session_key(loop, customer_id), *(decided_key(loop, own_id) for own_id in own_ids)])
