"""Charts of an evaluation, as PNG, SVG or self-contained HTML; needs the extra ``offerloop[charts]``."""

from __future__ import annotations

import importlib
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.evaluate import Evaluation

if TYPE_CHECKING:
    import altair

MOST_POLICIES = 12
MOST_LINES = 5
WIDTH = 880


class ChartsUnavailable(RuntimeError):
    """The chart libraries are not installed."""

    def __init__(self) -> None:
        """Say which extra brings them."""
        super().__init__("charts need altair and vl-convert: install offerloop[charts]")


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a chart; the lines' colours are safe for colour-blind readers (Okabe and Ito 2008)."""

    background: str
    ink: str
    faint: str
    accent: str
    lines: tuple[str, ...]


LIGHT = Theme("#ffffff", "#333a45", "#dfe3e8", "#0b62a4", ("#333a45", "#0072b2", "#d55e00", "#009e73", "#cc79a7"))
DARK = Theme("#171b21", "#d7dce3", "#333a45", "#6db3f2", ("#d7dce3", "#56b4e9", "#e69f00", "#00c08b", "#e79fc4"))


def _altair() -> Any:
    try:
        altair = importlib.import_module("altair")
        importlib.import_module("vl_convert")  # altair itself imports it only when it saves
    except ImportError as missing:
        raise ChartsUnavailable from missing
    altair.data_transformers.disable_max_rows()
    return altair


def shown_policies(evaluation: Evaluation, most: int) -> list[str]:
    """Names to draw: the baseline, then those with the highest values among policies that were not refused."""
    rest = [one for one in evaluation.policies if one.name != evaluation.against]
    rest.sort(key=lambda one: (one.gate.verdict == "refused", -one.estimates["dr"].value))
    return [evaluation.against, *(one.name for one in rest)][:most]


def values_chart(evaluation: Evaluation, theme: Theme = LIGHT) -> altair.LayerChart:
    """Doubly robust value with its interval per policy; refused policies are drawn faint."""
    alt = _altair()
    names = shown_policies(evaluation, MOST_POLICIES)
    rows = []
    for name in names:
        policy = evaluation.policy(name)
        one = policy.estimates["dr"]
        if math.isfinite(one.low) and math.isfinite(one.high):
            rows.append(
                {
                    "policy": name,
                    "value": one.value,
                    "low": one.low,
                    "high": one.high,
                    "verdict": "refused" if policy.gate.verdict == "refused" else "evaluated",
                }
            )
    opacity = alt.Opacity("verdict:N", scale=alt.Scale(domain=["evaluated", "refused"], range=[1.0, 0.3]), legend=None)
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("policy:N", sort=names, title=None, axis=alt.Axis(grid=False, labelLimit=220)), opacity=opacity
    )
    interval = base.mark_rule(strokeWidth=3, color=theme.accent).encode(
        x=alt.X(
            "low:Q",
            title="mean reward per decision",
            scale=alt.Scale(zero=False, nice=True),
            axis=alt.Axis(format="~g", tickCount=7),
        ),
        x2="high:Q",
    )
    point = base.mark_point(size=90, filled=True, color=theme.accent).encode(
        x="value:Q",
        tooltip=["policy:N", *(alt.Tooltip(f"{one}:Q", format=".4g") for one in ("value", "low", "high")), "verdict:N"],
    )
    served = (
        alt.Chart(alt.Data(values=[{"served": evaluation.mean_reward}]))
        .mark_rule(strokeDash=[4, 4], color=theme.ink, opacity=0.7)
        .encode(x="served:Q")
    )
    title = _title(
        f"Value of each policy, {evaluation.level:.0%} intervals",
        "doubly robust; dashed: mean reward of what was served; faint: refused",
    )
    return _styled(alt.layer(served, interval, point), theme, title, height=max(90, 30 * len(rows)))


