"""Charts of what a decision costs as things become more; need the extra ``offerloop[charts]``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.fits import exponent
from evaluation.chart_style import LIGHT, Theme, load_altair, save_png, styled, title

if TYPE_CHECKING:
    import altair

WORDS: Mapping[str, tuple[str, str]] = {
    "offers": ("A rank over more offers", "eligible offers of the call"),
    "customers": ("A rank among more customers", "customers in the stores"),
    "open_decisions": ("One more decision while others are open", "open decisions"),
}
SERIES: Mapping[str, str] = {
    "plain": "product's setting",
    "large": "--large_action_space",
    "first": "worker, first time",
    "again": "worker, again",
    "stores_first": "stores, first time",
    "stores_again": "stores, again",
    "learner": "learner",
    "stores": "PostgreSQL and Valkey",
}


def save(name: str, sizes: Sequence[int], costs: Mapping[str, Sequence[float]], path: Path) -> None:
    """Write one chart.

    Args:
        name: which of the three: ``offers``, ``customers`` or ``open_decisions``.
        sizes: how many of them.
        costs: by line, processor microseconds per decision at each size, above 0.
        path: of the PNG.

    Raises:
        ChartsUnavailable: the chart libraries are not installed.
    """
    save_png(chart(name, sizes, costs), path)


def chart(
    name: str, sizes: Sequence[int], costs: Mapping[str, Sequence[float]], theme: Theme = LIGHT
) -> altair.LayerChart:
    """Cost over size, both logarithmic, with the fitted line of each."""
    alt = load_altair()
    heading, size_title = WORDS[name]
    fits = {line: exponent([float(size) for size in sizes], found) for line, found in costs.items()}
    labels = {line: f"{SERIES[line]}: exponent {fit.slope:.2f}" for line, fit in fits.items()}
    points = [
        {"line": labels[line], "size": size, "cost": cost}
        for line, found in costs.items()
        for size, cost in zip(sizes, found, strict=True)
    ]
    fitted = [
        {"line": labels[line], "size": size, "cost": math.exp(fit.intercept + fit.slope * math.log(size))}
        for line, fit in fits.items()
        for size in (sizes[0], sizes[-1])
    ]
    colour = alt.Color(
        "line:N", title=None, scale=alt.Scale(domain=list(labels.values()), range=list(theme.lines[1:])),
        legend=alt.Legend(orient="top", labelLimit=320, columns=2),
    )  # fmt: skip
    x = alt.X(
        "size:Q", title=size_title, scale=alt.Scale(type="log", domain=[sizes[0], sizes[-1]]),
        axis=alt.Axis(format="~s", grid=False, values=list(sizes)),
    )  # fmt: skip
    logs = [math.log10(cost) for found in costs.values() for cost in found]
    domain = [10.0 ** math.floor(min(logs)), 10.0 ** math.ceil(max(logs))]
    y = alt.Y(
        "cost:Q", title="processor time per decision, microseconds", scale=alt.Scale(type="log", domain=domain),
        axis=alt.Axis(format="~s", tickCount=6),
    )  # fmt: skip
    dots = alt.Chart(alt.Data(values=points)).mark_point(size=80, filled=True, opacity=1)
    lines = alt.Chart(alt.Data(values=fitted)).mark_line(strokeWidth=2, strokeDash=[5, 4])
    drawn = alt.layer(lines.encode(x=x, y=y, color=colour), dots.encode(x=x, y=y, color=colour))
    subtitle = "dots are measured, dashed is size to the power of the exponent; both axes are logarithmic"
    return styled(drawn, theme, title(heading, subtitle), height=320)
