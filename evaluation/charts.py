"""Charts of an evaluation, as PNG, SVG or self-contained HTML; needs the extra ``offerloop[charts]``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from evaluation.chart_style import (
    DARK,
    LIGHT,
    WIDTH,
    ChartsUnavailable,
    Theme,
    dots_with_intervals,
    load_altair,
    mark_at,
    save_html,
    save_png,
    styled,
    title,
    to_svg,
)
from evaluation.evaluate import Evaluation
from evaluation.feature_charts import features_chart
from evaluation.holdout_charts import reconciliation_chart
from evaluation.slice_charts import slices_chart
from evaluation.slices import SlicedValues
from evaluation.weight_charts import offers_chart, weights_chart

if TYPE_CHECKING:
    import altair

__all__ = [
    "CHARTS",
    "DARK",
    "LIGHT",
    "WIDTH",
    "ChartsUnavailable",
    "Drawing",
    "Theme",
    "calibration_chart",
    "cumulative_chart",
    "drawings",
    "save_html",
    "save_png",
    "shown_policies",
    "to_svg",
    "values_chart",
]

MOST_POLICIES = 12
MOST_LINES = 5
MOST_SLICED = 6

Drawing: TypeAlias = "Callable[[Theme], altair.LayerChart]"


def shown_policies(evaluation: Evaluation, most: int) -> list[str]:
    """Names to draw: the baseline, then those with the highest values among policies that were not refused."""
    rest = [one for one in evaluation.policies if one.name != evaluation.against]
    rest.sort(key=lambda one: (one.gate.verdict == "refused", -one.estimates["dr"].value))
    return [evaluation.against, *(one.name for one in rest)][:most]


def values_chart(evaluation: Evaluation, theme: Theme = LIGHT) -> altair.LayerChart:
    """Doubly robust value with its interval per policy; refused policies are drawn faint."""
    alt = load_altair()
    names = shown_policies(evaluation, MOST_POLICIES)
    rows = []
    for name in names:
        policy = evaluation.policy(name)
        one = policy.estimates["dr"]
        if math.isfinite(one.low) and math.isfinite(one.high):
            is_faint = policy.gate.verdict == "refused" or not one.reliable
            rows.append({"policy": name, "value": one.value, "low": one.low, "high": one.high, "is_faint": is_faint})
    dots = dots_with_intervals(rows, "policy", names, theme, "mean reward per decision", faint=True)
    heading = title(
        f"Value of each policy, {evaluation.level:.0%} intervals",
        "doubly robust; dashed: mean reward of what was served; faint: refused, or too little data for its interval",
    )
    chart = alt.layer(mark_at(evaluation.mean_reward, theme), *dots)
    return styled(chart, theme, heading, height=max(90, 30 * len(rows)))


def cumulative_chart(evaluation: Evaluation, theme: Theme = LIGHT) -> altair.LayerChart:
    """Cumulative IPS value over the log, each policy in the band of its confidence sequence, good at every moment."""
    alt = load_altair()
    names = [
        name
        for name in shown_policies(evaluation, len(evaluation.policies))
        if name == evaluation.against or evaluation.policy(name).gate.verdict != "refused"
    ][:MOST_LINES]
    # The first few hundred decisions swing widely and would squash the scale.
    points = [point for point in evaluation.series if point.n >= evaluation.n / 20] or list(evaluation.series)
    rows = [
        {"n": point.n, "policy": name, "value": value, "low": low, "high": high}
        for point in points
        for name in names
        for value, low, high in (point.values[name],)
    ]
    colour = alt.Color(
        "policy:N",
        scale=alt.Scale(domain=names, range=list(theme.lines[: len(names)])),
        legend=alt.Legend(title=None, orient="top", labelLimit=180, columns=5, symbolType="stroke", symbolOpacity=1),
    )
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("n:Q", title="decisions", axis=alt.Axis(format=",.0f", tickCount=8, grid=False)), color=colour
    )
    y_axis = alt.Axis(format="~g", tickCount=6)
    band = base.mark_area(opacity=0.14).encode(
        y=alt.Y("low:Q", title="mean reward so far (IPS)", scale=alt.Scale(zero=False), axis=y_axis), y2="high:Q"
    )
    line = base.mark_line(strokeWidth=2).encode(y="value:Q")
    heading = title(
        "Value over time",
        f"cumulative inverse propensity score; band: {evaluation.level:.0%} confidence sequence of each policy, which "
        "holds at every moment at once",
    )
    return styled(alt.layer(band, line), theme, heading, height=260)


def calibration_chart(evaluation: Evaluation, theme: Theme = LIGHT) -> altair.LayerChart:
    """Served frequency against logged probability by bucket; on the diagonal, propensities are right."""
    alt = load_altair()
    rows = []
    for bucket in evaluation.findings.calibration:
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
    heading = title("Propensity calibration", "how often offers were served against the probability that was logged")
    return styled(alt.layer(diagonal, bars, dots), theme, heading, width=320, height=320)


CHARTS = {"values": values_chart, "cumulative": cumulative_chart, "calibration": calibration_chart}


def drawings(evaluation: Evaluation) -> Mapping[str, Drawing]:
    """All charts that an evaluation has numbers for, by file name, in the order of the report; each takes a theme.

    Calibration is drawn by probability too where distributions were logged. Slices are drawn of the policy that the
    verdict is about, or else the first that was sliced, as its difference from the policy compared with.
    """
    if not evaluation.n:
        return {}
    found: dict[str, Drawing] = {
        "values": partial(values_chart, evaluation),
        "cumulative": partial(cumulative_chart, evaluation),
    }
    names = shown_policies(evaluation, len(evaluation.policies))
    weights = {name: evaluation.policy(name).weights for name in names if name != evaluation.against}
    if weights:
        found["weights"] = partial(weights_chart, weights)
    if evaluation.findings.calibration:
        found["calibration"] = partial(calibration_chart, evaluation)
    if evaluation.findings.offers:
        found["offers"] = partial(offers_chart, evaluation.findings.offers)
    if evaluation.slices is not None:
        for dimension in list(evaluation.slices.dimensions)[:MOST_SLICED]:
            policy = _sliced_policy(evaluation.slices, evaluation.headline)
            found[f"slices_{_as_file_name(dimension)}"] = partial(
                slices_chart, evaluation.slices, dimension, policy, difference=policy != evaluation.slices.against
            )
    if evaluation.features is not None:
        found["features"] = partial(features_chart, evaluation.features)
    if evaluation.reconciliation is not None:
        found["holdout"] = partial(reconciliation_chart, evaluation.reconciliation)
    return found


def _sliced_policy(sliced: SlicedValues, headline: str | None) -> str:
    if headline in sliced.policies and headline is not None:
        return headline
    return next((name for name in sliced.policies if name != sliced.against), sliced.against)


def _as_file_name(dimension: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in dimension)
