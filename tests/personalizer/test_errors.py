"""Every documented error: what its status and code are, and when it is raised; the rest of them stand beside this."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from azure.ai.personalizer import PersonalizerAdministrationClient, PersonalizerClient
from azure.core.credentials import AzureKeyCredential
from sqlalchemy import insert, update

from adapters.installation import Installation, open_installation
from adapters.settings import Settings
from adapters.tables import evaluations, operations, personalizer_settings

HERE = Path(__file__).resolve().parent
RECORD = HERE.parents[1] / "docs" / "decisions" / "0015-personalizer-adapter.md"
VERSION = {"api-version": "2022-09-01-preview"}
SPAN = {"startTime": "2022-09-20", "endTime": "2122-09-20T00:00:00Z"}
KEY = "test-admin-key"
Actions = Callable[..., list[dict[str, Any]]]
# As the description of the API lists them.
DOCUMENTED = (
    "BadRequest", "InvalidRankRequest", "InvalidRewardRequest", "InvalidEventIdToActivate",
    "InvalidServiceConfiguration", "InvalidLearningModeServiceConfiguration", "InvalidRewardWaitTime",
    "InvalidLogRetentionDays", "InvalidModelRetrainDays", "InvalidSasUri", "InvalidPolicyContract",
    "InvalidPolicyConfiguration", "InvalidEvaluationContract", "InvalidContract", "DuplicateCustomPolicyNames",
    "NoLogsExistInDateRange", "LogsSizeExceedAllowedLimit", "EvaluationAlreadyExists",
    "FeatureImportanceAlreadyExists", "InvalidModelImportSignature", "InvalidModelImportFormat",
    "InvalidModelMetadata", "InvalidMultiSlotApiAccess", "PayloadSizeExceeded", "ApprenticeModeNeverTurnedOn",
    "InvalidExportLogsRequest", "MissingAppId", "InvalidRequest", "ProblemTypeIncompatibleWithAutoOptimization",
    "InvalidApiAccess", "ModelFileAccessDenied", "ResourceNotFound", "EvaluationNotFound",
    "FeatureImportanceNotFound", "LearningSettingsNotFound", "EvaluationModelNotFound", "LogsPropertiesNotFound",
    "FrontEndNotFound", "RequestTimeout", "ModelRankingError", "InternalServerError", "ModelDownloadFailed",
    "RankNullResponse", "UpdateConfigurationFailed", "InferenceModelUpdateFailed", "ModelResetFailed",
    "ModelPublishFailed", "ModelMetadataUpdateFailed", "EvaluationsGetListFailed", "OperationNotAllowed",
)  # fmt: skip


def _told(answer: Any, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code, error
    assert error["message"]
    assert answer.headers["x-ms-error-code"] == code


def test_every_documented_code_is_raised_by_a_test_or_the_record_says_why_it_cannot_be() -> None:
    # Of this file all but the list.
    own = Path(__file__).read_text().partition("def _told")[2]
    tests = own.join(path.read_text() for path in HERE.glob("test_*.py") if path != Path(__file__))
    raised = {code for code in DOCUMENTED if f'"{code}"' in tests}
    cannot = RECORD.read_text().partition("*Codes that are never answered.*")[2].partition("\n\n")[0]
    assert {code for code in DOCUMENTED if f"`{code}`" in cannot} == set(DOCUMENTED) - raised


@contextmanager
def _stores(service: Any) -> Iterator[Installation]:
    with open_installation(Settings(data_dir=service.data_dir, database_url=None, redis_url=None)) as opened:
        yield opened


@contextmanager
def _learner_stopped(service: Any) -> Iterator[None]:
    learner = _learner(service.process.pid)
    os.kill(learner, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(learner, signal.SIGCONT)


def _learner(parent: int) -> int:
    """The process id of the learner among the children of `offerloop up`."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat, words = (folder / "stat").read_text(), (folder / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == parent and "learn" in words:
            return int(folder.name)
    pytest.fail("there is no learner")


def test_a_path_that_is_no_text_is_not_understood(resource: Any, service: Any) -> None:
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        path = f"/loops/{resource.loop}/personalizer/v1.0/events/%ff/activate"
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400")
    assert re.search(rb'"code":"BadRequest"', answer)


def test_an_endpoint_without_a_loop(api: Any, service: Any, refused: Callable[..., Any], actions: Actions) -> None:
    client: Any = PersonalizerClient(f"{service.url}/loops/nothing", AzureKeyCredential("any"), retry_total=0)
    refused(404, "FrontEndNotFound", client.rank, {"actions": actions("a")})
    _told(api.get("/loops/nothing/personalizer/v1.0/evaluations"), 404, "FrontEndNotFound")


