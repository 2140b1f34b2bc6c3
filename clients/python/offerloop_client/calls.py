"""What each call sends; both clients use it. Every id that makes a call repeatable is filled in here, once."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar, cast
from urllib.parse import quote

from offerloop_client.errors import OfferloopError, ServiceAway, error_of
from offerloop_client.wire import (
    AcceptedOut,
    ActivateIn,
    ActivityIn,
    ActivityOut,
    CustomerIn,
    CustomerOut,
    DecisionOut,
    ErasureOut,
    OfferIn,
    OfferOut,
    OffersOut,
    RankBatchOut,
    RankIn,
    RankOut,
    RewardIn,
    RewardOut,
    WhyOut,
)

T = TypeVar("T")
# The service answers after 30 s at the latest when it is asked to wait.
APPLIED_SECONDS = 35.0


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One HTTP call whose answer is a T; all its attempts send the same bytes."""

    method: str
    path: str
    content: bytes | None = None
    patience_seconds: float = 0.0
    # After a first attempt whose answer was lost, 404 says that it had worked.
    gone_is_done: bool = False

    def read(self, status: int, headers: Mapping[str, str], content: bytes, attempts: int) -> T:
        """The answer's JSON.

        Raises:
            OfferloopError: the service refused, failed, or this is not the service.
        """
        if status == 204 or (status == 404 and self.gone_is_done and attempts > 1):
            return cast(T, None)
        if not 200 <= status < 300:
            raise error_of(status, headers, content)
        try:
            return cast(T, json.loads(content))
        except ValueError:
            shown = content[:200].decode("utf-8", "replace")
            raise ServiceAway("Unexpected answer", f"the answer is no JSON: {shown!r}", status=status) from None


def no_answer(error: Exception) -> OfferloopError:
    """The error for an attempt that ended without an answer."""
    return ServiceAway("No answer", f"{type(error).__name__}: {error}".rstrip(": "))


def named(request: RankIn, loop: str | None) -> RankIn:
    """A rank request with its decision id and loop, so that every attempt asks for the same decision."""
    filled: RankIn = {**request, "decision_id": request.get("decision_id") or str(uuid.uuid4())}
    if loop is not None:
        filled.setdefault("loop", loop)
    return filled


def rank(request: RankIn) -> Call[RankOut]:
    """A request that was named."""
    return Call("POST", "/v1/rank", encode(request))


def rank_batch(requests: Sequence[RankIn]) -> Call[RankBatchOut]:
    """Requests that were named."""
    return Call("POST", "/v1/rank/batch", encode({"requests": requests}))


def identified(outcome: RewardIn, loop: str | None) -> RewardIn:
    """An outcome with its id and loop, so that it counts once however often it is sent."""
    filled: RewardIn = {**outcome, "outcome_id": outcome.get("outcome_id") or str(uuid.uuid4())}
    if loop is not None:
        filled.setdefault("loop", loop)
    return filled


def reward(outcome: RewardIn) -> Call[RewardOut]:
    """An outcome that was identified."""
    return Call("POST", "/v1/reward", encode(outcome))


def activate(activation: ActivateIn, loop: str | None) -> Call[AcceptedOut]:
    """An activation; repeating one changes nothing."""
    filled: ActivateIn = {**activation}
    if loop is not None:
        filled.setdefault("loop", loop)
    return Call("POST", "/v1/activate", encode(filled))


def activity(activities: Sequence[ActivityIn], wait: bool) -> Call[ActivityOut]:
    """Activities, each with an id."""
    entries = [{**entry, "activity_id": entry.get("activity_id") or str(uuid.uuid4())} for entry in activities]
    query, patience = ("?wait=applied", APPLIED_SECONDS) if wait else ("", 0.0)
    return Call("POST", f"/v1/activity{query}", encode({"activities": entries}), patience)


def decision(decision_id: str, loop: str | None) -> Call[DecisionOut]:
    """The record of a decision."""
    return Call("GET", f"/v1/decisions/{_part(decision_id)}{_of_loop(loop)}")


def why(decision_id: str, loop: str | None) -> Call[WhyOut]:
    """Why a decision fell as it did."""
    return Call("GET", f"/v1/decisions/{_part(decision_id)}/why{_of_loop(loop)}")


def offers() -> Call[OffersOut]:
    """The catalogue."""
    return Call("GET", "/v1/offers")


def offer(offer_id: str) -> Call[OfferOut]:
    """One offer."""
    return Call("GET", f"/v1/offers/{_part(offer_id)}")


def put_offer(offer_id: str, body: OfferIn) -> Call[OfferOut]:
    """Create or replace an offer."""
    return Call("PUT", f"/v1/offers/{_part(offer_id)}", encode(body))


def delete_offer(offer_id: str) -> Call[None]:
    """Delete an offer."""
    return Call("DELETE", f"/v1/offers/{_part(offer_id)}", gone_is_done=True)


def customer(customer_id: str) -> Call[CustomerOut]:
    """One customer."""
    return Call("GET", f"/v1/customers/{_part(customer_id)}")


def put_customer(customer_id: str, body: CustomerIn) -> Call[CustomerOut]:
    """Create or replace a customer."""
    return Call("PUT", f"/v1/customers/{_part(customer_id)}", encode(body))


def erase_customer(customer_id: str, wait: bool) -> Call[ErasureOut]:
    """Erase a customer; repeated, it is another erasure with a receipt of its own."""
    query, patience = ("?wait=applied", APPLIED_SECONDS) if wait else ("", 0.0)
    return Call("DELETE", f"/v1/customers/{_part(customer_id)}{query}", patience_seconds=patience)


def encode(body: Any) -> bytes:
    """JSON with moments as ISO 8601.

    Raises:
        ValueError: a moment without an offset, or a number that is not finite.
        TypeError: a value that JSON has no form for.
    """
    return json.dumps(body, default=_plain, allow_nan=False).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise ValueError(f"a moment needs a time zone, got {value.isoformat()}")
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"{type(value).__name__} is no JSON: {value!r}")


def _part(name: str) -> str:
    return quote(name, safe="")


def _of_loop(loop: str | None) -> str:
    return "" if loop is None else f"?loop={quote(loop, safe='')}"
