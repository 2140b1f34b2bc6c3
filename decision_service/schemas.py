"""Wire shapes of the native API, with examples for the OpenAPI document."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from contextual_bandit.loops import DEFAULT_ARGUMENTS, DEFAULT_LOOP

Id = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
LoopName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
# Times beyond what calendars and time zones can be trusted with are refused.
Moment = Annotated[AwareDatetime, Field(ge=datetime(1970, 1, 2, tzinfo=UTC), le=datetime(2200, 1, 1, tzinfo=UTC))]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class In(BaseModel):
    """A request body: unknown fields are refused by name."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class CandidateIn(In):
    """An offer given with the request instead of the catalogue."""

    offer_id: Id = Field(examples=["spring-10"])
    features: dict[str, Any] = Field({}, examples=[{"category": "garden", "discount": 0.1}])


class RankIn(In):
    """Who and when; which offers may be shown."""

    loop: LoopName = DEFAULT_LOOP
    customer_id: Id | None = Field(None, examples=["c-1041"])
    context: dict[str, Any] = Field({}, examples=[{"device": {"kind": "phone"}, "weather": {"band": "mild"}}])
    candidates: list[Id | CandidateIn] | None = Field(
        None, min_length=1, max_length=1000, description="Offer ids or inline offers; absent = the whole catalogue."
    )
    decision_id: Id | None = Field(
        None, description="Makes the call repeatable: the same id and request get the stored answer."
    )
    occurred_at: Moment | None = Field(
        None, description="The moment the features speak of; absent = now. Required on loops with a simulated clock."
    )
    defer_activation: bool = Field(False, description="Learn from this decision only once it is activated.")


class RankedOut(BaseModel):
    """An eligible offer and the exact probability with which it could have been drawn."""

    offer_id: str
    probability: float


class RankOut(BaseModel):
    """The decision: show ``offer_id``."""

    decision_id: str = Field(examples=["0198c1c5-6f5e-7c53-a3ad-4a8c4b1f6a10"])
    offer_id: str = Field(examples=["spring-10"])
    ranking: list[RankedOut] = Field(examples=[[{"offer_id": "spring-10", "probability": 0.91}]])
    policy_id: str
    snapshot_id: str
    learning_mode: Literal["online", "logging_only"]


class RankBatchIn(In):
    """Up to 100 rank calls that are checked together: one bad call refuses all."""

    requests: list[RankIn] = Field(min_length=1, max_length=100)


class RankBatchOut(BaseModel):
    """Decisions in the order of the requests."""

    decisions: list[RankOut]


class RewardIn(In):
    """What happened after a decision: a value, or a kind that the loop knows the worth of."""

    loop: LoopName = DEFAULT_LOOP
    decision_id: Id
    value: Finite | None = Field(None, examples=[1.0])
    kind: Id | None = Field(None, examples=["click"])
    amount: Finite | None = Field(None, description="Multiplies the kind's worth, such as revenue.")
    outcome_id: Id | None = Field(None, description="Makes the call repeatable; so does the header Idempotency-Key.")
    occurred_at: Moment | None = None
    final: bool = Field(False, description="No more outcomes will come; closes early on loops with close_on_final.")

    @model_validator(mode="after")
    def _value_or_kind(self) -> RewardIn:
        if (self.value is None) == (self.kind is None):
            raise ValueError("either value or kind is needed, and not both")
        if self.value is not None and self.amount is not None:
            raise ValueError("amount goes with kind, not with value")
        return self


class AcceptedOut(BaseModel):
    """Stored durably; ``position`` is its place in the stream, or "spooled" while the stream is away."""

    position: str = Field(examples=["1764000000000-0"])


class RewardOut(AcceptedOut):
    """An accepted outcome."""

    outcome_id: str


class ActivateIn(In):
    """The customer saw a deferred decision."""

    loop: LoopName = DEFAULT_LOOP
    decision_id: Id
    occurred_at: Moment | None = None


class ActivityIn(In):
    """One thing a customer did."""

    customer_id: Id
    kind: Literal["view", "click", "cart_add", "purchase"]
    occurred_at: Moment | None = Field(None, description="Absent = now.")
    category: Id | None = Field(None, description="Absent = the category of offer_id.", examples=["garden"])
    offer_id: Id | None = None
    amount: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] | None = None
    activity_id: Id | None = Field(None, description="Makes the activity repeatable.")


class ActivityBatchIn(In):
    """Activities of any customers, taken all or none."""

    activities: list[ActivityIn] = Field(min_length=1, max_length=5000)


class ActivityOut(AcceptedOut):
    """Accepted activities; ``applied`` when they are in the profiles."""

    accepted: int
    applied: bool


class TickIn(In):
    """The driver's clock, on loops with a simulated one."""

    occurred_at: Moment


class TickOut(AcceptedOut):
    """An accepted tick; ``applied`` when the learner has passed it."""

    applied: bool


class OfferIn(In):
    """An offer of the catalogue."""

    category: Id = Field(examples=["garden"])
    status: Literal["draft", "active", "paused", "ended"] = "active"
    valid_from: Moment | None = None
    valid_to: Moment | None = Field(None, description="The first moment at which it is no longer valid.")
    features: dict[str, Any] = Field({}, examples=[{"discount": 0.1, "type": "percentage"}])

    @model_validator(mode="after")
    def _ends_after_start(self) -> OfferIn:
        if self.valid_from and self.valid_to and self.valid_to <= self.valid_from:
            raise ValueError("valid_to must be after valid_from")
        return self


