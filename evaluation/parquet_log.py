"""A log in a Parquet file as chunks (docs/LOG_FORMATS.md); needs the extra ``offerloop[parquet]``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from contextual_bandit.types import Decision
from evaluation.arrays import FloatArray, IntArray
from evaluation.arrow import pa, pq
from evaluation.chunks import Chunk, LogNotes, TimeArray
from evaluation.json_log import nothing_usable
from evaluation.log_decisions import DecisionMaker, LazyDecisions
from evaluation.log_layout import PROBABILITIES, LogLayout
from evaluation.parquet_actions import ActionIds, Objects, OfferCodes, action_ids, hashes_of
from evaluation.parquet_rows import Batch, Fields, fields_of, usable_rows
from evaluation.row_faults import LogUnusable, RowFaults

# A batch has about so many (decision, action) pairs, so that memory stays the same however many actions there are.
MOST_PAIRS = 500_000
MOST_ROWS = 131_072
LEAST_ROWS = 256
# Pages are read through buffers of so many bytes, never a whole row group at once.
BUFFER_BYTES = 2**20


class ParquetLog:
    """A Parquet file as a ``LogSource``; rows that cannot be used are counted, never fatal."""

    def __init__(self, path: Path, columns: Sequence[str] = (), *, features: bool = True) -> None:
        """Look at the file's columns.

        Args:
            path: the file.
            columns: further columns of numbers that it must have.
            features: whether to read contexts and the features of actions; without them decisions have ids only.

        Raises:
            LogUnusable: it cannot be read, or lacks a column.
        """
        self.path = path
        file = _opened(path)
        with file:
            schema = file.schema_arrow
            self.layout = _layout(path, schema, columns)
            self._rows = _rows_per_batch(file, self.layout)
        self._features = features
        self.found = LogNotes(loop=path.name, notes=self.layout.notes())

    def chunks(self) -> Iterator[Chunk]:
        """The usable decisions.

        Raises:
            LogUnusable: there are none, or the file breaks off.
        """
        reader = _Reader(self.layout, RowFaults(self.found, "row"), DecisionMaker(self.found.loop))
        used = 0
        # The next batch is read while this one is evaluated.
        with ThreadPoolExecutor(1) as pool:
            batches = _batches(self.path, self._rows, _read_columns(self.layout, self._features))
            pending = pool.submit(next, batches, None)
            while (batch := pending.result()) is not None:
                pending = pool.submit(next, batches, None)
                chunk = reader.chunk(batch)
                if chunk is not None:
                    used += chunk.n
                    yield chunk
        reader.finish(self.found)
        if not used:
            raise LogUnusable(self.path, f"no row can be used: {nothing_usable(self.found)}")


def _batches(path: Path, rows: int, columns: Sequence[str]) -> Iterator[Batch]:
    read = 0
    with _opened(path) as file:
        # Threads within a batch would only cost: it is read beside the evaluation of the one before.
        batches = file.iter_batches(batch_size=rows, columns=list(columns), use_threads=False)
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                raise LogUnusable(path, f"breaks off after row {read:,}: {error}") from None
            if batch is None:
                return
            read += batch.num_rows
            yield batch


class _Reader:
    """Makes chunks of a file's batches, and keeps what passes from one to the next."""

    def __init__(self, layout: LogLayout, faults: RowFaults, maker: DecisionMaker) -> None:
        self._layout = layout
        self._faults = faults
        self._maker = maker
        self._codes = OfferCodes()
        self._read = 0

    def finish(self, found: LogNotes) -> None:
        """Write into the notes what was found."""
        self._faults.finish()
        self._maker.finish(found)

    def chunk(self, batch: Batch) -> Chunk | None:
        """The usable rows of the next batch; None when there are none."""
        numbers = self._read + 1 + np.arange(batch.num_rows)
        self._read += batch.num_rows
        part = _read(batch, self._layout)
        usable = usable_rows(part.fields, self._faults, numbers)
        if not usable.any():
            return None
        if not usable.all():
            batch, numbers = batch.filter(pa.array(usable)), numbers[usable]
            part = _read(batch, self._layout)
        return self._made(batch, numbers, part)

    def _made(self, batch: Batch, numbers: IntArray, part: _Part) -> Chunk:
        """Make a chunk of rows that are all usable."""
        layout, fields = self._layout, part.fields
        n, sizes = batch.num_rows, fields.sizes
        at = np.zeros(n, dtype="datetime64[us]") if fields.at is None else fields.at
        if layout.flat:
            row = first = chosen = np.arange(n, dtype=np.int64)
            columns = {name: _bounded(name, one) for name, one in fields.numbers.items()}
        else:
            row, first = np.repeat(np.arange(n, dtype=np.int64), sizes), np.cumsum(sizes) - sizes
            assert fields.chosen is not None  # only flat layouts have none
            chosen = first + fields.chosen.astype(np.int64)
            columns = {name: _bounded(name, one.values) for name, one in fields.lists.items()}
        served = None if fields.probs is None else fields.probs.values
        propensity = fields.propensity
        if propensity is None:
            propensity = np.full(n, np.nan) if served is None else served[chosen]
        propensity = np.minimum(propensity, 1.0)
        return Chunk(
            hashes=hashes_of(batch["event_id"]) if layout.event_id else hashes_of(numbers),
            reward=fields.reward,
            propensity=propensity,
            at=at,
            row=row,
            first=first,
            chosen=chosen,
            offer=self._codes.only_chosen(n) if layout.flat else self._codes.of(part.ids, row, first),
            codes=self._codes.codes,
            served=served,
            decisions=() if layout.flat else self._decisions(batch, numbers, part, at, propensity, first),
            columns=columns,
        )

    def _decisions(
        self, batch: Batch, numbers: IntArray, part: _Part, at: TimeArray, propensity: FloatArray, first: IntArray
    ) -> Sequence[Decision]:
        fields, layout, maker = part.fields, self._layout, self._maker
        assert fields.chosen is not None  # only flat layouts have none
        chosen, probs, sizes = fields.chosen, fields.probs, fields.sizes
        context = Objects(batch["context"]) if "context" in batch.schema.names else None
        names = batch["event_id"] if layout.event_id else None

        def decision_at(row: int) -> Decision:
            time: datetime = at[row].item()
            start = int(first[row])
            return maker.make(
                f"row-{numbers[row]}" if names is None else str(names[row].as_py()),
                time.replace(tzinfo=UTC),
                None if context is None else context[row],
                part.ids.raw(row, int(sizes[row])),
                int(chosen[row]),
                float(propensity[row]),
                None if probs is None else probs.values[start : start + int(sizes[row])].tolist(),
            )

        return LazyDecisions(batch.num_rows, decision_at)


