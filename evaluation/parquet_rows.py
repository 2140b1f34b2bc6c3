"""Record batches of a Parquet log as arrays: what is usable, and what is wrong with the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from evaluation.arrays import FloatArray, IntArray
from evaluation.arrow import pa, pc
from evaluation.chunks import TimeArray
from evaluation.log_layout import PROBABILITIES, LogLayout
from evaluation.log_rows import utc
from evaluation.row_faults import PROPENSITY_RANGE, SERVED_TOLERANCE, TOLERANCE, BadRow, RowFaults

BoolArray: TypeAlias = npt.NDArray[np.bool_]
# What pyarrow gives: it comes without types.
Array: TypeAlias = Any
Batch: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class Lists:
    """A column of lists: the length of each row's list, -1 for none, (n,); and all their entries in a row, (m,)."""

    lengths: IntArray
    values: FloatArray


@dataclass(frozen=True, slots=True)
class Fields:
    """The numbers of n rows, unchecked.

    Attributes:
        named: whether the row has an id, (n,); None when no row has.
        at: NaT where it is missing, (n,); None when the log has no times.
        reward: nan where it is missing, (n,).
        propensity: nan where it is missing; None when the log has none, (n,).
        sizes: number of actions, -1 where it is not known, (n,).
        chosen: nan where it is missing, (n,); None when the log tells of the chosen actions alone.
        probs: the served distributions.
        lists: further columns with a number per action.
        numbers: further columns with a number per row, (n,).
    """

    named: BoolArray | None
    at: TimeArray | None
    reward: FloatArray
    propensity: FloatArray | None
    sizes: IntArray
    chosen: FloatArray | None
    probs: Lists | None
    lists: dict[str, Lists]
    numbers: dict[str, FloatArray]


def fields_of(batch: Batch, layout: LogLayout, sizes: IntArray | None) -> Fields:
    """Read the numbers of a batch; ``sizes`` as the actions tell them, if they do."""
    n = batch.num_rows
    lists = {} if layout.flat else {name: lists_of(batch[name]) for name in layout.columns}
    probs = lists_of(batch["probs"]) if layout.probs else None
    if sizes is None:
        told = [*([probs] if probs else []), *lists.values()]
        sizes = np.ones(n, dtype=np.int64) if layout.flat else told[0].lengths
    return Fields(
        named=batch["event_id"].is_valid().to_numpy(zero_copy_only=False) if layout.event_id else None,
        at=times_of(batch["ts"]) if layout.ts else None,
        reward=numbers_of(batch["reward"]),
        propensity=numbers_of(batch["propensity"]) if layout.propensity else None,
        sizes=sizes,
        chosen=None if layout.flat else numbers_of(batch["chosen"]),
        probs=probs,
        lists=lists,
        numbers={name: numbers_of(batch[name]) for name in layout.columns} if layout.flat else {},
    )


def numbers_of(array: Array) -> FloatArray:
    """Any column of numbers as floats, (n,); what is missing is nan."""
    if not pa.types.is_float64(array.type):
        array = array.cast(pa.float64(), safe=False)
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.float64)


def times_of(array: Array) -> TimeArray:
    """UTC times, (n,), of timestamps, ISO 8601 text or seconds since 1970; NaT for no time."""
    kind = array.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        same = pa.timestamp("us", getattr(kind, "tz", None))
        return np.asarray(array.cast(same, safe=False).to_numpy(zero_copy_only=False), dtype="datetime64[us]")
    return np.array([utc(one) for one in array.to_pylist()], dtype="datetime64[us]")


