"""Files of offers, CSV or JSON: read whole, every row checked as a single offer would be, all errors told."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import ValidationError

from adapters.records import offer_record
from contextual_bandit.eligibility import check_offer
from contextual_bandit.features import BadFeature
from contextual_bandit.rules import BadRule
from contextual_bandit.types import Offer
from decision_service.bodies import offer_of
from decision_service.catalogue_schemas import OfferIn
from decision_service.field_errors import field_of, message_of, value_of
from decision_service.offer_cells import COLUMNS, BadCell, cells_of, column_of, is_column, put_cell, read_cell
from decision_service.shapes import Id

LARGEST_FILE = 20 * 1024 * 1024
MOST_ROWS = 50_000
MOST_ERRORS = 100
LONGEST_PATH = 200
# Without its mark, spreadsheets take a file for one of their own country's encoding.
BYTE_ORDER_MARK = "\ufeff"
DELIMITERS = ",;"

# A cell may be as long as a file; the module's own limit is for the whole process and nobody else reads CSV here.
csv.field_size_limit(LARGEST_FILE)


class OfferRowIn(OfferIn):
    """An offer of a file, which says its id."""

    offer_id: Id


class BadFile(ValueError):
    """A file that cannot be read row by row."""


@dataclass(frozen=True, slots=True)
class RowError:
    """What is wrong in a row; ``path`` names the row and the field."""

    path: str
    value: object
    why: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it was read: its number in the file, its fields, and what could not be read."""

    number: int
    fields: Any
    errors: Sequence[RowError] = ()


@dataclass(slots=True)
class Checked:
    """The offers of a file, or what is wrong with it: how many errors there are, and the first of them."""

    rows: int = 0
    offers: list[Offer] = field(default_factory=list)
    errors: list[RowError] = field(default_factory=list)
    error_count: int = 0

    def refuse(self, path: str, value: object, why: str) -> None:
        """Note an error."""
        self.error_count += 1
        if self.error_count <= MOST_ERRORS:
            shown = path if len(path) <= LONGEST_PATH else path[: LONGEST_PATH - 3] + "..."
            self.errors.append(RowError(shown, value, why))


def check_json(data: bytes) -> Checked:
    """Offers of a JSON file, an array or ``{"offers": [...]}``; rows count from 0.

    Raises:
        BadFile: no such JSON, or more than 50,000 rows.
    """
    try:
        found = orjson.loads(data.removeprefix(BYTE_ORDER_MARK.encode()))
    except orjson.JSONDecodeError as error:
        raise BadFile(f"the file is not valid JSON: {error}") from None
    if isinstance(found, dict) and list(found) == ["offers"]:
        found = found["offers"]
    if not isinstance(found, list):
        raise BadFile('the file must be an array of offers, or an object with nothing but "offers", which is one')
    if len(found) > MOST_ROWS:
        raise BadFile(f"the file has {len(found)} rows; {MOST_ROWS} are the most")
    return _checked((Row(number, fields) for number, fields in enumerate(found)), str)


