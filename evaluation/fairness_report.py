"""A comparison of groups as JSON and as one HTML page that opens without a network; it begins with what differs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from contextual_bandit.types import Estimate
from evaluation import charts, fairness_charts, page
from evaluation.exposure import LEAST_WITH_VALUE
from evaluation.fairness import LEAST_CUSTOMERS, LEAST_DECISIONS, NOT_KNOWN, Contrast, Fairness, Spread

NOT_ENOUGH = "not enough data"
CAVEATS = (
    (
        "This says what the log holds, not why. A difference is a reason to look, no proof of unfair treatment; none "
        "found is no proof of equal treatment, since small groups hide large differences."
    ),
    (
        "Exposure is the probability with which an offer was served, averaged over a group's decisions: as logged, "
        "exact, and free of the luck of the draws. Beside it stands how often the offer was really shown, and how "
        "often the rules let it compete at all. Where the latter differs, look at the rules before the policy."
    ),
    (
        "Reward is of what was shown. Groups that were shown different offers, or that came at other times, are "
        "compared with that difference in it. What a group would have made of other offers is not estimated here: "
        "that is off-policy evaluation, and it needs offers that each group had a chance to be shown."
    ),
    (
        "Groups are as known when deciding. Customers without the feature, and those who did not consent to "
        f"personalising, stand as {NOT_KNOWN} and are not compared."
    ),
    (
        "Intervals count customers, not decisions, since one customer's decisions are alike. Those between groups "
        "are widened for the number of comparisons on this page."
    ),
)


def in_words(fairness: Fairness) -> str:
    """One sentence: which measures tell groups apart, or that none does."""
    if len(fairness.compared) < 2:
        return (
            f"No comparison: fewer than two {fairness.by} groups have {LEAST_DECISIONS} decisions of "
            f"{LEAST_CUSTOMERS} customers."
        )
    apart = [spread for spread in fairness.spreads if spread.clearest.is_told_apart]
    if not apart:
        return f"No difference between {fairness.by} groups is larger than chance explains."
    items = [spread for spread in apart if spread.item is not None]
    parts = []
    if items:
        parts.append(f"exposure to {len(items)} of {len(fairness.shown)} {_plural(fairness.per)}")
    if len(items) < len(apart):
        parts.append("mean reward")
    widest = max(apart, key=lambda one: one.clearest.difference.low)
    return f"{fairness.by} groups differ in {' and in '.join(parts)}: most clearly {_contrast_in_words(widest)}."


def _contrast_in_words(spread: Spread) -> str:
    one, what = spread.clearest, "mean reward" if spread.item is None else f"exposure to {spread.item}"
    figure = page.figure if spread.item is None else _share
    difference = one.difference
    return (
        f"in {what}, {one.higher} above {one.lower} by {figure(difference.value)} "
        f"({figure(difference.low)} to {figure(difference.high)})"
    )


def to_json(fairness: Fairness) -> dict[str, Any]:
    """Everything in plain JSON types; numbers that do not exist are null."""
    return {
        "loop": fairness.loop,
        "by": fairness.by,
        "per": fairness.per,
        "decisions": fairness.decisions,
        "customers": fairness.customers,
        "level": fairness.level,
        "uses": dict(fairness.uses),
        "first_at": fairness.first_at.isoformat() if fairness.first_at else None,
        "last_at": fairness.last_at.isoformat() if fairness.last_at else None,
        "in_words": in_words(fairness),
        "groups": {
            group.name: {
                "decisions": group.decisions,
                "customers": group.customers,
                "reward": _estimate(group.reward) if group.reward else None,
                "left_out": None if group.is_enough else NOT_ENOUGH,
            }
            for group in fairness.groups
        },
        "exposure": {
            item: {
                name: _estimate(shown.exposure) | {"shown": shown.shown, "eligible": shown.eligible}
                for name, shown in by_group.items()
            }
            for item, by_group in fairness.shown.items()
        },
        "between_groups": [_spread(spread) for spread in fairness.spreads],
        "left_out_items": fairness.left_out_items,
        "caveats": list(CAVEATS),
    }


def _spread(spread: Spread) -> dict[str, Any]:
    one = spread.clearest
    return {
        "measure": "reward" if spread.item is None else "exposure",
        "item": spread.item,
        "overall": spread.overall,
        "difference": spread.difference,
        "ratio": spread.ratio,
        "clearest": {
            "higher": one.higher,
            "lower": one.lower,
            "difference": _estimate(one.difference),
            "ratio": _estimate(one.ratio) if one.ratio else None,
            "is_told_apart": one.is_told_apart,
        },
    }


def _estimate(one: Estimate) -> dict[str, Any]:
    numbers = {"value": one.value, "low": one.low, "high": one.high}
    if not math.isfinite(one.high):
        numbers |= {"low": math.nan, "high": math.nan}
    finite = {name: number if math.isfinite(number) else None for name, number in numbers.items()}
    return finite | {"decisions": one.n, "customers": int(one.effective_sample_size)}


def write(fairness: Fairness, out_dir: Path) -> Path:
    """Write ``fairness.html``, ``fairness.json`` and a PNG per chart into a folder; return the page's path.

    Without the charts extra the page says so in their place and no PNG is written.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    text = json.dumps(to_json(fairness), indent=2, allow_nan=False)
    (out_dir / "fairness.json").write_text(text + "\n", encoding="utf-8")
    if fairness.compared:
        for name, chart in fairness_charts.CHARTS.items():
            try:
                charts.save_png(chart(fairness), out_dir / f"fairness_{name}.png")
            except charts.ChartsUnavailable:
                break
    page = out_dir / "fairness.html"
    page.write_text(to_html(fairness), encoding="utf-8")
    return page


