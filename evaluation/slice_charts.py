"""Chart of values by slice; needs the extra ``offerloop[charts]``."""

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
from evaluation.slices import NOT_ENOUGH, WEEK, Slice, SlicedValues

if TYPE_CHECKING:
    import altair

MOST_DRAWN = 20


def slices_chart(
    sliced: SlicedValues, dimension: str, policy: str, theme: Theme = LIGHT, *, difference: bool = False
) -> altair.LayerChart:
    """A policy's value in each slice of a dimension, or its paired difference from the policy compared with.

    Args:
        sliced: all slices.
        dimension: one of its dimensions.
        policy: one of its policies.
        theme: colours.
        difference: draw the difference in place of the value.

    Raises:
        KeyError: when there is no such dimension, or no such policy among those that were sliced.
    """
    alt = load_altair()
    if policy not in sliced.policies:
        raise KeyError(policy)
    slices = list(sliced.dimensions[dimension])
    drawn = slices[:MOST_DRAWN]
    if dimension == WEEK:
        drawn.sort(key=lambda one: one.name)
    found = {
        one.name: estimate
        for one in drawn
        if (estimate := (one.differences if difference else one.values).get(policy)) is not None
    }
    what = f"{policy} minus {sliced.against}" if difference else f"Value of {policy}"
    dashed = "0" if difference else "the mean of those drawn"
    more = f"; {len(slices) - len(drawn):,} with fewer decisions are not drawn" if len(slices) > len(drawn) else ""
    heading = title(f"{what} by {dimension}", [f"in brackets: decisions; dashed: {dashed}{more}", sliced.caption])
    if not found:
        return nothing_to_show("not enough data in any slice", theme, heading)
    counts = {one.name: one.n for one in drawn}
    total = sum(estimate.value * counts[name] for name, estimate in found.items())
    middle = 0.0 if difference else total / sum(counts[name] for name in found)
    rows = [
        {"slice": _label(one), "value": found[one.name].value, "low": found[one.name].low, "high": found[one.name].high}
        for one in drawn
        if one.name in found
    ]
    axis_title = "difference in mean reward per decision" if difference else "mean reward per decision"
    order = [_label(one) for one in drawn]
    dots = dots_with_intervals(rows, "slice", order, theme, axis_title)
    small = [{"slice": _label(one), "words": NOT_ENOUGH} for one in drawn if one.name not in found]
    words = (
        alt.Chart(alt.Data(values=small))
        .mark_text(color=theme.ink, opacity=0.7, fontSize=12, align="left")
        .encode(y=alt.Y("slice:N", sort=order), x=alt.value(8), text="words:N")
    )
    layers = [mark_at(middle, theme), *dots, *([words] if small else [])]
    return styled(alt.layer(*layers), theme, heading, height=max(90, 30 * len(drawn)))


def _label(one: Slice) -> str:
    return f"{one.name} ({one.n:,})"
