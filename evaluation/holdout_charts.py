"""Chart of the estimate beside the holdout; needs the extra ``offerloop[charts]``."""

from __future__ import annotations

from textwrap import wrap
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
from evaluation.holdout import Reconciliation

if TYPE_CHECKING:
    import altair

_LINE = 130


def reconciliation_chart(found: Reconciliation, theme: Theme = LIGHT) -> altair.LayerChart:
    """The estimated uplift beside the observed one, with their intervals."""
    alt = load_altair()
    words = wrap(found.words[:1].upper() + found.words[1:], _LINE)
    heading = title("Estimate beside the holdout", words)
    both = {"estimated from the log": found.estimated, "observed against the holdout": found.observed}
    rows = [
        {"uplift": name, "value": one.value, "low": one.low, "high": one.high}
        for name, one in both.items()
        if one is not None
    ]
    if not rows:
        return nothing_to_show("no uplift can be observed", theme, heading)
    dots = dots_with_intervals(rows, "uplift", list(both), theme, "uplift in reward per decision", axis_format="+~g")
    return styled(alt.layer(mark_at(0.0, theme), *dots), theme, heading, height=90)
