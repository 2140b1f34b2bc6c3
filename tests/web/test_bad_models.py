"""Bad input of a loop's model, operations and the settings of their kind: refused by name, and nothing changes."""

from __future__ import annotations

import pytest

# What takes input here; tests/web/test_bad_input.py has the rows of all other operations.
OPERATIONS = (
    "GET /v1/loops/{loop}/model", "PUT /v1/loops/{loop}/model", "DELETE /v1/loops/{loop}/model",
    "GET /v1/loops/{loop}/model/properties", "GET /v1/loops/{loop}/operations",
)  # fmt: skip


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", ["Upper", "a.b", "-a", "a" * 65, "a%00b", "%F0%9F%8E%81"])
def test_ill_formed_names(api, problem, operation, name):
    method, path = operation.split()
    content = {"content": b"PK"} if method == "PUT" else {}
    refused = problem(api.request(method, path.replace("{loop}", name), **content), 400)
    assert [error["field"] for error in refused["errors"]] == ["loop"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_unknown_names(api, problem, operation):
    method, path = operation.split()
    content = {"content": b"PK"} if method == "PUT" else {}
    assert "nowhere" in problem(api.request(method, path.replace("{loop}", "nowhere"), **content), 404)["detail"]


@pytest.mark.parametrize("signed", ["", "maybe", "2", "null"])
def test_a_question_that_is_neither_yes_nor_no(api, problem, make_loop, signed):
    refused = problem(api.get(f"/v1/loops/{make_loop().name}/model", params={"signed": signed}), 400)
    assert [error["field"] for error in refused["errors"]] == ["signed"]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"model_retrain_days": -1}, "model_retrain_days"),
        ({"model_retrain_days": 3651}, "model_retrain_days"),
        ({"model_retrain_days": "2"}, "model_retrain_days"),
        ({"model_retrain_days": 8, "retention_days": 7}, "model_retrain_days"),
        ({"learning_mode": "Apprentice"}, "learning_mode"),
        ({"learning_mode": None}, "learning_mode"),
        ({"auto_optimisation": True}, "auto_optimisation"),
        ({"auto_optimisation": {"is_enabled": "yes"}}, "auto_optimisation.is_enabled"),
        ({"auto_optimisation": {"frequency_days": 0}}, "auto_optimisation.frequency_days"),
        ({"auto_optimisation": {"frequency_days": 1.5}}, "auto_optimisation.frequency_days"),
        ({"auto_optimisation": {"start": 5}}, "auto_optimisation.start"),
        ({"auto_optimisation": {"start": "2026-12-01T03:00:00"}}, "auto_optimisation.start"),
        ({"auto_optimisation": {"colour": "red"}}, "auto_optimisation.colour"),
    ],
)
def test_settings_that_cannot_be(api, problem, make_loop, settings, field):
    loop = make_loop()
    before = api.get(f"/v1/loops/{loop.name}").json()
    refused = problem(api.put(f"/v1/loops/{loop.name}", json=settings), 400)
    assert field in [error["field"] for error in refused["errors"]]
    assert api.get(f"/v1/loops/{loop.name}").json()["version"] == before["version"]


def test_settings_that_can_be_are_kept(api, make_loop):
    settings = {
        "model_retrain_days": 2.0, "learning_mode": "apprentice",
        "auto_optimisation": {"is_enabled": True, "frequency_days": 7, "start": "2099-12-01T03:00:00Z"},
    }  # fmt: skip
    stored = api.get(f"/v1/loops/{make_loop(**settings).name}").json()
    assert {name: stored[name] for name in settings} == settings
