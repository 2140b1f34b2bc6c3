"""One whole example per wire shape, for the OpenAPI document; a test validates each against its model."""

from __future__ import annotations

from typing import Any

from decision_service.policy_examples import POLICY_EXAMPLES

_DECISION_ID = "visit-20261123-1041"
_POSITION = "1764000000000-0"
_RANKING = [{"offer_id": "spring-10", "probability": 0.99}, {"offer_id": "free-shipping", "probability": 0.01}]
_RANK_IN = {
    "loop": "default",
    "customer_id": "c-1041",
    "context": {"device": {"kind": "phone"}, "weather": {"band": "mild", "condition": "rain"}},
    "candidates": ["spring-10", {"offer_id": "free-shipping", "features": {"category": "service", "threshold": 30}}],
    "decision_id": _DECISION_ID,
}
_RANK_OUT = {
    "decision_id": _DECISION_ID,
    "offer_id": "spring-10",
    "ranking": _RANKING,
    "policy_id": "vw-8d9f5890a8",
    "snapshot_id": "default-g1-30600",
    "learning_mode": "online",
}
_SLOT_IN = {"id": "drawer-top", "features": {"size": "large"}, "baseline": "spring-10", "exclude": ["free-shipping"]}
_RANKED_SLOT = {"slot_id": "drawer-top", "offer_id": "spring-10", "propensity": 0.99, "ranking": _RANKING}
_CUSTOMER = {
    "demographics": {"age_band": "35-44", "household_size": 3},
    "preferences": {"likes": "garden"},
    "consents": {"personalise": True},
    "age": 38,
    "region": "US-WA",
}
_ACTIVITY = {
    "customer_id": "c-1041",
    "kind": "purchase",
    "occurred_at": "2026-11-22T17:03:00Z",
    "category": "garden",
    "amount": 24.9,
    "activity_id": "order-77-line-1",
}
_CAP = {"name": "three_a_week", "scope": "customer", "shows": 3, "window_seconds": 604800}
_OFFER: dict[str, Any] = {
    "category": "garden",
    "status": "active",
    "valid_from": "2026-03-01T00:00:00Z",
    "valid_to": "2026-06-01T00:00:00Z",
    "features": {"size": "large"},
    "type": "percentage",
    "discount": 0.1,
    "price": 24.9,
    "margin": 0.35,
    "cost": 0.02,
    "code": "SPRING10",
    "creative": {"title": "Spring in your garden"},
    "channels": ["web", "app"],
    "regions": ["US-WA"],
    "priority": 0,
    "tags": ["promoted"],
    "rules": [{"code": "dry_day", "require": {"fact": "weather.precipitation", "is": "none"}}],
    "limits": {"stock": 5000, "caps": [_CAP], "cooldown_days": 14},
}
_OFFER_OUT = {"offer_id": "spring-10", "version": 3, **_OFFER}
_REWARD = {
    "low": 0.0,
    "high": 1.0,
    "default": 0.0,
    "wait_seconds": 600.0,
    "aggregation": "earliest",
    "kinds": {"click": 0.2, "redemption": {"worth": 1.0, "measure": "count"}},
}
_LOOP = {
    "exploration_floor": 0.02,
    "reward": _REWARD,
    "export_frequency_seconds": 60.0,
    "time_zone": "America/New_York",
}
_STATUS = {
    "decisions": 30600,
    "open": 12,
    "interactions": 30588,
    "duplicated": 0,
    "set_aside": 0,
    "snapshots": 102,
    "snapshot_id": "default-g1-30588",
    "stream_time": "2026-11-23T08:00:00Z",
    "position": _POSITION,
}
_APPRENTICE: dict[str, Any] = {
    "match_rate": 0.75,
    "total": {"events": 400, "imitated": 300, "reward_sum": 40.0, "imitated_reward_sum": 31.0},
    "last_batch": {"events": 4, "imitated": 3, "reward_sum": 1.0, "imitated_reward_sum": 1.0},
    "started_at": "2026-11-23T10:00:00Z",
    "last_at": "2026-11-23T10:41:00Z",
}
_OPERATION = {
    "operation_id": "5f0c1d2e3b4a49788796a5b4c3d2e1f0",
    "kind": "replay",
    "state": "done",
    "progress": 1.0,
    "detail": {
        "arguments": "--cb_explore_adf --epsilon 0.1 -q ::", "rewards": False, "learned": 30600, "generation": 2,
        "trained_through": 30600, "snapshot_id": "default-g2-30600",
    },
    "error": None,
    "attempts": 1,
    "actor": "shop",
    "created_at": "2026-11-23T10:40:57Z",
    "updated_at": "2026-11-23T10:41:00Z",
    "ended_at": "2026-11-23T10:41:00Z",
}  # fmt: skip
_LOOP_OUT = {"loop": "default", "version": 4, **_LOOP, "status": _STATUS}
_AUDIT_ENTRY = {
    "audit_id": 5120, "at": "2026-11-23T10:41:00Z", "actor": "shop", "action": "offer.killed", "subject": "spring-10",
    "detail": {"reason": "the code does not work"},
}  # fmt: skip
_KEY_OUT = {"key_id": "9f2c41d07a11", "name": "web shop", "role": "write", "created_at": "2026-11-23T08:00:00Z"}
_ACTION = {
    "offer_id": "spring-10",
    "version": 3,
    "features": {"category": "garden", "discount": 0.1},
    "affinity": {"r4": 7.31, "r16": 9.8, "r52": 8.12},
}
_SLOT = {
    "offer_id": "spring-10",
    "propensity": 0.99,
    "policy_probabilities": [1.0, 0.0],
    "served_probabilities": [0.99, 0.01],
    "draw": 0.34834018387533094,
}
_OUTCOME = {
    "outcome_id": "click-1",
    "kind": "click",
    "value": 0.2,
    "final": False,
    "received_at": "2026-11-23T08:01:00Z",
    "state": "joined",
}