@dataclass(frozen=True, slots=True)
class _Part:
    """What was read of a batch: its numbers and the ids of its actions."""

    fields: Fields
    ids: ActionIds


def _read(batch: Batch, layout: LogLayout) -> _Part:
    ids = action_ids(batch["actions"]) if layout.actions else ActionIds()
    return _Part(fields_of(batch, layout, ids.sizes), ids)


def _bounded(name: str, values: FloatArray) -> FloatArray:
    """Probabilities that exceed 1 by less than the tolerance are 1."""
    return np.minimum(values, 1.0) if name in PROBABILITIES else values


def _opened(path: Path) -> Any:
    try:
        return pq.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False)
    except ImportError:
        raise LogUnusable(path, "Parquet needs pyarrow: install offerloop[parquet]") from None
    except (pa.ArrowException, OSError) as error:
        raise LogUnusable(path, f"cannot be read: {error}") from None


def _layout(path: Path, schema: Any, columns: Sequence[str]) -> LogLayout:
    def is_list(kind: Any) -> bool:
        return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))

    def is_numbers(kind: Any) -> bool:
        return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))

    kinds = {field.name: field.type for field in schema}
    lists = {name for name, kind in kinds.items() if is_list(kind)}
    layout = LogLayout.of(path, kinds, lists, columns)
    numbers = [*layout.columns, *(["probs"] if layout.probs else [])]
    plain = ["reward", *(["propensity"] if layout.propensity else []), *([] if layout.flat else ["chosen"])]
    for name in (*numbers, *plain):
        kind = kinds[name].value_type if name in lists and name in numbers else kinds[name]
        if not is_numbers(kind) and not (name == "reward" and pa.types.is_boolean(kind)):
            raise LogUnusable(path, f"column {name!r} holds no numbers but {kinds[name]}")
    return layout


def _read_columns(layout: LogLayout, features: bool) -> list[str]:
    """The columns to read; of the actions only what is asked for."""
    names = ["reward", *layout.columns]
    names += [name for name in ("event_id", "ts", "actions", "propensity", "probs") if getattr(layout, name)]
    if not layout.flat:
        names.append("chosen")
        if layout.context and features:
            names.append("context")
    return names


def _rows_per_batch(file: Any, layout: LogLayout) -> int:
    """How many rows have about MOST_PAIRS entries in their longest lists."""
    metadata = file.metadata
    widest = 1.0
    names = (*layout.columns, "actions", "probs")
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group)
        for place in range(rows.num_columns if rows.num_rows else 0):
            column = rows.column(place)
            if column.path_in_schema.split(".")[0] in names:
                widest = max(widest, column.num_values / rows.num_rows)
    return max(LEAST_ROWS, min(MOST_ROWS, int(MOST_PAIRS / widest)))
