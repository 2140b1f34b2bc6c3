"""The command on files of synthetic logs: what must be refused is refused, and what is shown holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation import __main__ as command

OFFERS = ("a", "b", "c", "d", "e")


def write(path: Path, *, n: int = 20_000, rate: float = 0.2, seed: int = 1, **changed: Any) -> Path:
    """A log of an epsilon-greedy logger with the target's probabilities; ``changed`` plants one fault."""
    rng = np.random.default_rng(seed)
    exploration = changed.get("exploration", 0.3)
    group = rng.integers(0, 3, n)
    rates = rate * (0.5 + (np.arange(3)[:, np.newaxis] + np.arange(5)) % 5 / 4)
    logging = np.full((3, 5), exploration / 5)
    logging[np.arange(3), np.arange(3)] += 1.0 - exploration
    if changed.get("never"):
        # The last offer is never served, and nothing says so.
        logging[:, 4] = 0.0
        logging /= logging.sum(axis=1, keepdims=True)
    target = changed.get("target", np.full((3, 5), 0.2))
    if changed.get("same"):
        target = logging
    chosen = (rng.random((n, 1)) > np.cumsum(logging, axis=1)[group][:, :-1]).sum(axis=1)
    reward = (rng.random(n) < rates[group, chosen]).astype(float)
    propensity = logging[group, chosen]
    if changed.get("wrong"):
        propensity = np.clip(propensity * 1.3, 0.0, 1.0)
    with path.open("w", encoding="utf-8") as file:
        for row in range(n):
            line = {
                "event_id": f"e{seed}-{row}",
                "ts": f"2026-03-{1 + row * 27 // n:02d}T12:00:00Z",
                "context": {"group": int(group[row])},
                "actions": [{"id": offer} for offer in OFFERS],
                "chosen": int(chosen[row]),
                "propensity": float(propensity[row]),
                "reward": float(reward[row]),
                "target_probs": target[group[row]].tolist(),
            }
            file.write(json.dumps(line) + "\n")
    return path


def result(path: Path, *more: str) -> dict[str, Any]:
    out = path.with_suffix(".out.json")
    arguments = ["--log", str(path), "--target", "column:target_probs", "--json", str(out)]
    assert command.main([*arguments, "--q", "rates", "--replicates", "200", *more]) == 0
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def one_offer(index: int, share: float = 1.0) -> Any:
    target = np.full((3, 5), (1.0 - share) / 5)
    target[:, index] += share
    return target


def test_a_better_and_a_worse_policy_are_told(tmp_path: Path) -> None:
    best = np.eye(5)[[4, 3, 2]]  # the best offer of each group
    better = result(write(tmp_path / "better.jsonl", target=best))
    assert better["verdict"] == "better"
    assert better["policies"]["column:target_probs"]["difference"]["low"] > 0.0
    worst = np.eye(5)[[0, 4, 3]]
    assert result(write(tmp_path / "worse.jsonl", target=worst))["verdict"] == "worse"


def test_weights_that_are_too_heavy_are_refused(tmp_path: Path) -> None:
    found = result(write(tmp_path / "log.jsonl", exploration=0.004, target=one_offer(4)))
    assert found["verdict"] == "refused"
    assert "weights too heavy" in " ".join(found["reasons"])


def test_offers_that_were_never_served_are_refused(tmp_path: Path) -> None:
    found = result(write(tmp_path / "log.jsonl", never=True, target=one_offer(4, share=1 / 3)))
    assert found["verdict"] == "refused"
    assert "not supported" in " ".join(found["reasons"])


def test_wrong_propensities_are_refused(tmp_path: Path) -> None:
    found = result(write(tmp_path / "log.jsonl", wrong=True))
    assert found["verdict"] == "refused"
    assert "calibration" in " ".join(found["reasons"])


def test_the_logger_itself_is_not_shown_to_be_better(tmp_path: Path) -> None:
    found = result(write(tmp_path / "log.jsonl", same=True))
    assert found["verdict"] == "not_shown"
    assert found["policies"]["column:target_probs"]["difference"]["value"] == pytest.approx(0.0, abs=1e-4)


def test_estimated_propensities_show_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", target=np.eye(5)[[4, 3, 2]])
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        del line["propensity"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    found = result(path)
    assert found["estimated_propensities"]
    assert found["verdict"] in ("not_shown", "refused")


def test_another_policy_may_be_compared_with_and_bounds_be_set(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl")
    found = result(path, "--against", "offer:a", "--clip", "2", "--switch-tau", "2", "--dros-lambda", "1")
    assert found["against"] == "offer:a"
    estimates = found["estimates"]
    assert estimates["clipped_ips"]["value"] < estimates["ips"]["value"]
    assert estimates["switch_dr"]["value"] != estimates["dr"]["value"] != estimates["dros"]["value"]
    shown = result(path, "--interval", "bootstrap")["estimates"]["ips"]
    assert shown["interval"] == "Poisson bootstrap"
    assert [shown["low"], shown["high"]] == [shown["intervals"]["bootstrap"][end] for end in ("low", "high")]


def test_bad_input_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "log.jsonl", n=50)
    out = ["--json", str(tmp_path / "out.json")]
    assert command.main(["--log", str(tmp_path / "none.jsonl"), *out]) == 2
    assert "none.jsonl" in capsys.readouterr().err
    assert command.main(["--log", str(path), "--target", "column:nothing", *out]) == 2
    assert "nothing" in capsys.readouterr().err
    assert command.main(["--log", str(path), "--target", "snapshot:s1", *out]) == 2
    assert "snapshot:s1" in capsys.readouterr().err
    assert command.main(["--log", str(path), "--rewards", "0", "0.5", *out]) == 2
    assert "reward 1.0 is outside [0.0, 0.5]" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()
