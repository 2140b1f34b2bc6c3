"""pyarrow, imported when a Parquet file is opened: it is large, and comes with the extra ``offerloop[parquet]``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any


class _Imported:
    """A module that is imported when something of it is used."""

    def __init__(self, load: Callable[[], ModuleType]) -> None:
        self._load = load

    def __getattr__(self, name: str) -> Any:
        return getattr(self._load(), name)


# Any: pyarrow comes without types.
pa: Any = _Imported(lambda: importlib.import_module("pyarrow"))
pc: Any = _Imported(lambda: importlib.import_module("pyarrow.compute"))
pq: Any = _Imported(lambda: importlib.import_module("pyarrow.parquet"))
