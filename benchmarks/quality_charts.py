"""The chart of policy quality: value of each policy in each world with intervals, and how it comes about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import special

from evaluation.chart_style import LIGHT, load_altair, save_html, save_png, styled, title

WORDS = {
    "served": "served policy", "vw_plain": "Vowpal Wabbit, plain", "highest_affinity": "highest affinity",
    "linucb_shared": "LinUCB, shared weights", "mabwiser_linucb": "LinUCB of each offer",
    "mabwiser_lints": "LinTS of each offer", "best_fixed": "best fixed, hindsight", "uniform": "uniform",
    "optimal": "optimal",
}  # fmt: skip
COLOURS = {
    "served": "#0072b2", "linucb_shared": "#d55e00", "mabwiser_linucb": "#e69f00", "mabwiser_lints": "#cc79a7",
    "vw_plain": "#56b4e9", "highest_affinity": "#009e73", "best_fixed": "#7a828e", "uniform": "#b9bfc8",
}  # fmt: skip
WORLDS = {
    "baskets": "Published baskets, 20 categories", "stationary": "Simulated market, 20 offers",
    "drifting": "Drifting market, 20 offers", "many_offers": "Simulated market, 200 offers",
}  # fmt: skip
# The best possible would squeeze the others together: nobody could know enough to reach it.
LEFT_OUT = "optimal"
WIDTH, HEIGHT = 380, 200


class PlayedWorld(Protocol):
    """What the chart needs of one world and seed; curves are of any length."""

    @property
    def world(self) -> str:
        """Its name."""

    @property
    def mean(self) -> Mapping[str, float]:
        """Mean value by member."""

    @property
    def curves(self) -> Mapping[str, NDArray[np.float64]]:
        """Values over time by member."""


def save(played: Sequence[PlayedWorld], members: Mapping[str, Mapping[str, str]], folder: Path) -> list[Path]:
    """Write ``policy_quality.png`` and ``policy_quality.html`` (self-contained).

    Args:
        played: what was played, of every world and seed.
        members: by world and peer, the member of its grid that is shown.
        folder: where the files go; made if need be.

    Raises:
        ChartsUnavailable: the chart libraries are not installed.
    """
    alt = load_altair()
    rows = []
    for world, chosen in members.items():
        of = [one for one in played if one.world == world]
        shown = {peer: member for peer, member in chosen.items() if peer != LEFT_OUT}
        scale = alt.Scale(domain=[WORDS[peer] for peer in COLOURS], range=list(COLOURS.values()))
        colour = alt.Color("policy:N", title=None, scale=scale)
        rows.append(alt.hconcat(_dots(alt, world, of, shown, scale), _lines(alt, of, shown, colour)))
    heading = title(
        "What policies earn per decision",
        ["Hits and clicks, mean over seeds with 95 % intervals; each peer at its best setting of a small grid.",
         "Simulated markets are partly assumed: they show what a policy can find, not what customers do."],
    )  # fmt: skip
    chart = styled(alt.vconcat(*rows).resolve_scale(color="shared"), LIGHT, heading, height=None)
    folder.mkdir(parents=True, exist_ok=True)
    png, html = folder / "policy_quality.png", folder / "policy_quality.html"
    save_png(chart, png)
    save_html(chart, html)
    return [png, html]


def _dots(alt: Any, world: str, of: Sequence[PlayedWorld], shown: Mapping[str, str], scale: Any) -> Any:
    found = []
    for peer, member in shown.items():
        values = np.array([one.mean[member] for one in of])
        reach = float(special.stdtrit(values.size - 1, 0.975) * values.std(ddof=1) / values.size**0.5)
        mean = float(values.mean())
        found.append({"policy": WORDS[peer], "value": mean, "low": mean - reach, "high": mean + reach,
                      "setting": member})  # fmt: skip
    order = [row["policy"] for row in sorted(found, key=lambda row: -float(str(row["value"])))]
    base = alt.Chart(alt.Data(values=found), title=WORLDS.get(world, world)).encode(
        y=alt.Y("policy:N", sort=order, title=None, axis=alt.Axis(grid=False, labelLimit=200)),
        color=alt.Color("policy:N", title=None, scale=scale, legend=None),
    )
    axis = alt.X("low:Q", title="value per decision", scale=alt.Scale(zero=True), axis=alt.Axis(format=".0%"))
    tips = ["policy:N", "setting:N", *(alt.Tooltip(f"{one}:Q", format=".4f") for one in ("value", "low", "high"))]
    return alt.layer(
        base.mark_rule(strokeWidth=3).encode(x=axis, x2="high:Q"),
        base.mark_point(size=90, filled=True, opacity=1).encode(x="value:Q", tooltip=tips),
    ).properties(width=WIDTH, height=HEIGHT)


def _lines(alt: Any, of: Sequence[PlayedWorld], shown: Mapping[str, str], colour: Any) -> Any:
    rows = []
    for peer, member in shown.items():
        curve = np.mean([one.curves[member] for one in of], axis=0)
        for place, value in enumerate(curve.tolist()):
            rows.append({"policy": WORDS[peer], "share": (place + 0.5) / curve.size, "value": value})
    return (
        alt.Chart(alt.Data(values=rows), title="as it learns")
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("share:Q", title="share of decisions made", scale=alt.Scale(domain=[0, 1]),
                    axis=alt.Axis(format=".0%")),
            y=alt.Y("value:Q", title="value per decision", scale=alt.Scale(zero=True), axis=alt.Axis(format=".0%")),
            color=colour,
            tooltip=["policy:N", alt.Tooltip("value:Q", format=".4f")],
        )
        .properties(width=WIDTH, height=HEIGHT)
    )  # fmt: skip
