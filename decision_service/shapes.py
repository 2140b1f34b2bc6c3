"""What all wire shapes are made of: names, moments, and a body that refuses unknown fields."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints


def _refuse_numbers(value: Any) -> Any:
    """A moment is text: a number could be seconds or milliseconds."""
    if isinstance(value, bool | int | float):
        raise ValueError("a moment must be text with an offset, such as 2026-03-02T09:30:00Z")
    return value


Id = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
LoopName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
RegionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
# Times beyond what calendars and time zones can be trusted with are refused.
Moment = Annotated[
    AwareDatetime,
    Field(ge=datetime(1970, 1, 2, tzinfo=UTC), le=datetime(2200, 1, 1, tzinfo=UTC), strict=False),
    BeforeValidator(_refuse_numbers),
]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class In(BaseModel):
    """A request body: unknown fields are refused by name, and no value is taken for one of another type."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)
