"""An offer as the cells of a table, and back without loss: the columns of an import and an export.

An empty cell is absent. Lists are separated by "|"; in an entry a backslash stands before "|", before another backslash
and before a blank at either end. A leading apostrophe makes a cell text, as in a spreadsheet: an export puts one before
text that a spreadsheet would take for a formula, and before a feature's text that reads as another value, and an import
takes one away from such text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias

import orjson

from adapters.records import offer_record
from contextual_bandit.types import FeatureValue, Offer

Kind: TypeAlias = Literal["text", "moment", "number", "list", "json"]

COLUMNS: Final[Mapping[str, Kind]] = {
    "offer_id": "text", "category": "text", "status": "text", "valid_from": "moment", "valid_to": "moment",
    "type": "text", "discount": "number", "price": "number", "margin": "number", "cost": "number", "code": "text",
    "priority": "number", "minimum_age": "number", "channels": "list", "regions": "list", "tags": "list",
    "stock": "number", "budget": "number", "cooldown_days": "number", "excludes": "list", "requires": "list",
    "relation_days": "number", "caps": "json", "rules": "json",
}  # fmt: skip
# Any number of columns named by what follows the dot.
CREATIVE = "creative."
FEATURE = "feature."
LIMITS = frozenset({"stock", "budget", "cooldown_days", "excludes", "requires", "relation_days", "caps"})

# JSON's numbers, and what people write besides; 007 is a name.
_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_COMMA = re.compile(r"(?=.*,)[+-]?(?:[0-9]+,[0-9]+|[0-9]{1,3}(?:[.,][0-9]{3})+(?:[.,][0-9]+)?)")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_BOOLEANS = {"true": True, "false": False}
# Spreadsheets run what begins with these, some of them also the wide ones. Only an apostrophe can write empty text.
_FORMULA = re.compile(r"[\s']*[=+\-@＝＋－＠]|'*[\t\r\n]|'*\Z")
_LIST_PIECE = re.compile(r"\\[\\| ]|.", re.DOTALL)
_LIST_MARKED = re.compile(r"[\\|]|^ | (?=\Z)")


class BadCell(ValueError):
    """A cell that cannot be read."""


def cells_of(offer: Offer) -> dict[str, str]:
    """An offer's cells by column."""
    record = offer_record(offer) | {"offer_id": offer.offer_id}
    record |= record["limits"]
    cells = {column: _written(record[column], kind) for column, kind in COLUMNS.items()}
    cells |= {CREATIVE + name: _marked(text, _is_formula) for name, text in offer.creative.items()}
    cells |= {FEATURE + name: _written_feature(value) for name, value in offer.features.items()}
    return cells


def is_column(name: str) -> bool:
    """Whether a table of offers may have this column."""
    return name in COLUMNS or any(name.startswith(group) and name != group for group in (CREATIVE, FEATURE))


def read_cell(column: str, text: str) -> Any:
    """What a cell that is not empty says.

    Raises:
        BadCell: it is not of the column's kind.
    """
    if column.startswith(FEATURE):
        return _read_feature(text)
    if column.startswith(CREATIVE):
        return _unmarked(text, _is_formula)
    return _READERS[COLUMNS[column]](text)


def put_cell(fields: dict[str, Any], column: str, value: Any) -> None:
    """Put a cell's value where an offer's body has it."""
    for group, name in ((CREATIVE, "creative"), (FEATURE, "features")):
        if column.startswith(group):
            fields.setdefault(name, {})[column.removeprefix(group)] = value
            return
    if column in LIMITS:
        fields = fields.setdefault("limits", {})
    fields[column] = value


def column_of(path: str) -> str:
    """The column, and the place in it, of a field's path in an offer's body."""
    group, _, rest = path.partition(".")
    if group == "limits":
        return rest
    return FEATURE + rest if group == "features" else path


# Writing


def _written(value: Any, kind: Kind) -> str:
    if value is None:
        return ""
    if kind == "number":
        return _plain(value)
    if kind == "json":
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")) if value else ""
    if kind == "list":
        if not value:
            return ""
        value = "|".join(_LIST_MARKED.sub(lambda found: "\\" + found[0], entry) for entry in value)
    return _marked(value, _is_formula)


def _written_feature(value: FeatureValue) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return _plain(value) if isinstance(value, int | float) else _marked(value, _needs_mark)


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() and abs(number) < 2**53 else repr(number)


def _marked(text: str, needs: Callable[[str], bool]) -> str:
    return "'" + text if needs(text) else text


def _unmarked(text: str, needs: Callable[[str], bool]) -> str:
    return text[1:] if text.startswith("'") and needs(text) else text


# Both hold of a text as of the same text behind apostrophes, so that what is put before it can be told again.


def _is_formula(text: str) -> bool:
    return _FORMULA.match(text) is not None


def _needs_mark(text: str) -> bool:
    bare = text.lstrip("'").strip()
    is_value = _NUMBER.fullmatch(bare) or _COMMA.fullmatch(bare) or bare.lower() in _BOOLEANS
    return bool(is_value) or _is_formula(text)


# Reading


def _read_feature(text: str) -> FeatureValue:
    if text.startswith("'"):
        return _unmarked(text, _needs_mark)
    bare = text.strip()
    if bare.lower() in _BOOLEANS:
        return _BOOLEANS[bare.lower()]
    if _NUMBER.fullmatch(bare):
        return float(bare)
    if _COMMA.fullmatch(bare):
        raise BadCell("has a comma like a number: write 12.5 with a point, or begin a text with an apostrophe")
    return text


def _read_text(text: str) -> str:
    return _unmarked(text, _is_formula)


def _read_number(text: str) -> float:
    bare = text.strip()
    if not _NUMBER.fullmatch(bare):
        if _COMMA.fullmatch(bare):
            raise BadCell("has a comma: numbers are written with a decimal point and nothing between thousands")
        raise BadCell("must be a number like 12.5, without a unit or sign of money or percent")
    number = float(bare)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _read_moment(text: str) -> str:
    if not _DATE.match(text):
        raise BadCell("must be a moment with its time zone, like 2026-03-01T00:00:00Z")
    return text


def _read_list(text: str) -> list[str]:
    entries: list[list[str]] = [[]]
    for piece in _LIST_PIECE.findall(_unmarked(text, _is_formula)):
        if piece == "|":
            entries.append([])
        else:
            entries[-1].append(piece)
    return [_entry(pieces) for pieces in entries]


def _entry(pieces: list[str]) -> str:
    said = [place for place, piece in enumerate(pieces) if piece != " "]
    return "".join(piece[-1] for piece in pieces[said[0] : said[-1] + 1]) if said else ""


def _read_json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadCell(f"is not JSON: {error}") from None


_READERS: Final[Mapping[Kind, Callable[[str], Any]]] = {
    "text": _read_text, "moment": _read_moment, "number": _read_number, "list": _read_list, "json": _read_json,
}  # fmt: skip
