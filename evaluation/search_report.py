"""A search as JSON, as a chart and as one HTML page that opens without a network; it begins with the verdict."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contextual_bandit.types import Estimate
from evaluation import chart_style, charts, page
from evaluation.search import SearchResult, Trial

if TYPE_CHECKING:
    import altair

MOST_DRAWN = 20
CAVEATS = (
    (
        "Only the held-out part counts. On the part that was searched, the best of many settings looks better than it "
        "is; the held-out part was looked at once, after the finalists stood, and its intervals are widened for their "
        "number."
    ),
    (
        "Every setting, the current one too, learned from this log as it went and was evaluated on each decision "
        "before it learned it, with the loop's floor and promotion. The value is that of learning, not of a finished "
        "model."
    ),
    (
        "Rewards of this log were earned by what was served. A setting that explores less may look better here than it "
        "would do alone, where it would have to live on what it explored itself."
    ),
)


def in_words(result: SearchResult) -> str:
    """One sentence: whether a better setting was shown."""
    judged = [trial for trial in result.trials if trial.held_out is not None]
    if result.verdict == "better":
        best = judged[0].held_out
        assert best is not None  # held by ``judged``
        return (
            f"A better setting was shown: {result.best} earns {page.figure(best.value, '+')} per decision "
            f"({page.figure(best.low, '+')} to {page.figure(best.high, '+')}) against the current one."
        )
    if result.verdict == "refused":
        return f"No verdict: {'; '.join(result.reasons)}."
    tried = f"{len(result.trials)} tried" if result.trials else "none tried"
    return f"No better setting was shown ({tried}, {len(judged)} judged on held-out decisions)."


def to_json(result: SearchResult) -> dict[str, Any]:
    """Everything in plain JSON types; numbers that do not exist are null."""
    return {
        "loop": result.loop,
        "verdict": result.verdict,
        "in_words": in_words(result),
        "reasons": list(result.reasons),
        "current": result.current,
        "best": result.best,
        "decisions": result.n,
        "held_out": result.n_held_out,
        "level": result.level,
        "trials": [_trial(trial) for trial in result.trials],
        "caveats": list(CAVEATS),
        "notes": list(result.notes),
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "arguments": trial.arguments,
        "rungs": trial.rungs,
        "outcome": trial.outcome,
        "search": _estimate(trial.search),
        "held_out": None if trial.held_out is None else _estimate(trial.held_out),
        "verdict": None if trial.gate is None else trial.gate.verdict,
        "reasons": [] if trial.gate is None else [*trial.gate.reasons, *trial.gate.warnings],
    }


def _estimate(one: Estimate) -> dict[str, Any]:
    numbers = {"value": one.value, "low": one.low, "high": one.high}
    finite = {name: number if math.isfinite(number) else None for name, number in numbers.items()}
    return finite | {"decisions": one.n, "interval": one.interval, "reliable": one.reliable}


def trials_chart(result: SearchResult, theme: charts.Theme = charts.LIGHT) -> altair.LayerChart:
    """Difference of each setting from the current one: on the held-out part where it was judged, else faint."""
    alt = chart_style.load_altair()
    shown = [(trial, trial.held_out or trial.search) for trial in result.trials[:MOST_DRAWN]]
    rows = [
        {
            "setting": trial.arguments.replace("--cb_explore_adf ", ""),
            "value": one.value, "low": one.low, "high": one.high,
            "part": "searched" if trial.held_out is None else "held out",
        }
        for trial, one in shown
        if math.isfinite(one.value)
    ]  # fmt: skip
    names = [row["setting"] for row in rows]
    opacity = alt.Opacity("part:N", scale=alt.Scale(domain=["held out", "searched"], range=[1.0, 0.3]), legend=None)
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("setting:N", sort=names, title=None, axis=alt.Axis(grid=False, labelLimit=640)), opacity=opacity
    )
    interval = base.mark_rule(strokeWidth=3, color=theme.accent).encode(
        x=alt.X("low:Q", title="reward per decision above the current setting's", axis=alt.Axis(format="~g")),
        x2="high:Q",
    )
    point = base.mark_point(size=80, filled=True, color=theme.accent).encode(
        x="value:Q",
        tooltip=["setting:N", "part:N", *(alt.Tooltip(f"{one}:Q", format=".4g") for one in ("value", "low", "high"))],
    )
    current = (
        alt.Chart(alt.Data(values=[{"nothing": 0.0}]))
        .mark_rule(strokeDash=[4, 4], color=theme.ink, opacity=0.7)
        .encode(x="nothing:Q")
    )
    title = chart_style.title(
        f"Settings against the current one, {result.level:.0%} intervals",
        "full: on held-out decisions; faint: on those that were searched, which shows nothing",
    )
    return chart_style.styled(
        alt.layer(current, interval, point), theme, title, height=max(90, 28 * len(rows)), width=560
    )  # fmt: skip


def write(result: SearchResult, out_dir: Path) -> Path:
    """Write ``search.html``, ``search.json`` and ``search.png`` into a folder; return the page's path.

    Without the charts extra the page says so in its place and no PNG is written.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    text = json.dumps(to_json(result), indent=2, allow_nan=False)
    (out_dir / "search.json").write_text(text + "\n", encoding="utf-8")
    if result.trials:
        with suppress(charts.ChartsUnavailable):
            charts.save_png(trials_chart(result), out_dir / "search.png")
    page = out_dir / "search.html"
    page.write_text(to_html(result), encoding="utf-8")
    return page


