"""Any log file as a ``LogSource``: Parquet, dsjson or JSON lines, by what it begins with (docs/LOG_FORMATS.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from evaluation.dsjson_log import DsjsonLog
from evaluation.estimated_propensities import EstimatedPropensities
from evaluation.json_log import JsonLog, first_objects
from evaluation.log_layout import FileLog
from evaluation.parquet_log import ParquetLog
from evaluation.row_faults import LogUnusable

PARQUET_MAGIC = b"PAR1"


def open_log(path: Path, columns: Sequence[str] = (), *, features: bool = True) -> FileLog:
    """Open a log file; what it is, its first bytes say.

    Where propensities were not logged they are estimated, which takes a second pass over the file.

    Args:
        path: the file.
        columns: columns of numbers that it must have besides the usual ones (``target_probs``, ``q_hat``,
            ``target_prob``, ``q_chosen``, ``q_target``), which are read wherever they are.
        features: whether contexts and features of actions are read; without them, decisions hold ids only.

    Raises:
        LogUnusable: the file cannot be read, or is no log.
    """
    opener = _opener(path, columns, features)
    log = opener()
    return EstimatedPropensities(opener) if log.layout.estimated else log


def _opener(path: Path, columns: Sequence[str], features: bool) -> Callable[[], FileLog]:
    if _magic(path) == PARQUET_MAGIC:
        return lambda: ParquetLog(path, columns, features=features)
    if any(_is_dsjson(one) for one in first_objects(path)):
        if columns:
            raise LogUnusable(path, f"no column {columns[0]!r}: it is dsjson, which has none")
        return lambda: DsjsonLog(path)
    return lambda: JsonLog(path, columns)


def _magic(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(PARQUET_MAGIC))
    except OSError as error:
        raise LogUnusable(path, f"cannot be read: {error.strerror or error}") from None


def _is_dsjson(raw: dict[str, object]) -> bool:
    return "_label_cost" in raw or "_outcomes" in raw or (isinstance(raw.get("c"), dict) and "a" in raw)
