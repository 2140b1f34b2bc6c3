"""Wire shapes of erasures."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

State = Literal["pending", "done"]


class ErasedOut(BaseModel):
    """What one writer erased."""

    state: State
    rows: dict[str, int] = Field({}, description="Rows by table, where there were any.")
    done_at: datetime | None = None


class ErasedLoopOut(ErasedOut):
    """What the writer of a loop erased, and what became of the loop's model."""

    generation: int | None = Field(
        None,
        description="The generation that was begun without the customer. Null when the customer was in none of the "
        "loop's interactions, so that its model had learned nothing from them and stays.",
    )
    models: int = Field(0, description="Snapshots of earlier generations that were deleted.")


class ErasedPartsOut(BaseModel):
    """What was erased, by writer."""

    customer: ErasedOut = Field(description="Record, profile and activities.")
    loops: dict[str, ErasedLoopOut] = Field(description="By loop: decisions, outcomes, interactions, models.")


class ErasureOut(BaseModel):
    """The receipt of an erasure. It does not say whose: the audit log holds a keyed hash of the id."""

    receipt_id: str
    state: State
    customer: str = Field(description="BLAKE2b (256 bits) of the customer's id, keyed with receipt_id.")
    actor: str
    requested_at: datetime
    done_at: datetime | None = None
    erased: ErasedPartsOut
