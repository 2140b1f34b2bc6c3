"""Model and logs by the official Python client."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

Actions = Callable[..., list[dict[str, Any]]]


def _exported(resource: Any, *, signed: bool = False) -> bytes:
    return b"".join(resource.admin.export_model(signed=signed))


def _train(resource: Any, actions: Actions, until: Callable[..., Any]) -> bytes:
    """Learn something; returns the model."""
    resource.configure(rewardWaitTime="PT5S", modelExportFrequency="PT1S")

    def is_set_up() -> bool:
        found = resource.api.get(f"/v1/loops/{resource.loop}/operations").json()["operations"]
        return all(one["ended_at"] is not None for one in found)

    until(is_set_up, 30.0, "the end of every operation")
    untrained = _exported(resource)
    answer = resource.client.rank({"actions": actions("a", "b")})
    resource.client.reward(answer["eventId"], {"value": 1})
    until(lambda: _exported(resource) != untrained, 30.0)
    return _exported(resource)


def test_a_model_is_exported_reset_and_imported(
    resource: Any, actions: Actions, until: Callable[..., Any], refused: Callable[..., Any]
) -> None:
    trained = _train(resource, actions, until)
    archive = _exported(resource, signed=True)
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.read("model.vw") == trained
        names = opened.namelist()
        members = {name: opened.read(name) for name in names}
    resource.admin.reset_model()
    untrained = _exported(resource)
    assert untrained != trained
    resource.admin.import_model(io.BytesIO(archive))
    assert _exported(resource) == trained

    def packed(parts: dict[str, bytes]) -> io.BytesIO:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as writing:
            for name, data in parts.items():
                writing.writestr(name, data)
        return io.BytesIO(made.getvalue())

    refused(400, "InvalidModelImportFormat", resource.admin.import_model, io.BytesIO(b"no archive"))
    refused(400, "InvalidModelImportFormat", resource.admin.import_model, io.BytesIO(trained))
    altered = packed({**members, "model.vw": untrained})
    refused(400, "InvalidModelImportSignature", resource.admin.import_model, altered)
    unsigned = packed({"model.vw": trained})
    refused(400, "InvalidModelImportSignature", resource.admin.import_model, unsigned)
    assert _exported(resource) == trained


def test_a_model_for_other_rewards_is_refused(make_resource: Callable[..., Any], refused: Callable[..., Any]) -> None:
    wide = make_resource(reward={"low": -5, "high": 5})
    archive = _exported(wide, signed=True)
    refused(400, "InvalidModelMetadata", make_resource().admin.import_model, io.BytesIO(archive))


def test_a_model_is_answered_as_a_file(resource: Any) -> None:
    path = f"/loops/{resource.loop}/personalizer/model"
    query = {"api-version": "2022-09-01-preview"}
    answer = resource.api.get(path, params=query)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == "attachment; filename=model.vw"
    assert answer.headers["last-modified"].endswith("GMT")
    signed = resource.api.get(path, params={**query, "signed": "true"})
    assert signed.headers["content-disposition"] == "attachment; filename=model.vw.zip"
    assert resource.api.get(path, params={**query, "signed": "perhaps"}).status_code == 400


def test_model_properties_are_times(resource: Any) -> None:
    found = resource.admin.get_model_properties()
    times = [datetime.fromisoformat(found[name]) for name in ("creationTime", "lastModifiedTime")]
    assert times[0] <= times[1]


def test_logs_span_their_events_and_are_deleted(
    resource: Any, actions: Actions, until: Callable[..., Any], service: Any, tmp_path: Path
) -> None:
    assert resource.admin.get_log_properties() == {}
    trained = _train(resource, actions, until)
    resource.client.rank({"actions": actions("a"), "eventId": "still-open"})
    span = until(lambda: resource.admin.get_log_properties().get("dateRange"))
    assert datetime.fromisoformat(span["from"]) <= datetime.fromisoformat(span["to"])
    configured = resource.admin.get_service_configuration()
    resource.admin.delete_logs()
    assert resource.admin.get_log_properties() == {}
    assert _exported(resource) == trained
    assert resource.admin.get_service_configuration() == configured
    found = resource.api.get(f"/v1/loops/{resource.loop}/operations").json()["operations"][0]
    assert (found["kind"], found["state"]) == ("delete_log", "done")
    # Nothing is left of it, also not of what was open: no record, nothing to export, nothing under the id.
    gone = resource.api.get("/v1/decisions/still-open", params={"loop": resource.loop})
    assert gone.status_code == 404
    exported = service.command("export", "dsjson", "--loop", resource.loop, "--out", str(tmp_path / "log.json"))
    assert (exported.returncode, (tmp_path / "log.json").read_text()) == (0, ""), exported.stderr
    resource.client.rank({"actions": actions("a", "b"), "eventId": "still-open"})
    until(lambda: resource.admin.get_log_properties().get("dateRange"))
    assert {one["offer_id"] for one in resource.record("still-open")["eligible"]} == {"a", "b"}
    until(lambda: resource.record("still-open")["state"] == "closed", 30.0)
    assert resource.api.get(f"/v1/loops/{resource.loop}").json()["status"]["interactions"] == 1


def test_binary_logs_are_not_taken(resource: Any) -> None:
    for path in ("/logs/interactions", "/logs/observations"):
        assert resource.call("POST", path, expect=400, content=b"x")["error"]["code"] == "InvalidRequest"
