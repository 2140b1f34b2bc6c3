"""The shapes of the service's JSON. Written by clients/generate.py from its OpenAPI document: do not edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NotRequired, TypedDict


class AcceptedOut(TypedDict):
    """Stored durably; ``position`` is its place in the stream, or "spooled" while the stream is away."""

    position: str


class ActionOut(TypedDict):
    """An offer as the policy saw it; one that the draw left out stands among the removed too."""

    offer_id: str
    # The catalogue's; 0 = given with the request.
    version: int
    features: dict[str, Any]
    affinity: dict[str, Any]


class ActivateIn(TypedDict):
    """The customer saw a deferred decision."""

    loop: NotRequired[str]
    decision_id: str
    occurred_at: NotRequired[datetime | str | None]


class ActivityBatchIn(TypedDict):
    """Activities of any customers, taken all or none."""

    activities: Sequence[ActivityIn]


class ActivityIn(TypedDict):
    """One thing a customer did."""

    customer_id: str
    kind: Literal["view", "click", "cart_add", "purchase"]
    # Absent = now.
    occurred_at: NotRequired[datetime | str | None]
    # Absent = the category of offer_id.
    category: NotRequired[str | None]
    offer_id: NotRequired[str | None]
    amount: NotRequired[float | None]
    # Makes the activity repeatable.
    activity_id: NotRequired[str | None]
    # Purchases of one basket share it; absent = the customer's day.
    order_id: NotRequired[str | None]


class ActivityOut(TypedDict):
    """Accepted activities; ``applied`` when they are in the profiles."""

    position: str
    accepted: int
    applied: bool


class CandidateIn(TypedDict):
    """An offer given with the request instead of the catalogue."""

    offer_id: str
    features: NotRequired[Mapping[str, Any]]


class CapIn(TypedDict):
    """At most so many shows."""

    name: str
    scope: Literal["total", "customer"]
    shows: int
    # Absent = ever.
    window_seconds: NotRequired[float | None]


class ContributionOut(TypedDict):
    """What one feature, or a product of features, adds to an offer's score, on the loop's reward scale."""

    name: str
    value: float
    reward: float
    # The same for every offer of the decision.
    shared: bool


class CustomerIn(TypedDict):
    """What the shop knows of a customer; names and addresses do not belong here."""

    demographics: NotRequired[Mapping[str, Any]]
    # What the customer stated.
    preferences: NotRequired[Mapping[str, Any]]
    # Explicit consents; sensitive offers need theirs.
    consents: NotRequired[Mapping[str, bool]]
    # Serves rules; a policy sees bands only.
    age: NotRequired[int | None]
    region: NotRequired[str | None]


class CustomerOut(TypedDict):
    """A stored customer."""

    customer_id: str
    demographics: dict[str, Any]
    preferences: NotRequired[dict[str, Any]]
    consents: NotRequired[dict[str, bool]]
    age: NotRequired[int | None]
    region: NotRequired[str | None]
    # What their activity adds up to.
    profile: NotRequired[dict[str, Any] | None]


class DecisionOut(TypedDict):
    """The whole record of a decision."""

    loop: str
    decision_id: str
    state: Literal["logged", "open", "closed", "inactive"]
    decided_at: str
    occurred_at: str
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
    sources: NotRequired[dict[str, str]]
    dropped: NotRequired[list[str]]
    outcomes: list[OutcomeOut]
    # With slots the sum of theirs.
    reward: float | None
    closed_at: str | None
    # The model's own choices, in the mode apprentice.
    own: NotRequired[list[OwnChoiceOut]]


class ErasedLoopOut(TypedDict):
    """What the writer of a loop erased, and what became of the loop's model."""

    state: Literal["pending", "done"]
    # Rows by table, where there were any.
    rows: NotRequired[dict[str, int]]
    done_at: NotRequired[str | None]
    # The generation that was begun without the customer. Null when the customer was in none of the loop's interactions,
    # so that its model had learned nothing from them and stays.
    generation: NotRequired[int | None]
    # Snapshots of earlier generations that were deleted.
    models: NotRequired[int]


class ErasedOut(TypedDict):
    """What one writer erased."""

    state: Literal["pending", "done"]
    # Rows by table, where there were any.
    rows: NotRequired[dict[str, int]]
    done_at: NotRequired[str | None]


class ErasedPartsOut(TypedDict):
    """What was erased, by writer."""

    # Record, profile and activities.
    customer: ErasedOut
    # By loop: decisions, outcomes, interactions, models.
    loops: dict[str, ErasedLoopOut]


class ErasureOut(TypedDict):
    """The receipt of an erasure. It does not say whose: the audit log holds a keyed hash of the id."""

    receipt_id: str
    state: Literal["pending", "done"]
    # BLAKE2b (256 bits) of the customer's id, keyed with receipt_id.
    customer: str
    actor: str
    requested_at: str
    done_at: NotRequired[str | None]
    erased: ErasedPartsOut


class FieldErrorOut(TypedDict):
    """One field that was refused."""

    field: str
    value: Any
    message: str


