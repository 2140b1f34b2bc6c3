"""The reference for rank: a FastAPI endpoint with equal request and response models that decides nothing.

The models repeat ``decision_service/schemas.py`` field by field, because process folders never import each other.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import FastAPI
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

Id = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
RegionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
LoopName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Moment = Annotated[AwareDatetime, Field(strict=False)]
ELIGIBLE = 20


class In(BaseModel):
    """A request body: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)


class CandidateIn(In):
    """An offer given with the request."""

    offer_id: Id
    features: dict[str, Any] = {}


class SlotIn(In):
    """One place among several."""

    id: Id | None = None
    features: dict[str, Any] = {}
    baseline: Id | None = None
    exclude: list[Id] = []


class RankIn(In):
    """A rank request."""

    loop: LoopName = "default"
    customer_id: Id | None = None
    context: dict[str, Any] = {}
    candidates: list[Id | CandidateIn] | None = Field(None, min_length=1, max_length=1000)
    decision_id: Id | None = None
    occurred_at: Moment | None = None
    defer_activation: bool = False
    channel: Id | None = None
    region: RegionName | None = None
    explain: bool = False
    slots: Annotated[int, Field(ge=1, le=20)] | list[SlotIn] | None = None


class RankedOut(BaseModel):
    """An offer and its probability."""

    offer_id: str
    probability: float


class RankedSlotOut(BaseModel):
    """What one slot shows."""

    slot_id: str
    offer_id: str
    propensity: float | None
    ranking: list[RankedOut]
    code: str | None = None
    creative: dict[str, str] | None = None


class RankOut(BaseModel):
    """A rank answer."""

    decision_id: str
    offer_id: str
    ranking: list[RankedOut]
    policy_id: str
    snapshot_id: str
    learning_mode: Literal["online", "apprentice", "logging_only"]
    use: str = "learn"
    code: str | None = None
    creative: dict[str, str] | None = None
    slots: list[RankedSlotOut] | None = None
    why: dict[str, Any] | None = None


app = FastAPI()


@app.post("/v1/rank")
async def rank(body: RankIn) -> RankOut:
    """Check the request, answer with as many offers as the service would, and do nothing else."""
    return RankOut(
        decision_id="0198c1c5-6f5e-7c53-a3ad-4a8c4b1f6a10",
        offer_id="bench-0",
        ranking=[RankedOut(offer_id=f"bench-{number}", probability=1.0 / ELIGIBLE) for number in range(ELIGIBLE)],
        policy_id="vw-0123456789",
        snapshot_id="default-g1-1000",
        learning_mode="online",
    )


@app.get("/readyz")
async def ready() -> dict[str, bool]:
    """Answers as soon as it serves."""
    return {"ready": True}


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve with the decision service's own uvicorn settings until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    chosen = parser.parse_args(arguments)
    uvicorn.run(
        "benchmarks.empty_endpoint:app", host="127.0.0.1", port=chosen.port, workers=chosen.workers, log_config=None,
        access_log=False, timeout_graceful_shutdown=10,
        loop="uvloop", http="httptools",
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
