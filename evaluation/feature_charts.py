"""Chart of what features are worth; needs the extra ``offerloop[charts]``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation.chart_style import (
    LIGHT,
    Theme,
    dots_with_intervals,
    load_altair,
    mark_at,
    nothing_to_show,
    styled,
    title,
)
from evaluation.feature_report import FeatureReport

if TYPE_CHECKING:
    import altair

MOST_DRAWN = 25


def features_chart(report: FeatureReport, theme: Theme = LIGHT) -> altair.LayerChart:
    """Value lost without each namespace or feature, the largest loss first; faint where it may not be believed."""
    alt = load_altair()
    subtitle = [
        "value with it minus value without; right of the dashed line it helps; faint: not enough data",
        f"{report.level:.0%} intervals, widened for the number of names; what two both tell is lost with neither",
    ]
    heading = title("What is lost without a feature", subtitle)
    drawn = sorted(report.worth, key=lambda one: (-one.lost.value, one.name))[:MOST_DRAWN]
    if not drawn:
        return nothing_to_show("no feature was left out", theme, heading)
    rows = [
        {"feature": one.name, "value": one.lost.value, "low": one.lost.low, "high": one.lost.high,
         "is_faint": bool(one.doubts) or not one.lost.reliable}
        for one in drawn
    ]  # fmt: skip
    names = [one.name for one in drawn]
    dots = dots_with_intervals(rows, "feature", names, theme, "reward per decision lost", axis_format="+~g", faint=True)
    return styled(alt.layer(mark_at(0.0, theme), *dots), theme, heading, height=max(90, 28 * len(rows)))
