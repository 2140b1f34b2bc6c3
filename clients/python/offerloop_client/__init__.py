"""A typed client of the Offerloop decision service: ``Client`` and ``AsyncClient``."""

from offerloop_client.async_client import AsyncClient
from offerloop_client.client import Client
from offerloop_client.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    NotFound,
    OfferloopError,
    Refused,
    ServiceAway,
    Unauthorized,
)
from offerloop_client.fallback import NOT_SENT, RankAnswer, is_local
from offerloop_client.retries import Retry

__all__ = [
    "NOT_SENT", "AsyncClient", "BadRequest", "Client", "Conflict", "Forbidden", "NotFound", "OfferloopError",
    "RankAnswer", "Refused", "Retry", "ServiceAway", "Unauthorized", "is_local",
]  # fmt: skip
