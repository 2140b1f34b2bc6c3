"""The vocabulary: every noun of the loop, one frozen dataclass each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

FeatureValue: TypeAlias = str | float | bool
Features: TypeAlias = Mapping[str, FeatureValue]

LearningMode: TypeAlias = Literal["online", "apprentice", "logging_only"]
Use: TypeAlias = Literal["learn", "holdout", "fallback", "baseline"]
Clock: TypeAlias = Literal["wall", "simulated"]
Aggregation: TypeAlias = Literal["sum", "earliest", "average", "median", "min", "max"]
OfferStatus: TypeAlias = Literal["draft", "active", "paused", "ended"]
# "none" is the offer that offers nothing: a candidate like any other.
OfferType: TypeAlias = Literal["percentage", "amount", "free_gift", "free_shipping", "points", "content", "none"]
CapScope: TypeAlias = Literal["total", "customer"]
LateOutcomes: TypeAlias = Literal["ignore", "rebuild"]
# A slot by its id, or by its place from 0.
SlotName: TypeAlias = str | int | None

# Tags that need explicit consent of the same name, and an age.
SENSITIVE_TAGS = frozenset({"health", "pregnancy", "finance", "alcohol"})


@dataclass(frozen=True, slots=True)
class Context:
    """Features known when deciding, by namespace; never the identity of the customer.

    The first letter of a namespace is what interactions name, so the product's own are the capitals D demographics,
    H history, L location, P stated preferences, S season, T the slot, W weather; a client's own never begin with one
    of them.
    """

    namespaces: Mapping[str, Features]


@dataclass(frozen=True, slots=True)
class Rule:
    """An offer is removed with the reason ``rule:CODE`` unless ``require`` holds (docs/RULES.md has its language)."""

    code: str
    require: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cap:
    """At most ``shows`` shows, to everybody together or to each customer, ever or within a sliding window."""

    name: str
    scope: CapScope
    shows: int
    window_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What an offer may use up, counted at the moment of the draw.

    A show reserves one unit of ``stock``, which comes back when its decision closes without redemption, and costs the
    offer's ``cost`` of ``budget`` (money). ``cooldown_days``: not again so soon after the customer redeemed it.
    ``excludes`` and ``requires`` name offers that the customer must not, or must, have been shown within
    ``relation_days``.
    """

    stock: int | None = None
    budget: float | None = None
    caps: tuple[Cap, ...] = ()
    cooldown_days: float | None = None
    excludes: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    relation_days: float = 30.0


@dataclass(frozen=True, slots=True)
class Offer:
    """A catalogue record; each change makes a new version.

    ``discount`` is a share of the price in [0, 1], ``price`` money, ``margin`` the share of revenue in [-1, 1] that is
    left before the discount, ``cost`` the money that one contact costs. Empty ``channels`` or ``regions`` mean all.
    A higher ``priority`` goes first on loops with priority tiers. ``creative`` is what the shop shows, by part.
    """

    offer_id: str
    category: str
    status: OfferStatus = "active"
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    features: Features = field(default_factory=dict)
    version: int = 1
    type: OfferType | None = None
    discount: float | None = None
    price: float | None = None
    margin: float | None = None
    cost: float = 0.0
    code: str | None = None
    creative: Mapping[str, str] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    priority: int = 0
    tags: tuple[str, ...] = ()
    minimum_age: int | None = None
    rules: tuple[Rule, ...] = ()
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class CustomerRecord:
    """What a shop says of a customer; neither name nor address.

    ``preferences`` are what the customer stated. ``consents`` are explicit: ``personalise``, and one per sensitive tag.
    ``age`` (years) serves rules; a policy sees bands only.
    """

    demographics: Features = field(default_factory=dict)
    preferences: Features = field(default_factory=dict)
    consents: Mapping[str, bool] = field(default_factory=dict)
    age: int | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """What the policy sees of an offer, frozen in the decision.

    ``features`` belong to the offer (namespace O), ``affinity`` to this customer with this offer (namespace A).
    ``version`` is the catalogue's; 0 stands for an offer that came inline with the request. ``cost`` is the money that
    one contact costs; ``promoted`` offers share the loop's promoted probability. Neither is seen by the policy.
    """

    offer_id: str
    features: Features
    affinity: Features = field(default_factory=dict)
    version: int = 0
    cost: float = 0.0
    promoted: bool = False


@dataclass(frozen=True, slots=True)
class Removed:
    """An offer that the rules took out before exploration, with the reason's code."""

    offer_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Distribution:
    """Probability per eligible action, in the order of the decision's actions; each sums to 1.

    ``policy`` is as the policy gave it; ``served`` after the floor: the one that was drawn from.
    """

    policy: tuple[float, ...]
    served: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SlotDecision:
    """One slot's draw: ``propensity`` is the served probability of ``actions[chosen]`` and never recomputed.

    ``draw`` is the uniform number in [0, 1) that chose it; fallbacks have neither distribution nor propensity. A
    decision whose request asked for slots names each (``slot_id`` is empty otherwise) and keeps what was asked of it:
    its place from 0, its ``features``, its ``baseline`` offer, and the offers that it must not show. There ``removed``
    is what the draw left out of this slot alone, ``took_units`` is as of a decision, and a slot for which nothing was
    left has ``chosen`` -1 and shows its ``fallback``.
    """

    chosen: int
    distribution: Distribution | None
    propensity: float | None
    draw: float | None
    slot_id: str = ""
    index: int = 0
    features: Features = field(default_factory=dict)
    baseline: str | None = None
    exclude: tuple[str, ...] = ()
    removed: tuple[Removed, ...] = ()
    took_units: int = 0
    fallback: Action | None = None


