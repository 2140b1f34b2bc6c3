"""Charts of a comparison of groups; needs the extra ``offerloop[charts]``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from evaluation import chart_style, charts
from evaluation.fairness import NOT_KNOWN, Fairness

if TYPE_CHECKING:
    import altair

MOST_DRAWN = 12
LIGHT_STOPS = ("#3f1f69", "#2d708e", "#2a9d78", "#d09c00")
DARK_STOPS = ("#a98bea", "#5fb2d6", "#4fd1a5", "#ffd24d")


def reward_chart(fairness: Fairness, theme: charts.Theme = charts.LIGHT) -> altair.LayerChart:
    """Mean reward of each group with its interval; dashed: the mean over all groups that are drawn."""
    alt = chart_style.load_altair()
    rows = [
        {
            "group": group.name, "value": group.reward.value, "low": group.reward.low, "high": group.reward.high,
            "decisions": group.decisions,
        }
        for group in fairness.groups
        if group.reward is not None
    ]  # fmt: skip
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("group:N", sort=[row["group"] for row in rows], title=None, axis=alt.Axis(grid=False, labelLimit=220))
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
    point = base.mark_point(size=90, filled=True, color=theme.accent, opacity=1).encode(
        x="value:Q",
        tooltip=["group:N", *(alt.Tooltip(f"{one}:Q", format=".4g") for one in ("value", "low", "high", "decisions"))],
    )
    drawn = [(group.reward.value, group.decisions) for group in fairness.groups if group.reward is not None]
    mean = sum(value * decisions for value, decisions in drawn) / sum(decisions for _, decisions in drawn)
    overall = (
        alt.Chart(alt.Data(values=[{"mean": mean}]))
        .mark_rule(strokeDash=[4, 4], color=theme.ink, opacity=0.7)
        .encode(x="mean:Q")
    )
    title = chart_style.title(
        f"Mean reward by {fairness.by}, {fairness.level:.0%} intervals", "of what was shown; dashed: all together"
    )
    return chart_style.styled(alt.layer(overall, interval, point), theme, title, height=max(90, 30 * len(rows)))


def exposure_chart(fairness: Fairness, theme: charts.Theme = charts.LIGHT) -> altair.LayerChart:
    """Exposure of the most exposed items, a dot per group: the farther apart a row's dots, the more groups differ."""
    alt = chart_style.load_altair()
    items = list(fairness.shown)[:MOST_DRAWN]
    names = [group.name for group in fairness.groups if group.is_enough]
    rows = [
        {
            "item": item, "group": name, "exposure": shown.exposure.value,
            "low": max(shown.exposure.low, 0.0), "high": min(shown.exposure.high, 1.0),
        }
        for item in items
        for name, shown in fairness.shown[item].items()
    ]  # fmt: skip
    known = [name for name in names if name != NOT_KNOWN]
    colours = dict(zip(known, _shades(len(known), theme), strict=True)) | {NOT_KNOWN: theme.ink}
    colour = alt.Color(
        "group:N",
        scale=alt.Scale(domain=names, range=[colours[name] for name in names]),
        legend=alt.Legend(title=None, orient="top", labelLimit=180, columns=8, symbolType="circle", symbolOpacity=1),
    )
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("item:N", sort=items, title=None, axis=alt.Axis(grid=True, labelLimit=260)),
        yOffset=alt.YOffset("group:N", sort=names),
        color=colour,
    )
    interval = base.mark_rule(strokeWidth=2, opacity=0.6).encode(
        x=alt.X("low:Q", title="expected exposure", axis=alt.Axis(format="%", tickCount=7), scale=alt.Scale(zero=True)),
        x2="high:Q",
    )
    point = base.mark_point(size=45, filled=True, opacity=1).encode(
        x="exposure:Q", tooltip=["item:N", "group:N", alt.Tooltip("exposure:Q", format=".2%")]
    )
    title = chart_style.title(
        f"Exposure by {fairness.by}",
        f"mean served probability, {fairness.level:.0%} intervals; the {len(items)} most exposed",
    )
    height = max(120, len(items) * (12 + 9 * len(names)))
    return chart_style.styled(alt.layer(interval, point), theme, title, height=height)


def _shades(count: int, theme: charts.Theme) -> Iterable[str]:
    """Colours in an order, since bands mostly have one, that rise in lightness and are safe for the colour-blind."""
    stops = LIGHT_STOPS if theme is charts.LIGHT else DARK_STOPS
    for step in range(count):
        place = step / max(count - 1, 1) * (len(stops) - 1)
        start = min(int(place), len(stops) - 2)
        ends = [[int(stop[at : at + 2], 16) for at in (1, 3, 5)] for stop in stops[start : start + 2]]
        yield "#" + "".join(f"{round(a + (b - a) * (place - start)):02x}" for a, b in zip(*ends, strict=True))


CHARTS = {"reward": reward_chart, "exposure": exposure_chart}
