"""Writes the clients' types from the service's OpenAPI document: `python clients/generate.py [--check]`.

Only the shapes of the calls that a client makes are written, with the documentation they have in the service.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any, TypeAlias

from decision_service.app import create_app

Json: TypeAlias = Mapping[str, Any]
HERE = Path(__file__).resolve().parent
LINE = 120
LOOP_CALLS = (
    ("post", "/v1/rank"), ("post", "/v1/rank/batch"), ("post", "/v1/reward"), ("post", "/v1/activate"),
    ("post", "/v1/activity"),
)  # fmt: skip
SHOP_CALLS = (
    *LOOP_CALLS, ("get", "/v1/decisions/{decision_id}"), ("get", "/v1/decisions/{decision_id}/why"),
    ("get", "/v1/offers"), ("put", "/v1/offers/{offer_id}"), ("get", "/v1/offers/{offer_id}"),
    ("put", "/v1/customers/{customer_id}"), ("get", "/v1/customers/{customer_id}"),
    ("delete", "/v1/customers/{customer_id}"),
)  # fmt: skip


class UnknownShape(ValueError):
    """A schema that the generator has no type for."""


@dataclass(frozen=True, slots=True)
class Language:
    """How one language writes the types of JSON; of two forms, the second is for what is sent."""

    scalars: Mapping[str, str]
    any: str
    literal: tuple[str, str]
    moment: tuple[str, str]
    array: tuple[str, str]
    record: tuple[str, str]

    def type_of(self, schema: Json, is_input: bool) -> str:
        """The type of a schema.

        Raises:
            UnknownShape: there is no type for it.
        """
        if "$ref" in schema:
            return str(schema["$ref"]).rpartition("/")[2]
        if choices := schema.get("anyOf") or schema.get("oneOf"):
            return " | ".join(dict.fromkeys(self.type_of(choice, is_input) for choice in choices))
        if "const" in schema or "enum" in schema:
            form, separator = self.literal
            values = schema.get("enum") or [schema["const"]]
            return form.format(separator.join(json.dumps(value) for value in values))
        if schema.get("format") == "date-time":
            return self.moment[is_input]
        kind = schema.get("type")
        if kind == "array":
            return self.array[is_input].format(self.type_of(schema["items"], is_input))
        if kind == "object":
            return self.record[is_input].format(self._values(schema, is_input))
        if kind is None and not set(schema) - {"title", "description", "examples", "default"}:
            return self.any
        if not isinstance(kind, str) or kind not in self.scalars:
            raise UnknownShape(f"no type for {json.dumps(schema)}")
        return self.scalars[kind]

    def _values(self, schema: Json, is_input: bool) -> str:
        values = [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties", True)]
        return self.type_of(values[0], is_input) if isinstance(values[0], dict) else self.any


PYTHON = Language(
    {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"},
    any="Any",
    literal=("Literal[{}]", ", "),
    moment=("str", "datetime | str"),
    array=("list[{}]", "Sequence[{}]"),
    record=("dict[str, {}]", "Mapping[str, {}]"),
)
TYPESCRIPT = Language(
    {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"},
    any="unknown",
    literal=("{}", " | "),
    moment=("string", "string"),
    array=("Array<{}>", "ReadonlyArray<{}>"),
    record=("Record<string, {}>", "Readonly<Record<string, {}>>"),
)
HEAD = "The shapes of the service's JSON. Written by clients/generate.py from its OpenAPI document: do not edit."


def python_types(document: Json) -> str:
    """The module ``offerloop_client/wire.py``: one TypedDict per shape."""
    parts = [
        f'"""{HEAD}"""\n',
        "from __future__ import annotations\n",
        "from collections.abc import Mapping, Sequence\nfrom datetime import datetime",
        "from typing import Any, Literal, NotRequired, TypedDict\n",
    ]
    for name, schema in shapes(document, SHOP_CALLS):
        parts.append(f"\nclass {name}(TypedDict):\n" + "\n".join(_docstring(schema.get("description", name))))
        for field, inner, needed in fields(schema):
            parts += [f"    # {line}" for line in wrap(inner.get("description", ""), LINE - 6)]
            kind = PYTHON.type_of(inner, is_input_name(name))
            parts.append(f"    {field}: {kind}" if needed else f"    {field}: NotRequired[{kind}]")
        parts.append("")
    return _formatted("\n".join(parts))


def typescript_types(document: Json) -> str:
    """The declarations ``javascript/wire.d.ts``: one interface per shape."""
    parts = [f"// {HEAD}"]
    for name, schema in shapes(document, LOOP_CALLS):
        parts += ["", *_comment(schema.get("description", name), ""), f"export interface {name} {{"]
        for field, inner, needed in fields(schema):
            parts += _comment(inner.get("description", ""), "  ")
            parts.append(f"  {field}{'' if needed else '?'}: {TYPESCRIPT.type_of(inner, is_input_name(name))};")
        parts.append("}")
    return "\n".join(parts) + "\n"


def is_input_name(name: str) -> bool:
    """Whether a shape is sent rather than received: the service names them so."""
    return name.endswith("In")


def fields(schema: Json) -> Iterator[tuple[str, Json, bool]]:
    """Name, schema, and whether it is always there, of each field."""
    needed = set(schema.get("required", ()))
    for name, inner in schema.get("properties", {}).items():
        yield name, inner, name in needed


def shapes(document: Json, calls: Iterable[tuple[str, str]]) -> list[tuple[str, Json]]:
    """The schemas that these calls speak of, and what those speak of, by name."""
    schemas = document["components"]["schemas"]
    waiting = [name for method, path in calls for name in _references(document["paths"][path][method])]
    found: dict[str, Json] = {}
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = schemas[name]
            waiting += _references(schemas[name])
    return sorted(found.items())


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].rpartition("/")[2]
        for key, inner in node.items():
            # Examples are data, whatever they look like.
            if key not in ("examples", "example", "default"):
                yield from _references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _references(inner)


def _docstring(text: str) -> list[str]:
    paragraphs = [wrap(" ".join(part.split()), LINE - 4 - 6) for part in text.split("\n\n")]
    lines = "\n\n".join("\n".join(part) for part in paragraphs).splitlines()
    body = [f'    """{lines[0]}', *(f"    {line}".rstrip() for line in lines[1:])]
    return [body[0] + '"""'] if len(body) == 1 else [*body, '    """']


def _comment(text: str, indent: str) -> list[str]:
    lines = wrap(" ".join(text.split()), LINE - len(indent) - 7)
    if len(lines) <= 1:
        return [f"{indent}/** {line} */" for line in lines]
    return [f"{indent}/**", *(f"{indent} * {line}" for line in lines), f"{indent} */"]


def _formatted(text: str) -> str:
    words = [sys.executable, "-m", "ruff", "format", "--isolated", "--line-length", str(LINE), "-"]
    return subprocess.run(words, input=text, capture_output=True, text=True, check=True).stdout


def generated() -> dict[Path, str]:
    """What each generated file must hold, by the application as it is now."""
    document = create_app().openapi()
    return {
        HERE / "python" / "offerloop_client" / "wire.py": python_types(document),
        HERE / "javascript" / "wire.d.ts": typescript_types(document),
    }


def main() -> int:
    """Write the files; with --check only say which are not as they must be (exit code 1)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a file is out of date")
    only_checks = parser.parse_args().check
    stale = [path for path, text in generated().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        print(f"{path.relative_to(HERE.parent)}: {'out of date' if only_checks else 'written'}")
        if not only_checks:
            path.write_text(generated()[path])
    return 1 if only_checks and stale else 0


if __name__ == "__main__":
    sys.exit(main())
