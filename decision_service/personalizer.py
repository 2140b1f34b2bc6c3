"""The Personalizer API: its paths in front of the service's own, over the same functions as the native API."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from adapters.keys import Role
from contextual_bandit.loops import DEFAULT_LOOP
from decision_service import personalizer_configuration as configuration
from decision_service import personalizer_evaluations as evaluations
from decision_service import personalizer_model as model
from decision_service import personalizer_rank as rank
from decision_service.personalizer_call import CURRENT, Call, HeldSettings
from decision_service.personalizer_errors import (
    DESIGNED,
    FAILED,
    PersonalizerError,
    error_response,
    invalid,
    personalizer_error,
)  # fmt: skip
from decision_service.state import Service

KEY_HEADERS = "Ocp-Apim-Subscription-Key: KEY, Authorization: Bearer KEY, or X-Api-Key"

log = logging.getLogger(__name__)
Route: TypeAlias = Callable[[Call], Awaitable[Response]]
PATH = re.compile(r"/+(?:loops/(?P<loop>[^/]+)/+)?personalizer(?P<version>/v1\.0|/v1\.1-preview\.[123])?(?P<rest>/.*)?")

# By path: by method, the route, the role that it needs, and the code of a body that is none of its own.
SHARED: dict[str, dict[str, tuple[Route, Role, str]]] = {
    "/rank": {"POST": (rank.rank, "page", rank.RANK)},
    "/multislot/rank": {"POST": (rank.multi_slot_rank, "page", rank.RANK)},
    "/multislot/events/{event_id:path}/reward": {"POST": (rank.multi_slot_reward, "page", rank.REWARD)},
    "/multislot/events/{event_id:path}/activate": {"POST": (rank.multi_slot_activate, "page", rank.ACTIVATE)},
    "/events/{event_id:path}/reward": {"POST": (rank.reward, "page", rank.REWARD)},
    "/events/{event_id:path}/activate": {"POST": (rank.activate, "page", rank.ACTIVATE)},
    "/configurations/service": {
        "GET": (configuration.get_service, "read", "InvalidRequest"),
        "PUT": (configuration.put_service, "admin", configuration.SERVICE),
    },
    "/configurations/policy": {
        "GET": (configuration.get_policy, "read", "InvalidRequest"),
        "PUT": (configuration.put_policy, "admin", "InvalidPolicyContract"),
        "DELETE": (configuration.delete_policy, "admin", "InvalidRequest"),
    },
    "/configurations/applyFromEvaluation": {"POST": (evaluations.apply, "admin", "InvalidRequest")},
    "/model": {
        "GET": (model.get_model, "admin", "InvalidRequest"),
        "PUT": (model.put_model, "admin", "InvalidModelImportFormat"),
        "DELETE": (model.delete_model, "admin", "InvalidRequest"),
    },
    "/model/properties": {"GET": (model.model_properties, "read", "InvalidRequest")},
    "/logs": {"DELETE": (model.delete_logs, "admin", "InvalidRequest")},
    "/logs/properties": {"GET": (model.log_properties, "read", "InvalidRequest")},
    "/logs/interactions": {"POST": (model.uploaded_log, "write", "InvalidRequest")},
    "/logs/observations": {"POST": (model.uploaded_log, "write", "InvalidRequest")},
    "/featureImportances": {"GET": (evaluations.list_importances, "read", "InvalidRequest")},
    "/featureImportances/{name:path}": {
        "GET": (evaluations.get_importance, "read", "InvalidRequest"),
        "PUT": (evaluations.put_importance, "admin", evaluations.FEATURES),
        "DELETE": (evaluations.delete_importance, "admin", "InvalidRequest"),
    },
}
NEW_FORM: dict[str, dict[str, tuple[Route, Role, str]]] = {
    "/evaluations": {"GET": (evaluations.list_evaluations, "read", "InvalidRequest")},
    "/evaluations/{name:path}": {
        "GET": (evaluations.get_evaluation, "read", "InvalidRequest"),
        "PUT": (evaluations.put_evaluation, "admin", evaluations.EVALUATION),
        "DELETE": (evaluations.delete_evaluation, "admin", "InvalidRequest"),
    },
}
OLD_FORM: dict[str, dict[str, tuple[Route, Role, str]]] = {
    "/evaluations": {
        "GET": (evaluations.list_old_evaluations, "read", "InvalidRequest"),
        "POST": (evaluations.post_evaluation, "admin", evaluations.EVALUATION),
    },
    "/evaluations/{name:path}": {
        "GET": (evaluations.get_old_evaluation, "read", "InvalidRequest"),
        "DELETE": (evaluations.delete_evaluation, "admin", "InvalidRequest"),
    },
}
# The codes of routes that fail by themselves; the others fail with InternalServerError.
FAILURES = {
    (rank.rank, rank.multi_slot_rank): "RankNullResponse",
    (configuration.put_service, configuration.put_policy, configuration.delete_policy): "UpdateConfigurationFailed",
    (evaluations.apply,): "InferenceModelUpdateFailed",
    (evaluations.list_evaluations, evaluations.list_old_evaluations): "EvaluationsGetListFailed",
    (model.get_model,): "ModelDownloadFailed",
    (model.put_model,): "ModelPublishFailed",
    (model.delete_model,): "ModelResetFailed",
}
_FAILURE: dict[Route, str] = {route: code for routes, code in FAILURES.items() for route in routes}
_NEW = [(compile_path(path)[0], path, methods) for path, methods in (SHARED | NEW_FORM).items()]
_OLD = [(compile_path(path)[0], path, methods) for path, methods in (SHARED | OLD_FORM).items()]


class Personalizer:
    """Answers the API's paths; all others go on to the service's own routes."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._held = HeldSettings()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        found = PATH.fullmatch(scope["path"]) if scope["type"] == "http" else None
        if found is None:
            await self.app(scope, receive, send)
            return
        request = Request(_with_key(scope), receive)
        code, failure = "BadRequest", FAILED
        try:
            _check_path(scope)
            route, role, code, path, parameters = _route(found, request.method)
            failure = _FAILURE.get(route, FAILED)
            scope["route"] = _Named("/personalizer" + path)
            service: Service = request.app.state.service
            await service.access.look_for(request)
            actor = service.access.actor(request, role, KEY_HEADERS)
            version = (found["version"] or "").lstrip("/") or CURRENT
            if version == CURRENT and request.query_params.get("api-version") != CURRENT:
                sent = request.query_params.get("api-version")
                raise invalid("InvalidRequest", f"api-version must be {CURRENT!r}, got {sent!r}", "api-version")
            loop = found["loop"] or DEFAULT_LOOP
            base = (f"/loops/{loop}" if found["loop"] else "") + "/personalizer" + (found["version"] or "")
            call = Call(request, service, loop, base, version, actor, self._held, parameters)
            await call.known()
            response = await route(call)
        except Exception as raised:
            error = personalizer_error(raised, code, failure)
            if error.status >= 500:
                said = {"path": scope["path"], "error": repr(raised)}
                if isinstance(raised, DESIGNED):
                    log.warning("request failed", extra=said)
                else:
                    log.exception("request failed", extra=said)
            response = error_response(error)
        await response(scope, receive, send)


