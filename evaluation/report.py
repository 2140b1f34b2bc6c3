"""An evaluation as JSON and as one HTML page that opens without a network; the first line is the verdict in words."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from contextual_bandit.types import Estimate
from evaluation import charts
from evaluation.evaluate import Evaluation, PolicyEvaluation

ESTIMATOR_NAMES = {"dr": "doubly robust", "snips": "self-normalised IPS", "ips": "IPS", "dm": "direct method"}
VERDICT_NAMES = {"better": "better", "worse": "worse", "not_shown": "not shown", "refused": "refused"}


def verdict_in_words(evaluation: Evaluation) -> str:
    """One sentence: what the log shows, or why it shows nothing.

    It claims "better" only for the policy whose gate says so.
    """
    served = "the served policy" if evaluation.against == "logged" else f"policy {evaluation.against}"
    if evaluation.headline is None:
        return f"No verdict: {'; '.join(evaluation.reasons)}."
    best = evaluation.policy(evaluation.headline)
    change = best.difference
    if evaluation.verdict == "better":
        return (
            f"Policy {best.name} is better than {served}: {change.value:+.4g} reward per decision "
            f"({change.low:+.4g} to {change.high:+.4g})."
        )
    others = [policy for policy in evaluation.policies if policy.name != evaluation.against]
    if evaluation.verdict == "refused":
        return f"No verdict: the log supports none of the {len(others)} alternatives to {served}."
    worse = sum(policy.gate.verdict == "worse" for policy in others)
    refused = sum(policy.gate.verdict == "refused" for policy in others)
    unclear = len(others) - worse - refused
    counts = [
        text
        for count, text in (
            (worse, f"{worse} shown worse"),
            (unclear, f"{unclear} not told apart"),
            (refused, f"{refused} not supported by the log"),
        )
        if count
    ]
    return f"No alternative is shown to be better than {served}: {', '.join(counts)}."


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Everything in plain JSON types; numbers that do not exist are null.

    ``estimates`` and ``diagnostics`` on top are the headline policy's, ``policies`` holds each one's.
    """
    headline = evaluation.policy(evaluation.headline) if evaluation.headline else None
    return {
        "loop": evaluation.loop,
        "n": evaluation.n,
        "skipped": dict(evaluation.skipped),
        "first_at": evaluation.first_at.isoformat() if evaluation.first_at else None,
        "last_at": evaluation.last_at.isoformat() if evaluation.last_at else None,
        "mean_reward": _finite(evaluation.mean_reward),
        "level": evaluation.level,
        "against": evaluation.against,
        "verdict": evaluation.verdict,
        "verdict_in_words": verdict_in_words(evaluation),
        "headline": evaluation.headline,
        "reasons": list(evaluation.reasons),
        "notes": list(evaluation.notes),
        "estimates": _estimates(headline) if headline else {},
        "diagnostics": (_diagnostics(headline) if headline else {})
        | {
            "log_faults": list(evaluation.log_faults),
            "calibration": [
                {
                    "low": one.low,
                    "high": one.high,
                    "actions": one.actions,
                    "expected": one.expected,
                    "observed": one.observed,
                    "z": _finite(one.z),
                }
                for one in evaluation.calibration
            ],
        },
        "policies": {
            policy.name: {
                "estimates": _estimates(policy),
                "difference": _estimate(policy.difference, "normal, paired, Bonferroni"),
                "diagnostics": _diagnostics(policy),
                "verdict": policy.gate.verdict,
                "reasons": list(policy.gate.reasons),
                "warnings": list(policy.gate.warnings),
            }
            for policy in evaluation.policies
        },
    }


def _estimates(policy: PolicyEvaluation) -> dict[str, Any]:
    return {
        name: _estimate(one, "normal")
        | {"bootstrap": {"low": _finite(policy.bootstrap[name].low), "high": _finite(policy.bootstrap[name].high)}}
        for name, one in policy.estimates.items()
    }


def _estimate(one: Estimate, interval: str) -> dict[str, Any]:
    return {
        "value": _finite(one.value),
        "low": _finite(one.low),
        "high": _finite(one.high),
        "interval": interval,
        "n": one.n,
        "effective_sample_size": _finite(one.effective_sample_size),
    }