@dataclass(frozen=True, slots=True)
class OwnChoice:
    """What an apprentice would have shown in a slot where the baseline was served.

    ``chosen`` is its own draw from its own distribution (``served``, with floor and promotion) by a number of its own,
    ``propensity`` the probability of that.
    """

    chosen: int
    distribution: Distribution
    propensity: float
    draw: float


@dataclass(frozen=True, slots=True)
class Decision:
    """Everything that was known and done when an offer was picked, or one for each of several slots.

    ``sources`` says where a namespace, or one feature of it ("D.age_band"), came from: ``request``, ``stored``,
    ``clock``, a provider's name, ``missing``. ``dropped`` names features that the loop's schema did not let in.
    An action that a cap exhausted at the draw stays among ``actions`` with a served probability of 0, and stands in
    ``removed`` too, that of its slot where slots were asked for. ``took_units``: 1 if shows of the chosen offer are
    counted and this one was, 2 if it holds a unit of stock, else 0; where slots were asked for, each slot has its own.
    ``own`` is what the model of an apprentice chose, one for each slot; empty in the other modes.
    """

    loop: str
    decision_id: str
    decided_at: datetime
    occurred_at: datetime
    customer_id: str | None
    context: Context
    actions: tuple[Action, ...]
    removed: tuple[Removed, ...]
    slots: tuple[SlotDecision, ...]
    policy_id: str
    snapshot_id: str
    learning_mode: LearningMode
    use: Use
    deferred: bool
    request_hash: str
    sources: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    took_units: int = 0
    own: tuple[OwnChoice, ...] = ()

    @property
    def chosen(self) -> Action:
        """What the first slot shows."""
        return self.shown(0)

    @property
    def has_slots(self) -> bool:
        """Whether the request asked for slots, be it one."""
        return bool(self.slots and self.slots[0].slot_id)

    def shown(self, index: int) -> Action:
        """What a slot shows: the action that it chose, or its fallback."""
        slot = self.slots[index]
        return self.actions[slot.chosen] if slot.fallback is None else slot.fallback

    def slot_index(self, name: SlotName) -> int | None:
        """The place of a slot by its id or place; the first one when there is no name, None when there is no such."""
        if name is None:
            return 0
        if isinstance(name, str):
            return next((index for index, slot in enumerate(self.slots) if slot.slot_id == name), None)
        return name if 0 <= name < len(self.slots) else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """Something that happened after a decision; ``received_at`` is stream time, never the sender's clock.

    ``slot`` names the slot that it is about; without one it is about the first.
    """

    outcome_id: str
    decision_id: str
    kind: str
    value: float
    received_at: datetime
    final: bool = False
    slot: SlotName = None


@dataclass(frozen=True, slots=True)
class LoggedInteraction:
    """A closed decision with its reward; the only input of learning and of off-policy evaluation.

    ``sequence`` counts the loop's interactions from 1 in the order in which they closed; gaps are erased customers.
    Where slots were asked for, ``slot_rewards`` has each slot's reward, and ``reward`` is their sum; else it is empty.
    """

    sequence: int
    decision: Decision
    reward: float
    use: Use
    closed_at: datetime
    revision: int = 0
    slot_rewards: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class LearningSetting:
    """How a policy learns: Vowpal Wabbit's arguments, and the reward range that is mapped to costs 0 to -1."""

    arguments: str
    reward_low: float = 0.0
    reward_high: float = 1.0


@dataclass(frozen=True, slots=True)
class PolicySnapshot:
    """A policy's state as bytes, and where it came from; ``challenger`` is empty on those of the loop's own policy."""

    snapshot_id: str
    loop: str
    policy_id: str
    generation: int
    trained_through: int
    stream_time: datetime | None
    parent: str | None
    arguments: str
    reward_low: float
    reward_high: float
    model: bytes
    sha256: str
    challenger: str = ""

    @property
    def setting(self) -> LearningSetting:
        """What it was trained by."""
        return LearningSetting(self.arguments, self.reward_low, self.reward_high)


@dataclass(frozen=True, slots=True)
class Event:
    """One message of a stream; ``event_id`` is its position there ("milliseconds-number").

    ``spooled_at`` is set on messages that were acknowledged while the stream was away: what counts as their time.
    """

    event_id: str
    type: str
    schema_version: int
    time: datetime
    payload: Mapping[str, Any]
    spooled_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A policy's estimated value (mean reward per decision) with its interval.

    ``interval`` names the method of [low, high]. ``reliable`` is False where that method cannot promise its level on so
    little data; the numbers are then for orientation, and no verdict rests on them.
    """

    estimator: str
    value: float
    low: float
    high: float
    n: int
    effective_sample_size: float
    interval: str = "normal"
    reliable: bool = True