class LimitsIn(TypedDict):
    """What the offer may use up; counted when it is drawn, exact under concurrency."""

    # Units; a show reserves one until its decision closes unredeemed.
    stock: NotRequired[int | None]
    # Money; each show takes the offer's cost.
    budget: NotRequired[float | None]
    caps: NotRequired[Sequence[CapIn]]
    # Not again so soon after the customer redeemed it.
    cooldown_days: NotRequired[float | None]
    # Offers the customer must not have seen lately.
    excludes: NotRequired[Sequence[str]]
    # The customer must have seen one lately.
    requires: NotRequired[Sequence[str]]
    # What lately means for excludes and requires.
    relation_days: NotRequired[float]


class OfferIn(TypedDict):
    """An offer of the catalogue."""

    category: str
    status: NotRequired[Literal["draft", "active", "paused", "ended"]]
    valid_from: NotRequired[datetime | str | None]
    # The first moment at which it is no longer valid.
    valid_to: NotRequired[datetime | str | None]
    features: NotRequired[Mapping[str, Any]]
    # "none" is the offer that offers nothing: a candidate like any other.
    type: NotRequired[Literal["percentage", "amount", "free_gift", "free_shipping", "points", "content", "none"] | None]
    # Depth as a share of the price.
    discount: NotRequired[float | None]
    price: NotRequired[float | None]
    # Share of revenue that is left before the discount.
    margin: NotRequired[float | None]
    # Money that one contact costs.
    cost: NotRequired[float]
    code: NotRequired[str | None]
    # What the shop shows, by part.
    creative: NotRequired[Mapping[str, str]]
    # Empty = all.
    channels: NotRequired[Sequence[str]]
    # Empty = all.
    regions: NotRequired[Sequence[str]]
    # On loops with priority tiers only the highest eligible one competes.
    priority: NotRequired[int]
    # Sensitive ones need explicit consent.
    tags: NotRequired[Sequence[str]]
    minimum_age: NotRequired[int | None]
    rules: NotRequired[Sequence[RuleIn]]
    limits: NotRequired[LimitsIn]


class OfferOut(TypedDict):
    """A stored offer."""

    offer_id: str
    version: int
    category: str
    status: str
    valid_from: NotRequired[str | None]
    valid_to: NotRequired[str | None]
    features: NotRequired[dict[str, Any]]
    type: NotRequired[str | None]
    discount: NotRequired[float | None]
    price: NotRequired[float | None]
    margin: NotRequired[float | None]
    cost: NotRequired[float]
    code: NotRequired[str | None]
    creative: NotRequired[dict[str, str]]
    channels: NotRequired[list[str]]
    regions: NotRequired[list[str]]
    priority: NotRequired[int]
    tags: NotRequired[list[str]]
    minimum_age: NotRequired[int | None]
    rules: NotRequired[list[RuleIn]]
    limits: NotRequired[LimitsIn]


class OffersOut(TypedDict):
    """The catalogue."""

    offers: list[OfferOut]


class OutcomeOut(TypedDict):
    """An outcome and what became of it."""

    outcome_id: str
    kind: str
    # What it is worth; of a margin kind, before the margin is taken.
    value: float
    final: bool
    received_at: str
    # joined, late, orphan or unknown_slot
    state: str
    # The slot that it names.
    slot: NotRequired[str | int | None]


class OwnChoiceOut(TypedDict):
    """What an apprentice would have shown in a slot where the baseline was; in the order of the slots."""

    offer_id: str
    # The probability of it, by the served probabilities.
    propensity: float
    policy_probabilities: list[float]
    served_probabilities: list[float]
    # The uniform number that chose it.
    draw: float
    # The baseline showed the same: learned as the largest reward.
    is_match: bool


class ProblemOut(TypedDict):
    """RFC 9457 problem details."""

    type: NotRequired[str]
    title: str
    status: int
    detail: str
    errors: NotRequired[list[FieldErrorOut]]


class RankBatchIn(TypedDict):
    """Up to 100 rank calls that are checked together: one bad call refuses all."""

    requests: Sequence[RankIn]


class RankBatchOut(TypedDict):
    """Decisions in the order of the requests."""

    decisions: list[RankOut]


class RankIn(TypedDict):
    """Who and when; which offers may be shown."""

    loop: NotRequired[str]
    customer_id: NotRequired[str | None]
    context: NotRequired[Mapping[str, Any]]
    # Offer ids or inline offers; absent = the whole catalogue.
    candidates: NotRequired[Sequence[str | CandidateIn] | None]
    # Makes the call repeatable: the same id and request get the stored answer.
    decision_id: NotRequired[str | None]
    # The moment the features speak of; absent = now. Required on loops with a simulated clock.
    occurred_at: NotRequired[datetime | str | None]
    # Learn from this decision only once it is activated.
    defer_activation: NotRequired[bool]
    # Where the offer would be shown.
    channel: NotRequired[str | None]
    # Where the customer is; absent = as stored, or the loop's.
    region: NotRequired[str | None]
    # Answer with reasons: what was removed, what spoke for each offer.
    explain: NotRequired[bool]
    # Fill so many places, or these, with different offers; absent = one.
    slots: NotRequired[int | Sequence[SlotIn] | None]


