"""Which field of a request is at fault: names and values out of what validation reports."""

from __future__ import annotations

import re
from typing import Any

# Parts of a place that are validation's own: where the value came from, keys as such, branches of a union.
_NOT_NAMES = frozenset({"body", "query", "path", "[key]", "constrained-str", "float", "int", "str", "bool"})
_BRANCH = re.compile(r"[A-Z]\w*In|function-.*|constrained-.*|.*\[.*\].*")


class FieldFault(ValueError):
    """What a body as a whole is refused for, with the field that is to blame, from the body down, and its value."""

    def __init__(self, field: str, value: object, why: str) -> None:
        super().__init__(why)
        self.field = field
        self.value = value


def field_of(entry: Any) -> str:
    """The path of the field that one entry of a validation error is about; empty for the body as a whole."""
    if _is_no_json(entry):
        # The place is how far reading came, not a name.
        return ""
    parts = [str(part) for part in entry["loc"] if not (isinstance(part, str) and _is_branch(part))]
    fault = fault_of(entry)
    return ".".join([*parts, fault.field] if fault else parts)


def value_of(entry: Any) -> Any:
    """The value that was refused."""
    if _is_no_json(entry):
        return None
    fault = fault_of(entry)
    return fault.value if fault else entry.get("input")


def message_of(entry: Any) -> str:
    """What is wrong with the value, in the words of whoever refused it."""
    error = (entry.get("ctx") or {}).get("error")
    if _is_no_json(entry):
        return f"is not valid JSON: {error} (char {entry['loc'][-1]})"
    return str(error) if isinstance(error, ValueError) else str(entry["msg"])


def fault_of(entry: Any) -> FieldFault | None:
    """The fault that a validator of ours raised."""
    error = (entry.get("ctx") or {}).get("error")
    return error if isinstance(error, FieldFault) else None


def _is_no_json(entry: Any) -> bool:
    return bool(entry["type"] == "json_invalid" and entry["loc"][0] == "body")


def _is_branch(part: str) -> bool:
    return part in _NOT_NAMES or _BRANCH.fullmatch(part) is not None
