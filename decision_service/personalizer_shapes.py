"""Request bodies of the Personalizer API: unknown fields are ignored, and null is as good as absent."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

MOST_ACTIONS = 50
Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Reward = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
FeatureObjects = list[dict[str, Any]]


class Body(BaseModel):
    """An object of a request; values are never taken for ones of another type, but for whole numbers as fractions."""

    model_config = ConfigDict(extra="ignore", strict=True, alias_generator=to_camel, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data


class ActionBody(Body):
    """One action among which to choose."""

    id: Name
    features: FeatureObjects = Field(min_length=1)


class RankBody(Body):
    """``POST /rank``."""

    actions: list[ActionBody] = Field(min_length=1, max_length=MOST_ACTIONS)
    context_features: FeatureObjects = []
    excluded_actions: list[str] = []
    event_id: Name | None = None
    defer_activation: bool = False


class SlotBody(Body):
    """One slot of a multi-slot rank call; ``positionFeatures`` is an older name of its features."""

    id: Name
    baseline_action: Name
    features: FeatureObjects = []
    position_features: FeatureObjects = []
    excluded_actions: list[str] = []


class MultiSlotRankBody(Body):
    """``POST /multislot/rank``."""

    actions: list[ActionBody] = Field(min_length=1, max_length=MOST_ACTIONS)
    slots: list[SlotBody] = Field(min_length=1, max_length=MOST_ACTIONS)
    context_features: FeatureObjects = []
    event_id: Name | None = None
    defer_activation: bool = False


class RewardBody(Body):
    """``POST /events/{eventId}/reward``."""

    value: Reward


class SlotRewardBody(Body):
    """The reward of one slot."""

    slot_id: Name
    value: Reward


class MultiSlotRewardBody(Body):
    """``POST /multislot/events/{eventId}/reward``."""

    reward: list[SlotRewardBody]


class PolicyBody(Body):
    """``PUT /configurations/policy``, and a custom policy of an evaluation."""

    name: Name
    arguments: Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class ServiceBody(Body):
    """``PUT /configurations/service``; times and durations are read by ``personalizer_times``."""

    reward_wait_time: str
    default_reward: float = Field(ge=-1, le=1, allow_inf_nan=False)
    reward_aggregation: Literal["earliest", "sum", "average", "median", "min", "max"]
    exploration_percentage: float = Field(ge=0, le=1, allow_inf_nan=False)
    model_export_frequency: str
    log_retention_days: int
    model_retrain_days: int | None = None
    learning_mode: Literal["Online", "Apprentice", "LoggingOnly"] | None = None
    is_auto_optimization_enabled: bool | None = None
    auto_optimization_frequency: str | None = None
    auto_optimization_start_date: str | None = None
    is_inference_explainability_enabled: bool | None = None
    log_mirror_enabled: bool | None = None
    log_mirror_sas_uri: str | None = None


class EvaluationBody(Body):
    """A new evaluation, in both forms; ``enableOfflineExperimentation`` is an older name."""

    name: Name
    start_time: str
    end_time: str
    policies: list[PolicyBody] = []
    enable_policy_optimization: bool = False
    enable_offline_experimentation: bool = False


class FeatureImportanceBody(Body):
    """A new ranking of features."""

    name: Name
    start_time: str
    end_time: str


class ApplyBody(Body):
    """``POST /configurations/applyFromEvaluation``."""

    evaluation_id: Name
    policy_name: Name