class RankOut(TypedDict):
    """The decision: show ``offer_id``, or with slots what each of them says; it is the first one's then."""

    decision_id: str
    offer_id: str
    ranking: list[RankedOut]
    policy_id: str
    snapshot_id: str
    learning_mode: Literal["online", "apprentice", "logging_only"]
    # learn, baseline, holdout or fallback (nothing was eligible).
    use: NotRequired[str]
    # The offer's code, if the catalogue has one.
    code: NotRequired[str | None]
    # What to show, if the catalogue has it.
    creative: NotRequired[dict[str, str] | None]
    # In the order asked, when slots were.
    slots: NotRequired[list[RankedSlotOut] | None]
    # The customer's session goes on: this is its earlier decision; nothing was drawn anew.
    sticky: NotRequired[bool]
    # The reasons, when explain was asked.
    why: NotRequired[WhyOut | None]


class RankedOut(TypedDict):
    """An eligible offer and the exact probability with which it could have been drawn."""

    offer_id: str
    probability: float


class RankedSlotOut(TypedDict):
    """What one slot shows, with the exact probability of it, given what earlier slots show."""

    slot_id: str
    offer_id: str
    # Null when nothing was left to the slot, and a fallback is shown.
    propensity: float | None
    ranking: list[RankedOut]
    # The offer's code, if the catalogue has one.
    code: NotRequired[str | None]
    # What to show, if the catalogue has it.
    creative: NotRequired[dict[str, str] | None]


class RemovedOut(TypedDict):
    """An offer that a rule took out."""

    offer_id: str
    reason: str


class RewardIn(TypedDict):
    """What happened after a decision: a value, or a kind that the loop knows the worth of."""

    loop: NotRequired[str]
    decision_id: str
    # The slot that it is about, by its id or its place from 0; absent = the first.
    slot: NotRequired[str | int | None]
    value: NotRequired[float | None]
    kind: NotRequired[str | None]
    # Multiplies the kind's worth, such as revenue.
    amount: NotRequired[float | None]
    # Makes the call repeatable; so does the header Idempotency-Key.
    outcome_id: NotRequired[str | None]
    occurred_at: NotRequired[datetime | str | None]
    # No more outcomes will come; closes early on loops with close_on_final.
    final: NotRequired[bool]


class RewardOut(TypedDict):
    """An accepted outcome."""

    position: str
    outcome_id: str


class RuleIn(TypedDict):
    """The offer is removed with the reason ``rule:CODE`` unless the expression holds (docs/RULES.md)."""

    code: str
    require: Mapping[str, Any]


class SlotIn(TypedDict):
    """One place among several: what it is like, and which offers it may show."""

    # Absent = its place from 0.
    id: NotRequired[str | None]
    # Of the place, never of a person.
    features: NotRequired[Mapping[str, Any]]
    # The offer that it shows when a baseline serves.
    baseline: NotRequired[str | None]
    # Offers that it must not show.
    exclude: NotRequired[Sequence[str]]


class SlotOut(TypedDict):
    """The draw: probabilities in the order of ``eligible``, and what the number fell on."""

    offer_id: str
    propensity: float | None
    policy_probabilities: list[float] | None
    served_probabilities: list[float] | None
    draw: float | None
    # Null where no slots were asked for, as all that follows.
    slot_id: NotRequired[str | None]
    features: NotRequired[dict[str, Any]]
    baseline: NotRequired[str | None]
    exclude: NotRequired[list[str]]
    # What the draw left out of this slot.
    removed: NotRequired[list[RemovedOut]]
    # Its own, once the decision is closed.
    reward: NotRequired[float | None]


class WhyOfferOut(TypedDict):
    """An eligible offer: its probability, its expected reward as the model has it, and what that is made of."""

    offer_id: str
    probability: float | None
    policy_probability: float | None
    score: float | None
    contributions: list[ContributionOut]
    # The sum of all smaller contributions.
    rest: float | None
    # How many they are.
    others: int


class WhyOut(TypedDict):
    """Why the decision fell as it did."""

    loop: str
    decision_id: str
    offer_id: str
    use: str
    # Another offer was likelier than the one that was drawn.
    is_exploration: bool
    removed: list[RemovedOut]
    offers: list[WhyOfferOut]
    # What was not known.
    missing: list[str]
    # Where features came from, by namespace or feature.
    sources: dict[str, str]
    # Features that the loop's schema did not let in.
    dropped: list[str]
    # All of them, where slots were asked for.
    slots: NotRequired[list[WhySlotOut] | None]
    note: str | None


class WhySlotOut(TypedDict):
    """Why one of several slots shows what it does; probabilities are given what earlier slots show."""

    slot_id: str
    offer_id: str
    is_exploration: bool
    # By the draw; shown_above: an earlier slot shows it, slot_excludes: this one must not.
    removed: list[RemovedOut]
    offers: list[WhyOfferOut]
