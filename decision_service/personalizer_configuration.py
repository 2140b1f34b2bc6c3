"""Routes of the Personalizer API that configure a loop: its service configuration and its policy."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import Response

from adapters.apprentice import Matches, find_counts
from adapters.personalizer_settings import PersonalizerSettings, with_epsilon
from contextual_bandit.loops import AutoOptimisation, LoopConfig
from contextual_bandit.types import LearningMode
from decision_service.personalizer_call import DEFAULT_RETRAIN_DAYS, Call
from decision_service.personalizer_errors import PersonalizerError, invalid, json_response
from decision_service.personalizer_policy import DEFAULT_ARGUMENTS, served_policy
from decision_service.personalizer_shapes import PolicyBody, ServiceBody
from decision_service.personalizer_times import format_duration, format_time, parse_duration, parse_time
from decision_service.serving import utc_now

SERVICE = "InvalidServiceConfiguration"
MODES: Mapping[str, LearningMode] = {
    "Online": "online", "Apprentice": "apprentice", "LoggingOnly": "logging_only",
}  # fmt: skip
SHOWN_MODES = {mode: name for name, mode in MODES.items()}
SHORTEST_WAIT, LONGEST_WAIT = timedelta(seconds=5), timedelta(days=2)
MOST_DAYS = 2**31 - 1
# The longest that a loop keeps its log; what asks for more gets this.
LONGEST_RETENTION_DAYS = 3650
REWARD_FIELDS = ("default", "wait_seconds", "aggregation")
DEFAULT_NAME = "offerloop"


@dataclass(frozen=True, slots=True)
class Asked:
    """A service configuration as it would be stored: the loop's settings and the document beside them."""

    config: LoopConfig
    settings: PersonalizerSettings


async def get_service(call: Call) -> Response:
    """``GET /configurations/service``."""
    return json_response(await _shown(call))


async def put_service(call: Call) -> Response:
    """``PUT /configurations/service``: all is checked before anything is changed."""
    body = await call.json(ServiceBody, SERVICE)
    settings, config = await call.settings(), await call.config()
    asked = configured(config, settings, body)
    _check_changes(config, settings, asked)
    changes = _changed(config, asked.config)
    if changes or asked.settings != settings:
        edited = replace(asked.settings, edited_at=utc_now()) if changes else asked.settings
        if asked.config.learning_mode == "apprentice" and edited.apprentice_since is None:
            edited = replace(edited, apprentice_since=utc_now())
        await call.change(edited, changes)
    return json_response(await _shown(call))


async def get_policy(call: Call) -> Response:
    """``GET /configurations/policy``."""
    settings, config = await call.settings(), await call.config()
    return json_response(policy_shown(config, settings))


async def put_policy(call: Call) -> Response:
    """``PUT /configurations/policy``: kept as sent; the log is replayed under what serves it."""
    body = await call.json(PolicyBody, "InvalidPolicyContract")
    await set_policy(call, body.name, body.arguments)
    return await get_policy(call)


async def delete_policy(call: Call) -> Response:
    """``DELETE /configurations/policy``: back to the original's default."""
    await set_policy(call, DEFAULT_NAME, DEFAULT_ARGUMENTS)
    return await get_policy(call)


async def set_policy(call: Call, name: str, arguments: str) -> None:
    """Make arguments the loop's policy.

    Raises:
        BadArguments: they cannot be used.
        PersonalizerError: 403 for several slots while settings are optimised by themselves.
    """
    settings, config = await call.settings(), await call.config()
    served = await asyncio.to_thread(served_policy, arguments)
    if served.is_multi_slot and config.auto_optimisation.is_enabled:
        raise _incompatible()
    changed = replace(
        settings, policy_name=name, policy_arguments=arguments, served_arguments=served.arguments,
        is_multi_slot=served.is_multi_slot, edited_at=utc_now(),
    )  # fmt: skip
    floor = config.exploration_floor if served.epsilon is None else served.epsilon
    wanted = replace(config, arguments=served.arguments, exploration_floor=floor)
    await call.change(changed, _changed(config, wanted))


def policy_shown(config: LoopConfig, settings: PersonalizerSettings) -> dict[str, str]:
    """The policy in force; one that was set elsewhere is shown with its exploration."""
    sent = settings.policy_arguments
    if sent is None or settings.served_arguments != config.arguments:
        return {"name": settings.policy_name, "arguments": with_epsilon(config.arguments, config.exploration_floor)}
    return {"name": settings.policy_name, "arguments": sent}


