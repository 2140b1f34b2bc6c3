"""Domain records as JSON and back: offers, loops, customers; fields that a stored record lacks get their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from contextual_bandit.loops import LoopConfig
from contextual_bandit.types import CustomerRecord, Offer

_OFFER: TypeAdapter[Offer] = TypeAdapter(Offer)
_LOOP: TypeAdapter[LoopConfig] = TypeAdapter(LoopConfig)
_CUSTOMER: TypeAdapter[CustomerRecord] = TypeAdapter(CustomerRecord)


def offer_record(offer: Offer) -> dict[str, Any]:
    """An offer as JSON; id and version are columns of their own."""
    record: dict[str, Any] = _OFFER.dump_python(offer, mode="json", exclude={"offer_id", "version"})
    return record


def offer_from(offer_id: str, version: int, record: Mapping[str, Any]) -> Offer:
    """A stored offer read back."""
    return _OFFER.validate_python({**record, "offer_id": offer_id, "version": version})


def loop_record(config: LoopConfig) -> dict[str, Any]:
    """A loop's settings as JSON."""
    record: dict[str, Any] = _LOOP.dump_python(config, mode="json")
    return record


def loop_from(record: Mapping[str, Any]) -> LoopConfig:
    """Stored settings read back."""
    return _LOOP.validate_python(record)


def customer_json(record: CustomerRecord) -> bytes:
    """A customer's record as JSON bytes."""
    return _CUSTOMER.dump_json(record)


def customer_from(data: bytes) -> CustomerRecord:
    """A customer's record read back; empty bytes are an empty record."""
    return _CUSTOMER.validate_json(data) if data else CustomerRecord()
