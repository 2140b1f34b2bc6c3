"""From checked request bodies to domain records: offers, customers, loops."""

from __future__ import annotations

from typing import Any

from adapters.records import loop_from, offer_from
from contextual_bandit.features import BadFeature, check_identity, rebuild_features
from contextual_bandit.loops import FeatureSchema, FeatureSpec, LoopConfig
from contextual_bandit.reward import DIRECT
from contextual_bandit.types import CustomerRecord, Offer
from decision_service.catalogue_schemas import CustomerIn, OfferIn
from decision_service.loop_schemas import FeatureSchemaIn, LoopIn
from decision_service.problems import bad_field


def offer_of(offer_id: str, body: OfferIn, path: str = "") -> Offer:
    """An offer from its body; the catalogue gives the version.

    Raises:
        BadFeature: a feature that no policy can use.
    """
    features = rebuild_features(body.features, path + "features")
    return offer_from(offer_id, 0, {**body.model_dump(), "features": features})


def customer_of(body: CustomerIn) -> CustomerRecord:
    """A customer's record from its body.

    Raises:
        BadFeature: a feature that no policy can use, or that says who the customer is.
    """
    groups: dict[str, dict[str, Any]] = {"demographics": body.demographics, "preferences": body.preferences}
    for name, group in groups.items():
        check_identity(group, name)
    if "age" in body.demographics:
        why = "is a rule's business: send it as the customer's age, and policies a band of it"
        raise BadFeature("demographics.age", body.demographics["age"], why)
    return CustomerRecord(
        demographics=rebuild_features(body.demographics, "demographics"),
        preferences=rebuild_features(body.preferences, "preferences"),
        consents={str(name): given for name, given in body.consents.items()},
        age=body.age,
        region=body.region,
    )


def loop_of(loop: str, body: LoopIn) -> LoopConfig:
    """A loop's settings from their body, without a schema.

    Raises:
        Problem: 400, a guardrail on a kind of outcome that the reward definition does not know: none is accepted, so
            that the bound could never be broken. What is stored with such a bound can still be read.
    """
    for number, guardrail in enumerate(body.guardrails):
        _, is_outcome, kind = guardrail.metric.partition("outcome:")
        if is_outcome and kind != DIRECT and kind not in body.reward.kinds:
            known = ", ".join(sorted({DIRECT, *body.reward.kinds}))
            why = f"there are no outcomes of kind {kind!r}; the loop knows: {known}"
            raise bad_field(f"guardrails.{number}.metric", guardrail.metric, why)
    return loop_from({**body.model_dump(), "loop": loop})


def schema_of(body: FeatureSchemaIn) -> FeatureSchema:
    """A feature schema from its body."""
    features = {
        path: FeatureSpec(spec.type, spec.low, spec.high, tuple(spec.values), spec.personal)
        for path, spec in body.features.items()
    }
    return FeatureSchema(features, body.unknown)