def configured(config: LoopConfig, settings: PersonalizerSettings, body: ServiceBody) -> Asked:
    """What a body asks for; optional fields that it leaves out keep what is stored.

    Raises:
        PersonalizerError: 400 that names the field.
    """
    wait = _duration(body.reward_wait_time, "rewardWaitTime", "InvalidRewardWaitTime")
    if not SHORTEST_WAIT <= wait <= LONGEST_WAIT:
        raise invalid("InvalidRewardWaitTime", f"rewardWaitTime must be PT5S to P2D, got {body.reward_wait_time!r}",
                      "rewardWaitTime")  # fmt: skip
    export = _duration(body.model_export_frequency, "modelExportFrequency", SERVICE)
    if export <= timedelta():
        raise invalid(SERVICE, "modelExportFrequency must be positive", "modelExportFrequency")
    if body.log_mirror_sas_uri != settings.log_mirror_sas_uri:
        # What was stored before there was a check may be sent back as it was read.
        _check_mirror(body.log_mirror_sas_uri)
    keep, retrain = _days(config, body, wait)
    reward = replace(
        config.reward, wait_seconds=wait.total_seconds(), default=body.default_reward,
        aggregation=body.reward_aggregation,
    )  # fmt: skip
    wanted = replace(
        config,
        reward=reward,
        exploration_floor=body.exploration_percentage,
        export_frequency_seconds=export.total_seconds(),
        retention_days=LONGEST_RETENTION_DAYS if keep == -1 else min(keep, LONGEST_RETENTION_DAYS),
        model_retrain_days=retrain,
        learning_mode=MODES[body.learning_mode] if body.learning_mode else config.learning_mode,
        auto_optimisation=_optimised(config.auto_optimisation, body),
    )
    arguments = settings.policy_arguments
    if arguments is not None and body.exploration_percentage != config.exploration_floor:
        arguments = with_epsilon(arguments, body.exploration_percentage)
    beside = replace(
        settings,
        policy_arguments=arguments,
        log_retention_days=None if keep == config.retention_days else keep,
        is_explained=_or(body.is_inference_explainability_enabled, settings.is_explained),
        log_mirror_enabled=_or(body.log_mirror_enabled, settings.log_mirror_enabled),
        log_mirror_sas_uri=_or(body.log_mirror_sas_uri, settings.log_mirror_sas_uri),
    )
    return Asked(wanted, beside)


def _check_changes(config: LoopConfig, settings: PersonalizerSettings, asked: Asked) -> None:
    new = asked.config
    modes = {config.learning_mode, new.learning_mode}
    changed = [name for name in REWARD_FIELDS if getattr(config.reward, name) != getattr(new.reward, name)]
    if modes == {"online", "apprentice"} and changed:
        why = "learningMode cannot change together with defaultReward, rewardWaitTime or rewardAggregation"
        raise invalid("InvalidLearningModeServiceConfiguration", why, "learningMode")
    if new.auto_optimisation.is_enabled and settings.is_multi_slot and not config.auto_optimisation.is_enabled:
        raise _incompatible()


def _check_mirror(address: str | None) -> None:
    """Logs are mirrored nowhere, but what is no address of a container is refused as the original does.

    Raises:
        PersonalizerError: 400.
    """
    if not address:
        return
    try:
        parts = urlsplit(address)
        is_address = parts.scheme == "https" and bool(parts.hostname)
    except ValueError:
        is_address = False
    if not is_address:
        raise invalid("InvalidSasUri", f"logMirrorSasUri must be an https address, got {address!r}", "logMirrorSasUri")


def _optimised(current: AutoOptimisation, body: ServiceBody) -> AutoOptimisation:
    days, start = current.frequency_days, current.start
    if body.auto_optimization_frequency is not None:
        every = _duration(body.auto_optimization_frequency, "autoOptimizationFrequency", SERVICE)
        if every < timedelta(days=1) or every % timedelta(days=1):
            raise invalid(SERVICE, "autoOptimizationFrequency must be whole days, at least P1D",
                          "autoOptimizationFrequency")  # fmt: skip
        days = every.days
    if body.auto_optimization_start_date is not None:
        try:
            start = parse_time(body.auto_optimization_start_date)
        except ValueError as error:
            raise invalid(SERVICE, f"autoOptimizationStartDate: {error}", "autoOptimizationStartDate") from None
    return AutoOptimisation(_or(body.is_auto_optimization_enabled, current.is_enabled), days, start)