def to_html(fairness: Fairness) -> str:
    """The report as one page: what differs, charts, a table of groups, one of differences, one of exposure."""
    words = escape(in_words(fairness))
    facts = [
        f"Loop {fairness.loop or '(none)'}", f"{fairness.decisions:,} decisions", f"{fairness.customers:,} customers",
    ]  # fmt: skip
    if fairness.first_at and fairness.last_at:
        facts.append(f"closed {fairness.first_at:%Y-%m-%d %H:%M} to {fairness.last_at:%Y-%m-%d %H:%M} UTC")
    facts.extend(f"{count:,} of use {use}" for use, count in fairness.uses.items())
    body = [
        f'<p class="verdict">{words}</p>',
        f"<h1>Exposure and reward by {escape(fairness.by)}, loop {escape(fairness.loop)}</h1>",
        f'<p class="facts">{escape(" · ".join(facts))}</p>',
        page.bullets(CAVEATS),
    ]
    if fairness.compared:
        body.append(_figures(fairness))
    body.append(_group_table(fairness))
    if fairness.spreads:
        body.append(_spread_table(fairness))
    if fairness.compared:
        body.append(_exposure_table(fairness))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{words}</title>\n<style>{page.CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _figures(fairness: Fairness) -> str:
    figures = []
    try:
        for name, chart in fairness_charts.CHARTS.items():
            light, dark = (
                page.data_url(charts.to_svg(chart(fairness, theme))) for theme in (charts.LIGHT, charts.DARK)
            )
            figures.append(
                f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
                f'<img src="{light}" alt="{escape(name)} chart; its numbers are in the tables below"></picture>'
            )
    except charts.ChartsUnavailable as unavailable:
        return f'<p class="facts">{escape(str(unavailable))}</p>'
    return '<div class="charts">' + "\n".join(figures) + "</div>"


def _group_table(fairness: Fairness) -> str:
    rows = []
    for group in fairness.groups:
        if group.reward is None:
            figures = f'<td class="number">{NOT_ENOUGH}</td><td class="number"></td>'
        else:
            figures = page.number_cell(group.reward.value) + page.range_cell(group.reward)
        rows.append(
            f'<tr><th scope="row">{escape(group.name)}</th>{page.count_cell(group.decisions)}'
            f"{page.count_cell(group.customers)}{figures}</tr>"
        )
    return page.table(
        "Groups",
        f"Groups with fewer than {LEAST_DECISIONS} decisions or {LEAST_CUSTOMERS} customers are left out of everything "
        f"below. Where fewer than {LEAST_WITH_VALUE} customers have a value, the spread is taken from all customers.",
        (fairness.by, "decisions", "customers", "mean reward", f"{fairness.level:.0%} interval"),
        rows,
    )


def _spread_table(fairness: Fairness) -> str:
    rows = []
    for spread in fairness.spreads:
        one = spread.clearest
        figure = page.figure if spread.item is None else _share
        what = "mean reward" if spread.item is None else escape(spread.item)
        tag = '<span class="tag worse">told apart</span>' if one.is_told_apart else '<span class="tag">chance</span>'
        rows.append(
            f'<tr><th scope="row">{what}</th><td>{escape(one.higher)} over {escape(one.lower)} {tag}</td>'
            f"{_cell(figure(one.difference.value))}{_between(one, figure)}"
            f"{_cell(f'{one.ratio.value:.2f}' if one.ratio else 'n/a')}{_cell(_ratio_range(one))}"
            f"{_cell(figure(spread.difference))}{_cell('n/a' if spread.ratio is None else f'{spread.ratio:.2f}')}</tr>"
        )
    return page.table(
        "Between groups",
        "Per measure the two groups that are told apart most clearly, with intervals that hold for all rows at once; "
        "then the largest difference and the smallest ratio between any two groups, which are never quite 0 and 1.",
        (
            f"exposure to {fairness.per}",
            "clearest pair",
            "difference",
            "interval",
            "ratio",
            "interval",
            "largest difference",
            "smallest ratio",
        ),
        rows,
        words=2,
    )


def _exposure_table(fairness: Fairness) -> str:
    rows = []
    for item, by_group in fairness.shown.items():
        for index, (name, shown) in enumerate(by_group.items()):
            head = f'<th scope="rowgroup" rowspan="{len(by_group)}">{escape(item)}</th>' if index == 0 else ""
            low, high = max(shown.exposure.low, 0.0), min(shown.exposure.high, 1.0)
            rows.append(
                f"<tr{' class=group' if index == 0 else ''}>{head}<td>{escape(name)}</td>"
                f"{_cell(_share(shown.exposure.value))}{_cell(f'{_share(low)} to {_share(high)}')}"
                f"{_cell(_share(shown.shown))}{_cell(_share(shown.eligible))}</tr>"
            )
    more = f" {fairness.left_out_items} less exposed ones are not listed." if fairness.left_out_items else ""
    return page.table(
        "Exposure",
        "Shares of a group's decisions: the mean probability with which it was served, how often it was shown, and how "
        f"often it was eligible.{more}",
        (fairness.per, fairness.by, "exposure", f"{fairness.level:.0%} interval", "shown", "eligible"),
        rows,
        words=2,
    )


def _cell(text: str) -> str:
    return f'<td class="number">{text}</td>'


def _share(share: float) -> str:
    return f"{share:.1%}"


def _between(one: Contrast, figure: Callable[[float], str]) -> str:
    return _cell(f"{figure(one.difference.low)} to {figure(one.difference.high)}")


def _ratio_range(one: Contrast) -> str:
    if one.ratio is None or not math.isfinite(one.ratio.high):
        return "n/a"
    return f"{one.ratio.low:.2f} to {one.ratio.high:.2f}"


def _plural(per: str) -> str:
    return {"category": "categories"}.get(per, per + "s")
