"""The clients' types are those of the service's OpenAPI document, and a type checker uses them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "clients" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate"] = module
    spec.loader.exec_module(module)
    return module


def document(**fields: object) -> dict[str, object]:
    """A service whose rank call takes these fields."""
    schema = {"type": "object", "description": "Asked.", "properties": fields, "required": ["first"]}
    named = {"$ref": "#/components/schemas/AskedIn"}
    operation = {"requestBody": {"content": {"application/json": {"schema": named}}}}
    paths = {path: dict.fromkeys(("get", "put", "post", "delete"), operation) for path in SHOP_PATHS}
    return {"paths": paths, "components": {"schemas": {"AskedIn": schema, "NeverAskedIn": schema}}}


SHOP_PATHS = (
    "/v1/rank", "/v1/rank/batch", "/v1/reward", "/v1/activate", "/v1/activity", "/v1/decisions/{decision_id}",
    "/v1/decisions/{decision_id}/why", "/v1/offers", "/v1/offers/{offer_id}", "/v1/customers/{customer_id}",
)  # fmt: skip


def test_the_types_are_those_of_the_service_as_it_is_now(generate: ModuleType) -> None:
    stale = [str(path.relative_to(ROOT)) for path, text in generate.generated().items() if path.read_text() != text]
    assert stale == [], "run: python clients/generate.py"


def test_shapes_become_types_of_both_languages(generate: ModuleType) -> None:
    asked = document(
        first={"type": "string", "format": "date-time", "description": "When."},
        second={"anyOf": [{"items": {"type": "number"}, "type": "array"}, {"type": "null"}]},
        third={"enum": ["a", "b"], "type": "string"},
        fourth={"type": "object", "additionalProperties": {"type": "integer"}},
        fifth={},
    )
    python, typescript = generate.python_types(asked), generate.typescript_types(asked)
    for line in (
        "class AskedIn(TypedDict):", '    """Asked."""', "    # When.", "    first: datetime | str",
        "    second: NotRequired[Sequence[float] | None]", '    third: NotRequired[Literal["a", "b"]]',
        "    fourth: NotRequired[Mapping[str, int]]", "    fifth: NotRequired[Any]",
    ):  # fmt: skip
        assert line in python.splitlines()
    for line in (
        "/** Asked. */", "export interface AskedIn {", "  /** When. */", "  first: string;",
        "  second?: ReadonlyArray<number> | null;", '  third?: "a" | "b";',
        "  fourth?: Readonly<Record<string, number>>;", "  fifth?: unknown;",
    ):  # fmt: skip
        assert line in typescript.splitlines()
    assert "NeverAskedIn" not in python


def test_a_shape_without_a_type_is_refused(generate: ModuleType) -> None:
    with pytest.raises(generate.UnknownShape, match="tuple"):
        generate.python_types(document(first={"type": "tuple"}))


RIGHT = """
from datetime import UTC, datetime

from offerloop_client import AsyncClient, Client

with Client("http://127.0.0.1:1", fallback_offer=["a", "b"]) as client:
    decision = client.rank(customer_id="c", candidates=["a", {"offer_id": "b"}], occurred_at=datetime.now(UTC))
    shown: str = decision["offer_id"]
    is_local: bool = decision["fallback"]
    client.reward(decision_id=decision["decision_id"], kind="click")


async def later() -> float:
    async with AsyncClient("http://127.0.0.1:1") as client:
        return (await client.rank())["ranking"][0]["probability"]
"""


# Each line is wrong, and the complaint about it names this.
WRONG = {
    "a_field_that_does_not_exist": ("client.rank(custmer_id='c')", "custmer_id"),
    "a_field_that_is_missing": ("client.reward(kind='click')", "decision_id"),
    "a_value_that_is_not_allowed": ("client.activity([{'customer_id': 'c', 'kind': 'stare'}])", "kind"),
    "an_answer_without_this_field": ("decision['offer']", "offer"),
}


def test_a_type_checker_knows_the_shapes(tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(RIGHT)
    for name, (line, _) in WRONG.items():
        (tmp_path / f"{name}.py").write_text(f"{RIGHT}\n\n{line}\n")
    found = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "."],
        cwd=tmp_path, env={**os.environ, "MYPYPATH": str(ROOT / "clients" / "python")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    complaints = [line for line in found.stdout.splitlines() if ": error: " in line]
    assert len(complaints) == len(WRONG), found.stdout + found.stderr
    for name, (_, about) in WRONG.items():
        assert any(line.startswith(f"{name}.py:") and about in line.partition("error:")[2] for line in complaints), name
