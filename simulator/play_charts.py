"""Charts of a simulated run: value over time, regret, and what weather and season were worth."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from simulator.assumed import ASSUMED
from simulator.scores import Series, window_of, windowed
from simulator.shoppers import Floats

COLOURS = {
    "optimal": "#9aa0a6",
    "served": "#0b57d0",
    "served without weather and season": "#8e24aa",
    "campaign manager": "#e37400",
    "best fixed offer": "#188038",
    "uniform": "#a50e0e",
}
POINTS = 240
HEIGHT = 300
MOST_TICKS = 16
DAY_MILLISECONDS = 86400_000.0


@dataclass(frozen=True, slots=True)
class Look:
    """What the panels share: the colours of policies, and the first and last moment in milliseconds."""

    colour: Any
    first: float
    last: float


def save(series: Series, folder: Path, *, unit: str, shift_day: float | None, start: datetime) -> list[Path]:
    """Write ``simulate.png`` and ``simulate.html`` (self-contained).

    Args:
        series: The run.
        folder: Where the files go.
        unit: What values are: "true click probability" or "expected money".
        shift_day: Day of the sudden shift since ``start``, which is marked.
        start: The market's first day.

    Raises:
        ModuleNotFoundError: the extra ``charts`` is not installed.
    """
    altair = importlib.import_module("altair")
    importlib.import_module("vl_convert")  # altair imports it only when it saves
    window = window_of(series.served.size)
    shift = None if shift_day is None else (start.timestamp() + shift_day * 86400.0) * 1000.0
    lines = series.lines()
    kept = [name for name in COLOURS if name in lines]
    scale = altair.Scale(domain=kept, range=[COLOURS[name] for name in kept])
    colour = altair.Color("policy:N", title=None, scale=scale)
    look = Look(colour, series.at[0].timestamp() * 1000.0, series.at[-1].timestamp() * 1000.0)
    value = _rows({name: windowed(lines[name], window) for name in kept}, series.at[window - 1 :])
    regret = _rows(
        {name: np.cumsum(series.optimal - lines[name]) for name in kept if name != "optimal"}, series.at
    )  # fmt: skip
    panels = [
        _panel(altair, value, f"Value per decision, over the last {window:,}", unit, look, shift),
        _panel(altair, regret, "Regret: expected reward lost since the start", "lost against optimal", look, shift),
    ]
    if series.without is not None:
        gained = {"served": np.cumsum(series.served - series.without)}
        title = "Seeing weather and season: expected reward gained since the start"
        panels.append(_panel(altair, _rows(gained, series.at), title, "gained", look, shift))
    chart = (
        altair.vconcat(*panels)
        .properties(
            padding=12,
            title=altair.Title(
                "A simulated market played against a running service",
                subtitle=[f"{series.served.size:,} decisions; redemptions calibrated to The Complete Journey",
                          f"assumed, not measured: {', '.join(ASSUMED)}"],
                anchor="start",
            ),
        )
        .configure_view(stroke=None)
        .configure_axis(gridColor="#eceff1", domainColor="#90a4ae")
        .configure_legend(orient="top", labelFontSize=12, labelLimit=320)
    )  # fmt: skip
    png, html = folder / "simulate.png", folder / "simulate.html"
    chart.save(str(png), scale_factor=2)
    chart.save(str(html), inline=True)
    return [png, html]


def _panel(
    altair: Any, rows: list[dict[str, Any]], title: str, unit: str, look: Look, shift: float | None
) -> Any:  # fmt: skip
    days = max(1, ceil((look.last - look.first) / DAY_MILLISECONDS / MOST_TICKS))
    scale = altair.Scale(type="utc", domain=[look.first, look.last], nice=False)
    axis = altair.Axis(grid=False, format="%-d %b", tickCount={"interval": "day", "step": days}, labelOverlap=True)
    lines = (
        altair.Chart(altair.Data(values=rows), title=altair.Title(title, anchor="start", fontSize=13))
        .mark_line(strokeWidth=2)
        .encode(
            x=altair.X("at:T", title="simulated date", axis=axis, scale=scale),
            y=altair.Y("value:Q", title=unit, scale=altair.Scale(zero=False)),
            color=look.colour,
            tooltip=["policy:N", "at:T", altair.Tooltip("value:Q", format=".4f")],
        )
        .properties(width=880, height=HEIGHT)
    )
    if shift is None:
        return lines
    mark = altair.Chart(altair.Data(values=[{"at": shift, "what": "tastes shift"}]))
    rule = mark.mark_rule(strokeDash=[4, 4], color="#5f6368").encode(x="at:T")
    label = mark.mark_text(align="left", dx=4, y=10, color="#5f6368").encode(x="at:T", text="what:N")
    return lines + rule + label


def _rows(lines: dict[str, Floats], at: tuple[datetime, ...]) -> list[dict[str, Any]]:
    """At most POINTS rows per line, the last one among them; moments as milliseconds."""
    size = len(at)
    picked = np.unique(np.linspace(0, size - 1, min(size, POINTS)).astype(int))
    return [
        {"policy": name, "at": at[index].astimezone(UTC).timestamp() * 1000.0, "value": float(values[index])}
        for name, values in lines.items()
        for index in picked
    ]