_JOB = {
    "job_id": "5b0f7d0e-2f0e-4f7c-9a53-1f6f1a4c6d55",
    "kind": "precompute",
    "state": "done",
    "progress": 1.0,
    "result": {"cells": 48},
    "error": None,
    "attempts": 1,
    "created_at": "2026-11-23T08:00:00Z",
    "updated_at": "2026-11-23T08:00:09Z",
}
_ERASED = {
    "state": "done",
    "rows": {"customers": 1, "profiles": 1, "activities": 57},
    "done_at": "2026-11-23T08:00:01Z",
}
_ERASED_LOOP: dict[str, Any] = {
    "state": "done",
    "rows": {"decisions": 12, "interactions": 12, "outcomes": 3, "decision_keys": 12},
    "done_at": "2026-11-23T08:00:02Z",
    "generation": 2,
    "models": 31,
}
_ERASED_PARTS = {"customer": _ERASED, "loops": {"default": _ERASED_LOOP}}
_REGION = {
    "time_zone": "America/Los_Angeles",
    "country": "US",
    "subdivision": "WA",
    "latitude": 47.61,
    "longitude": -122.33,
}
_CONTRIBUTION = {"name": "A.r16", "value": 9.8, "reward": 0.031, "shared": False}
_WHY: dict[str, Any] = {
    "loop": "default",
    "decision_id": _DECISION_ID,
    "offer_id": "spring-10",
    "use": "learn",
    "is_exploration": False,
    "removed": [{"offer_id": "winter-20", "reason": "expired"}],
    "offers": [
        {
            "offer_id": "spring-10",
            "probability": 0.99,
            "policy_probability": 1.0,
            "score": 0.12,
            "contributions": [_CONTRIBUTION],
            "rest": 0.004,
            "others": 11,
        }
    ],
    "missing": ["W"],
    "sources": {"H": "stored", "D": "stored", "S": "clock", "W": "missing"},
    "dropped": [],
    "note": None,
}
_WHY_SLOT = {
    "slot_id": "drawer-top",
    "offer_id": "spring-10",
    "is_exploration": False,
    "removed": [{"offer_id": "free-shipping", "reason": "slot_excludes"}],
    "offers": _WHY["offers"],
}
_SCHEMA: dict[str, Any] = {
    "features": {"device.kind": {"type": "string", "values": ["phone", "desktop"], "personal": False}},
    "unknown": "refuse",
}