def to_html(result: SearchResult) -> str:
    """The report as one page: the verdict, the chart, and a table of all that was tried."""
    words = escape(in_words(result))
    facts = [
        f"Loop {result.loop or '(none)'}", f"{result.n:,} decisions", f"the last {result.n_held_out:,} held out",
    ]  # fmt: skip
    kind = result.verdict if result.verdict in ("better", "refused") else "not_shown"
    body = [
        f'<p class="verdict {kind}">{words}</p>',
        f"<h1>Search for a learning setting, loop {escape(result.loop)}</h1>",
        f'<p class="facts">{escape(" · ".join(facts))}</p>',
        f'<p class="facts">Current setting: <code>{escape(result.current)}</code></p>',
        page.bullets((*result.reasons, *CAVEATS, *result.notes)),
    ]
    if result.trials:
        body += [_figure(result), _table(result)]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{words}</title>\n<style>{page.CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _figure(result: SearchResult) -> str:
    try:
        light, dark = (
            page.data_url(charts.to_svg(trials_chart(result, theme))) for theme in (charts.LIGHT, charts.DARK)
        )
    except charts.ChartsUnavailable as unavailable:
        return f'<p class="facts">{escape(str(unavailable))}</p>'
    return (
        f'<div class="charts"><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="chart of the settings; its numbers are in the table below"></picture></div>'
    )


def _table(result: SearchResult) -> str:
    rows = []
    for trial in result.trials:
        held_out = trial.held_out
        judged = '<td class="number">-</td><td class="number">-</td>'
        if held_out is not None:
            judged = page.number_cell(held_out.value, "+") + page.range_cell(held_out, "+")
        outcome = trial.outcome if trial.gate is None else trial.gate.verdict.replace("_", " ")
        rows.append(
            f'<tr><th scope="row"><code>{escape(trial.arguments)}</code></th><td>{escape(outcome)}</td>{judged}'
            f"{page.number_cell(trial.search.value, '+')}{page.range_cell(trial.search, '+')}"
            f"{page.count_cell(trial.rungs)}{page.count_cell(trial.decisions)}</tr>"
        )
    return page.table(
        "Settings",
        "Reward per decision above the current setting's, doubly robust, paired on the same decisions. Intervals on "
        "held-out decisions are widened for the number of finalists. Those on the searched part may be looked at at "
        "any time and are widened for the number of settings.",
        ("setting", "outcome", "held out", "interval", "searched", "interval", "rungs", "decisions"),
        rows,
        words=2,
    )
