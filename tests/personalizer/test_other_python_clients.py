"""The asynchronous Python client, every operation; and the older Python client."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from azure.ai.personalizer.aio import PersonalizerAdministrationClient, PersonalizerClient
from azure.cognitiveservices.personalizer import PersonalizerClient as OlderClient
from azure.cognitiveservices.personalizer.models import ErrorResponseException, RankableAction, RankRequest
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import HttpResponseError
from msrest.authentication import CognitiveServicesCredentials
from msrest.exceptions import HttpOperationError

START, END = datetime(2022, 9, 20, tzinfo=UTC), datetime(2122, 9, 20, tzinfo=UTC)
SPAN = {"startTime": "2022-09-20", "endTime": "2122-09-20"}
ARGUMENTS = "--ccb_explore_adf --epsilon 0.4 -q ::"
Actions = Callable[..., list[dict[str, Any]]]


async def _all(found: AsyncIterator[Any]) -> list[Any]:
    return [one async for one in found]


async def _refused(status: int, code: str, call: Any) -> None:
    with pytest.raises(HttpResponseError) as caught:
        await call
    assert (caught.value.status_code, caught.value.error.code) == (status, code)


async def _choose(client: PersonalizerClient, actions: Actions) -> None:
    answer = await client.rank({"actions": actions("a", "b"), "eventId": "e 1", "deferActivation": True})
    assert answer["rewardActionId"] in {"a", "b"}
    await client.reward("e 1", {"value": 0.5})
    await client.activate("e 1")
    await _refused(400, "InvalidRankRequest", client.rank({"actions": []}))
    await _refused(400, "InvalidRewardRequest", client.reward("e 1", {"value": 5}))
    await _refused(400, "InvalidEventIdToActivate", client.activate("x" * 257))


async def _choose_for_slots(client: PersonalizerClient, actions: Actions) -> None:
    slots = [{"id": "top", "baselineAction": "a"}, {"id": "side", "baselineAction": "b"}]
    answer = await client.rank_multi_slot({"actions": actions("a", "b"), "slots": slots, "eventId": "m"})
    assert {one["rewardActionId"] for one in answer["slots"]} == {"a", "b"}
    await client.reward_multi_slot("m", {"reward": [{"slotId": "top", "value": 1}]})
    await client.activate_multi_slot("m")


async def _configure(admin: PersonalizerAdministrationClient) -> None:
    found = await admin.get_service_configuration()
    changed = await admin.update_service_configuration({**found, "rewardWaitTime": "PT5S"})
    assert changed["rewardWaitTime"] == "PT5S"
    bad = {**found, "logRetentionDays": 0}
    await _refused(400, "InvalidLogRetentionDays", admin.update_service_configuration(bad))
    assert (await admin.update_policy({"name": "s", "arguments": ARGUMENTS}))["arguments"] == ARGUMENTS
    assert (await admin.get_policy())["arguments"] == ARGUMENTS


async def _keep(admin: PersonalizerAdministrationClient) -> None:
    model = b"".join(await _all(await admin.export_model()))
    archive = b"".join(await _all(await admin.export_model(signed=True)))
    await admin.reset_model()
    await admin.import_model(io.BytesIO(archive))
    assert b"".join(await _all(await admin.export_model())) == model
    await _refused(400, "InvalidModelImportFormat", admin.import_model(io.BytesIO(b"x")))
    assert {"creationTime", "lastModifiedTime"} <= (await admin.get_model_properties()).keys()


async def _judge(admin: PersonalizerAdministrationClient) -> None:
    await admin.create_evaluation("ev", {"name": "n", **SPAN})
    await _refused(400, "EvaluationAlreadyExists", admin.create_evaluation("ev", {"name": "n", **SPAN}))
    found = await admin.get_evaluation("ev", start_time=START, end_time=END)
    assert found["id"] == "ev"
    assert [one["id"] for one in await _all(admin.list_evaluations(top=1))] == ["ev"]
    applied = {"evaluationId": "none", "policyName": "online"}
    await _refused(404, "EvaluationNotFound", admin.apply_from_evaluation(applied))
    for _ in range(600):
        found = await admin.get_evaluation("ev", start_time=START, end_time=END)
        if found["status"] != "Running":
            break
        await asyncio.sleep(0.1)
    assert found["status"] in {"Succeeded", "Failed"}
    if found["status"] == "Succeeded":
        await admin.apply_from_evaluation({"evaluationId": "ev", "policyName": "online"})
    await admin.delete_evaluation("ev")
    await admin.create_feature_importance("fi", {"name": "n", **SPAN})
    assert (await admin.get_feature_importance("fi"))["id"] == "fi"
    assert [one["id"] for one in await _all(admin.list_feature_importances())] == ["fi"]
    await admin.delete_feature_importance("fi")
    await _refused(404, "FeatureImportanceNotFound", admin.get_feature_importance("fi"))


def test_the_asynchronous_client(resource: Any, actions: Actions) -> None:
    async def use() -> None:
        key = AzureKeyCredential("any")
        async with (
            PersonalizerClient(resource.endpoint, key) as client,
            PersonalizerAdministrationClient(resource.endpoint + "/", key) as admin,
        ):
            await _choose(client, actions)
            await _configure(admin)
            await _choose_for_slots(client, actions)
            assert "--cb_explore_adf" in (await admin.reset_policy())["arguments"]
            await _keep(admin)
            await _judge(admin)
            assert "dateRange" in await admin.get_log_properties()
            await admin.delete_logs()
            assert await admin.get_log_properties() == {}

    asyncio.run(use())


def test_the_older_client(resource: Any) -> None:
    client = OlderClient(resource.endpoint, CognitiveServicesCredentials("any"))
    choices = [RankableAction(id=name, features=[{"kind": name}]) for name in ("a", "b")]
    request = RankRequest(
        actions=choices, context_features=[{"day": "monday"}], excluded_actions=["b"], event_id="o 1/%",
        defer_activation=True,
    )  # fmt: skip
    answer = client.rank(request)
    assert (answer.event_id, answer.reward_action_id) == ("o 1/%", "a")
    assert [(one.id, one.probability) for one in answer.ranking] == [("a", 1.0), ("b", 0.0)]
    client.events.activate("o 1/%")
    client.events.reward("o 1/%", value=0.5)
    with pytest.raises(ErrorResponseException) as caught:
        client.rank(RankRequest(actions=[RankableAction(id="a", features=[])]))
    assert caught.value.error.error.code == "InvalidRankRequest"
    with pytest.raises(HttpOperationError) as refused:
        client.events.reward("o 1/%", value=3.0)
    assert refused.value.response.status_code == 400
