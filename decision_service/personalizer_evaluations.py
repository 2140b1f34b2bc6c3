"""Routes of the Personalizer API that judge by the log: evaluations in both forms, and feature importances."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from adapters.evaluations import EvaluationExists, EvaluationStore, StoredEvaluation
from adapters.personalizer_settings import EVALUATION_PREFIX, FEATURES_PREFIX, evaluation_key
from contextual_bandit.vowpal import BadArguments
from decision_service.personalizer_call import CURRENT, Call
from decision_service.personalizer_configuration import policy_shown, set_policy
from decision_service.personalizer_errors import PersonalizerError, invalid, json_response, no_content
from decision_service.personalizer_evaluation_forms import (
    INTERVALS,
    content,
    feature_scores,
    listed,
    old_form,
    policy_arguments,
    status,
)
from decision_service.personalizer_policy import served_policy
from decision_service.personalizer_shapes import ApplyBody, EvaluationBody, FeatureImportanceBody
from decision_service.personalizer_times import parse_time
from decision_service.serving import utc_now
from evaluation.candidate_settings import propose
from evaluation.request import ASKED, EvaluationRequest

EVALUATION = "InvalidEvaluationContract"
FEATURES = "InvalidContract"
MOST_POLICIES = 10
MOST_STORED = 10_000
MOST_PAGE = 100
FOUND_POLICIES = 6
FILTERS = {"metadata=evaluationType eq 'Manual'": "Manual", "metadata=evaluationType eq 'Auto'": "Auto"}
# What these evaluations are called among all of the installation.
PREFIX = {"evaluation": EVALUATION_PREFIX, "features": FEATURES_PREFIX}
NOT_FOUND = {"evaluation": "EvaluationNotFound", "features": "FeatureImportanceNotFound"}


@dataclass(frozen=True, slots=True)
class Page:
    """What of a list is asked for."""

    top: int | None
    skip: int
    size: int
    filter: str | None


async def put_evaluation(call: Call) -> Response:
    """``PUT /evaluations/{evaluationId}``."""
    body = await call.json(EvaluationBody, EVALUATION)
    await _add_evaluation(call, _id(call, EVALUATION), body)
    return no_content(200)


async def post_evaluation(call: Call) -> Response:
    """``POST /evaluations``, the older form: the server makes the id."""
    body = await call.json(EvaluationBody, EVALUATION)
    evaluation_id = str(uuid.uuid4())
    await _add_evaluation(call, evaluation_id, body)
    found = await _found(call, "evaluation", evaluation_id)
    return json_response(old_form(evaluation_id, found), 201, Location=f"{_origin(call)}/evaluations/{evaluation_id}")


async def get_evaluation(call: Call) -> Response:
    """``GET /evaluations/{evaluationId}``: the results as time series."""
    query = call.request.query_params
    span = []
    for name in ("startTime", "endTime"):
        try:
            span.append(parse_time(query.get(name)))
        except ValueError as error:
            raise invalid("InvalidRequest", f"{name}: {error}", name) from None
    if span[0] > span[1]:
        raise invalid("InvalidRequest", "startTime is after endTime", "startTime")
    interval, window = query.get("intervalInMinutes", "5"), query.get("window")
    if interval not in INTERVALS:
        raise invalid("InvalidRequest", f"intervalInMinutes must be one of {', '.join(INTERVALS)}, got {interval!r}")
    expected = "Expanding" if interval == "5" else "Rolling"
    if window not in (None, expected):
        raise invalid("InvalidRequest", f"window must be {expected} with intervalInMinutes {interval}, got {window!r}")
    evaluation_id = _id(call, "InvalidRequest")
    found = await _found(call, "evaluation", evaluation_id)
    answer = listed(evaluation_id, found)
    answer["content"] = content(found, (span[0], span[1]), int(interval))
    return json_response(answer)


async def get_old_evaluation(call: Call) -> Response:
    """``GET /evaluations/{evaluationId}``, the older form."""
    evaluation_id = _id(call, "InvalidRequest")
    return json_response(old_form(evaluation_id, await _found(call, "evaluation", evaluation_id)))


async def list_evaluations(call: Call) -> Response:
    """``GET /evaluations``, page by page."""
    return await _list(call, "evaluation", "evaluations")


async def list_old_evaluations(call: Call) -> Response:
    """``GET /evaluations``, the older form: a plain array with totals."""
    entries = [
        old_form(name, await _found(call, "evaluation", name), total=True) for name, _ in await _all(call, "evaluation")
    ]
    return json_response(entries)


async def delete_evaluation(call: Call) -> Response:
    """``DELETE /evaluations/{evaluationId}``."""
    return await _delete(call, "evaluation")


async def put_importance(call: Call) -> Response:
    """``PUT /featureImportances/{id}``."""
    body = await call.json(FeatureImportanceBody, FEATURES)
    extra = {"features": True, "personalizer": _asked(body, FEATURES)}
    await _add(call, "features", _id(call, FEATURES), body, extra, (), FEATURES)
    return no_content(200)


async def get_importance(call: Call) -> Response:
    """``GET /featureImportances/{id}``."""
    name = _id(call, "InvalidRequest")
    found = await _found(call, "features", name)
    return json_response({**_without_type(listed(name, found)), "featureScores": feature_scores(found)})


async def list_importances(call: Call) -> Response:
    """``GET /featureImportances``, page by page."""
    return await _list(call, "features", "featureImportances")


async def delete_importance(call: Call) -> Response:
    """``DELETE /featureImportances/{id}``."""
    return await _delete(call, "features")


async def apply(call: Call) -> Response:
    """``POST /configurations/applyFromEvaluation``: the log is replayed under the policy that was found better."""
    body = await call.json(ApplyBody, "InvalidRequest")
    found = await _found(call, "evaluation", body.evaluation_id)
    if status(found) == "Running":
        raise invalid("InvalidRequest", f"evaluation {body.evaluation_id!r} is still running", "evaluationId")
    known = policy_arguments(found)
    if body.policy_name not in known or found.result is None:
        why = f"evaluation {body.evaluation_id!r} has no policy {body.policy_name!r}"
        raise PersonalizerError(404, "LearningSettingsNotFound", why, "policyName")
    arguments = known[body.policy_name]
    if arguments is None and body.policy_name != "online":
        why = f"policy {body.policy_name!r} has no model"
        raise PersonalizerError(404, "EvaluationModelNotFound", why, "policyName")
    if arguments is not None:
        await set_policy(call, body.policy_name, arguments)
    return no_content()


async def _add_evaluation(call: Call, evaluation_id: str, body: EvaluationBody) -> None:
    if len(body.policies) > MOST_POLICIES:
        raise invalid(EVALUATION, f"{len(body.policies)} policies, {MOST_POLICIES} at most", "policies")
    asked = _asked(body, EVALUATION)
    names = [policy.name for policy in body.policies]
    for index, policy in enumerate(body.policies):
        if policy.name in names[:index]:
            raise invalid("DuplicateCustomPolicyNames", f"two policies are named {policy.name!r}", "policies")
        asked["policies"].append(await _policy(policy.name, policy.arguments, "Custom"))
    if body.enable_policy_optimization or body.enable_offline_experimentation:
        config, settings = await call.config(), await call.settings()
        current = policy_shown(config, settings)["arguments"]
        drawn = await asyncio.to_thread(propose, ("FromUrl", "O"), FOUND_POLICIES, current=config.arguments)
        asked["policies"] += [
            await _policy(f"Hyper{number}", arguments, "OfflineExperimentation")
            for number, arguments in enumerate(dict.fromkeys([*drawn, current][:FOUND_POLICIES]), 1)
        ]
    words = tuple(dict.fromkeys(["logged", "first", "uniform", *(one["word"] for one in asked["policies"])]))
    await _add(call, "evaluation", evaluation_id, body, {"personalizer": asked}, words, EVALUATION)


async def _policy(name: str, arguments: str, source: str) -> dict[str, str]:
    try:
        served = await asyncio.to_thread(served_policy, arguments)
    except BadArguments as error:
        raise invalid(EVALUATION, f"policy {name!r}: {error}", "policies") from None
    return {"name": name, "arguments": arguments, "source": source, "word": f"vw:{served.arguments}"}


def _asked(body: EvaluationBody | FeatureImportanceBody, code: str) -> dict[str, Any]:
    """What is answered of a request as it was sent, with its times checked."""
    try:
        start, end = parse_time(body.start_time), parse_time(body.end_time)
    except ValueError as error:
        raise invalid(code, f"startTime and endTime: {error}") from None
    if start > end:
        raise invalid(code, f"startTime {body.start_time!r} is after endTime {body.end_time!r}", "startTime")
    return {"start": start.isoformat(), "end": end.isoformat(), "policies": []}


async def _add(
    call: Call, kind: str, name: str, body: EvaluationBody | FeatureImportanceBody, extra: Mapping[str, Any],
    words: tuple[str, ...], code: str,
) -> None:  # fmt: skip
    config = await call.config()
    start, end = parse_time(body.start_time), parse_time(body.end_time)
    await _check_log(call, start, end)
    request = EvaluationRequest(
        loop=call.loop,
        closed_from=start,
        closed_to=_later(end, config.reward.wait_seconds + config.grace_seconds),
        policies=words,
        choices=replace(ASKED, fixed_offers=0),
    )
    stored = evaluation_key(call.loop, name, PREFIX[kind])
    try:
        await asyncio.to_thread(
            _store(call).add, call.loop, body.name, {**request.to_json(), **extra}, utc_now(), call.actor, stored
        )
    except EvaluationExists:
        taken = "EvaluationAlreadyExists" if kind == "evaluation" else "FeatureImportanceAlreadyExists"
        raise invalid(taken, f"there is one of the id {name!r} already") from None


async def _check_log(call: Call, start: datetime, end: datetime) -> None:
    """Refuse a range without events that can have none any more, one with too many, and too many ranges at a time.

    Raises:
        PersonalizerError: 400, or 429.
    """
    settings = call.service.settings
    count = await asyncio.to_thread(call.store.count_events, call.loop, start, end, settings.evaluated_events + 1)
    if count > settings.evaluated_events:
        why = f"the range has more than {settings.evaluated_events} events"
        raise invalid("LogsSizeExceedAllowedLimit", why, "startTime")
    if not count and end < utc_now():
        raise invalid("NoLogsExistInDateRange", f"no event was logged from {start} to {end}", "startTime")
    if await asyncio.to_thread(_store(call).unfinished, call.loop) >= settings.waiting_evaluations:
        why = f"{settings.waiting_evaluations} evaluations of loop {call.loop!r} are not done yet"
        raise PersonalizerError(429, "429", why)


def _later(time: datetime, seconds: float) -> datetime:
    """The last events of a range close when they have been waited for."""
    try:
        return time + timedelta(seconds=seconds)
    except OverflowError:
        return time


async def _found(call: Call, kind: str, name: str) -> StoredEvaluation:
    found = await asyncio.to_thread(_store(call).get, evaluation_key(call.loop, name, PREFIX[kind]))
    if found is None:
        raise PersonalizerError(404, NOT_FOUND[kind], f"there is none of the id {name!r}")
    return found


async def _all(call: Call, kind: str) -> list[tuple[str, StoredEvaluation]]:
    """Ids and evaluations, the newest first, without their results."""
    prefix = evaluation_key(call.loop, "", PREFIX[kind])
    newest = await asyncio.to_thread(_store(call).newest, call.loop, MOST_STORED)
    return [(one.evaluation_id[len(prefix) :], one) for one in newest if one.evaluation_id.startswith(prefix)]


async def _list(call: Call, kind: str, route: str) -> Response:
    page = _page(call)
    entries = [listed(name, one) for name, one in await _all(call, kind)]
    if kind == "features":
        entries = [_without_type(entry) for entry in entries]
    elif page.filter is not None:
        entries = [entry for entry in entries if entry["evaluationType"] == FILTERS[page.filter]]
    wanted = entries[page.skip :]
    wanted = wanted if page.top is None else wanted[: page.top]
    shown = wanted[: page.size]
    answer: dict[str, Any] = {"value": shown}
    if len(wanted) > len(shown):
        query: dict[str, Any] = {"api-version": CURRENT}
        if page.filter is not None:
            query["filter"] = page.filter
        if page.top is not None:
            query["top"] = page.top - len(shown)
        query |= {"skip": page.skip + len(shown), "maxpagesize": page.size}
        answer["nextLink"] = f"{_origin(call)}/{route}?{urlencode(query)}"
    return json_response(answer)


def _page(call: Call) -> Page:
    query = call.request.query_params
    numbers: dict[str, int] = {}
    for name, least in (("top", 0), ("skip", 0), ("maxpagesize", 1)):
        text = query.get(name)
        if text is None:
            continue
        if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= least):
            raise invalid("InvalidRequest", f"{name} must be a whole number from {least} up, got {text!r}", name)
        numbers[name] = int(text)
    wanted = query.get("filter")
    if wanted is not None and wanted not in FILTERS:
        raise invalid("InvalidRequest", f"filter must be one of {', '.join(FILTERS)}, got {wanted!r}", "filter")
    size = min(numbers.get("maxpagesize", MOST_PAGE), MOST_PAGE)
    return Page(numbers.get("top"), numbers.get("skip", 0), size, wanted)


async def _delete(call: Call, kind: str) -> Response:
    name = _id(call, "InvalidRequest")
    stored = evaluation_key(call.loop, name, PREFIX[kind])
    if not await asyncio.to_thread(_store(call).delete, stored, utc_now(), call.actor):
        raise PersonalizerError(404, NOT_FOUND[kind], f"there is none of the id {name!r}")
    return no_content()


def _id(call: Call, code: str) -> str:
    name = call.parameters["name"]
    if not 1 <= len(name) <= 256 or "\x00" in name:
        raise invalid(code, "an id has 1 to 256 characters", "id")
    return name


def _origin(call: Call) -> str:
    request = call.request
    return f"{request.url.scheme}://{request.headers.get('host', request.url.netloc)}{call.base}"


def _without_type(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in ("evaluationType", "optimalPolicy")}


def _store(call: Call) -> EvaluationStore:
    return EvaluationStore(call.service.installation.engine)
