"""The coverage command: its page keeps what is around the marks."""

from __future__ import annotations

from pathlib import Path

import pytest

from contextual_bandit.types import Estimate
from evaluation import coverage
from evaluation.coverage import BEGIN, END, Measured, main, write


def test_measured_by_hand() -> None:
    estimates = [
        Estimate("ips", 0.4, 0.2, 0.6, 10, 10.0, reliable=False),
        Estimate("ips", 0.6, 0.55, 0.65, 10, 10.0),
        Estimate("ips", 0.5, 0.4, 0.6, 10, 10.0),
        Estimate("ips", 0.5, 0.4, 0.6, 10, 10.0),
    ]
    one = Measured.of(estimates, truth=0.5, normal_width=0.1)
    assert (one.coverage, one.width, one.unreliable, one.bias) == pytest.approx((0.75, 2.0, 0.25, 0.0))
    assert one.bias_error == pytest.approx(0.1414 / 2, abs=1e-3)


def test_the_page_keeps_what_is_around_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Before\n{BEGIN}\nold\n{END}\nAfter\n")
    write(page, "new")
    write(page, "newer")
    assert page.read_text() == f"# Before\n{BEGIN}\n\nnewer\n{END}\nAfter\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="has no lines"):
        write(page, "new")
    assert page.read_text() == "no marks"


def test_the_command_makes_every_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(coverage, "CELLS", ((0.2, 0.3, 1000),))
    monkeypatch.setattr(coverage, "RATES", (0.2,))
    monkeypatch.setattr(coverage, "EXPLORATIONS", (0.3,))
    page = tmp_path / "page.md"
    assert main(["--runs", "20", "--out", str(page)]) == 0
    text = page.read_text()
    assert text.count("### ") == 8
    assert text.count("| 20.0% | 30% | 1,000 |") == 7
    assert "`python -m evaluation.coverage --runs 20 --seed 1`" in text
    with pytest.raises(SystemExit):
        main(["--runs", "3"])
    assert "--runs 3 is below 20" in capsys.readouterr().err
