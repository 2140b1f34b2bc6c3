"""Parts of pages that open without a network: tables, figures, style."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

from contextual_bandit.types import Estimate
from evaluation.chart_style import DARK, LIGHT, ChartsUnavailable, Theme, to_svg


def whole(words: str, kind: str, body: Sequence[str]) -> str:
    """A page that begins with its verdict in words; ``kind`` colours it (better, worse, not_shown, refused)."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(words)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        f'<p class="verdict {kind}">{escape(words)}</p>\n' + "\n".join(body) + "\n</main>\n</body>\n</html>\n"
    )


def pictures(drawn: Iterable[tuple[str, Callable[[Theme], Any]]]) -> str:
    """Charts by name, light and dark; without the charts extra, what it takes to see them."""
    figures = []
    try:
        for name, chart in drawn:
            light, dark = (data_url(to_svg(chart(theme))) for theme in (LIGHT, DARK))
            figures.append(
                f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
                f'<img src="{light}" alt="{escape(name)} chart; its numbers are in the tables below"></picture>'
            )
    except ChartsUnavailable as unavailable:
        return f'<p class="facts">{escape(str(unavailable))}</p>'
    return '<div class="charts">' + "\n".join(figures) + "</div>"


def data_url(svg: str) -> str:
    """An SVG as the address of a picture."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def table(title: str, caption: str, columns: Sequence[str], rows: Iterable[str], words: int = 1) -> str:
    """A table with a heading; the first ``words`` columns hold words, the others numbers."""
    kinds = [""] * words + [' class="number"'] * (len(columns) - words)
    head = "".join(f'<th scope="col"{kind}>{escape(one)}</th>' for kind, one in zip(kinds, columns, strict=True))
    return (
        f'<h2>{escape(title)}</h2>\n<p class="facts">{escape(caption)}</p>\n<div class="scroll"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody></table></div>"
    )


def bullets(lines: Iterable[str]) -> str:
    """A list of lines; nothing without lines."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="reasons">{items}</ul>' if items else ""


def number_cell(number: float, sign: str = "") -> str:
    """A cell with a number."""
    return f'<td class="number">{figure(number, sign)}</td>'


def score_cell(z: float) -> str:
    """A cell with a z score."""
    return f'<td class="number">{z:.1f}</td>'


def percent_cell(share: float) -> str:
    """A cell with a share."""
    return f'<td class="number">{share:.1%}</td>'


def count_cell(count: float) -> str:
    """A cell with a count."""
    return f'<td class="number">{count:,.0f}</td>'


def range_cell(one: Estimate, sign: str = "") -> str:
    """A cell with an interval."""
    if not (math.isfinite(one.low) and math.isfinite(one.high)):
        return '<td class="number">n/a</td>'
    return f'<td class="number">{figure(one.low, sign)} to {figure(one.high, sign)}</td>'


def figure(number: float, sign: str = "") -> str:
    """Four significant digits; large numbers in full."""
    if not math.isfinite(number):
        return "n/a"
    return format(number, f"{sign},.1f" if abs(number) >= 1000.0 else f"{sign}#.4g")


CSS = """
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
td.faint { opacity: .5; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
thead thtd.faint { opacity: .5; }
.number { text-align: right; white-space: normal; }
.tag { display: inline-block; font-size: 12px; font-weight: 500; padding: 0 8px; border: 1px solid currentColor;
  border-radius: 99px; color: var(--not_shown); }
.tag.better { color: var(--better); } .tag.worse { color: var(--worse); } .tag.refused { color: var(--refused); }
@media print { body { background: none; } }
"""
