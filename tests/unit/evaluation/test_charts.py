"""Charts: all render, to PNG, SVG and HTML without a network; a missing extra is named."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contextual_bandit.types import Estimate, LoggedInteraction
from evaluation import chart_style, charts
from evaluation.diagnostics import LogDiagnostics
from evaluation.evaluate import Choices
from evaluation.evaluate import evaluate as evaluate_log
from evaluation.feature_charts import features_chart
from evaluation.feature_report import FeatureReport, FeatureWorth
from evaluation.holdout import HoldoutSums, Reconciliation
from evaluation.holdout_charts import reconciliation_chart
from evaluation.interactions import Interactions
from evaluation.sample_ratio import SampleRatio
from evaluation.slice_charts import slices_chart
from evaluation.slices import Slice, SlicedValues
from evaluation.targets import uniform
from evaluation.weight_charts import offers_chart, weights_chart
from evaluation.weights import Weights


def evaluate(interactions, **choices):
    return evaluate_log(Interactions(interactions), choices=Choices(replicates=100, **choices))


SyntheticLog = Callable[..., list[LoggedInteraction]]
RATIO = SampleRatio(1000, 100, 0, 0.1, 0.0, True, "100 of 1,000 customers")


@pytest.fixture(autouse=True)
def libraries() -> None:
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")


def estimate(value: float, half: float = 0.1, reliable: bool = True) -> Estimate:
    return Estimate("dr", value, value - half, value + half, 100, 50.0, "gamma", reliable)


def words_of(chart: object) -> str:
    """All text of a chart's description, for what it says."""
    return json.dumps(chart.to_dict())  # type: ignore[attr-defined]


def rows_of(part: object) -> list[dict[str, object]]:
    """All rows of data of a chart's description."""
    if isinstance(part, dict):
        mine = [row for row in part.get("values", []) if isinstance(row, dict)] if "values" in part else []
        return mine + [row for value in part.values() for row in rows_of(value)]
    return [row for value in part for row in rows_of(value)] if isinstance(part, list) else []


def renders(chart: object) -> str:
    """The chart as SVG."""
    svg = charts.to_svg(chart)
    assert "<svg" in svg
    assert "NaN" not in svg
    return svg


