"""An evaluation as one HTML page that opens without a network, with its JSON and charts; the verdict comes first."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

from evaluation import charts, page, report_tables
from evaluation.chart_style import ChartsUnavailable, save_png
from evaluation.evaluate import Evaluation
from evaluation.report_json import to_json
from evaluation.verdict_words import verdict_in_words

__all__ = ["to_html", "to_json", "verdict_in_words", "write", "write_json"]


def write(evaluation: Evaluation, out_dir: Path) -> Path:
    """Write ``report.html``, ``report.json`` and a PNG per chart into a folder; return the page's path.

    Without the charts extra the page says so in their place and no PNG is written.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    write_json(evaluation, out_dir / "report.json")
    try:
        for name, chart in charts.drawings(evaluation).items():
            save_png(chart(charts.LIGHT), out_dir / f"{name}.png")
    except ChartsUnavailable:
        pass  # the page says what it takes
    path = out_dir / "report.html"
    path.write_text(to_html(evaluation), encoding="utf-8")
    return path


def write_json(evaluation: Evaluation, path: Path, interval: str = "default") -> None:
    """Write ``to_json`` to a file."""
    text = json.dumps(to_json(evaluation, interval), indent=2, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


def to_html(evaluation: Evaluation) -> str:
    """The report as one page: verdict, charts, a table of estimates per policy, diagnostics."""
    facts = [f"Loop {evaluation.loop or '(none)'}", f"{evaluation.n:,} decisions"]
    if evaluation.first_at and evaluation.last_at:
        facts.append(f"closed {evaluation.first_at:%Y-%m-%d %H:%M} to {evaluation.last_at:%Y-%m-%d %H:%M} UTC")
    if evaluation.n:
        low, high = evaluation.rewards
        facts.append(f"mean reward {evaluation.mean_reward:.4g} of {low:g} to {high:g}")
    facts.extend(f"{count:,} left out ({reason})" for reason, count in evaluation.skipped.items())
    lines = (*evaluation.reasons, *evaluation.findings.warnings, *evaluation.notes)
    body = [
        f"<h1>Off-policy evaluation of loop {escape(evaluation.loop)}</h1>",
        f'<p class="facts">{escape(" · ".join(facts))}</p>',
        page.bullets(dict.fromkeys(lines)),
    ]
    if evaluation.n:
        body.append(page.pictures(charts.drawings(evaluation).items()))
        body.extend(report_tables.tables(evaluation))
    return page.whole(verdict_in_words(evaluation), evaluation.verdict, body)
