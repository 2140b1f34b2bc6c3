"""Wire shapes of a loop's policies and of kill switches."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from decision_service.shapes import In

PolicyName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Reason = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000, pattern=r"^[^\x00]*$"),
    Field(description="Why; it stands in the audit log.", examples=["its click rate is shown to be higher"]),
]  # fmt: skip
Arguments = Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class ChallengerIn(In):
    """A policy beside the loop's own."""

    arguments: Arguments = Field(description="Vowpal Wabbit learning setting, as a loop's own.")
    share: Share = Field(0.0, description="Of the customers, whom it decides for; 0 = it only learns, in shadow.")


class ShareIn(In):
    """The share of the customers whom a challenger decides for."""

    share: Share
    reason: Reason


class ReasonIn(In):
    """Why it is done."""

    reason: Reason


class GuardrailStateOut(BaseModel):
    """One guardrail of one policy, by its own decisions."""

    metric: str
    relative: bool = Field(description="Whether the numbers are differences to the champion of the same time.")
    n: int = Field(description="Its own decisions so far.")
    value: float | None
    low: float | None = Field(description="Of the interval, which holds at every look.")
    high: float | None
    bound: float | None = Field(description="The bound that is violated.")
    state: Literal["waiting", "within", "open", "violated"] = Field(
        description="waiting for its least decisions; within the bounds; open: the interval holds a bound; violated."
    )


class ChallengerStateOut(BaseModel):
    """What is known of a challenger; every interval is a confidence sequence, which holds at every look."""

    generation: int = Field(description="Counts how often it began anew.")
    trained_through: int = Field(description="Sequence of the last interaction that it has learned from.")
    n: int = Field(description="Decisions that it was evaluated on, each before it learned from it.")
    value: float | None = Field(description="Progressive off-policy value: mean reward per decision, had it decided.")
    low: float | None
    high: float | None
    champion_value: float | None = Field(description="Mean reward of the same decisions as they were served.")
    champion_low: float | None
    champion_high: float | None
    gain: float | None = Field(description="Paired difference of the two.")
    gain_low: float | None
    gain_high: float | None
    effective_sample_size: float = Field(description="Equally weighted decisions that would tell as much.")
    served: int = Field(description="Decisions that it made itself, as a canary.")
    served_value: float | None = Field(description="Their mean reward.")
    served_low: float | None
    served_high: float | None
    served_champion: int = Field(description="The champion's decisions of the same time.")
    served_champion_value: float | None
    served_champion_low: float | None
    served_champion_high: float | None
    guardrails: list[GuardrailStateOut]
    verdict: Literal["better", "worse", "not_shown", "refused"] = Field(description="Of the gain.")
    reasons: list[str] = Field(description="Why so.")
    error: str | None = Field(description="Why it is followed no more, if so.")
    updated_at: datetime


class PolicyOut(BaseModel):
    """A challenger as it is set, and what is known of it."""

    name: str
    arguments: str
    share: float = Field(ge=0, le=1)
    snapshot_id: str | None = Field(description="Its newest published model; without one the champion decides.")
    state: ChallengerStateOut | None = Field(description="Absent until it has begun to learn under these settings.")


class ChampionWatchOut(BaseModel):
    """The guardrails of a policy that was promoted, until it has been watched long enough."""

    generation: int
    served: int
    guardrails: list[GuardrailStateOut]
    updated_at: datetime


class ChampionOut(BaseModel):
    """The loop's own policy."""

    arguments: str
    policy_id: str
    snapshot_id: str | None
    share: float = Field(ge=0, le=1, description="Of the customers, whom no challenger decides for.")
    watch: ChampionWatchOut | None = Field(description="Absent when it is not watched.")


class PoliciesOut(BaseModel):
    """All policies of a loop."""

    loop: str
    version: int = Field(description="Of the loop's settings.")
    is_killed: bool = Field(description="The kill switch is on: the campaign manager's baseline decides for everybody.")
    champion: ChampionOut
    challengers: list[PolicyOut]


class KillSwitchIn(In):
    """On: a loop serves the campaign manager's baseline, an offer is shown by no loop."""

    on: bool
    reason: Reason


class KillSwitchOut(BaseModel):
    """A kill switch as it was last thrown; reason, actor and time are null when it never was."""

    scope: Literal["loop", "offer"]
    name: str
    on: bool
    reason: str | None
    actor: str | None
    changed_at: datetime | None


class KillSwitchesOut(BaseModel):
    """Every kill switch that is on, the newest first."""

    kill_switches: list[KillSwitchOut]
