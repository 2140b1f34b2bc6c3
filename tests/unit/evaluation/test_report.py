"""Report: verdict first, nothing from a network, everything escaped, JSON without nan."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from contextual_bandit.types import LoggedInteraction
from evaluation import report
from evaluation.chunks import CHUNK_SIZE
from evaluation.estimators import ESTIMATORS
from evaluation.evaluate import Choices
from evaluation.evaluate import evaluate as evaluate_log
from evaluation.interactions import Interactions
from evaluation.targets import STANDARD_TARGETS, fixed_offer


def evaluate(interactions, targets=STANDARD_TARGETS, *, chunk_size=CHUNK_SIZE, model=None, progress=None, **chosen):
    log = Interactions(interactions, chunk_size)
    return evaluate_log(log, targets, Choices(**chosen), model=model, progress=progress)


SyntheticLog = Callable[..., list[LoggedInteraction]]


def test_page_and_json(synthetic_log: SyntheticLog, tmp_path: Path) -> None:
    evaluation = evaluate(synthetic_log(5000, (0.2, 0.5), (0.7, 0.3)), fixed_offers=2)
    page = report.write(evaluation, tmp_path / "out").read_text(encoding="utf-8")
    body = page.split("<main>")[1]
    assert body.strip().startswith('<p class="verdict better">Policy offer:b1 is better than the served policy: +0.')
    assert not re.search(r'(?:src|href|srcset)="(?!data:)', page)
    assert "http" not in page.split("<main>")[0]
    for text in ("Doubly robust", "Self-normalised IPS", "Direct method", "Propensity calibration", "uniform"):
        assert text in body
    written = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert written == report.to_json(evaluation)
    assert written["verdict"] == "better"
    assert set(written["estimates"]) == set(ESTIMATORS)
    assert {"value", "low", "high", "interval"} <= set(written["estimates"]["dr"])
    assert written["policies"]["logged"]["estimates"]["ips"]["value"] == pytest.approx(evaluation.mean_reward)


def test_names_are_escaped(synthetic_log: SyntheticLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    log = synthetic_log(500, (0.2, 0.5), (0.7, 0.3))
    hostile = "<script>alert(1)</script>"
    page = report.to_html(replace(evaluate(log, {hostile: fixed_offer("b1")}), loop=hostile))
    assert hostile not in page
    assert "&lt;script&gt;" in page
    assert "offerloop[charts]" in page  # said in place of the charts


def test_numbers_that_do_not_exist_are_null(synthetic_log: SyntheticLog) -> None:
    evaluation = evaluate(synthetic_log(1, (0.2, 0.5), (0.7, 0.3)), {"never": fixed_offer("zzz")})
    text = json.dumps(report.to_json(evaluation), allow_nan=False)
    assert json.loads(text)["policies"]["never"]["estimates"]["snips"]["value"] is None


def test_an_empty_log_has_a_page(tmp_path: Path) -> None:
    page = report.write(evaluate([]), tmp_path).read_text(encoding="utf-8")
    assert "No verdict: not enough data" in page


@pytest.mark.parametrize(
    ("rates", "logged", "words"),
    [
        ((0.3, 0.3), None, "No alternative is shown to be better than the served policy: "),
        ((0.5, 0.1), (0.7, 0.3), "No verdict: calibration: offers logged with probability"),
    ],
)
def test_verdicts_in_words(
    synthetic_log: SyntheticLog, rates: tuple[float, ...], logged: tuple[float, ...] | None, words: str
) -> None:
    evaluation = evaluate(synthetic_log(4000, rates, (0.9, 0.1), logged=logged))
    assert report.verdict_in_words(evaluation).startswith(words)


def test_nothing_supported_in_words(synthetic_log: SyntheticLog) -> None:
    targets = {name: fixed_offer(name) for name in ("never", "nobody", "nothing")}
    evaluation = evaluate(synthetic_log(1000, (0.2, 0.5), (0.7, 0.3)), targets)
    words = report.verdict_in_words(evaluation)
    assert words == "No verdict: the log supports none of the 3 alternatives to the served policy."


def test_one_alternative_in_words(synthetic_log: SyntheticLog) -> None:
    log = synthetic_log(1000, (0.2, 0.5), (0.7, 0.3))
    for offer, words in (
        ("zzz", "No verdict on policy one: not supported: 100.0% of the policy's probability"),
        ("a0", "Policy one is worse than the served policy: -0."),
        ("b1", "Policy one is better than the served policy: +0."),
    ):
        assert report.verdict_in_words(evaluate(log, {"one": fixed_offer(offer)})).startswith(words)
    same = evaluate(synthetic_log(1000, (0.3, 0.3), (0.7, 0.3)), {"one": fixed_offer("a0")})
    words = "Policy one is not shown to be better than the served policy: difference "
    assert report.verdict_in_words(same).startswith(words)
