"""Wire shapes of off-policy evaluations."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from contextual_bandit.loops import DEFAULT_LOOP
from decision_service.shapes import Id, In, LoopName, Moment
from evaluation.policy_names import FORMS

MOST_POLICIES = 50

Word = Annotated[str, Field(min_length=1, max_length=1200)]


class EvaluationIn(In):
    """What to evaluate. ``logged``, ``uniform``, ``first`` and ``baseline`` are always among the policies."""

    evaluation_id: Id | None = Field(None, description="The caller's own id; absent: one is made.")
    name: str | None = Field(None, max_length=256, description="For people.")
    loop: LoopName = DEFAULT_LOOP
    closed_from: Moment | None = Field(None, description="Only decisions that closed then or later.")
    closed_to: Moment | None = Field(None, description="Only decisions that closed before.")
    policies: list[Word] = Field(
        [],
        max_length=MOST_POLICIES,
        description=f"Policies to evaluate: {', '.join(FORMS)}; the last two by the command line only.",
    )
    against: Word = Field("logged", description="The policy that the others are compared with.")
    fixed_offers: int = Field(20, ge=0, le=200, description="Most served offers to evaluate as policies.")
    slices: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        [],
        max_length=20,
        description="Slices: `offer`, `week`, or a feature of the context such as `H.segment`, `D.*`.",
    )
    reward_model: Literal["default", "rates", "rates:category", "vowpal", "lightgbm"] = "default"
    level: float = Field(0.95, gt=0.5, lt=1.0, description="Of the intervals.")


class EvaluationOut(BaseModel):
    """An evaluation as it stands."""

    evaluation_id: str
    loop: str
    name: str
    request: dict[str, Any] = Field(description="What was asked.")
    state: Literal["waiting", "running", "done", "failed"]
    progress: float = Field(ge=0, le=1, description="Share of the work that is done.")
    result: dict[str, Any] | None = Field(description="The report, when done: `verdict_in_words` first.")
    error: str | None = Field(description="Why it failed.")
    created_at: datetime
    ended_at: datetime | None


class EvaluationsOut(BaseModel):
    """Evaluations, the newest first, without results."""

    evaluations: list[EvaluationOut]