class _Named:
    """What metrics count a call under."""

    def __init__(self, path: str) -> None:
        self.path = path


def _route(found: re.Match[str], method: str) -> tuple[Route, Role, str, str, dict[str, str]]:
    """The route of a path.

    Raises:
        PersonalizerError: 404, or 405 when it is known with other methods.
    """
    rest = found["rest"] or "/"
    for pattern, path, methods in _OLD if found["version"] else _NEW:
        match = pattern.match(rest)
        if match is None:
            continue
        if method not in methods:
            raise PersonalizerError(405, "BadRequest", f"{path} takes {', '.join(methods)}, not {method}")
        return *methods[method], path, match.groupdict()
    raise PersonalizerError(404, "ResourceNotFound", f"there is no route {rest!r}")


def _check_path(scope: Scope) -> None:
    """Refuse a path that is no UTF-8: two such ids would be read as one.

    Raises:
        PersonalizerError: 400.
    """
    try:
        unquote_to_bytes(scope.get("raw_path") or b"").decode()
    except UnicodeDecodeError:
        raise invalid("BadRequest", f"the path {scope['raw_path']!r} is no percent-encoded UTF-8") from None


def _with_key(scope: Scope) -> Scope:
    """The subscription key where the service looks for keys."""
    key = next((value for name, value in scope["headers"] if name == b"ocp-apim-subscription-key"), None)
    if key is None:
        return scope
    others = [(name, value) for name, value in scope["headers"] if name not in (b"authorization", b"x-api-key")]
    return {**scope, "headers": [*others, (b"x-api-key", key)]}