def check_csv(data: bytes) -> Checked:
    """Offers of a CSV file in UTF-8 with a header, separated by commas or semicolons; a row's number is its line's.

    Raises:
        BadFile: not UTF-8, no column offer_id, or more than 50,000 rows.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFile(
            f"the file is not UTF-8: byte {error.start} is {data[error.start]:#04x}; save it as UTF-8"
        ) from None
    delimiter = _delimiter(text)
    columns = next(_records(text, delimiter))[1]
    wrong = _check_columns(columns)
    return wrong or _checked(_rows(text, delimiter, columns), column_of)


def write_csv(offers: Sequence[Offer]) -> bytes:
    """Offers as a CSV file that spreadsheets open and ``check_csv`` reads back equal."""
    rows = [cells_of(offer) for offer in offers]
    more = {column for row in rows for column in row} - COLUMNS.keys()
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, [*COLUMNS, *sorted(more)], restval="")
    writer.writeheader()
    writer.writerows(rows)
    return (BYTE_ORDER_MARK + file.getvalue()).encode()


def write_json(offers: Sequence[Offer]) -> bytes:
    """Offers as a JSON file that ``check_json`` reads back equal."""
    found = {"offers": [{"offer_id": offer.offer_id, **offer_record(offer)} for offer in offers]}
    return json.dumps(found, ensure_ascii=False, indent=1).encode()


# Checking


def _checked(rows: Iterator[Row], named: Callable[[str], str]) -> Checked:
    """Check rows; ``named`` gives a field of an offer's body its name in the file."""
    checked = Checked()
    first: dict[str, int] = {}
    for row in rows:
        checked.rows += 1
        errors = list(row.errors)
        offer_id = row.fields.get("offer_id") if isinstance(row.fields, dict) else None
        if isinstance(offer_id, str) and first.setdefault(offer_id, row.number) != row.number:
            errors.append(RowError("offer_id", offer_id, f"row {first[offer_id]} has it too"))
        offer = _offer(row.fields, named, errors)
        for error in errors:
            checked.refuse(f"rows.{row.number}.{error.path}".rstrip("."), error.value, error.why)
        if offer is not None:
            checked.offers.append(offer)
    return checked


def _offer(fields: Any, named: Callable[[str], str], errors: list[RowError]) -> Offer | None:
    """The offer of a row, or None and what is wrong."""
    try:
        body = OfferRowIn.model_validate(fields)
        offer = offer_of(body.offer_id, body)
        check_offer(offer)
    except ValidationError as error:
        for entry in error.errors(include_url=False):
            errors.append(RowError(named(field_of(entry)), value_of(entry), message_of(entry)))
    except (BadFeature, BadRule) as error:
        errors.append(RowError(named(error.path), error.value, error.why))
    else:
        return offer
    return None


# Reading CSV


def _delimiter(text: str) -> str:
    for delimiter in DELIMITERS:
        head = next(_records(text, delimiter, strict=False), None)
        if head and "offer_id" in head[1]:
            return delimiter
    raise BadFile("the file must begin with a line of columns, separated by , or ; and one of them offer_id")


def _check_columns(columns: Sequence[str]) -> Checked | None:
    wrong = Checked()
    seen: set[str] = set()
    for place, name in enumerate(columns, start=1):
        if not is_column(name):
            known = f"{', '.join(COLUMNS)}, creative.NAME and feature.NAME"
            wrong.refuse(f"columns.{name or place}", name, f"unknown column; there are {known}")
        elif name in seen:
            wrong.refuse(f"columns.{name}", name, "this column is there twice")
        seen.add(name)
    return wrong if wrong.errors else None


def _records(text: str, delimiter: str, *, strict: bool = True) -> Iterator[tuple[int, list[str]]]:
    """Records that say anything, each with the number of its first line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict)
    line = 1
    try:
        for record in reader:
            if any(record):
                yield line, record
            line = reader.line_num + 1
    except csv.Error as error:
        raise BadFile(f"line {line} is not valid CSV: {error}") from None


def _rows(text: str, delimiter: str, columns: Sequence[str]) -> Iterator[Row]:
    records = _records(text, delimiter)
    next(records)
    for count, (line, record) in enumerate(records, start=1):
        if count > MOST_ROWS:
            raise BadFile(f"the file has more than {MOST_ROWS} rows")
        yield _row(line, columns, record)


def _row(line: int, columns: Sequence[str], record: Sequence[str]) -> Row:
    fields: dict[str, Any] = {}
    errors: list[RowError] = []
    # Spreadsheets leave out, and add, empty cells at the end of a line.
    if any(record[len(columns) :]):
        errors.append(RowError("", f"{len(record)} cells", f"there are only {len(columns)} columns"))
    for column, text in zip(columns, record, strict=False):
        if text:
            try:
                put_cell(fields, column, read_cell(column, text))
            except BadCell as error:
                errors.append(RowError(column, text, str(error)))
    return Row(line, fields, errors)
