"""What an import takes, what it counts, and what it does twice."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from contextual_bandit import events
from contextual_bandit.loops import LoopConfig, RewardDefinition
from contextual_bandit.types import Event
from evaluation.row_faults import LogUnusable
from learner import import_dsjson
from learner.import_dsjson import ImportCounts, import_file

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
CONFIG = LoopConfig("home")


class KeptLog:
    """A log in memory."""

    def __init__(self) -> None:
        self.runs: list[list[Event]] = []

    def known(self, decision_ids: Sequence[str]) -> frozenset[str]:
        return frozenset(decision_ids) & {one.payload["decision_id"] for run in self.runs for one in run}

    def append(self, messages: Sequence[bytes]) -> None:
        self.runs.append([events.decode("1-0", message) for message in messages])


def line(event_id: str, **fields: Any) -> str:
    plain = {
        "_label_cost": -1, "_label_probability": 0.5, "_labelIndex": 0, "EventId": event_id,
        "Timestamp": "2021-02-04T16:31:29Z", "a": [1, 2], "p": [0.5, 0.5],
        "c": {"_multi": [{"_tag": "a"}, {"_tag": "b"}]},
    }  # fmt: skip
    return json.dumps(plain | fields)


def imported(path: Path, log: KeptLog, config: LoopConfig = CONFIG) -> tuple[ImportCounts, int]:
    counts, done = ImportCounts(), 0

    def advance(more: int) -> None:
        nonlocal done
        done += more

    import_file(path, config, log, counts, NOW, advance)
    return counts, done


def test_dirty_lines_are_counted_and_never_fatal(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    lines = [
        line("e1"),
        line("e1"),
        '{"checkpoint_info":{"reward_function_type":0,"default_reward":0}}',
        '{"RewardValue":1.0,"EnqueuedTimeUtc":"2021-02-04T16:31:29Z","EventId":"gone"}',
        "{not json",
        "",
        "[1]",
        line("e2", _skipLearn=True),
        line("e3", a=[2, 1]),
        line("e4", a=None, p=None),
        line("e5", pdrop=0.5, _label_cost=-7),
        line("e6", Timestamp=None),
        line("e7", c={"u": {"email": "x"}, "_multi": [{"_tag": "a"}, {"_tag": "b"}]}),
        line("e\x00"),
        line("e8", _labelIndex=5),
    ]
    path.write_text("\n".join(lines) + "\n")
    log = KeptLog()
    counts, done = imported(path, log)
    assert [one.payload["decision_id"] for run in log.runs for one in run] == ["e1", "e3", "e4", "e5", "e6", "e7"]
    assert {one.type for run in log.runs for one in run} == {"imported"}
    assert dict(counts.found.skipped) == {
        "line: a checkpoint": 1,
        "line: an observation without its decision": 1,
        "line: no JSON": 1,
        "line: no JSON object": 1,
        "line: holds a NUL character": 1,
        "_skipLearn: set": 1,
        "chosen: not among the actions": 1,
    }
    assert (counts.lines, counts.imported, counts.repeated) == (14, 6, 1)
    assert (counts.unordered, counts.undistributed, counts.thinned, counts.timeless) == (1, 1, 1, 1)
    assert (counts.outside, counts.left_out) == (1, 1)
    shown = "\n".join(counts.shown())
    assert "6 decisions imported, 1 already there, of 14 lines" in shown
    assert "1 have a ranking (a) that does not begin with the chosen action" in shown
    assert "1 not used, line: no JSON (line 5, got '{not json" in shown
    assert done == path.stat().st_size - len("\n")


def test_the_second_time_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_dsjson, "MOST_LINES", 2)
    path = tmp_path / "log.json.gz"
    with gzip.open(path, "wt") as file:
        file.write("\n".join([line("e1"), line("e2"), line("e3"), line("e1"), line("e4")]))
    log = KeptLog()
    counts, _ = imported(path, log)
    assert [len(run) for run in log.runs] == [2, 1, 1], "one run at a time is in memory"
    assert (counts.imported, counts.repeated) == (4, 1)
    counts, _ = imported(path, log)
    assert (counts.imported, counts.repeated, len(log.runs)) == (0, 5, 3)


def test_rewards_are_kept_whatever_the_range_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text(line("e1", _label_cost=1.0) + "\n" + line("e2", _label_cost=-2.0))
    log = KeptLog()
    wide = replace(CONFIG, reward=RewardDefinition(low=-1.0, high=1.0))
    counts, _ = imported(path, log, wide)
    assert counts.outside == 1
    assert [one.payload["rewards"] for run in log.runs for one in run] == [[-1.0], [2.0]]


def test_a_file_that_breaks_off_is_imported_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "log.json.gz"
    whole = gzip.compress("\n".join(line(f"e{number}") for number in range(5000)).encode())
    path.write_bytes(whole[: len(whole) // 2])
    log, counts = KeptLog(), ImportCounts()
    with pytest.raises(LogUnusable, match="cannot be read after line"):
        import_file(path, CONFIG, log, counts, NOW, lambda _: None)
    assert counts.imported == sum(map(len, log.runs)) > 0
