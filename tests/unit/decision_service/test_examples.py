"""The OpenAPI document's examples are real ones."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from typing import Any

import pytest
from pydantic import BaseModel

import decision_service
from adapters.settings import Settings
from decision_service.app import create_app
from decision_service.examples import EXAMPLES

MODULES = [
    importlib.import_module(f"decision_service.{found.name}")
    for found in pkgutil.iter_modules(decision_service.__path__)
    if found.name != "__main__"
]
MODELS: dict[str, type[BaseModel]] = {
    name: model
    for module in MODULES
    for name, model in inspect.getmembers(module, inspect.isclass)
    if issubclass(model, BaseModel) and name.endswith(("In", "Out"))
}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_example_fits_its_model(name: str) -> None:
    MODELS[name].model_validate_json(json.dumps(EXAMPLES[name]))


def test_every_shape_in_the_document_has_an_example() -> None:
    document: dict[str, Any] = create_app(Settings()).openapi()
    shapes = document["components"]["schemas"]
    assert {name for name, shape in shapes.items() if "properties" in shape and "examples" not in shape} == set()
    assert {name for name in shapes if name.endswith(("In", "Out"))} <= set(MODELS)


def test_every_operation_says_what_it_is_and_how_it_fails() -> None:
    document: dict[str, Any] = create_app(Settings()).openapi()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation.get("summary"), where
            assert operation.get("description"), where
            if path.startswith("/v1"):
                assert {"400", "401", "403", "503"} <= set(operation["responses"]), where
            for status, answer in operation["responses"].items():
                if status >= "400":
                    assert list(answer["content"]) == ["application/problem+json"], where
