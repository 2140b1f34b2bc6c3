"""What all charts share: colours, the libraries, dots with intervals, and how they are saved."""

from __future__ import annotations

import importlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair

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


def load_altair() -> Any:
    """The chart library.

    Raises:
        ChartsUnavailable: when it, or what renders its charts, is not installed.
    """
    try:
        altair = importlib.import_module("altair")
        importlib.import_module("vl_convert")  # altair itself imports it only when it saves
    except ImportError as missing:
        raise ChartsUnavailable from missing
    altair.data_transformers.disable_max_rows()
    return altair


def title(text: str, subtitle: str | Sequence[str]) -> dict[str, object]:
    """A chart's title; the subtitle may have several lines."""
    lines = subtitle if isinstance(subtitle, str) else list(subtitle)
    return {"text": text, "subtitle": lines, "anchor": "start", "offset": 12}


def dots_with_intervals(
    rows: Sequence[Mapping[str, object]],
    label: str,
    order: Sequence[str],
    theme: Theme,
    axis_title: str,
    *,
    axis_format: str = "~g",
    faint: bool = False,
) -> list[Any]:
    """Layers of one dot and interval a row, the labels in a column.

    Args:
        rows: each with ``label``, ``value``, ``low`` and ``high``, and with ``faint`` also ``is_faint``.
        label: name of the field that labels a row.
        order: of the labels, from above.
        theme: colours.
        axis_title: what the numbers are.
        axis_format: of the numbers.
        faint: whether some rows are drawn faintly.
    """
    alt = load_altair()
    base = alt.Chart(alt.Data(values=list(rows))).encode(
        y=alt.Y(f"{label}:N", sort=list(order), title=None, axis=alt.Axis(grid=False, labelLimit=260))
    )
    if faint:
        scale = alt.Scale(domain=[False, True], range=[1.0, 0.3])
        base = base.encode(opacity=alt.Opacity("is_faint:N", scale=scale, legend=None))
    x_axis = alt.Axis(format=axis_format, tickCount=7)
    interval = base.mark_rule(strokeWidth=3, color=theme.accent).encode(
        x=alt.X("low:Q", title=axis_title, scale=alt.Scale(zero=False, nice=True), axis=x_axis), x2="high:Q"
    )
    numbers = [alt.Tooltip(f"{one}:Q", format=".4g") for one in ("value", "low", "high")]
    point = base.mark_point(size=90, filled=True, color=theme.accent, **({} if faint else {"opacity": 1})).encode(
        x="value:Q", tooltip=[f"{label}:N", *numbers]
    )
    return [interval, point]


def mark_at(value: float, theme: Theme) -> Any:
    """A dashed line at one number of the x axis, drawn beneath."""
    alt = load_altair()
    return (
        alt.Chart(alt.Data(values=[{"at": value}]))
        .mark_rule(strokeDash=[4, 4], color=theme.ink, opacity=0.7)
        .encode(x="at:Q")
    )


def nothing_to_show(words: str, theme: Theme, heading: dict[str, object]) -> altair.LayerChart:
    """A chart that says in words why there is nothing to draw."""
    alt = load_altair()
    text = alt.Chart(alt.Data(values=[{"words": words}])).mark_text(color=theme.ink, fontSize=13).encode(text="words:N")
    return styled(alt.layer(text), theme, heading, height=60)


def styled(chart: Any, theme: Theme, heading: dict[str, object], *, height: int | None, width: int = WIDTH) -> Any:
    """A chart with its title, colours and size in pixels; without a height its panels keep their own sizes."""
    size = {} if height is None else {"width": width, "height": height}
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
    return (
        chart.properties(title=heading, background=theme.background, padding=12, **size)
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
