"""Wire shapes of loops: their settings and where they stand."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from contextual_bandit.loops import DEFAULT_ARGUMENTS, NO_OFFER
from contextual_bandit.reward import DIRECT
from contextual_bandit.season import check_sales_date
from decision_service.catalogue_schemas import RuleIn, Tag
from decision_service.field_errors import FieldFault
from decision_service.shapes import Finite, Id, In, Moment, RegionName

Bounded = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]
FeatureName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
Word = Annotated[str, StringConstraints(max_length=256, pattern=r"^[^\x00]*$")]
Metric = Annotated[str, StringConstraints(pattern=r"^(reward|fallback_rate|outcome:[^\x00-\x1f\x7f]{1,256})$")]
SaleDay = Annotated[str, StringConstraints(pattern=r"^(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$")]


class OutcomeKindIn(In):
    """What outcomes of a kind are worth."""

    worth: Finite = 1.0
    measure: Literal["count", "revenue", "margin"] = Field(
        default="count", description="What worth multiplies: the amount, or the amount as money, or what of it is left."
    )
    correction: bool = Field(default=False, description="Added after the aggregation of the others, as a refund is.")


class RewardDefinitionIn(In):
    """How outcomes become one reward."""

    low: Bounded = 0.0
    high: Bounded = 1.0
    default: Bounded = 0.0
    wait_seconds: Annotated[float, Field(gt=0, le=90 * 86400)] = 600.0
    aggregation: Literal["sum", "earliest", "average", "median", "min", "max"] = "earliest"
    kinds: dict[Id, Finite | OutcomeKindIn] = Field(
        validate_default=True,
        default={"click": 1.0, "redemption": 1.0, "purchase": 1.0},
        max_length=100,
        description="What each kind of outcome is worth: a number per unit of amount, or how to measure it.",
    )
    late_outcomes: Literal["ignore", "rebuild"] = Field(
        default="ignore", description="rebuild: an outcome after the window makes a new revision of the interaction."
    )

    @field_validator("kinds", mode="after")
    @classmethod
    def _as_kinds(cls, kinds: dict[str, float | OutcomeKindIn]) -> dict[str, float | OutcomeKindIn]:
        """A bare number is what one unit of a count is worth."""
        return {
            name: kind if isinstance(kind, OutcomeKindIn) else OutcomeKindIn(worth=kind) for name, kind in kinds.items()
        }

    @model_validator(mode="after")
    def _plain_value(self) -> RewardDefinitionIn:
        kind = self.kinds.get(DIRECT)
        if isinstance(kind, OutcomeKindIn) and (kind.correction or kind.measure != "count"):
            raise FieldFault(f"kinds.{DIRECT}", kind.measure, "is a number as sent: no correction, and measure count")
        return self

    @model_validator(mode="after")
    def _range(self) -> RewardDefinitionIn:
        if not self.low < self.high:
            raise FieldFault("low", self.low, f"must be below high ({self.high:g})")
        if not self.low <= self.default <= self.high:
            raise FieldFault("default", self.default, f"is outside [{self.low:g}, {self.high:g}]")
        return self


class BaselineSettingIn(In):
    """The campaign manager's policy: the top offers by affinity above a threshold, else the priority list."""

    threshold: Finite = 0.0
    top_n: Annotated[int, Field(ge=1, le=1000)] = 1
    affinity: FeatureName = "r16"
    priority: list[Id] = Field(default=[], max_length=1000)


FourLimits = Annotated[list[Finite], Field(min_length=4, max_length=4)]


class RfmIn(In):
    """Limits of quintiles, four ascending each: days since the last order, orders per year, money per order."""

    recency_days: FourLimits
    per_year: FourLimits
    per_order: FourLimits

    @model_validator(mode="after")
    def _ascending(self) -> RfmIn:
        for name in ("recency_days", "per_year", "per_order"):
            limits: list[float] = getattr(self, name)
            if sorted(set(limits)) != limits:
                raise FieldFault(name, limits, "must ascend")
        return self


class HoldoutIn(In):
    """A share of customers that is never trained on."""

    share: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    serves: Literal["baseline", "no_offer"] = "baseline"


class AutoOptimisationIn(In):
    """Look for better learning settings by the clock, and apply one that is shown to be better."""

    is_enabled: bool = False
    frequency_days: Annotated[int, Field(ge=1, le=3650)] = 28
    start: Moment | None = Field(default=None, description="The first search; absent = at once.")


class GuardrailIn(In):
    """A bound on a policy's own decisions; one that is shown to be broken takes the policy back."""

    metric: Metric = Field(
        description="reward or outcome:KIND (mean per decision), or fallback_rate (share of decisions).",
        examples=["outcome:refund"],
    )
    low: Bounded | None = Field(None, description="The least that is allowed.")
    high: Bounded | None = Field(None, description="The most that is allowed.")
    relative: bool = Field(False, description="The bounds hold for the difference to the champion of the same time.")
    least_decisions: Annotated[int, Field(ge=1, le=1_000_000_000)] = Field(
        200, description="Nothing is concluded from fewer."
    )

    @model_validator(mode="after")
    def _bounds_something(self) -> GuardrailIn:
        if self.low is None and self.high is None:
            raise FieldFault("low", None, "a guardrail has a low or a high bound, or both")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise FieldFault("low", self.low, f"must be below high ({self.high:g})")
        return self


class ChallengerOut(BaseModel):
    """A policy beside the loop's own, as it is set; /v1/loops/{loop}/policies shows what it is worth."""

    name: str
    arguments: str
    share: float = Field(ge=0, le=1, description="Of the customers, whom it decides for; 0 = in shadow.")


