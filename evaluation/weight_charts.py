"""Charts of weights and of calibration by offer; need the extra ``offerloop[charts]``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evaluation.chart_style import LIGHT, Theme, load_altair, nothing_to_show, styled, title
from evaluation.group_calibration import GroupCheck
from evaluation.weights import WeightDiagnostics

if TYPE_CHECKING:
    import altair

MOST_POLICIES = 4
MOST_OFFERS = 30
LEAST_EDGE = 1e-4
_WIDTH = 400


def weights_chart(weights: Mapping[str, WeightDiagnostics], theme: Theme = LIGHT) -> altair.LayerChart:
    """Histogram of each policy's weights on a logarithmic scale, beside where the estimate's variance comes from.

    Args:
        weights: by policy; the first four that have any weight are drawn.
        theme: colours.
    """
    alt = load_altair()
    heading = title(
        "Weights",
        "filled: share of the decisions; outlined: share of the sum of squares, where an estimate's spread comes from; "
        "dashed: weight 1",
    )
    drawn = [(name, one) for name, one in weights.items() if one.largest > 0.0][:MOST_POLICIES]
    if not drawn:
        return nothing_to_show("no policy has any weight on this log", theme, heading)
    lows = [bar.low for _, one in drawn for bar in one.bars if bar.low > 0.0] or [LEAST_EDGE]
    # At least a decade to either side of 1, whole decades.
    domain = [10.0 ** math.floor(math.log10(min(*lows, 0.1))), 10.0 ** math.ceil(math.log10(max(*lows, 9.0)))]
    panels = [_panel(alt, name, one, domain, theme) for name, one in drawn]
    rows = [alt.hconcat(*panels[start : start + 2], spacing=40) for start in range(0, len(panels), 2)]
    chart = alt.vconcat(*rows, spacing=24)
    return styled(chart, theme, heading, height=None)


def _panel(alt: Any, name: str, weights: WeightDiagnostics, domain: Sequence[float], theme: Theme) -> Any:
    total = sum(bar.count for bar in weights.bars)
    rows = [
        {"low": max(bar.low, domain[0]), "high": min(bar.high, domain[1]), "decisions": bar.count / total,
         "square": bar.square_share, "middle": math.sqrt(max(bar.low, domain[0]) * min(bar.high, domain[1]))}
        for bar in weights.bars
        if bar.high > domain[0]
    ]  # fmt: skip
    zero = sum(bar.count for bar in weights.bars if bar.high <= domain[0]) / total
    scale = alt.Scale(type="log", domain=list(domain), nice=False)
    axis = alt.Axis(format="~g", grid=False, values=_decades(domain))
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("low:Q", title="weight", scale=scale, axis=axis), x2="high:Q", y2=alt.Y2Datum(0.0)
    )
    y_axis = alt.Axis(format="~%", tickCount=4)
    bars = base.mark_rect(color=theme.accent, opacity=0.75).encode(y=alt.Y("decisions:Q", title="share", axis=y_axis))
    squares = base.mark_rect(fillOpacity=0, stroke=theme.lines[2], strokeWidth=2).encode(y="square:Q")
    one = (
        alt.Chart(alt.Data(values=[{"at": 1.0}]))
        .mark_rule(strokeDash=[4, 4], color=theme.ink, opacity=0.7)
        .encode(x=alt.X("at:Q", scale=scale))
    )
    words = [
        f"largest {weights.largest:,.3g}, effective sample {weights.effective_sample_size:,.0f} of {weights.n:,}",
        f"weight 0 in {zero:.1%}; the heaviest 1% hold {weights.tail_square_share:.0%} of the sum of squares",
    ]
    heading = {**title(name, words), "fontSize": 13, "offset": 6}
    return alt.layer(one, bars, squares).properties(width=_WIDTH, height=150, title=heading)


def _decades(domain: Sequence[float]) -> list[float]:
    low, high = (round(math.log10(one)) for one in domain)
    return [10.0**power for power in range(low, high + 1)]


def offers_chart(offers: Sequence[GroupCheck], theme: Theme = LIGHT) -> altair.LayerChart:
    """How often each offer was served, over how often its propensities say; needs the chosen one's alone.

    Args:
        offers: checks by offer (``LogFindings.offers``); the most served are drawn.
        theme: colours.
    """
    alt = load_altair()
    heading = title(
        "Calibration by offer",
        "sum of 1/propensity where served, over the decisions where eligible: 1 when propensities are right; "
        "orange: more than chance",
    )
    drawn = [one for one in offers if math.isfinite(one.ratio)][:MOST_OFFERS]
    if not drawn:
        return nothing_to_show("no offer was served", theme, heading)
    rows = [
        {"offer": one.name, "ratio": one.ratio, "served": one.observed,
         "off": one.finding not in ("right", "not tested")}
        for one in drawn
    ]  # fmt: skip
    colour = alt.Color(
        "off:N", scale=alt.Scale(domain=[False, True], range=[theme.accent, theme.lines[2]]), legend=None
    )
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("offer:N", sort=[one.name for one in drawn], title=None, axis=alt.Axis(grid=False, labelLimit=260))
    )
    stems = base.mark_rule(strokeWidth=2, opacity=0.5).encode(
        x=alt.X("ratio:Q", title="served / expected", axis=alt.Axis(format="~g", tickCount=7)),
        x2=alt.X2Datum(1.0),
        color=colour,
    )
    dots = base.mark_point(size=80, filled=True, opacity=1).encode(
        x=alt.X("ratio:Q", scale=alt.Scale(zero=False)), color=colour,
        tooltip=["offer:N", alt.Tooltip("ratio:Q", format=".3g"), alt.Tooltip("served:Q", format=",")],
    )  # fmt: skip
    middle = (
        alt.Chart(alt.Data(values=[{"at": 1.0}]))
        .mark_rule(strokeDash=[4, 4], color=theme.ink, opacity=0.7)
        .encode(x="at:Q")
    )
    return styled(alt.layer(middle, stems, dots), theme, heading, height=max(90, 22 * len(rows)))
