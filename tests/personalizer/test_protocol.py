"""What no client shows: paths, keys, headers, and the form of every error."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from azure.ai.personalizer import PersonalizerAdministrationClient, PersonalizerClient
from azure.core.credentials import AzureKeyCredential

VERSION = {"api-version": "2022-09-01-preview"}
BODY = {"actions": [{"id": "a", "features": [{"x": 1}]}]}
OLDER = ("/v1.0", "/v1.1-preview.1", "/v1.1-preview.2", "/v1.1-preview.3")


def _error(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].lower() == "application/json; charset=utf-8"
    assert answer.headers["x-ms-error-code"] == code
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"]["message"]


def _is_not_cached(answer: httpx.Response) -> bool:
    kept = {name: answer.headers.get(name) for name in ("cache-control", "pragma", "expires")}
    return kept == {
        "cache-control": "no-store, must-revalidate, no-cache", "pragma": "no-cache", "expires": "0",
    }  # fmt: skip


@pytest.mark.parametrize("base", ["", *OLDER])
@pytest.mark.parametrize("prefix", ["/personalizer", "//personalizer"])
def test_every_base_path_is_the_same_loop(resource: Any, prefix: str, base: str) -> None:
    query = {} if base else VERSION
    path = f"/loops/{resource.loop}{prefix}{base}"
    answer = resource.api.post(f"{path}/rank", params=query, json={**BODY, "eventId": f"e{base}"})
    assert answer.status_code == 201, answer.text
    assert _is_not_cached(answer)
    assert answer.headers["content-type"].lower() == "application/json; charset=utf-8"
    other = resource.api.post(f"/loops/{resource.loop}/personalizer/v1.0/events/e{base}/reward", json={"value": 1})
    assert other.status_code == 204
    assert not other.content
    assert _is_not_cached(other)


def test_without_a_loop_the_default_one_is_meant(api: httpx.Client, service: Any) -> None:
    for path, query in (
        ("/personalizer/rank", VERSION),
        ("//personalizer/rank", VERSION),
        ("/personalizer/v1.0/rank", {}),
    ):
        # A client that merely concatenates; httpx would tidy the address up.
        address = urlsplit(service.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port)
        text = "&".join(f"{name}={value}" for name, value in query.items())
        connection.request("POST", f"{path}?{text}", json.dumps(BODY), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        found = json.loads(answer.read())
        connection.close()
        assert answer.status == 201, found
        assert api.get(f"/v1/decisions/{found['eventId']}", params={"loop": "default"}).status_code == 200


@pytest.mark.parametrize("version", [None, "", "2021-01-01", "2022-09-01"])
def test_the_current_path_needs_its_version(resource: Any, version: str | None) -> None:
    query = {} if version is None else {"api-version": version}
    answer = resource.api.post(f"/loops/{resource.loop}/personalizer/rank", params=query, json=BODY)
    _error(answer, 400, "InvalidRequest")


def test_unknown_routes_methods_and_loops(resource: Any) -> None:
    base = f"/loops/{resource.loop}/personalizer"
    _error(resource.api.get(f"{base}/nothing", params=VERSION), 404, "ResourceNotFound")
    _error(resource.api.get(f"{base}/v1.0/nothing"), 404, "ResourceNotFound")
    _error(resource.api.get(base, params=VERSION), 404, "ResourceNotFound")
    _error(resource.api.get(f"{base}/rank", params=VERSION), 405, "BadRequest")
    _error(resource.api.patch(f"{base}/configurations/service", params=VERSION), 405, "BadRequest")
    _error(resource.api.put(f"{base}/v1.0/evaluations/x", json={}), 405, "BadRequest")
    _error(resource.api.post("/loops/nothing/personalizer/v1.0/rank", json=BODY), 404, "FrontEndNotFound")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"3", b'{"actions": NaN}', b"\xff\xfe"])
def test_bodies_that_are_no_json_object_are_refused(resource: Any, content: bytes) -> None:
    base = f"/loops/{resource.loop}/personalizer/v1.0"
    more = {"content": content, "headers": {"Content-Type": "application/json; CHARSET=UTF-8"}}
    _error(resource.api.post(f"{base}/rank", **more), 400, "InvalidRankRequest")
    _error(resource.api.post(f"{base}/events/e/reward", **more), 400, "InvalidRewardRequest")
    _error(resource.api.put(f"{base}/configurations/service", **more), 400, "InvalidServiceConfiguration")
    _error(resource.api.put(f"{base}/configurations/policy", **more), 400, "InvalidPolicyContract")


def test_a_body_may_come_in_pieces_but_not_be_endless(resource: Any) -> None:
    raw = json.dumps(BODY).encode()
    path = f"/loops/{resource.loop}/personalizer/v1.0/rank"
    answer = resource.api.post(path, content=iter([raw[:5], raw[5:]]), headers={"Content-Type": "application/json"})
    assert answer.status_code == 201
    _error(resource.api.post(path, content=b" " * (9 * 1024 * 1024)), 400, "PayloadSizeExceeded")


@pytest.mark.parametrize(
    "name", ["Ocp-Apim-Subscription-Key", "ocp-apim-subscription-key", "OCP-APIM-SUBSCRIPTION-KEY"]
)
def test_the_key_in_its_header(guarded: Any, name: str) -> None:
    with guarded.client() as client:
        answer = client.post("/personalizer/v1.0/rank", json=BODY, headers={name: "test-admin-key"})
        assert answer.status_code == 201, answer.text
        _error(client.post("/personalizer/v1.0/rank", json=BODY, headers={name: "wrong"}), 401, "401")
        _error(client.post("/personalizer/v1.0/rank", json=BODY), 401, "401")
        bearer = {"Authorization": "Bearer test-admin-key"}
        assert client.post("/personalizer/v1.0/rank", json=BODY, headers=bearer).status_code == 201


def test_two_keys_and_roles(guarded: Any, refused: Callable[..., Any]) -> None:
    with guarded.client("test-admin-key") as client:
        made = {
            role: client.post("/v1/keys", json={"name": role, "role": role}).json()["secret"]
            for role in ("admin", "write", "read", "page")
        }
    for key in ("test-admin-key", made["admin"]):
        admin = PersonalizerAdministrationClient(guarded.url, AzureKeyCredential(key))
        assert admin.get_policy()["arguments"]
    for key in ("write", "page"):
        PersonalizerClient(guarded.url, AzureKeyCredential(made[key])).rank(dict(BODY))
    page = PersonalizerAdministrationClient(guarded.url, AzureKeyCredential(made["page"]))
    refused(403, "InvalidApiAccess", page.get_policy)
    reader = PersonalizerAdministrationClient(guarded.url, AzureKeyCredential(made["read"]))
    assert reader.get_policy()["arguments"]
    refused(403, "InvalidApiAccess", reader.reset_model)
    stranger = PersonalizerClient(guarded.url, AzureKeyCredential("wrong"))
    refused(401, "401", stranger.rank, dict(BODY))


def test_a_change_holds_for_the_next_call_in_every_worker(guarded: Any) -> None:
    admin = PersonalizerAdministrationClient(guarded.url, AzureKeyCredential("test-admin-key"))
    config = admin.get_service_configuration()
    for number in range(10):
        wanted = round(0.3 + number / 100, 2)
        admin.update_service_configuration({**config, "explorationPercentage": wanted})
        with guarded.client("test-admin-key") as client:
            answer = client.get("/personalizer/v1.0/configurations/service")
            assert answer.json()["explorationPercentage"] == wanted
        policy = admin.get_policy()["arguments"]
        assert f"--epsilon {wanted}" in policy
