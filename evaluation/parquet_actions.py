"""Ids, actions and times of a Parquet log as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from evaluation.arrays import IntArray
from evaluation.arrow import pa, pc
from evaluation.hashing import hash_buffers, hash_ids
from evaluation.log_decisions import action_id
from evaluation.log_layout import ONLY_CHOSEN
from evaluation.parquet_rows import Array

MOST_ACTIONS = 100_000
# Rows made Python objects at a time.
BLOCK = 256


@dataclass(frozen=True, slots=True)
class ActionIds:
    """The actions of n rows.

    Attributes:
        sizes: how many each row has, -1 where that is not told, (n,); None when the log has no actions.
        ids: of all actions in a row, (m,), null where one has none; None when the log has no ids.
        column: each row's as they are written, to make decisions of; None when only their number is told.
    """

    sizes: IntArray | None = None
    ids: Array | None = None
    column: Objects | list[Any] | None = None

    def raw(self, row: int, size: int) -> Sequence[Any]:
        """The actions of a row as they are written; None for each where only their number is known."""
        written = None if self.column is None else self.column[row]
        return written if isinstance(written, list) else (None,) * size


class Objects:
    """The rows of a column as Python objects, made a block at a time when they are asked for."""

    def __init__(self, array: Array) -> None:
        """Take the column."""
        self._array = array
        self._block = -1
        self._made: list[Any] = []

    def __getitem__(self, row: int) -> Any:
        block, place = divmod(row, BLOCK)
        if block != self._block:
            self._made, self._block = _objects(self._array.slice(block * BLOCK, BLOCK)), block
        return self._made[place]


def _objects(array: Array) -> list[Any]:
    """A column as Python objects, field by field: row by row takes a hundred times as long."""
    kind = array.type
    if pa.types.is_struct(kind):
        names = [kind.field(place).name for place in range(kind.num_fields)]
        fields = [_objects(field) for field in array.flatten()]
        rows: list[Any] = [dict(zip(names, one, strict=True)) for one in zip(*fields, strict=True)]
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        entries, ends = _objects(array.flatten()), np.cumsum(_sizes(array).clip(min=0)).tolist()
        rows = [entries[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    else:
        return list(array.to_pylist())
    if array.null_count:
        rows = [row if there else None for row, there in zip(rows, array.is_valid().to_pylist(), strict=True)]
    return rows


def _sizes(array: Array) -> IntArray:
    """The length of each list, (n,); -1 for none."""
    lengths = pc.fill_null(pc.list_value_length(array), -1)
    return np.asarray(lengths.to_numpy(zero_copy_only=False).astype(np.int64))


def action_ids(array: Array) -> ActionIds:
    """The actions of a column: a list of ids or of objects, their number, or JSON text of one of these."""
    kind = array.type
    if pa.types.is_integer(kind):
        sizes = pc.fill_null(array.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
        return ActionIds(np.where(sizes > MOST_ACTIONS, -1, sizes))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _parsed_ids([_actions(text) for text in array.to_pylist()])
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return ActionIds(np.full(len(array), -1, dtype=np.int64))
    sizes = _sizes(array)
    entries = array.flatten()
    ids = None
    if not pa.types.is_struct(entries.type):
        ids = entries.cast(pa.string())
    elif entries.type.get_field_index("id") >= 0:
        ids = pc.struct_field(entries, "id").cast(pa.string())
    return ActionIds(sizes, ids, Objects(array))


def _actions(text: str | None) -> list[Any] | None:
    try:
        found = None if text is None else orjson.loads(text)
    except ValueError:
        return None
    if isinstance(found, int) and not isinstance(found, bool) and 0 <= found <= MOST_ACTIONS:
        return [None] * found
    return found if isinstance(found, list) else None


def _parsed_ids(rows: list[list[Any] | None]) -> ActionIds:
    sizes = np.array([-1 if one is None else len(one) for one in rows], dtype=np.int64)
    ids = [action_id(one, index) for row in rows if row for index, one in enumerate(row)]
    return ActionIds(sizes, pa.array(ids, pa.string()), rows)


class OfferCodes:
    """The number of each offer id, given in the order in which they are seen."""

    def __init__(self) -> None:
        """None were seen yet."""
        self._codes: dict[str, int] = {}

    @property
    def codes(self) -> Mapping[str, int]:
        """Numbers by offer id."""
        return self._codes

    def only_chosen(self, n: int) -> IntArray:
        """The code of n actions that nothing is known of, (n,)."""
        return np.full(n, self._code(ONLY_CHOSEN), dtype=np.int64)

    def of(self, actions: ActionIds, row: IntArray, first: IntArray) -> IntArray:
        """The code of each pair, (m,): of its id, or of its index where it has none."""
        if actions.ids is None:
            return self._by_index(np.arange(len(row), dtype=np.int64) - first[row])
        encoded = actions.ids.dictionary_encode()
        table = np.array([self._code(one) for one in encoded.dictionary.to_pylist()] or [0], dtype=np.int64)
        codes = table[encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)]
        if encoded.null_count:
            missing = encoded.is_null().to_numpy(zero_copy_only=False)
            codes[missing] = self._by_index((np.arange(len(row), dtype=np.int64) - first[row])[missing])
        return np.asarray(codes)

    def _by_index(self, index: IntArray) -> IntArray:
        table = np.array([self._code(str(one)) for one in range(int(index.max(initial=-1)) + 1)] or [0], dtype=np.int64)
        return np.asarray(table[index])

    def _code(self, offer_id: str) -> int:
        return self._codes.setdefault(offer_id, len(self._codes))


def hashes_of(ids: Array | IntArray) -> IntArray:
    """Hashes of event ids, (n,), the same for text and for whole numbers."""
    if isinstance(ids, np.ndarray):
        return hash_ids(ids)
    if pa.types.is_integer(ids.type):
        return hash_ids(ids.to_numpy(zero_copy_only=False))
    if pa.types.is_large_string(ids.type):
        width: type[np.signedinteger[Any]] = np.int64
    else:
        ids, width = ids.cast(pa.string()), np.int32
    _, offsets, data = ids.buffers()
    bounds = np.frombuffer(offsets, dtype=width)[ids.offset : ids.offset + len(ids) + 1]
    return hash_buffers(bounds, np.frombuffer(data or b"", dtype=np.uint8))
