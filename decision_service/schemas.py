"""Wire shapes of the loop: rank, reward, activate, activity, and the record of a decision."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from contextual_bandit.loops import DEFAULT_LOOP
from contextual_bandit.slots import MOST_SLOTS
from decision_service.field_errors import FieldFault
from decision_service.shapes import Finite, Id, In, LoopName, Moment, RegionName


class CandidateIn(In):
    """An offer given with the request instead of the catalogue."""

    offer_id: Id = Field(examples=["spring-10"])
    features: dict[str, Any] = Field({}, examples=[{"category": "garden", "discount": 0.1}])


class SlotIn(In):
    """One place among several: what it is like, and which offers it may show."""

    id: Id | None = Field(None, description="Absent = its place from 0.", examples=["drawer-top"])
    features: dict[str, Any] = Field({}, description="Of the place, never of a person.", examples=[{"size": "large"}])
    baseline: Id | None = Field(None, description="The offer that it shows when a baseline serves.")
    exclude: list[Id] = Field([], max_length=1000, description="Offers that it must not show.")


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
    channel: Id | None = Field(None, description="Where the offer would be shown.", examples=["web"])
    region: RegionName | None = Field(None, description="Where the customer is; absent = as stored, or the loop's.")
    explain: bool = Field(False, description="Answer with reasons: what was removed, what spoke for each offer.")
    slots: (
        Annotated[int, Field(ge=1, le=MOST_SLOTS)] | Annotated[list[SlotIn], Field(min_length=1, max_length=MOST_SLOTS)]
    ) | None = Field(
        None, description="Fill so many places, or these, with different offers; absent = one.", examples=[3]
    )  # fmt: skip


class RankedOut(BaseModel):
    """An eligible offer and the exact probability with which it could have been drawn."""

    offer_id: str
    probability: float


class ContributionOut(BaseModel):
    """What one feature, or a product of features, adds to an offer's score, on the loop's reward scale."""

    name: str = Field(examples=["A.r16"])
    value: float
    reward: float
    shared: bool = Field(description="The same for every offer of the decision.")


class WhyOfferOut(BaseModel):
    """An eligible offer: its probability, its expected reward as the model has it, and what that is made of."""

    offer_id: str
    probability: float | None
    policy_probability: float | None
    score: float | None
    contributions: list[ContributionOut]
    rest: float | None = Field(description="The sum of all smaller contributions.")
    others: int = Field(description="How many they are.")


class RemovedOut(BaseModel):
    """An offer that a rule took out."""

    offer_id: str
    reason: str


class WhySlotOut(BaseModel):
    """Why one of several slots shows what it does; probabilities are given what earlier slots show."""

    slot_id: str
    offer_id: str
    is_exploration: bool
    removed: list[RemovedOut] = Field(
        description="By the draw; shown_above: an earlier slot shows it, slot_excludes: this one must not."
    )
    offers: list[WhyOfferOut]


class WhyOut(BaseModel):
    """Why the decision fell as it did."""

    loop: str
    decision_id: str
    offer_id: str
    use: str
    is_exploration: bool = Field(description="Another offer was likelier than the one that was drawn.")
    removed: list[RemovedOut]
    offers: list[WhyOfferOut]
    missing: list[str] = Field(description="What was not known.")
    sources: dict[str, str] = Field(description="Where features came from, by namespace or feature.")
    dropped: list[str] = Field(description="Features that the loop's schema did not let in.")
    slots: list[WhySlotOut] | None = Field(None, description="All of them, where slots were asked for.")
    note: str | None


class RankedSlotOut(BaseModel):
    """What one slot shows, with the exact probability of it, given what earlier slots show."""

    slot_id: str
    offer_id: str
    propensity: float | None = Field(description="Null when nothing was left to the slot, and a fallback is shown.")
    ranking: list[RankedOut]
    code: str | None = Field(None, description="The offer's code, if the catalogue has one.")
    creative: dict[str, str] | None = Field(None, description="What to show, if the catalogue has it.")


class RankOut(BaseModel):
    """The decision: show ``offer_id``, or with slots what each of them says; it is the first one's then."""

    decision_id: str = Field(examples=["0198c1c5-6f5e-7c53-a3ad-4a8c4b1f6a10"])
    offer_id: str = Field(examples=["spring-10"])
    ranking: list[RankedOut] = Field(examples=[[{"offer_id": "spring-10", "probability": 0.91}]])
    policy_id: str
    snapshot_id: str
    learning_mode: Literal["online", "apprentice", "logging_only"]
    use: str = Field("learn", description="learn, baseline, holdout or fallback (nothing was eligible).")
    code: str | None = Field(None, description="The offer's code, if the catalogue has one.")
    creative: dict[str, str] | None = Field(None, description="What to show, if the catalogue has it.")
    slots: list[RankedSlotOut] | None = Field(None, description="In the order asked, when slots were.")
    sticky: bool = Field(
        False, description="The customer's session goes on: this is its earlier decision; nothing was drawn anew."
    )
    why: WhyOut | None = Field(None, description="The reasons, when explain was asked.")


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
    slot: Id | Annotated[int, Field(ge=0, lt=MOST_SLOTS)] | None = Field(
        None, description="The slot that it is about, by its id or its place from 0; absent = the first."
    )
    value: Finite | None = Field(None, examples=[1.0])
    kind: Id | None = Field(None, examples=["click"])
    amount: Finite | None = Field(None, description="Multiplies the kind's worth, such as revenue.")
    outcome_id: Id | None = Field(None, description="Makes the call repeatable; so does the header Idempotency-Key.")
    occurred_at: Moment | None = None
    final: bool = Field(False, description="No more outcomes will come; closes early on loops with close_on_final.")

    @model_validator(mode="after")
    def _value_or_kind(self) -> RewardIn:
        if (self.value is None) == (self.kind is None):
            raise FieldFault("value", self.value, "either value or kind is needed, and not both")
        if self.value is not None and self.amount is not None:
            raise FieldFault("amount", self.amount, "goes with kind, not with value")
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
    order_id: Id | None = Field(None, description="Purchases of one basket share it; absent = the customer's day.")


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


class ActionOut(BaseModel):
    """An offer as the policy saw it; one that the draw left out stands among the removed too."""

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
    slot_id: str | None = Field(None, description="Null where no slots were asked for, as all that follows.")
    features: dict[str, Any] = {}
    baseline: str | None = None
    exclude: list[str] = []
    removed: list[RemovedOut] = Field([], description="What the draw left out of this slot.")
    reward: float | None = Field(None, description="Its own, once the decision is closed.")


class OutcomeOut(BaseModel):
    """An outcome and what became of it."""

    outcome_id: str
    kind: str
    value: float = Field(description="What it is worth; of a margin kind, before the margin is taken.")
    final: bool
    received_at: datetime
    state: str = Field(description="joined, late, orphan or unknown_slot")
    slot: str | int | None = Field(None, description="The slot that it names.")


class OwnChoiceOut(BaseModel):
    """What an apprentice would have shown in a slot where the baseline was; in the order of the slots."""

    offer_id: str
    propensity: float = Field(description="The probability of it, by the served probabilities.")
    policy_probabilities: list[float]
    served_probabilities: list[float]
    draw: float = Field(description="The uniform number that chose it.")
    is_match: bool = Field(description="The baseline showed the same: learned as the largest reward.")


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
    sources: dict[str, str] = {}
    dropped: list[str] = []
    outcomes: list[OutcomeOut]
    reward: float | None = Field(description="With slots the sum of theirs.")
    closed_at: datetime | None
    own: list[OwnChoiceOut] = Field([], description="The model's own choices, in the mode apprentice.")