def _diagnostics(policy: PolicyEvaluation) -> dict[str, Any]:
    weights = policy.weights
    return {
        "effective_sample_size": _finite(weights.effective_sample_size),
        "effective_rewards": _finite(weights.effective_rewards),
        "mean_weight": _finite(weights.mean),
        "mean_weight_z": _finite(weights.mean_z),
        "largest_weight": _finite(weights.largest),
        "unsupported_share": _finite(weights.unsupported_share),
        "unsupported_mass": _finite(weights.unsupported_mass),
    }


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def write(evaluation: Evaluation, out_dir: Path) -> Path:
    """Write ``report.html``, ``report.json`` and a PNG per chart into a folder; return the page's path.

    Without the charts extra the page says so in their place and no PNG is written.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    write_json(evaluation, out_dir / "report.json")
    if evaluation.n:
        for name, chart in charts.CHARTS.items():
            try:
                charts.save_png(chart(evaluation), out_dir / f"{name}.png")
            except charts.ChartsUnavailable:
                break
    page = out_dir / "report.html"
    page.write_text(to_html(evaluation), encoding="utf-8")
    return page


def write_json(evaluation: Evaluation, path: Path) -> None:
    """Write ``to_json`` to a file."""
    path.write_text(json.dumps(to_json(evaluation), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def to_html(evaluation: Evaluation) -> str:
    """The report as one page: verdict, charts, a table of estimates per policy, diagnostics."""
    words = escape(verdict_in_words(evaluation))
    facts = [f"Loop {evaluation.loop or '(none)'}", f"{evaluation.n:,} decisions"]
    if evaluation.first_at and evaluation.last_at:
        facts.append(f"closed {evaluation.first_at:%Y-%m-%d %H:%M} to {evaluation.last_at:%Y-%m-%d %H:%M} UTC")
    if evaluation.n:
        facts.append(f"mean reward {evaluation.mean_reward:.4g}")
    facts.extend(f"{count:,} left out ({reason})" for reason, count in evaluation.skipped.items())
    body = [
        f'<p class="verdict {evaluation.verdict}">{words}</p>',
        f"<h1>Off-policy evaluation of loop {escape(evaluation.loop)}</h1>",
        f'<p class="facts">{escape(" · ".join(facts))}</p>',
        _list((*evaluation.reasons, *evaluation.notes)),
    ]
    if evaluation.n:
        body += [
            _charts(evaluation),
            _estimate_table(evaluation),
            _diagnostic_table(evaluation),
            _calibration(evaluation),
        ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{words}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<main>\n" + "\n".join(body) + "\n</main>\n"
        "</body>\n</html>\n"
    )


def _charts(evaluation: Evaluation) -> str:
    figures = []
    try:
        for name, chart in charts.CHARTS.items():
            light, dark = (_data_url(charts.to_svg(chart(evaluation, theme))) for theme in (charts.LIGHT, charts.DARK))
            figures.append(
                f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
                f'<img src="{light}" alt="{escape(name)} chart; its numbers are in the tables below"></picture>'
            )
    except charts.ChartsUnavailable as unavailable:
        return f'<p class="facts">{escape(str(unavailable))}</p>'
    return '<div class="charts">' + "\n".join(figures) + "</div>"


def _data_url(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _estimate_table(evaluation: Evaluation) -> str:
    rows = []
    for policy in _in_order(evaluation):
        for index, (key, name) in enumerate(ESTIMATOR_NAMES.items()):
            one, drawn = policy.estimates[key], policy.bootstrap[key]
            cells = (
                f"<td>{name}</td>{_number(one.value)}{_range(one)}{_range(drawn)}{_count(one.effective_sample_size)}"
            )
            head = ""
            if index == 0:
                span = f' rowspan="{len(ESTIMATOR_NAMES)}"'
                verdict = policy.gate.verdict
                label = "compared with" if policy.name == evaluation.against else VERDICT_NAMES[verdict]
                reasons = escape("; ".join((*policy.gate.reasons, *policy.gate.warnings)))
                head = (
                    f'<th scope="rowgroup"{span}>{escape(policy.name)}<br><span class="tag {verdict}">{label}</span>'
                    f'<br><span class="why">{reasons}</span></th>'
                )
            rows.append(f"<tr{' class=group' if index == 0 else ''}>{head}{cells}</tr>")
    level = f"{evaluation.level:.0%}"
    return _table(
        "Estimates",
        "Mean reward per decision. The verdict rests on the paired doubly robust difference from the baseline, its "
        "interval widened for the number of policies. The direct method's interval leaves out its model's bias.",
        ("policy", "estimator", "value", f"normal {level}", f"bootstrap {level}", "effective sample"),
        rows,
        words=2,
    )


def _diagnostic_table(evaluation: Evaluation) -> str:
    rows = []
    for policy in _in_order(evaluation):
        one = policy.weights
        rows.append(
            f'<tr><th scope="row">{escape(policy.name)}</th>{_number(policy.difference.value, "+")}'
            f"{_range(policy.difference, '+')}{_count(one.effective_sample_size)}{_count(one.effective_rewards)}"
            f"{_number(one.mean)}{_score(one.mean_z)}{_number(one.largest)}{_percent(one.unsupported_share)}"
            f"{_percent(one.unsupported_mass)}</tr>"
        )
    return _table(
        "Difference and weights",
        "The mean weight must be 1 (|z| up to 3.3). Unsupported: the policy wants offers that could not be served.",
        (
            "policy",
            "difference",
            "interval",
            "effective sample",
            "effective rewards",
            "mean weight",
            "its z",
            "largest weight",
            "unsupported decisions",
            "unsupported mass",
        ),
        rows,
    )


def _calibration(evaluation: Evaluation) -> str:
    rows = [
        f'<tr><th scope="row">{one.low:g} to {one.high:g}</th>{_count(one.actions)}{_count(one.expected)}'
        f"{_count(one.observed)}{'<td class=number>too few</td>' if one.z is None else _score(one.z)}</tr>"
        for one in evaluation.calibration
    ]
    return _table(
        "Propensity calibration",
        "How often offers were served against the probability that was logged for them.",
        ("logged probability", "offers", "expected served", "served", "z"),
        rows,
    )


def _in_order(evaluation: Evaluation) -> list[PolicyEvaluation]:
    return [evaluation.policy(name) for name in charts.shown_policies(evaluation, len(evaluation.policies))]


def _table(title: str, caption: str, columns: Sequence[str], rows: Iterable[str], words: int = 1) -> str:
    """The first ``words`` columns hold words, the others numbers."""
    kinds = [""] * words + [' class="number"'] * (len(columns) - words)
    head = "".join(f'<th scope="col"{kind}>{escape(one)}</th>' for kind, one in zip(kinds, columns, strict=True))
    return (
        f'<h2>{escape(title)}</h2>\n<p class="facts">{escape(caption)}</p>\n<div class="scroll"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody></table></div>"
    )


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="reasons">{items}</ul>' if items else ""


def _number(number: float, sign: str = "") -> str:
    return f'<td class="number">{_figure(number, sign)}</td>'


def _score(z: float) -> str:
    return f'<td class="number">{z:.1f}</td>'


def _percent(share: float) -> str:
    return f'<td class="number">{share:.1%}</td>'


def _count(count: float) -> str:
    return f'<td class="number">{count:,.0f}</td>'


def _range(one: Estimate, sign: str = "") -> str:
    if not (math.isfinite(one.low) and math.isfinite(one.high)):
        return '<td class="number">n/a</td>'
    return f'<td class="number">{_figure(one.low, sign)} to {_figure(one.high, sign)}</td>'


def _figure(number: float, sign: str = "") -> str:
    """Four significant digits; large numbers in full."""
    if not math.isfinite(number):
        return "n/a"
    return format(number, f"{sign},.1f" if abs(number) >= 1000.0 else f"{sign}#.4g")


_CSS = """
:root { color-scheme: light dark; --paper: #f5f6f8; --card: #fff; --ink: #1f2630; --soft: #5c6672; --line: #dfe3e8;
  --better: #0a7a45; --worse: #a33c00; --not_shown: #475569; --refused: #8a1c3b; }
@media (prefers-color-scheme: dark) { :root { --paper: #0f1216; --card: #171b21; --ink: #e4e8ee; --soft: #9aa5b1;
  --line: #2c333d; --better: #4fd08b; --worse: #ff9a5c; --not_shown: #a9b4c2; --refused: #ff8fab; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px; }
.verdict { margin: 0 0 24px; padding: 18px 22px; background: var(--card); border-left: 6px solid var(--not_shown);
  border-radius: 6px; font-size: 21px; font-weight: 600; line-height: 1.35; }
.verdict.better { border-color: var(--better); } .verdict.worse { border-color: var(--worse); }
.verdict.refused { border-color: var(--refused); }
h1 { font-size: 19px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 40px 0 4px; }
.facts, .why { color: var(--soft); } .facts { margin: 0 0 12px; max-width: 90ch; }
.reasons { margin: 0 0 20px; padding-left: 20px; max-width: 90ch; }
.charts { display: flex; flex-wrap: wrap; gap: 16px; }
.charts picture { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 8px;
  max-width: 100%; }
.charts img { display: block; max-width: 100%; height: auto; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: 6px 12px; text-align: left; vertical-align: top; }
thead th { color: var(--soft); font-weight: 500; border-bottom: 1px solid var(--line); }
tbody tr.group > *, tbody tr:has(th[scope="row"]) > * { border-top: 1px solid var(--line); }
tbody tr:first-child > * { border-top: 0 !important; }
tbody th { font-weight: 600; } th[rowspan] { max-width: 300px; } .why { font-size: 12.5px; font-weight: 400; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
thead th.number { text-align: right; white-space: normal; }
.tag { display: inline-block; font-size: 12px; font-weight: 500; padding: 0 8px; border: 1px solid currentColor;
  border-radius: 99px; color: var(--not_shown); }
.tag.better { color: var(--better); } .tag.worse { color: var(--worse); } .tag.refused { color: var(--refused); }
@media print { body { background: none; } }
"""