def test_charts_render(synthetic_log: SyntheticLog, tmp_path: Path) -> None:
    evaluation = evaluate(synthetic_log(600, (0.2, 0.4), (0.6, 0.4)), fixed_offers=2)
    for name, chart in charts.CHARTS.items():
        assert "<svg" in charts.to_svg(chart(evaluation, charts.DARK))
        charts.save_png(chart(evaluation), tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    charts.save_html(charts.values_chart(evaluation), tmp_path / "values.html")
    page = (tmp_path / "values.html").read_text(encoding="utf-8")
    assert "<script src=" not in page
    assert 'rel="stylesheet"' not in page


def test_the_band_is_the_confidence_sequence(synthetic_log: SyntheticLog) -> None:
    evaluation = evaluate(synthetic_log(600, (0.2, 0.4), (0.6, 0.4)))
    chart, last = charts.cumulative_chart(evaluation), evaluation.series[-1]
    assert "confidence sequence" in words_of(chart)
    rows = [row for row in rows_of(chart.to_dict()) if row["n"] == last.n]
    found = {row["policy"]: (row["value"], row["low"], row["high"]) for row in rows}
    assert found == {name: last.values[name] for name in found}
    assert evaluation.against in found


def test_every_chart_that_has_numbers_is_drawn(synthetic_log: SyntheticLog) -> None:
    evaluation = evaluate(synthetic_log(600, (0.2, 0.4), (0.6, 0.4)), slices=("week", "H.segment"))
    report = FeatureReport("homepage", "--cb_explore_adf", 600, 0.95, (FeatureWorth("W", estimate(0.1), True, False),))
    whole = replace(evaluation, features=report, reconciliation=HoldoutSums().result(0.1))
    named = charts.drawings(whole)
    assert list(named) == [
        "values", "cumulative", "weights", "calibration", "offers", "slices_week", "slices_H_segment", "features",
        "holdout",
    ]  # fmt: skip
    for draw in named.values():
        renders(draw(charts.DARK))
    alone = replace(evaluation.findings, calibration=(), offers=())
    assert list(charts.drawings(replace(evaluation, findings=alone, slices=None))) == [
        "values",
        "cumulative",
        "weights",
    ]


def test_the_best_are_shown_after_the_baseline(synthetic_log: SyntheticLog) -> None:
    evaluation = evaluate(synthetic_log(3000, (0.1, 0.4, 0.2), (0.4, 0.3, 0.3)), fixed_offers=3)
    assert charts.shown_policies(evaluation, 3)[:2] == ["logged", "offer:b1"]


@pytest.mark.parametrize("theme", [charts.LIGHT, charts.DARK])
def test_weights_and_offers(synthetic_log: SyntheticLog, theme: charts.Theme) -> None:
    (chunk,) = Interactions(synthetic_log(600, (0.2, 0.4), (0.9, 0.1))).chunks()
    weights = Weights.of_chunk(chunk, uniform(chunk)).result
    svg = renders(weights_chart({"uniform": weights, "again": weights, "third": weights}, theme))
    assert "uniform" in svg
    assert "the heaviest 1%" in svg
    none = Weights.of_chunk(chunk, np.zeros(len(chunk.row))).result
    assert "no policy has any weight" in renders(weights_chart({"none": none}, theme))
    offers = LogDiagnostics.of(chunk).findings().offers
    assert "a0" in renders(offers_chart(offers, theme))
    assert "no offer was served" in renders(offers_chart((), theme))


def test_a_wrong_offer_stands_out(synthetic_log: SyntheticLog) -> None:
    (chunk,) = Interactions(synthetic_log(3000, (0.2, 0.4), (0.6, 0.4), logged=(0.3, 0.7))).chunks()
    chart = offers_chart(LogDiagnostics.of(chunk).findings().offers).to_dict()
    assert {(row["offer"], row["off"]) for row in rows_of(chart) if "off" in row} == {("a0", True), ("b1", True)}


@pytest.mark.parametrize("theme", [charts.LIGHT, charts.DARK])
def test_slices(theme: charts.Theme) -> None:
    gold = Slice("gold", 500, 0.5, {"new": estimate(0.4)}, {"new": estimate(0.1)})
    small = Slice("rare", 5, 0.1, {"new": None}, {"new": None})
    sliced = SlicedValues("logged", 0.95, 0.975, 2, {"H.segment": (gold, small), "week": (small,)})
    svg = renders(slices_chart(sliced, "H.segment", "new", theme))
    assert "rare (5)" in svg
    assert "not enough data" in svg
    assert "Bonferroni" in svg
    change = slices_chart(sliced, "H.segment", "new", theme, difference=True)
    assert "new minus logged" in renders(change)
    assert "not enough data in any slice" in renders(slices_chart(sliced, "week", "new", theme))
    with pytest.raises(KeyError):
        slices_chart(sliced, "D.age_band", "new", theme)
    with pytest.raises(KeyError, match="old"):
        slices_chart(sliced, "week", "old", theme)


@pytest.mark.parametrize("theme", [charts.LIGHT, charts.DARK])
def test_reconciliation(theme: charts.Theme) -> None:
    found = Reconciliation("agree", "agree: by 0", estimate(0.1), estimate(0.2), estimate(0.1), RATIO, 900, 100)
    svg = renders(reconciliation_chart(found, theme))
    assert "Agree: by 0" in svg
    assert "estimated from the log" in svg
    refused = replace(found, estimated=None, gap=None)
    assert "estimated from the log" not in renders(reconciliation_chart(refused, theme))
    assert "no uplift can be observed" in renders(reconciliation_chart(HoldoutSums().result(0.1), theme))


@pytest.mark.parametrize("theme", [charts.LIGHT, charts.DARK])
def test_features_are_in_order_of_loss(theme: charts.Theme) -> None:
    worth = (
        FeatureWorth("W", estimate(0.0), False, False),
        FeatureWorth("H", estimate(0.3), True, False),
        FeatureWorth("S", estimate(0.1, 1, False), False, False),
        FeatureWorth("D", estimate(0.2), False, False, ("not supported",)),
    )
    report = FeatureReport("homepage", "--cb_explore_adf", 100, 0.95, worth)
    chart = features_chart(report, theme)
    rows = [row for row in rows_of(chart.to_dict()) if "feature" in row][:4]
    assert [(row["feature"], row["is_faint"]) for row in rows] == [("H", False), ("D", True), ("S", True), ("W", False)]
    renders(chart)
    assert "no feature was left out" in renders(features_chart(replace(report, worth=()), theme))


def test_a_missing_extra_is_named(synthetic_log: SyntheticLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(charts.ChartsUnavailable, match=r"offerloop\[charts\]"):
        charts.values_chart(evaluate(synthetic_log(50, (0.2, 0.4), (0.6, 0.4))))
    with pytest.raises(chart_style.ChartsUnavailable):
        chart_style.load_altair()
