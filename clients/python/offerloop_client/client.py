"""The sync client."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self, TypeVar, Unpack

import httpx

from offerloop_client import calls
from offerloop_client.errors import OfferloopError, ServiceAway
from offerloop_client.fallback import NOT_SENT, Fallback, RankAnswer, is_local, local_answer
from offerloop_client.retries import Attempts, Retry
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
    RankIn,
    RewardIn,
    RewardOut,
    WhyOut,
)

T = TypeVar("T")
NO_ANSWER = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError)


def headers_of(api_key: str | None) -> dict[str, str]:
    """What every call sends."""
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    return headers if api_key is None else {**headers, "Authorization": f"Bearer {api_key}"}


class Client:
    """Calls a decision service; may be shared by threads, and closes its connections when it is left.

    Args:
        url: where the service is, such as ``http://127.0.0.1:8080``.
        api_key: a key of role write for the loop, admin for offers and customers.
        loop: the loop of calls that name none; absent = the service's default loop.
        fallback_offer: the offer that ``rank`` answers while the service is away, or several in order of preference;
            absent = ``rank`` raises ``ServiceAway``.
        retry: attempts and times.
        http: an HTTP client of your own (proxies, certificates); it stays open when this one is closed.
    """

    def __init__(
        self, url: str, *, api_key: str | None = None, loop: str | None = None, fallback_offer: Fallback | None = None,
        retry: Retry | None = None, http: httpx.Client | None = None,
    ) -> None:  # fmt: skip
        self._url = url.rstrip("/")
        self._headers = headers_of(api_key)
        self._loop = loop
        self._fallback = fallback_offer
        self._retry = retry or Retry()
        self._http = http or httpx.Client()
        self._is_own = http is None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._is_own:
            self._http.close()

    def rank(self, *, fallback_offer: Fallback | None = None, **request: Unpack[RankIn]) -> RankAnswer:
        """Choose an offer. Reward and activate it by the answer's ``decision_id``.

        Raises:
            Refused: the request is wrong; a fallback would hide that.
            ServiceAway: there was no answer in time, and there is no fallback offer.
        """
        asked = calls.named(request, self._loop)
        fallback = fallback_offer or self._fallback
        try:
            decision = self._send(calls.rank(asked))
        except ServiceAway:
            if not fallback:
                raise
            return local_answer(asked, fallback)
        return {**decision, "fallback": False}

    def rank_batch(self, requests: Sequence[RankIn], *, fallback_offer: Fallback | None = None) -> list[RankAnswer]:
        """Choose for up to 100 requests, all or none; answers in their order.

        Raises:
            Refused: one of the requests is wrong.
            ServiceAway: there was no answer in time, and there is no fallback offer.
        """
        asked = [calls.named(request, self._loop) for request in requests]
        fallback = fallback_offer or self._fallback
        try:
            decisions = self._send(calls.rank_batch(asked))["decisions"]
        except ServiceAway:
            if not fallback:
                raise
            return [local_answer(request, fallback) for request in asked]
        return [{**decision, "fallback": False} for decision in decisions]

    def reward(self, **outcome: Unpack[RewardIn]) -> RewardOut:
        """Report an outcome; it counts once however often it is sent. That of a local decision is not sent.

        Raises:
            Refused: the outcome is wrong.
            ServiceAway: there was no answer in time; the same outcome_id may be sent again later.
        """
        filled = calls.identified(outcome, self._loop)
        if is_local(filled["decision_id"]):
            return {"position": NOT_SENT, "outcome_id": str(filled.get("outcome_id"))}
        return self._send(calls.reward(filled))

    def activate(self, **activation: Unpack[ActivateIn]) -> AcceptedOut:
        """The customer saw a deferred decision; that of a local one is not sent.

        Raises:
            Refused: the activation is wrong.
            ServiceAway: there was no answer in time; activating again later changes nothing else.
        """
        if is_local(activation["decision_id"]):
            return {"position": NOT_SENT}
        return self._send(calls.activate(activation, self._loop))

    def activity(self, activities: Sequence[ActivityIn], *, wait: bool = False) -> ActivityOut:
        """Report what customers did; with ``wait`` the answer comes once profiles have it (30 s at most).

        Raises:
            Refused: one of the activities is wrong; none was taken.
            ServiceAway: there was no answer in time.
        """
        return self._send(calls.activity(activities, wait))

    def decision(self, decision_id: str, *, loop: str | None = None) -> DecisionOut:
        """The whole record of a decision.

        Raises:
            NotFound: there is no such decision.
        """
        return self._send(calls.decision(decision_id, loop or self._loop))

    def why(self, decision_id: str, *, loop: str | None = None) -> WhyOut:
        """Why a decision fell as it did.

        Raises:
            NotFound: there is no such decision.
        """
        return self._send(calls.why(decision_id, loop or self._loop))

    def offers(self) -> list[OfferOut]:
        """Every offer of the catalogue as it is now."""
        return self._send(calls.offers())["offers"]

    def offer(self, offer_id: str) -> OfferOut:
        """One offer as it is now.

        Raises:
            NotFound: there is no such offer.
        """
        return self._send(calls.offer(offer_id))

    def put_offer(self, offer_id: str, **offer: Unpack[OfferIn]) -> OfferOut:
        """Create or replace an offer."""
        return self._send(calls.put_offer(offer_id, offer))

    def delete_offer(self, offer_id: str) -> None:
        """Delete an offer; no decision picks it again.

        Raises:
            NotFound: there is no such offer.
        """
        self._send(calls.delete_offer(offer_id))

    def customer(self, customer_id: str) -> CustomerOut:
        """What is stored of a customer, and what their activity adds up to.

        Raises:
            NotFound: there is no such customer.
        """
        return self._send(calls.customer(customer_id))

    def put_customer(self, customer_id: str, **customer: Unpack[CustomerIn]) -> CustomerOut:
        """Create or replace a customer."""
        return self._send(calls.put_customer(customer_id, customer))

    def erase_customer(self, customer_id: str, *, wait: bool = False) -> ErasureOut:
        """Erase a customer from every store and model; with ``wait`` the answer comes once it is done (30 s at most).

        Raises:
            NotFound: there is no such customer, or no more: an earlier attempt whose answer was lost had worked.
        """
        return self._send(calls.erase_customer(customer_id, wait))

    def _send(self, call: calls.Call[T]) -> T:
        attempts = Attempts(self._retry, time.monotonic, call.patience_seconds)
        while True:
            try:
                answer = self._attempt(call, attempts.begin())
                return call.read(answer.status_code, answer.headers, answer.content, attempts.count)
            except OfferloopError as failure:
                pause = attempts.pause_seconds(failure)
            time.sleep(pause)

    def _attempt(self, call: calls.Call[T], seconds: float) -> httpx.Response:
        try:
            return self._http.request(
                call.method, self._url + call.path, content=call.content, headers=self._headers, timeout=seconds
            )
        except NO_ANSWER as error:
            raise calls.no_answer(error) from error