class LoopIn(In):
    """A learning problem's settings."""

    arguments: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = Field(
        DEFAULT_ARGUMENTS, description="Vowpal Wabbit learning setting, from an allow-list."
    )
    exploration_floor: Annotated[float, Field(ge=0, le=1)] = 0.02
    reward: RewardDefinitionIn = RewardDefinitionIn()
    grace_seconds: Annotated[float, Field(ge=0, le=3600)] = 2.0
    export_frequency_seconds: Annotated[float, Field(gt=0, le=7 * 86400)] = 60.0
    learning_mode: Literal["online", "apprentice", "logging_only"] = Field(
        "online", description="apprentice: the sender's first action is served, and the model learns to match it."
    )
    clock: Literal["wall", "simulated"] = "wall"
    close_on_final: bool = False
    time_zone: str = Field("UTC", examples=["America/New_York"])
    retention_days: Annotated[int, Field(ge=1, le=3650)] = 90
    rules: list[RuleIn] = Field([], max_length=100, description="For every offer; they may ask about offer.* too.")
    fallback: Id = Field(NO_OFFER, description="Shown when no offer is eligible.")
    priority_tiers: bool = Field(False, description="Only the highest priority among the eligible competes.")
    promoted_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="Probability that goes evenly to eligible offers with promoted_tag."
    )
    promoted_tag: Tag = "promoted"
    consent_required: bool = Field(False, description="Personalise only with explicit consent.")
    baseline: BaselineSettingIn = BaselineSettingIn()
    holdout: HoldoutIn = HoldoutIn()
    region: RegionName | None = Field(None, description="Where a request without a region takes place.")
    sales_dates: list[SaleDay] = Field([], max_length=50, description="Big sales days, as month and day.")
    rfm: RfmIn | None = Field(None, description="Own limits of RFM quintiles; absent = computed of all customers.")
    lookback_days: Annotated[float, Field(gt=0, le=3650)] | None = Field(
        None, description="Train on so many days of the log, and renew the model as the window moves."
    )

    model_retrain_days: Annotated[float, Field(ge=0, le=3650)] | None = Field(
        None,
        description="Days of the log that a changed setting is trained on; absent = as far as it looks back.",
    )
    auto_optimisation: AutoOptimisationIn = AutoOptimisationIn()
    guardrails: list[GuardrailIn] = Field(
        [], max_length=20, description="Bounds that take a challenger's share, or a promotion, back by themselves."
    )
    sticky_seconds: Annotated[float, Field(ge=0, le=90 * 86400)] = Field(
        0.0, description="A customer is shown the same decision again for so long; 0 = each call decides anew."
    )

    @field_validator("sales_dates", mode="after")
    @classmethod
    def _are_days(cls, days: list[str]) -> list[str]:
        return [check_sales_date(day) for day in days]

    @model_validator(mode="after")
    def _kept_while_open(self) -> LoopIn:
        if self.retention_days * 86400 <= self.reward.wait_seconds + self.grace_seconds:
            why = f"must be longer than the reward's wait_seconds ({self.reward.wait_seconds:g})"
            raise FieldFault("retention_days", self.retention_days, why)
        if self.model_retrain_days is not None and self.model_retrain_days > self.retention_days:
            why = f"must not exceed retention_days ({self.retention_days})"
            raise FieldFault("model_retrain_days", self.model_retrain_days, why)
        if self.sticky_seconds > self.reward.wait_seconds:
            # What follows a repeated answer is an outcome of the first decision.
            why = f"must not exceed the reward's wait_seconds ({self.reward.wait_seconds:g})"
            raise FieldFault("sticky_seconds", self.sticky_seconds, why)
        return self


class MatchesOut(BaseModel):
    """Events of an apprentice: closed decisions, or each slot of them."""

    events: int
    imitated: int = Field(description="Where the model's own choice was what the baseline showed.")
    reward_sum: float
    imitated_reward_sum: float = Field(description="What the baseline earned where the model chose the same.")


class ApprenticeOut(BaseModel):
    """How well the model matches the baseline, since the loop became an apprentice."""

    match_rate: float = Field(ge=0, le=1)
    total: MatchesOut
    last_batch: MatchesOut
    started_at: datetime
    last_at: datetime


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
    apprentice: ApprenticeOut | None = Field(None, description="Absent before something closed in that mode.")


class LoopOut(LoopIn):
    """Stored settings, and where the loop stands."""

    model_config = ConfigDict(extra="ignore")
    loop: str
    version: int
    challengers: list[ChallengerOut] = Field([], description="Set by /v1/loops/{loop}/policies.")
    status: LoopStatusOut | None = None


class LoopsOut(BaseModel):
    """Every loop."""

    loops: list[LoopOut]


class FeatureSpecIn(In):
    """One feature that requests may send."""

    type: Literal["number", "string", "boolean"]
    low: Finite | None = None
    high: Finite | None = None
    values: list[Word] = Field([], max_length=1000)
    personal: bool = Field(True, description="Left out when a customer does not consent to personalising.")


FeaturePath = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$")]


class FeatureSchemaIn(In):
    """Features by path: "device.kind", a loose name alone, "embedding.*" for all below a name."""

    features: dict[FeaturePath, FeatureSpecIn] = Field(max_length=1000)
    unknown: Literal["refuse", "drop"] = Field("refuse", description="What becomes of features that do not fit.")


class FeatureSchemaOut(FeatureSchemaIn):
    """A loop's feature schema."""

    loop: str
    version: int = Field(description="The loop's.")