@pytest.mark.parametrize("address", ["container", "http://storage.example/x", "https://", "https://[x/y"])
def test_a_mirror_that_is_no_address_is_refused(resource: Any, refused: Callable[..., Any], address: str) -> None:
    before = resource.admin.get_service_configuration()
    changed = {**before, "logMirrorEnabled": True, "logMirrorSasUri": address}
    refused(400, "InvalidSasUri", resource.admin.update_service_configuration, changed)
    assert resource.admin.get_service_configuration() == before


def test_a_policy_that_makes_ranking_impossible(
    resource: Any, actions: Actions, until: Callable[..., Any], refused: Callable[..., Any]
) -> None:
    # Of no events it divides by 0.
    arguments = "--cb_explore_adf --squarecb --gamma_scale 1000 --gamma_exponent -300 -q ::"
    body = {"actions": actions("a", "b")}

    def status() -> int:
        answer = resource.api.post(f"{resource.endpoint}/personalizer/v1.0/rank", json=body)
        return int(answer.status_code)

    resource.admin.update_policy({"name": "impossible", "arguments": arguments})
    until(lambda: status() == 409, 30.0)
    refused(409, "ModelRankingError", resource.client.rank, body)
    native = {"loop": resource.loop, "candidates": [{"offer_id": "a"}, {"offer_id": "b"}]}
    assert resource.api.post("/v1/rank", json=native).status_code == 409
    resource.admin.reset_policy()
    until(lambda: status() == 201, 30.0)


def test_a_range_that_is_over_and_has_no_events(resource: Any, refused: Callable[..., Any]) -> None:
    past = {"name": "n", "startTime": "2022-09-20", "endTime": "2022-09-21"}
    refused(400, "NoLogsExistInDateRange", resource.admin.create_evaluation, "e", past)
    refused(400, "NoLogsExistInDateRange", resource.admin.create_feature_importance, "f", past)
    older = resource.api.post(f"{resource.endpoint}/personalizer/v1.0/evaluations", json=past)
    _told(older, 400, "NoLogsExistInDateRange")
    assert list(resource.admin.list_evaluations()) == []


def test_a_range_with_too_many_events_and_too_many_evaluations_at_a_time(
    guarded: Any, actions: Actions, until: Callable[..., Any], refused: Callable[..., Any]
) -> None:
    with guarded.client(KEY) as api:
        for loop in ("crowded", "busy"):
            assert api.put(f"/v1/loops/{loop}", json={}).status_code == 200
        made = {
            loop: PersonalizerAdministrationClient(
                f"{guarded.url}/loops/{loop}", AzureKeyCredential(KEY), retry_total=0
            )
            for loop in ("crowded", "busy")
        }
        for _ in range(6):
            rank = api.post("/loops/crowded/personalizer/v1.0/rank", json={"actions": actions("a", "b")})
            assert rank.status_code == 201, rank.text
        until(lambda: api.get("/v1/loops/crowded").json()["status"]["decisions"] == 6)
    refused(400, "LogsSizeExceedAllowedLimit", made["crowded"].create_evaluation, "e", {"name": "n", **SPAN})

    def create() -> None:
        for number in range(50):
            made["busy"].create_evaluation(f"e{number}", {"name": "n", **SPAN})

    assert refused(429, "429", create).response.headers["retry-after"] == "1"