_EVALUATION: dict[str, Any] = {
    "evaluation_id": "spring-policies",
    "loop": "default",
    "name": "Spring",
    "request": {"policies": ["vw", "uniform"], "against": "logged"},
    "state": "done",
    "progress": 1.0,
    "result": {"verdict_in_words": "Policy vw is better than the served policy: ...", "verdict": "better"},
    "error": None,
    "created_at": "2026-11-23T08:00:00Z",
    "ended_at": "2026-11-23T08:00:09Z",
}

EXAMPLES: dict[str, dict[str, Any]] = {
    "CandidateIn": {"offer_id": "free-shipping", "features": {"category": "service", "threshold": 30}},
    "SlotIn": _SLOT_IN,
    "RankIn": _RANK_IN,
    "RankedSlotOut": _RANKED_SLOT,
    "WhySlotOut": _WHY_SLOT,
    "RankedOut": _RANKING[0],
    "RankOut": _RANK_OUT,
    "ContributionOut": _CONTRIBUTION,
    "WhyOfferOut": _WHY["offers"][0],
    "WhyOut": _WHY,
    "FeatureSpecIn": _SCHEMA["features"]["device.kind"],
    "FeatureSchemaIn": _SCHEMA,
    "FeatureSchemaOut": {**_SCHEMA, "loop": "default", "version": 5},
    "RankBatchIn": {"requests": [_RANK_IN]},
    "RankBatchOut": {"decisions": [_RANK_OUT]},
    "RewardIn": {"decision_id": _DECISION_ID, "kind": "click", "outcome_id": "click-1"},
    "AcceptedOut": {"position": _POSITION},
    "RewardOut": {"position": _POSITION, "outcome_id": "click-1"},
    "ActivateIn": {"decision_id": _DECISION_ID},
    "ActivityIn": _ACTIVITY,
    "ActivityBatchIn": {"activities": [_ACTIVITY]},
    "ActivityOut": {"position": _POSITION, "accepted": 1, "applied": True},
    "TickIn": {"occurred_at": "2017-01-09T05:00:00Z"},
    "TickOut": {"position": _POSITION, "applied": True},
    "OfferIn": _OFFER,
    "OfferOut": _OFFER_OUT,
    "OffersOut": {"offers": [_OFFER_OUT]},
    "RuleIn": _OFFER["rules"][0],
    "CapIn": _CAP,
    "LimitsIn": _OFFER["limits"],
    "OutcomeKindIn": {"worth": 1.0, "measure": "margin"},
    "BaselineSettingIn": {"threshold": 8.0, "top_n": 3, "priority": ["spring-10", "free-shipping"]},
    "RfmIn": {"recency_days": [7, 28, 91, 182], "per_year": [4, 12, 26, 52], "per_order": [10, 25, 50, 100]},
    "HoldoutIn": {"share": 0.05, "serves": "baseline"},
    "CustomerIn": _CUSTOMER,
    "CustomerOut": {
        "customer_id": "c-1041",
        **_CUSTOMER,
        "profile": {"purchases": 1, "spend": 24.9, "browses": 0, "categories": {"garden": {"purchase_days": 1}}},
    },
    "RewardDefinitionIn": _REWARD,
    "MatchesOut": _APPRENTICE["total"],
    "ApprenticeOut": _APPRENTICE,
    "AutoOptimisationIn": {"is_enabled": True, "frequency_days": 28, "start": "2026-12-01T03:00:00Z"},
    "ModelPropertiesOut": {"created_at": "2026-11-01T00:00:12Z", "modified_at": "2026-11-23T10:41:00Z"},
    "OperationOut": _OPERATION,
    "OperationsOut": {"operations": [_OPERATION]},
    "LoopIn": _LOOP,
    "LoopStatusOut": _STATUS,
    "LoopOut": _LOOP_OUT,
    "LoopsOut": {"loops": [_LOOP_OUT]},
    "OfferRowIn": {"offer_id": "spring-10", **_OFFER},
    "OfferFileIn": {"offers": [{"offer_id": "spring-10", **_OFFER}]},
    "ImportOut": {"imported": 120, "created": 3, "updated": 17, "unchanged": 100, "dry_run": False},
    "OfferVersionOut": {**_OFFER_OUT, "created_at": "2026-02-20T09:30:00Z"},
    "OfferVersionsOut": {"versions": [{**_OFFER_OUT, "created_at": "2026-02-20T09:30:00Z"}]},
    "EvaluationIn": {
        "evaluation_id": "spring-policies",
        "name": "Spring",
        "loop": "default",
        "policies": ["vw", "uniform"],
        "closed_from": "2026-03-01T00:00:00Z",
        "slices": ["H.segment", "week"],
    },
    "EvaluationOut": _EVALUATION,
    "EvaluationsOut": {"evaluations": [{**_EVALUATION, "result": None}]},
    "JobIn": {"kind": "precompute"},
    "JobOut": _JOB,
    "JobsOut": {"jobs": [_JOB]},
    "ErasedOut": _ERASED,
    "ErasedLoopOut": _ERASED_LOOP,
    "ErasedPartsOut": _ERASED_PARTS,
    "ErasureOut": {
        "receipt_id": "5f0c1d9be2a34c6f8d1e7a90b3c4d5e6",
        "state": "done",
        "customer": "blake2b:9b0c7e4b3a7f1c55d7c0f4f7c1f0de0f6d2a1a3c64b8c9c1f5a0f0d4b6a7e812",
        "actor": "privacy officer",
        "requested_at": "2026-11-23T08:00:00Z",
        "done_at": "2026-11-23T08:00:02Z",
        "erased": _ERASED_PARTS,
    },
    "RegionIn": _REGION,
    "RegionOut": {"region": "US-WA", **_REGION},
    "RegionsOut": {"regions": [{"region": "US-WA", **_REGION}]},
    "KeyIn": {"name": "web shop", "role": "write"},
    "KeyOut": _KEY_OUT,
    "NewKeyOut": {**_KEY_OUT, "secret": "ol_shown-this-once"},
    "KeysOut": {"keys": [_KEY_OUT]},
    "AuditEntryOut": _AUDIT_ENTRY,
    "AuditLogOut": {"entries": [_AUDIT_ENTRY], "before": 5120},
    "RemovedOut": {"offer_id": "winter-20", "reason": "expired"},
    "ActionOut": _ACTION,
    "SlotOut": _SLOT,
    "OutcomeOut": _OUTCOME,
    "OwnChoiceOut": {
        "offer_id": "free-shipping",
        "propensity": 0.99,
        "policy_probabilities": [0.0, 1.0],
        "served_probabilities": [0.01, 0.99],
        "draw": 0.42,
        "is_match": False,
    },
    "DecisionOut": {
        "loop": "default",
        "decision_id": _DECISION_ID,
        "state": "closed",
        "decided_at": "2026-11-23T08:00:00Z",
        "occurred_at": "2026-11-23T08:00:00Z",
        "customer_id": "c-1041",
        "context": {"H": {"segment": "both"}, "S": {"month": "m11"}, "device": {"kind": "phone"}},
        "eligible": [_ACTION, {**_ACTION, "offer_id": "free-shipping"}],
        "removed": [{"offer_id": "winter-20", "reason": "expired"}],
        "slots": [_SLOT],
        "policy_id": "vw-8d9f5890a8",
        "snapshot_id": "default-g1-30600",
        "learning_mode": "online",
        "use": "learn",
        "deferred": False,
        "outcomes": [_OUTCOME],
        "reward": 0.2,
        "closed_at": "2026-11-23T08:10:00Z",
    },
    **POLICY_EXAMPLES,
    "FieldErrorOut": {"field": "context.age", "value": "nan", "message": "numbers must be finite"},
    "ProblemOut": {
        "type": "about:blank",
        "title": "Bad request",
        "status": 400,
        "detail": "context.age: numbers must be finite and at most 1e+09 in size, got nan",
        "errors": [{"field": "context.age", "value": "nan", "message": "numbers must be finite"}],
    },
}
