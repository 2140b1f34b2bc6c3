import json
from pathlib import Path
from typing import Any

import pytest

from loadtest.objective import NothingAnswered, Objective, judge, percentile


def kind(name: str, times: dict[str, int], failures: int = 0, seconds: float = 10.0) -> dict[str, Any]:
    return {
        "name": name, "num_requests": sum(times.values()), "num_failures": failures, "response_times": times,
        "start_time": 1000.0, "last_request_timestamp": 1000.0 + seconds,
    }  # fmt: skip


@pytest.fixture
def written(tmp_path: Path) -> Any:
    def write(*kinds: dict[str, Any]) -> Path:
        path = tmp_path / "loadtest.json"
        path.write_text(json.dumps(kinds))
        return path

    return write


def test_an_objective_that_holds(written: Any) -> None:
    path = written(kind("rank", {"10": 99, "200": 1}), kind("reward", {"5": 20}))
    verdict = judge(path, Objective(p99_ms=10.0))
    assert verdict.is_met
    assert (verdict.requests, verdict.failures, verdict.ranks) == (120, 0, 100)
    assert (verdict.p50_ms, verdict.p99_ms, verdict.ranks_per_second) == (10.0, 10.0, 10.0)


def test_a_slow_percentile_breaks_it(written: Any) -> None:
    verdict = judge(written(kind("rank", {"10": 98, "200": 2})), Objective(p99_ms=199.0))
    assert verdict.faults == ("the 99th percentile of rank is 200 ms, more than 199 ms",)


def test_one_failed_call_of_any_kind_breaks_it(written: Any) -> None:
    verdict = judge(written(kind("rank", {"10": 100}), kind("reward", {"5": 3}, failures=1)), Objective(p99_ms=50.0))
    assert verdict.faults == ("1 calls failed",)


def test_at_a_constant_rate_the_time_from_due_counts(written: Any) -> None:
    path = written(kind("rank", {"10": 1000}), kind("rank from due", {"900": 1000}))
    verdict = judge(path, Objective(p99_ms=50.0, rate=100.0))
    assert verdict.p99_ms == 900.0
    assert verdict.requests == 1000
    assert len(verdict.faults) == 1


def test_a_rate_that_was_not_reached_breaks_it(written: Any) -> None:
    path = written(kind("rank", {"10": 970}), kind("rank from due", {"10": 970}))
    verdict = judge(path, Objective(p99_ms=50.0, rate=100.0))
    assert verdict.faults == ("97.0 rank calls per second, not 100",)
    assert judge(path, Objective(p99_ms=50.0, rate=98.0)).is_met


def test_without_a_rank_call_there_is_no_verdict(written: Any, tmp_path: Path) -> None:
    with pytest.raises(NothingAnswered, match="no rank call"):
        judge(written(kind("reward", {"5": 3})), Objective(p99_ms=50.0))
    with pytest.raises(NothingAnswered, match="Locust wrote no"):
        judge(tmp_path / "none.json", Objective(p99_ms=50.0))


def test_percentiles_of_counts() -> None:
    counts = {30.0: 1, 10.0: 1, 20.0: 2}
    assert [percentile(counts, share) for share in (0.0, 0.25, 0.26, 0.75, 0.76, 1.0)] == [10, 10, 20, 20, 30, 30]
    with pytest.raises(ValueError, match="no values"):
        percentile({}, 0.5)
