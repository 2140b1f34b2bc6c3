"""A log of Vowpal Wabbit's decision service (dsjson lines) as chunks (docs/LOG_FORMATS.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evaluation.chunks import Chunk, LogNotes
from evaluation.json_log import chunks_of_lines, event_id_of
from evaluation.log_decisions import DecisionMaker
from evaluation.log_layout import LogLayout
from evaluation.log_rows import UNKNOWN_TIME, Row, utc
from evaluation.row_faults import BadRow, check_served, index_of, number_of, numbers_of, propensity_of

LAYOUT = LogLayout(
    event_id=True, ts=True, context=True, actions=True, propensity=True, probs=True, columns=(), flat=False
)


class DsjsonLog:
    """dsjson lines of single decisions as a ``LogSource``; lines that cannot be used are counted, never fatal.

    Rewards are negated costs, the actions stand in the order of ``c._multi``, and the served distribution is ``p``,
    whose entries belong to the actions named by ``a`` (from 1).
    """

    def __init__(self, path: Path) -> None:
        """Take the file."""
        self.path = path
        self.layout = LAYOUT
        self.found = LogNotes(loop=path.name)
        self._dropped = self._timeless = 0

    def chunks(self) -> Iterator[Chunk]:
        """The usable decisions.

        Raises:
            LogUnusable: there are none.
        """
        yield from chunks_of_lines(self.path, self.found, self._row, DecisionMaker(self.found.loop))
        if self._timeless:
            self.found.notes.append(f"{self._timeless:,} decisions have no Timestamp: 1970-01-01 stands for it")
        if self._dropped:
            self.found.notes.append(
                f"{self._dropped:,} decisions have a pdrop above 0: others were dropped at random before them and are "
                "not made up for"
            )

    def _row(self, raw: dict[str, Any], number: int) -> Row:
        if "_label_cost" not in raw:
            raise BadRow("_label_cost", "several slots" if "_outcomes" in raw else "missing")
        if raw.get("_skipLearn") is True:
            raise BadRow("_skipLearn", "set")
        context, actions = _context(raw)
        chosen = _chosen(raw, len(actions))
        propensity = propensity_of(raw.get("_label_probability"))
        served = _served(raw, len(actions))
        if served is not None:
            check_served(served, chosen, propensity)
        at = utc(raw.get("Timestamp"))
        row = Row(
            event_id=event_id_of(raw.get("EventId")),
            at=at or UNKNOWN_TIME,
            chosen=chosen,
            propensity=propensity,
            reward=-number_of(raw["_label_cost"], "_label_cost") + 0.0,
            ids=[str(one["id"]) for one in actions],
            served=served,
            context=context,
            actions=actions,
        )
        self._timeless += at is None
        pdrop = raw.get("pdrop")
        self._dropped += isinstance(pdrop, int | float) and pdrop > 0.0
        return row


def _context(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The shared context and the actions, each with an id and features."""
    c = raw.get("c")
    if not isinstance(c, dict):
        raise BadRow("c", "missing" if c is None else "no object", c)
    multi = c.get("_multi")
    if not isinstance(multi, list) or not multi:
        raise BadRow("c._multi", "missing" if not multi else "no list", multi)
    actions = []
    for index, action in enumerate(multi):
        if not isinstance(action, dict):
            raise BadRow("c._multi", "holds what is no object", action)
        actions.append({"id": _action_id(action, index), "features": _merged(action)})
    return {name: _merged(value) for name, value in c.items() if not name.startswith("_")}, actions


def _action_id(action: Mapping[str, Any], index: int) -> str:
    """The id that clients write into namespace ``i``, the tag, or the index."""
    inner = action.get("i")
    name = inner.get("id") if isinstance(inner, dict) else None
    for one in (action.get("id"), name, action.get("_tag")):
        if isinstance(one, str | int) and not isinstance(one, bool) and one != "":
            return str(one)
    return str(index)


def _merged(value: Any) -> Any:
    """Objects that a list spreads one namespace over, as one; what begins with "_" is no feature."""
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        merged: dict[str, Any] = {}
        for one in value:
            merged |= _merged(one)
        return merged
    if isinstance(value, dict):
        return {name: _merged(one) for name, one in value.items() if not name.startswith("_")}
    return value


def _chosen(raw: Mapping[str, Any], actions: int) -> int:
    """``_labelIndex`` counts from 0, ``_label_Action`` from 1; where both stand they must agree."""
    index, action = raw.get("_labelIndex"), raw.get("_label_Action")
    if index is None and action is None:
        raise BadRow("_labelIndex", "missing")
    chosen = index_of(index if index is not None else _less_one(action), actions)
    if index is not None and action is not None and _less_one(action) != chosen:
        raise BadRow("_label_Action", "not that of _labelIndex", action)
    return chosen


def _less_one(action: Any) -> Any:
    return action - 1 if isinstance(action, int | float) and not isinstance(action, bool) else action


def _served(raw: Mapping[str, Any], actions: int) -> list[float] | None:
    """Probabilities in the order of the actions; None where they or their order are not told."""
    if raw.get("p") is None or raw.get("a") is None:
        return None
    order = raw["a"]
    probabilities = numbers_of(raw["p"], "p", actions)
    if not isinstance(order, list) or len(order) != actions:
        raise BadRow("a", "not one number per action", order)
    served = [math.nan] * actions
    for one, probability in zip(order, probabilities, strict=True):
        served[index_of(_less_one(one), actions)] = probability
    if any(map(math.isnan, served)):
        raise BadRow("a", "names an action twice", order)
    return served
