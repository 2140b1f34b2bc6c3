"""Wire shapes of what decisions are made from: offers, customers, keys."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StrictBool, StringConstraints, model_validator

from decision_service.field_errors import FieldFault
from decision_service.shapes import Id, In, Moment, RegionName

Money = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Tag = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Text = Annotated[str, StringConstraints(max_length=4096, pattern=r"^[^\x00]*$")]
Code = Annotated[str, StringConstraints(max_length=256, pattern=r"^[^\x00]*$")]
Days = Annotated[float, Field(gt=0, le=3650)]


class RuleIn(In):
    """The offer is removed with the reason ``rule:CODE`` unless the expression holds (docs/RULES.md)."""

    code: Tag = Field(examples=["only_in_rain"])
    require: dict[str, Any] = Field(examples=[{"fact": "weather.condition", "in": ["rain", "drizzle"]}])


class CapIn(In):
    """At most so many shows."""

    name: Tag = Field(examples=["three_a_week"])
    scope: Literal["total", "customer"]
    shows: Annotated[int, Field(ge=0, le=1_000_000_000)]
    window_seconds: Annotated[float, Field(ge=1, le=3650 * 86400)] | None = Field(None, description="Absent = ever.")

    @model_validator(mode="after")
    def _countable(self) -> CapIn:
        if self.scope == "customer" and self.shows > 1000:
            raise FieldFault("shows", self.shows, "shows per customer must be at most 1000")
        return self


class LimitsIn(In):
    """What the offer may use up; counted when it is drawn, exact under concurrency."""

    stock: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = Field(
        default=None,
        description="Units; a show reserves one until its decision closes unredeemed.",
    )
    budget: Money | None = Field(default=None, description="Money; each show takes the offer's cost.")
    caps: list[CapIn] = Field(default=[], max_length=10)
    cooldown_days: Days | None = Field(default=None, description="Not again so soon after the customer redeemed it.")
    excludes: list[Id] = Field(default=[], max_length=100, description="Offers the customer must not have seen lately.")
    requires: list[Id] = Field(default=[], max_length=100, description="The customer must have seen one lately.")
    relation_days: Days = Field(default=30.0, description="What lately means for excludes and requires.")

    @model_validator(mode="after")
    def _names_differ(self) -> LimitsIn:
        names = [cap.name for cap in self.caps]
        if len(set(names)) < len(names):
            raise FieldFault("caps", names, "caps need different names")
        return self


class OfferIn(In):
    """An offer of the catalogue."""

    category: Id = Field(examples=["garden"])
    status: Literal["draft", "active", "paused", "ended"] = "active"
    valid_from: Moment | None = None
    valid_to: Moment | None = Field(None, description="The first moment at which it is no longer valid.")
    features: dict[str, Any] = Field({}, examples=[{"size": "large"}])
    type: Literal["percentage", "amount", "free_gift", "free_shipping", "points", "content", "none"] | None = Field(
        None, description='"none" is the offer that offers nothing: a candidate like any other.'
    )
    discount: Share | None = Field(None, description="Depth as a share of the price.")
    price: Money | None = None
    margin: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        None, description="Share of revenue that is left before the discount."
    )
    cost: Money = Field(0.0, description="Money that one contact costs.")
    code: Annotated[str, StringConstraints(max_length=256, pattern=r"^[^\x00]*$")] | None = Field(
        None, examples=["SPRING10"]
    )
    creative: dict[Tag, Text] = Field({}, max_length=50, description="What the shop shows, by part.")
    channels: list[Id] = Field([], max_length=100, description="Empty = all.")
    regions: list[RegionName] = Field([], max_length=1000, description="Empty = all.")
    priority: Annotated[int, Field(ge=-1000, le=1000)] = Field(
        0, description="On loops with priority tiers only the highest eligible one competes."
    )
    tags: list[Tag] = Field([], max_length=100, description="Sensitive ones need explicit consent.")
    minimum_age: Annotated[int, Field(ge=0, le=120)] | None = None
    rules: list[RuleIn] = Field([], max_length=100)
    limits: LimitsIn = LimitsIn()

    @model_validator(mode="after")
    def _ends_after_start(self) -> OfferIn:
        if self.valid_from and self.valid_to and self.valid_to <= self.valid_from:
            raise FieldFault("valid_to", self.valid_to.isoformat(), "must be after valid_from")
        return self


class OfferOut(BaseModel):
    """A stored offer."""

    offer_id: str
    version: int
    category: str
    status: str
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    features: dict[str, Any] = {}
    type: str | None = None
    discount: float | None = None
    price: float | None = None
    margin: float | None = None
    cost: float = 0.0
    code: str | None = None
    creative: dict[str, str] = {}
    channels: list[str] = []
    regions: list[str] = []
    priority: int = 0
    tags: list[str] = []
    minimum_age: int | None = None
    rules: list[RuleIn] = []
    limits: LimitsIn = LimitsIn()


class OffersOut(BaseModel):
    """The catalogue."""

    offers: list[OfferOut]


class CustomerIn(In):
    """What the shop knows of a customer; names and addresses do not belong here."""

    demographics: dict[str, Any] = Field({}, examples=[{"age_band": "35-44", "household_size": 3}])
    preferences: dict[str, Any] = Field({}, description="What the customer stated.", examples=[{"likes": "garden"}])
    consents: dict[Literal["personalise", "health", "pregnancy", "finance", "alcohol"], StrictBool] = Field(
        {}, description="Explicit consents; sensitive offers need theirs."
    )
    age: Annotated[int, Field(ge=0, le=120)] | None = Field(None, description="Serves rules; a policy sees bands only.")
    region: RegionName | None = None


class CustomerOut(BaseModel):
    """A stored customer."""

    customer_id: str
    demographics: dict[str, Any]
    preferences: dict[str, Any] = {}
    consents: dict[str, bool] = {}
    age: int | None = None
    region: str | None = None
    profile: dict[str, Any] | None = Field(None, description="What their activity adds up to.")


class KeyIn(In):
    """A new API key."""

    name: Id = Field(examples=["web shop"])
    role: Literal["page", "read", "write", "admin"] = Field(
        "write", description="page: rank, reward, activate and activity alone, and nothing that can be read."
    )


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
