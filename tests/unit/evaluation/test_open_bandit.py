"""The published data as a log, on a small data set of the same form."""

from __future__ import annotations

import importlib.metadata
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from evaluation import open_bandit
from evaluation.logs import open_log
from evaluation.open_bandit import (
    DatasetUnavailable,
    click_rates,
    find_dataset,
    main,
    read_impressions,
    sampling_parameters,
    target_probabilities,
    thompson_probabilities,
)

ITEMS = 4
ROWS = 60


def write_dataset(root: Path) -> Path:
    """Four items, sixty decisions per log, out of order; returns the folder that holds ``obp``."""
    rng = np.random.default_rng(5)
    for behavior in open_bandit.BEHAVIORS:
        folder = root / "obp" / "dataset" / "obd" / behavior / "all"
        folder.mkdir(parents=True)
        head = ",timestamp,item_id,position,click,propensity_score,user_feature_0,user-item_affinity_0"
        lines = [
            f"{row},2019-11-24 00:00:{59 - row % 60:02}.5+00:00,{rng.integers(ITEMS)},{rng.integers(1, 4)},"
            f"{int(rng.random() < 0.3)},{0.25 if behavior == 'random' else 0.5},u{row % 3},0.0"
            for row in range(ROWS)
        ]
        (folder / "all.csv").write_text("\n".join([head, *lines]) + "\n")
        items = [f"{item},{item},{-0.5 * item},x{item}" for item in range(ITEMS)]
        (folder / "item_context.csv").write_text("\n".join([",item_id,item_feature_0,item_feature_1", *items]) + "\n")
    conf = root / "obp" / "policy" / "conf"
    conf.mkdir(parents=True)
    numbers = {"alpha": (3.0, 1.0, 2.0, 5.0), "beta": (40.0, 30.0, 20.0, 10.0)}
    text = "all:\n" + "".join(
        f"  {name}:\n" + "".join(f"    - {one}\n" for one in values) for name, values in numbers.items()
    )
    (conf / "prior_bts.yaml").write_text(text + "men:\n  alpha:\n    - 9.0\n")
    return root


@pytest.fixture
def dataset(tmp_path: Path) -> open_bandit.Place:
    return find_dataset(write_dataset(tmp_path))


def test_parameters_are_those_of_the_campaign(dataset: open_bandit.Place) -> None:
    alpha, beta = sampling_parameters(dataset, "all")
    assert alpha.tolist() == [3.0, 1.0, 2.0, 5.0]
    assert beta.tolist() == [40.0, 30.0, 20.0, 10.0]


def test_sampling_is_draw_by_draw() -> None:
    alpha, beta = np.array([3.0, 1.0, 2.0, 5.0]), np.array([40.0, 30.0, 20.0, 10.0])
    generator, counts = np.random.RandomState(12345), np.zeros((4, 3))
    for _ in range(5000):
        order = generator.beta(a=alpha, b=beta).argsort()[::-1]
        for position in range(3):
            counts[order[position], position] += 1
    assert thompson_probabilities(alpha, beta, 5000).tolist() == (counts / 5000).tolist()


def test_click_rates_by_hand(dataset: open_bandit.Place) -> None:
    found = read_impressions(dataset, "all", "random")
    at = (found.item == 2) & (found.position == 1)
    expected = (found.click[at].sum() + 100.0 * found.click.mean()) / (at.sum() + 100.0)
    assert click_rates(found)[2, 1] == pytest.approx(expected)


@pytest.mark.parametrize("name", ["log.parquet", "log.jsonl"])
@pytest.mark.parametrize("behavior", open_bandit.BEHAVIORS)
def test_the_log_says_what_the_data_says(tmp_path: Path, dataset: open_bandit.Place, name: str, behavior: str) -> None:
    out = tmp_path / "out" / name
    assert main(["--wheel", str(tmp_path), "--behavior", behavior, "--out", str(out)]) == 0
    (chunk,) = open_log(out).chunks()
    found = read_impressions(dataset, "all", behavior)
    assert chunk.n == ROWS
    assert np.all(np.diff(chunk.at) >= np.timedelta64(0))
    assert (chunk.chosen - chunk.first).tolist() == found.item.tolist()
    assert chunk.reward.tolist() == found.click.tolist()
    assert chunk.propensity.tolist() == found.propensity.tolist()
    target, rates = target_probabilities(dataset, found), click_rates(found)
    assert chunk.columns["target_probs"].reshape(ROWS, ITEMS).tolist() == target[:, found.position].T.tolist()
    assert chunk.columns["q_hat"].reshape(ROWS, ITEMS).tolist() == rates[:, found.position].T.tolist()
    decision = chunk.decisions[3]
    assert [one.offer_id for one in decision.actions] == ["0", "1", "2", "3"]
    assert decision.context.namespaces["c"] == {"position": str(found.position[3] + 1)}
    assert decision.context.namespaces["user"] == dict(found.users[3])
    assert len({one.decision_id for one in chunk.decisions}) == ROWS


def test_items_keep_their_features_in_parquet(tmp_path: Path, dataset: open_bandit.Place) -> None:
    main(["--wheel", str(tmp_path), "--out", str(tmp_path / "log.parquet")])
    (chunk,) = open_log(tmp_path / "log.parquet").chunks()
    assert dict(chunk.decisions[0].actions[2].features) == {"feature_0": -1.0, "feature_1": "x2"}


def test_the_other_policy_is_the_target(dataset: open_bandit.Place) -> None:
    of_random = target_probabilities(dataset, read_impressions(dataset, "all", "random"))
    assert of_random.sum(axis=0) == pytest.approx(np.ones(3))
    assert of_random[3, 0] > 0.9  # by far the best rate
    assert target_probabilities(dataset, read_impressions(dataset, "all", "bts")).tolist() == [[0.25] * 3] * 4


def test_a_wheel_is_read_as_it_is(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "tree")
    wheel = tmp_path / "obp.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in sorted(root.rglob("*.*")):
            archive.write(path, path.relative_to(root))
    assert main(["--wheel", str(wheel), "--out", str(tmp_path / "log.jsonl")]) == 0
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == ROWS


@pytest.mark.parametrize("given", ["absent", "file"])
def test_data_that_is_not_there_is_said_so(tmp_path: Path, given: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("no wheel")
    out = tmp_path / "log.parquet"
    assert main(["--wheel", str(tmp_path / given), "--out", str(out)]) == 1
    assert given in capsys.readouterr().err
    assert not out.exists()


def test_without_an_installation_the_way_to_get_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    with pytest.raises(DatasetUnavailable, match=r"pip download obp==0\.4\.1 --no-deps"):
        find_dataset()


def test_without_pyarrow_only_lines_can_be_written(
    tmp_path: Path, dataset: open_bandit.Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["--wheel", str(tmp_path), "--out", str(tmp_path / "log.parquet")]) == 1
    assert "offerloop[parquet]" in capsys.readouterr().err
    assert main(["--wheel", str(tmp_path), "--out", str(tmp_path / "log.jsonl")]) == 0
