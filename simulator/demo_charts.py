"""The demo's chart: hit rates of the served policy beside its references, cumulative and windowed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLOURS = {
    "oracle": "#9aa0a6",
    "served policy": "#0b57d0",
    "highest own affinity": "#e37400",
    "best fixed category": "#188038",
    "uniform": "#a50e0e",
}
WINDOW_WEEKS = 4


def save(series: Mapping[str, NDArray[np.float64]], weeks: NDArray[np.int64], folder: Path) -> list[Path]:
    """Write ``hit_rate.png`` and ``hit_rate.html`` (self-contained).

    Args:
        series: per policy the reward of each decision, shape (decisions,), in the order of time.
        weeks: the week of each decision, shape (decisions,).
        folder: where the files go.
    """
    altair = importlib.import_module("altair")
    rows = _rows(series, weeks)
    colour = altair.Color(
        "policy:N", title=None, scale=altair.Scale(domain=list(COLOURS), range=list(COLOURS.values()))
    )

    def panel(measure: str, title: str) -> Any:
        chosen = [row for row in rows if row["measure"] == measure]
        return (
            altair.Chart(altair.Data(values=chosen), title=title)
            .mark_line(strokeWidth=2)
            .encode(
                x=altair.X("week:Q", title="week of 2017", scale=altair.Scale(domain=[3, 53], nice=False)),
                y=altair.Y("rate:Q", title="share of decisions that hit", axis=altair.Axis(format="%")),
                color=colour,
                tooltip=[altair.Tooltip("policy:N"), altair.Tooltip("week:Q"), altair.Tooltip("rate:Q", format=".2%")],
            )
            .properties(width=560, height=340)
        )

    chart = (
        (panel("cumulative", "Hit rate since the start") | panel("windowed", f"Hit rate over {WINDOW_WEEKS} weeks"))
        .properties(
            title=altair.Title(
                "One of 20 categories offered to each of 600 households a week",
                subtitle="The Complete Journey, published retail data; hit: that category was bought that week",
            )
        )
        .configure_view(stroke=None)
        .configure_axis(gridColor="#eceff1", domainColor="#90a4ae")
        .configure_legend(orient="bottom", labelFontSize=12)
    )
    png, html = folder / "hit_rate.png", folder / "hit_rate.html"
    chart.save(str(png), scale_factor=2)
    chart.save(str(html), inline=True)
    return [png, html]


def _rows(series: Mapping[str, NDArray[np.float64]], weeks: NDArray[np.int64]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    numbers = np.unique(weeks)
    for policy, rewards in series.items():
        sums = np.array([rewards[weeks == week].sum() for week in numbers])
        counts = np.array([(weeks == week).sum() for week in numbers])
        for index, week in enumerate(numbers):
            first = max(0, index - WINDOW_WEEKS + 1)
            for measure, start in (("cumulative", 0), ("windowed", first)):
                rate = sums[start : index + 1].sum() / counts[start : index + 1].sum()
                rows.append({"policy": policy, "week": int(week), "measure": measure, "rate": float(rate)})
    return rows
