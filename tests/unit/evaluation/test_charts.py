"""Charts: all render, to PNG, SVG and HTML without a network; a missing extra is named."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from contextual_bandit.types import LoggedInteraction
from evaluation import charts
from evaluation.chunks import CHUNK_SIZE
from evaluation.evaluate import evaluate as evaluate_log
from evaluation.interactions import Interactions


def evaluate(interactions, *arguments, chunk_size=CHUNK_SIZE, **named):
    return evaluate_log(Interactions(interactions, chunk_size), *arguments, **named)


SyntheticLog = Callable[..., list[LoggedInteraction]]


def test_charts_render(synthetic_log: SyntheticLog, tmp_path: Path) -> None:
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    evaluation = evaluate(synthetic_log(600, (0.2, 0.4), (0.6, 0.4)), fixed_offers=2)
    for name, chart in charts.CHARTS.items():
        assert "<svg" in charts.to_svg(chart(evaluation, charts.DARK))
        charts.save_png(chart(evaluation), tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    charts.save_html(charts.values_chart(evaluation), tmp_path / "values.html")
    page = (tmp_path / "values.html").read_text(encoding="utf-8")
    assert "<script src=" not in page
    assert 'rel="stylesheet"' not in page


def test_the_best_are_shown_after_the_baseline(synthetic_log: SyntheticLog) -> None:
    evaluation = evaluate(synthetic_log(3000, (0.1, 0.4, 0.2), (0.4, 0.3, 0.3)), fixed_offers=3)
    assert charts.shown_policies(evaluation, 3)[:2] == ["logged", "offer:b1"]


def test_a_missing_extra_is_named(synthetic_log: SyntheticLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(charts.ChartsUnavailable, match=r"offerloop\[charts\]"):
        charts.values_chart(evaluate(synthetic_log(50, (0.2, 0.4), (0.6, 0.4))))