def cumulative_chart(evaluation: Evaluation, theme: Theme = LIGHT) -> altair.LayerChart:
    """Cumulative IPS value over the log with a band of one standard error, which is no interval to act on."""
    alt = _altair()
    names = [
        name
        for name in shown_policies(evaluation, len(evaluation.policies))
        if name == evaluation.against or evaluation.policy(name).gate.verdict != "refused"
    ][:MOST_LINES]
    # The first few hundred decisions swing widely and would squash the scale.
    points = [point for point in evaluation.series if point.n >= evaluation.n / 50] or list(evaluation.series)
    rows = [
        {
            "n": point.n,
            "policy": name,
            "value": point.values[name][0],
            "low": point.values[name][0] - point.values[name][1],
            "high": point.values[name][0] + point.values[name][1],
        }
        for point in points
        for name in names
    ]
    colour = alt.Color(
        "policy:N",
        scale=alt.Scale(domain=names, range=list(theme.lines[: len(names)])),
        legend=alt.Legend(title=None, orient="top", labelLimit=180, columns=5, symbolType="stroke", symbolOpacity=1),
    )
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("n:Q", title="decisions", axis=alt.Axis(format=",.0f", tickCount=8, grid=False)), color=colour
    )
    band = base.mark_area(opacity=0.14).encode(
        y=alt.Y(
            "low:Q",
            title="mean reward so far (IPS)",
            scale=alt.Scale(zero=False),
            axis=alt.Axis(format="~g", tickCount=6),
        ),
        y2="high:Q",
    )
    line = base.mark_line(strokeWidth=2).encode(y="value:Q")
    title = _title("Value over time", "cumulative inverse propensity score; band: one standard error")
    return _styled(alt.layer(band, line), theme, title, height=260)


def calibration_chart(evaluation: Evaluation, theme: Theme = LIGHT) -> altair.LayerChart:
    """Served frequency against logged probability by bucket; on the diagonal, propensities are right."""
    alt = _altair()
    rows = []
    for bucket in evaluation.calibration:
        served = bucket.observed / bucket.actions
        half = 1.96 * math.sqrt(bucket.variance) / bucket.actions
        rows.append(
            {
                "logged": bucket.expected / bucket.actions,
                "served": served,
                "low": max(0.0, served - half),
                "high": min(1.0, served + half),
                "actions": bucket.actions,
            }
        )
    axis = alt.Axis(format="%", tickCount=6)
    scale = alt.Scale(domain=[0, 1])
    diagonal = (
        alt.Chart(alt.Data(values=[{"logged": 0, "served": 0}, {"logged": 1, "served": 1}]))
        .mark_line(strokeDash=[4, 4], color=theme.ink, opacity=0.7)
        .encode(x="logged:Q", y="served:Q")
    )
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("logged:Q", title="logged probability", axis=axis, scale=scale)
    )
    bars = base.mark_rule(strokeWidth=2, color=theme.accent).encode(
        y=alt.Y("low:Q", title="served frequency", axis=axis, scale=scale), y2="high:Q"
    )
    dots = base.mark_point(size=70, filled=True, color=theme.accent, opacity=1).encode(
        y="served:Q",
        tooltip=[
            alt.Tooltip("logged:Q", format=".2%"),
            alt.Tooltip("served:Q", format=".2%"),
            alt.Tooltip("actions:Q", format=","),
        ],
    )
    title = _title("Propensity calibration", "how often offers were served against the probability that was logged")
    return _styled(alt.layer(diagonal, bars, dots), theme, title, width=320, height=320)


CHARTS = {"values": values_chart, "cumulative": cumulative_chart, "calibration": calibration_chart}


def to_svg(chart: altair.LayerChart) -> str:
    """Render a chart as SVG text."""
    buffer = io.StringIO()
    chart.save(buffer, format="svg")
    return buffer.getvalue()


def save_png(chart: altair.LayerChart, path: Path) -> None:
    """Write a chart as PNG at twice the screen's resolution."""
    chart.save(str(path), format="png", scale_factor=2)


def save_html(chart: altair.LayerChart, path: Path) -> None:
    """Write an interactive chart as one HTML file that opens without a network."""
    chart.save(str(path), format="html", inline=True)


def _title(text: str, subtitle: str) -> dict[str, object]:
    return {"text": text, "subtitle": subtitle, "anchor": "start", "offset": 12}


def _styled(
    chart: Any, theme: Theme, title: dict[str, object], *, height: int, width: int = WIDTH
) -> altair.LayerChart:
    axis = {
        "labelColor": theme.ink,
        "titleColor": theme.ink,
        "gridColor": theme.faint,
        "domainColor": theme.faint,
        "tickColor": theme.faint,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "labelFlush": False,
    }
    styled: altair.LayerChart = (
        chart.properties(title=title, width=width, height=height, background=theme.background, padding=12)
        .configure(font="system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif")
        .configure_view(stroke=None)
        .configure_axis(**axis)
        .configure_legend(labelColor=theme.ink, labelFontSize=12, symbolStrokeWidth=3)
        .configure_title(
            color=theme.ink,
            subtitleColor=theme.ink,
            fontSize=15,
            fontWeight=600,
            subtitleFontSize=12,
            subtitlePadding=5,
        )
    )
    return styled
