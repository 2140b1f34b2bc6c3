"""Python's collector of reference cycles, set for processes that make many objects and few cycles."""

from __future__ import annotations

import gc

# Objects made before the young are looked at; how often before the older ones are.
YOUNG, MIDDLE, OLD = 50_000, 20, 50


def spare_what_stays() -> None:
    """Leave what was loaded so far out of every later collection, and collect less often.

    Messages and decisions are trees: they go when the last reference goes. Looking through all loaded modules again and
    again finds nothing and stops the process for milliseconds. To be called once, when a process is up.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