class OfferOut(BaseModel):
    """A stored offer."""

    offer_id: str
    version: int
    category: str
    status: str
    valid_from: datetime | None
    valid_to: datetime | None
    features: dict[str, Any]


class OffersOut(BaseModel):
    """The catalogue."""

    offers: list[OfferOut]


class CustomerIn(In):
    """What the shop knows of a customer; names and addresses do not belong here."""

    demographics: dict[str, Any] = Field({}, examples=[{"age_band": "35-44", "household_size": 3}])


class CustomerOut(BaseModel):
    """A stored customer."""

    customer_id: str
    demographics: dict[str, Any]
    profile: dict[str, Any] | None = Field(None, description="What their activity adds up to.")


class RewardDefinitionIn(In):
    """How outcomes become one reward."""

    low: Finite = 0.0
    high: Finite = 1.0
    default: Finite = 0.0
    wait_seconds: Annotated[float, Field(gt=0, le=90 * 86400)] = 600.0
    aggregation: Literal["sum", "earliest", "average", "median", "min", "max"] = "earliest"
    kinds: dict[Id, Finite] = {"click": 1.0, "redemption": 1.0, "purchase": 1.0}

    @model_validator(mode="after")
    def _range(self) -> RewardDefinitionIn:
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low:g} and {self.high:g}")
        if not self.low <= self.default <= self.high:
            raise ValueError(f"default {self.default:g} is outside [{self.low:g}, {self.high:g}]")
        return self


class LoopIn(In):
    """A learning problem's settings."""

    arguments: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = Field(
        DEFAULT_ARGUMENTS, description="Vowpal Wabbit learning setting, from an allow-list."
    )
    exploration_floor: Annotated[float, Field(ge=0, le=1)] = 0.02
    reward: RewardDefinitionIn = RewardDefinitionIn()
    grace_seconds: Annotated[float, Field(ge=0, le=3600)] = 2.0
    export_frequency_seconds: Annotated[float, Field(gt=0, le=7 * 86400)] = 60.0
    learning_mode: Literal["online", "logging_only"] = "online"
    clock: Literal["wall", "simulated"] = "wall"
    close_on_final: bool = False
    time_zone: str = Field("UTC", examples=["America/New_York"])
    retention_days: Annotated[int, Field(ge=1, le=3650)] = 90

    @model_validator(mode="after")
    def _kept_while_open(self) -> LoopIn:
        if self.retention_days * 86400 <= self.reward.wait_seconds + self.grace_seconds:
            raise ValueError(
                f"retention_days {self.retention_days} must be longer than the reward's wait_seconds "
                f"{self.reward.wait_seconds:g}"
            )
        return self


class LoopStatusOut(BaseModel):
    """Where a loop stands."""

    decisions: int
    open: int
    interactions: int
    duplicated: int
    set_aside: int
    snapshots: int
    snapshot_id: str | None
    stream_time: datetime | None
    position: str


class LoopOut(LoopIn):
    """Stored settings, and where the loop stands."""

    model_config = ConfigDict(extra="ignore")
    loop: str
    version: int
    status: LoopStatusOut | None = None


class LoopsOut(BaseModel):
    """Every loop."""

    loops: list[LoopOut]


class KeyIn(In):
    """A new API key."""

    name: Id = Field(examples=["web shop"])
    role: Literal["read", "write", "admin"] = "write"


class KeyOut(BaseModel):
    """A key's public side."""

    key_id: str
    name: str
    role: str
    created_at: datetime


class NewKeyOut(KeyOut):
    """A new key with its secret, which is shown this once."""

    secret: str


class KeysOut(BaseModel):
    """Live keys."""

    keys: list[KeyOut]


class RemovedOut(BaseModel):
    """An offer that a rule took out."""

    offer_id: str
    reason: str


class ActionOut(BaseModel):
    """An eligible offer as the policy saw it."""

    offer_id: str
    version: int = Field(description="The catalogue's; 0 = given with the request.")
    features: dict[str, Any]
    affinity: dict[str, Any]


class SlotOut(BaseModel):
    """The draw: probabilities in the order of ``eligible``, and what the number fell on."""

    offer_id: str
    propensity: float | None
    policy_probabilities: list[float] | None
    served_probabilities: list[float] | None
    draw: float | None


class OutcomeOut(BaseModel):
    """An outcome and what became of it."""

    outcome_id: str
    kind: str
    value: float
    final: bool
    received_at: datetime
    state: str = Field(description="joined, late or orphan")


class DecisionOut(BaseModel):
    """The whole record of a decision."""

    loop: str
    decision_id: str
    state: Literal["logged", "open", "closed", "inactive"]
    decided_at: datetime
    occurred_at: datetime
    customer_id: str | None
    context: dict[str, dict[str, Any]]
    eligible: list[ActionOut]
    removed: list[RemovedOut]
    slots: list[SlotOut]
    policy_id: str
    snapshot_id: str
    learning_mode: str
    use: str
    deferred: bool
    outcomes: list[OutcomeOut]
    reward: float | None
    closed_at: datetime | None