def test_a_body_that_does_not_arrive(guarded: Any) -> None:
    address = urlsplit(guarded.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        head = f"POST /personalizer/v1.0/rank HTTP/1.1\r\nHost: x\r\nX-Api-Key: {KEY}\r\nContent-Length: 100\r\n\r\n"
        connection.sendall(head.encode() + b'{"actions"')
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"code":"RequestTimeout"' in answer


def test_without_a_learner_models_and_logs_stay(
    resource: Any, service: Any, actions: Actions, until: Callable[..., Any], refused: Callable[..., Any]
) -> None:
    resource.client.rank({"actions": actions("a", "b"), "eventId": "stays"})
    until(lambda: resource.admin.get_log_properties().get("dateRange"))
    with _learner_stopped(service):
        assert refused(503, "OperationNotAllowed", resource.admin.delete_logs).response.headers["retry-after"] == "1"
        refused(503, "OperationNotAllowed", resource.admin.reset_model)
    assert "dateRange" in resource.admin.get_log_properties()
    assert resource.record("stays")["state"] == "open"
    found = resource.api.get(f"/v1/loops/{resource.loop}/operations").json()["operations"]
    assert [(one["kind"], one["state"]) for one in found[:2]] == [("reset", "failed"), ("delete_log", "failed")]


def test_a_reset_that_fails(resource: Any, service: Any, refused: Callable[..., Any]) -> None:
    resource.admin.get_policy()
    with _stores(service) as stores, _failing(stores, resource.loop):
        refused(500, "ModelResetFailed", resource.admin.reset_model)


@contextmanager
def _failing(stores: Installation, loop: str) -> Iterator[None]:
    """Every operation of the loop fails as soon as it is asked for, by a rule of the store."""
    name = f"fails_{abs(hash(loop))}"
    with stores.engine.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE FUNCTION {name}() RETURNS trigger AS $$ BEGIN IF NEW.loop = '{loop}' THEN NEW.state := 'failed'; "
            f"NEW.error := 'broken'; END IF; RETURN NEW; END $$ LANGUAGE plpgsql"
        )
        connection.exec_driver_sql(
            f"CREATE TRIGGER {name} BEFORE INSERT ON {operations.name} FOR EACH ROW EXECUTE FUNCTION {name}()"
        )
    try:
        yield
    finally:
        with stores.engine.begin() as connection:
            connection.exec_driver_sql(f"DROP FUNCTION {name} CASCADE")


# What each route fails with when something of the service's own is broken.
BROKEN = [
    ("POST", "/rank", "RankNullResponse"),
    ("PUT", "/configurations/service", "UpdateConfigurationFailed"),
    ("PUT", "/configurations/policy", "UpdateConfigurationFailed"),
    ("DELETE", "/configurations/policy", "UpdateConfigurationFailed"),
    ("POST", "/configurations/applyFromEvaluation", "InferenceModelUpdateFailed"),
    ("GET", "/model", "ModelDownloadFailed"),
    ("PUT", "/model", "ModelPublishFailed"),
    ("DELETE", "/model", "ModelResetFailed"),
    ("GET", "/evaluations", "EvaluationsGetListFailed"),
    ("GET", "/configurations/service", "InternalServerError"),
    ("DELETE", "/logs", "InternalServerError"),
]


def test_what_is_broken_here_is_no_fault_of_the_caller(
    make_resource: Callable[..., Any], service: Any, actions: Actions
) -> None:
    """Nobody has called the API for this loop; what is stored for it cannot be read."""
    broken = make_resource()
    bodies: dict[str, Any] = {
        "/rank": {"actions": actions("a", "b")},
        "/configurations/service": {
            "rewardWaitTime": "PT10M", "defaultReward": 0.0, "rewardAggregation": "earliest",
            "explorationPercentage": 0.2, "modelExportFrequency": "PT5M", "logRetentionDays": 90,
        },
        "/configurations/policy": {"name": "n", "arguments": "--cb_explore_adf"},
        "/configurations/applyFromEvaluation": {"evaluationId": "e", "policyName": "mine"},
    }  # fmt: skip
    now = datetime.now(UTC)
    policy = {"name": "mine", "word": "vw:--cb_explore_adf", "source": "Custom", "arguments": "--cb_explore_adf"}
    asked = {"loop": broken.loop, "personalizer": {**SPAN, "policies": [policy]}}
    row = {"loop": broken.loop, "name": "n", "job_id": "none", "created_at": now}
    with _stores(service) as stores, stores.engine.begin() as connection:
        damaged = {"policy_name": {"no": "name"}}
        connection.execute(insert(personalizer_settings).values(loop=broken.loop, settings=damaged, updated_at=now))
        for name, request, result in (("e", asked, {}), ("damaged", {}, None)):
            found = {**row, "evaluation_id": f"personalizer:{broken.loop}:{name}", "request": request}
            ended = None if result is None else now
            connection.execute(insert(evaluations).values(**found, result=result, ended_at=ended))
    for method, path, code in BROKEN:
        answer = broken.api.request(
            method, f"/loops/{broken.loop}/personalizer{path}", params=VERSION, json=bodies.get(path)
        )
        _told(answer, 500, code)
    with _stores(service) as stores, stores.engine.begin() as connection:
        mine = personalizer_settings.c.loop == broken.loop
        connection.execute(update(personalizer_settings).where(mine).values(settings={}))
    assert broken.client.rank({"actions": actions("a", "b")})["rewardActionId"] in {"a", "b"}