def _days(config: LoopConfig, body: ServiceBody, wait: timedelta) -> tuple[int, float | None]:
    """How many days of log are kept, and how many of them a changed setting is trained on."""
    keep, retrain = body.log_retention_days, body.model_retrain_days
    least = math.ceil((wait + timedelta(days=1)) / timedelta(days=1))
    if keep != -1 and not least <= keep <= MOST_DAYS:
        why = f"logRetentionDays must be -1 or {least} (the wait time and a day) to {MOST_DAYS}, got {keep}"
        raise invalid("InvalidLogRetentionDays", why, "logRetentionDays")
    if retrain is None:
        stored = config.model_retrain_days
        return keep, stored if stored is None or keep == -1 else min(stored, float(keep))
    if not 0 <= retrain <= (MOST_DAYS if keep == -1 else keep):
        raise invalid("InvalidModelRetrainDays", f"modelRetrainDays must be 0 to logRetentionDays, got {retrain}",
                      "modelRetrainDays")  # fmt: skip
    return keep, float(retrain)


async def _shown(call: Call) -> dict[str, Any]:
    settings, config = await call.settings(), await call.config()
    optimised, retrain = config.auto_optimisation, config.model_retrain_days
    start = optimised.start or settings.edited_at or utc_now()
    found: dict[str, Any] = {
        "rewardWaitTime": format_duration(timedelta(seconds=config.reward.wait_seconds)),
        "defaultReward": config.reward.default,
        "rewardAggregation": config.reward.aggregation,
        "explorationPercentage": config.exploration_floor,
        "modelExportFrequency": format_duration(timedelta(seconds=config.export_frequency_seconds)),
        "logRetentionDays": settings.log_retention_days or config.retention_days,
        "modelRetrainDays": DEFAULT_RETRAIN_DAYS if retrain is None else int(retrain),
        "learningMode": SHOWN_MODES[config.learning_mode],
        "isAutoOptimizationEnabled": optimised.is_enabled,
        "autoOptimizationFrequency": format_duration(timedelta(days=optimised.frequency_days)),
        "autoOptimizationStartDate": format_time(start),
        "isInferenceExplainabilityEnabled": settings.is_explained,
        "lastConfigurationEditDate": format_time(settings.edited_at or utc_now()),
        "logMirrorEnabled": settings.log_mirror_enabled,
        "logMirrorSasUri": settings.log_mirror_sas_uri,
        "latestApprenticeModeMetrics": await _apprentice(call, settings),
    }
    return {name: value for name, value in found.items() if value is not None}


async def _apprentice(call: Call, settings: PersonalizerSettings) -> dict[str, Any] | None:
    """How well the model imitates the baseline; None when it never had to."""
    if settings.apprentice_since is None:
        return None
    counts = await asyncio.to_thread(find_counts, call.service.installation.engine, call.loop)
    if counts is None:
        began = format_time(settings.apprentice_since)
        none = _matches(Matches())
        return {**none, "startTime": began, "lastProcessedEventTime": began, "lastBatchMetrics": none}
    return {
        **_matches(counts.total),
        "startTime": format_time(counts.started_at),
        "lastProcessedEventTime": format_time(counts.last_at),
        "lastBatchMetrics": _matches(counts.last_batch),
    }


def _matches(found: Matches) -> dict[str, float]:
    return {
        "numberOfEvents": found.events,
        "numberOfImitatedEvents": found.imitated,
        "sumOfRewards": found.reward_sum,
        "sumOfImitatedRewards": found.imitated_reward_sum,
    }


def _changed(old: LoopConfig, new: LoopConfig) -> dict[str, Any]:
    names = LoopConfig.__dataclass_fields__
    return {name: getattr(new, name) for name in names if getattr(new, name) != getattr(old, name)}


def _duration(text: str, target: str, code: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise invalid(code, f"{target}: {error}", target) from None


def _or(sent: Any, stored: Any) -> Any:
    return stored if sent is None else sent


def _incompatible() -> PersonalizerError:
    why = "several slots and automatic optimization exclude each other"
    return PersonalizerError(403, "ProblemTypeIncompatibleWithAutoOptimization", why)