def lists_of(array: Array) -> Lists:
    """A column of lists of numbers."""
    lengths = pc.fill_null(pc.list_value_length(array), -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return Lists(lengths, numbers_of(array.flatten()))


@dataclass(frozen=True, slots=True)
class Check:
    """What fails, (n,), and why; ``values`` (n,) are shown to the reader."""

    failing: BoolArray
    field: str
    why: str
    values: FloatArray | IntArray | None = None
    impossible: bool = False

    def fault(self, row: int) -> BadRow:
        """The fault of a row that fails."""
        value = None if self.values is None else self.values[row].item()
        return BadRow(self.field, self.why, value, impossible=self.impossible)


def usable_rows(fields: Fields, faults: RowFaults, numbers: IntArray) -> BoolArray:
    """Which rows can be used, (n,); the others are counted, each for the first thing that is wrong with it.

    ``numbers`` are those of the rows in the file, (n,).
    """
    usable = np.ones(len(fields.reward), dtype=np.bool_)
    for check in _checks(fields):
        if not check.failing.any():
            continue
        failing = check.failing & usable
        count = int(np.count_nonzero(failing))
        if count:
            row = int(np.argmax(failing))
            faults.add_many(check.fault(row), count, int(numbers[row]))
            usable &= ~failing
    return usable


def _checks(fields: Fields) -> Iterator[Check]:
    """In order, as later checks rest on earlier ones."""
    if fields.named is not None:
        yield Check(~fields.named, "event_id", "missing")
    if fields.at is not None:
        yield Check(np.isnat(fields.at), "ts", "missing or no time")
    yield from _not_finite("reward", fields.reward)
    propensity = fields.propensity
    if propensity is not None:
        yield from _not_finite("propensity", propensity)
        outside = ~((propensity > 0.0) & (propensity <= 1.0 + TOLERANCE))
        yield Check(outside, "propensity", PROPENSITY_RANGE, propensity, impossible=True)
    for name, numbers in fields.numbers.items():
        yield from _not_finite(name, numbers)
        if name in PROBABILITIES:
            yield Check(numbers < 0.0, name, "negative", numbers)
            yield Check(numbers > 1.0 + TOLERANCE, name, "more than 1", numbers)
    if fields.chosen is not None:
        yield from _pair_checks(fields, fields.chosen)


def _pair_checks(fields: Fields, chosen: FloatArray) -> Iterator[Check]:
    sizes = fields.sizes
    yield Check(sizes < 0, "actions", "missing")
    yield Check(sizes == 0, "actions", "none")
    yield Check(np.isnan(chosen), "chosen", "missing")
    yield Check(chosen != np.floor(chosen), "chosen", "not a whole number", chosen)
    yield Check(~((chosen >= 0.0) & (chosen < sizes)), "chosen", "not among the actions", chosen)
    if fields.probs is not None:
        yield from _list_checks("probs", fields.probs, sizes)
        yield from _served_checks(fields, fields.probs, chosen)
    for name, lists in fields.lists.items():
        yield from _list_checks(name, lists, sizes)
        if name in PROBABILITIES:
            sums = _sums(lists)
            yield Check(_any(lists, lists.values < 0.0), name, "negative")
            yield Check(sums > 1.0 + TOLERANCE, name, "more than 1", sums)


def _list_checks(name: str, lists: Lists, sizes: IntArray) -> Iterator[Check]:
    yield Check(lists.lengths < 0, name, "missing")
    yield Check(lists.lengths != sizes, name, "not one number per action", lists.lengths)
    yield Check(_any(lists, ~np.isfinite(lists.values)), name, "missing or not finite")


def _served_checks(fields: Fields, probs: Lists, chosen: FloatArray) -> Iterator[Check]:
    sums, propensity = _sums(probs), fields.propensity
    wrong = _any(probs, probs.values < 0.0) | ~(np.abs(sums - 1.0) <= SERVED_TOLERANCE)
    yield Check(wrong, "probs", "not a distribution", sums, impossible=True)
    if len(probs.values):
        # Rows that failed a check before may have no such place; any other will do for them.
        place = _starts(probs) + np.nan_to_num(chosen, posinf=0.0, neginf=0.0).astype(np.int64)
        of_chosen = probs.values[np.clip(place, 0, len(probs.values) - 1)]
        if propensity is None:
            yield Check(of_chosen <= 0.0, "propensity", PROPENSITY_RANGE, of_chosen, impossible=True)
            return
        apart = np.abs(of_chosen - propensity) > SERVED_TOLERANCE * propensity + TOLERANCE
        yield Check(apart, "propensity", "not that of probs", propensity, impossible=True)


def _not_finite(name: str, numbers: FloatArray) -> Iterator[Check]:
    if not np.isfinite(numbers).all():
        yield Check(np.isnan(numbers), name, "missing or not a number")
        yield Check(np.isinf(numbers), name, "not finite", numbers)


def _starts(lists: Lists) -> IntArray:
    lengths = np.maximum(lists.lengths, 0)
    return np.asarray(np.cumsum(lengths) - lengths)


def _sums(lists: Lists) -> FloatArray:
    """Sum of each row's list, (n,)."""
    lengths = np.maximum(lists.lengths, 0)
    row = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    return np.bincount(row, weights=lists.values, minlength=len(lengths)).astype(np.float64)


def _any(lists: Lists, holds: BoolArray) -> BoolArray:
    """Whether it holds for any entry of each row's list, (n,)."""
    if not holds.any():
        return np.zeros(len(lists.lengths), dtype=np.bool_)
    return _sums(Lists(lists.lengths, holds.astype(np.float64))) > 0.0
