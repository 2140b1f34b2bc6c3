"""Logs in Parquet: the same as JSON lines, in any spelling of the columns, in any size of batch."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.chunks import Chunk
from evaluation.log_columns import ColumnModel, column_target
from evaluation.logs import open_log
from evaluation.row_faults import LogUnusable

Parquet = Callable[..., Path]


def rows_of(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows with two to five actions each."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        size = int(rng.integers(2, 6))
        probs = rng.dirichlet(np.ones(size)).tolist()
        chosen = int(rng.integers(size))
        rows.append({
            "event_id": f"e{number}",
            "ts": f"2026-03-01T10:{number % 60:02}:00Z",
            "context": {"device": f"d{number % 3}", "age": float(number)},
            "actions": [{"id": f"o{one}", "price": float(one)} for one in rng.permutation(6)[:size].tolist()],
            "chosen": chosen,
            "propensity": probs[chosen],
            "reward": float(rng.integers(2)),
            "probs": probs,
            "target_probs": rng.dirichlet(np.ones(size)).tolist(),
            "q_hat": rng.random(size).tolist(),
        })  # fmt: skip
    return rows


@pytest.fixture
def parquet(tmp_path: Path) -> Parquet:
    """Write rows, or a table, into a file with small row groups."""

    def write(given: Any, **changed: Any) -> Path:
        table = given if isinstance(given, pa.Table) else pa.Table.from_pylist(given)
        for name, column in changed.items():
            table = table.drop_columns([name]) if column is None else with_column(table, name, column)
        path = tmp_path / "log.parquet"
        pq.write_table(table, path, row_group_size=7)
        return path

    return write


def with_column(table: pa.Table, name: str, column: Any) -> pa.Table:
    if name not in table.column_names:
        return table.append_column(name, column)
    return table.set_column(table.column_names.index(name), name, column)


def merged(chunks: Sequence[Chunk]) -> dict[str, Any]:
    """What chunks say, whichever way they were cut."""
    names = {code: name for name, code in chunks[-1].codes.items()}
    served = [chunk.served for chunk in chunks]
    return {
        "hashes": np.concatenate([chunk.hashes for chunk in chunks]).tolist(),
        "reward": np.concatenate([chunk.reward for chunk in chunks]).tolist(),
        "propensity": np.concatenate([chunk.propensity for chunk in chunks]).tolist(),
        "at": np.concatenate([chunk.at for chunk in chunks]).astype(str).tolist(),
        "sizes": np.concatenate([np.bincount(chunk.row) for chunk in chunks]).tolist(),
        "chosen": np.concatenate([chunk.chosen - chunk.first for chunk in chunks]).tolist(),
        "offers": [names[code] for chunk in chunks for code in chunk.offer.tolist()],
        "served": None if served[0] is None else np.concatenate([one for one in served if one is not None]).tolist(),
        "columns": {
            name: np.concatenate([chunk.columns[name] for chunk in chunks]).tolist() for name in chunks[0].columns
        },
        "decisions": [dataclasses.replace(one, loop="") for chunk in chunks for one in chunk.decisions],
    }


def from_lines(rows: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    path = folder / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return merged(list(open_log(path).chunks()))


@pytest.mark.parametrize("most_rows", [3, 100])
def test_parquet_and_json_lines_are_the_same_log(
    parquet: Parquet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_rows: int
) -> None:
    monkeypatch.setattr("evaluation.parquet_log.MOST_ROWS", most_rows)
    monkeypatch.setattr("evaluation.parquet_log.LEAST_ROWS", 1)
    rows = rows_of(20)
    chunks = list(open_log(parquet(rows)).chunks())
    assert (len(chunks) > 6) == (most_rows == 3)
    assert merged(chunks) == from_lines(rows, tmp_path)


def spellings(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    stamps = pa.array([row["ts"] for row in rows]).cast(pa.timestamp("us", "UTC"))
    floats, fixed = pa.list_(pa.float32()), [row["q_hat"] for row in rows]
    return {
        "times": {"ts": stamps},
        "nanoseconds without a zone": {"ts": stamps.cast(pa.timestamp("us")).cast(pa.timestamp("ns"))},
        "JSON text": {
            "context": pa.array([json.dumps(row["context"]) for row in rows]),
            "actions": pa.array([json.dumps(row["actions"]) for row in rows]),
        },
        "large types": {
            "event_id": pa.array([row["event_id"] for row in rows], pa.large_string()),
            "q_hat": pa.array(fixed, pa.large_list(pa.float64())),
        },
        "dictionary of ids": {"event_id": pa.array([row["event_id"] for row in rows]).dictionary_encode()},
        "whole rewards": {"reward": pa.array([int(row["reward"]) for row in rows], pa.int8())},
        "yes or no": {"reward": pa.array([bool(row["reward"]) for row in rows])},
        "short floats": {"target_probs": pa.array([row["target_probs"] for row in rows], floats)},
    }


@pytest.mark.parametrize("spelling", spellings(rows_of(1)))
def test_columns_may_be_spelled_in_several_ways(parquet: Parquet, tmp_path: Path, spelling: str) -> None:
    rows = rows_of(12)
    found = merged(list(open_log(parquet(rows, **spellings(rows)[spelling])).chunks()))
    expected = from_lines(rows, tmp_path)
    columns, of = found.pop("columns"), expected.pop("columns")
    assert found == expected
    for name, numbers in of.items():
        assert columns[name] == pytest.approx(numbers, abs=1e-7)


def test_actions_may_be_ids_or_their_number(parquet: Parquet) -> None:
    rows = rows_of(5)
    ids = [[one["id"] for one in row["actions"]] for row in rows]
    (named,) = open_log(parquet(rows, actions=pa.array(ids))).chunks()
    assert [[one.offer_id for one in decision.actions] for decision in named.decisions] == ids
    (counted,) = open_log(parquet(rows, actions=pa.array([len(one) for one in ids]))).chunks()
    (silent,) = open_log(parquet(rows, actions=None)).chunks()
    for chunk in (counted, silent):
        names = {code: name for name, code in chunk.codes.items()}
        assert [names[code] for code in chunk.offer.tolist()] == [str(one) for row in ids for one in range(len(row))]
        assert [len(decision.actions) for decision in chunk.decisions] == [len(one) for one in ids]


def test_actions_without_an_id_are_called_by_their_place(parquet: Parquet) -> None:
    rows = [{**row, "actions": [{"id": None, "price": 1.0}, {"id": "b", "price": 2.0}]} for row in rows_of(3)]
    rows = [{**row, "probs": [0.5, 0.5], "target_probs": [0.5, 0.5], "q_hat": [0.5, 0.5], "chosen": 0} for row in rows]
    (chunk,) = open_log(parquet([{**row, "propensity": 0.5} for row in rows])).chunks()
    assert [one.offer_id for one in chunk.decisions[0].actions] == ["0", "b"]
    names = {code: name for name, code in chunk.codes.items()}
    assert [names[code] for code in chunk.offer.tolist()] == ["0", "b"] * 3


def test_features_are_left_out_on_request(parquet: Parquet) -> None:
    (chunk,) = open_log(parquet(rows_of(3)), features=False).chunks()
    assert chunk.decisions[0].context.namespaces == {}
    assert chunk.decisions[0].actions[0].offer_id.startswith("o")


def changed(row: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**row, **fields}


def faulty(row: dict[str, Any]) -> list[tuple[dict[str, Any], str, int]]:
    size = len(row["actions"])
    return [
        (changed(row, reward=None), "reward: missing or not a number", 0),
        (changed(row, reward=float("nan")), "reward: missing or not a number", 0),
        (changed(row, reward=float("inf")), "reward: not finite", 0),
        (changed(row, event_id=None), "event_id: missing", 0),
        (changed(row, ts=None), "ts: missing or no time", 0),
        (changed(row, ts="yesterday"), "ts: missing or no time", 0),
        (changed(row, propensity=None), "propensity: missing or not a number", 0),
        (changed(row, propensity=0.0), "propensity: outside (0, 1]", 1),
        (changed(row, propensity=1.25), "propensity: outside (0, 1]", 1),
        (changed(row, propensity=row["propensity"] / 2), "propensity: not that of probs", 1),
        (changed(row, probs=[1.0 / (size + 1)] * size), "probs: not a distribution", 1),
        (changed(row, chosen=None), "chosen: missing", 0),
        (changed(row, chosen=-1), "chosen: not among the actions", 0),
        (changed(row, chosen=size), "chosen: not among the actions", 0),
        (changed(row, actions=None), "actions: missing", 0),
        (changed(row, actions=[]), "actions: none", 0),
        (changed(row, target_probs=None), "target_probs: missing", 0),
        (changed(row, target_probs=[0.1]), "target_probs: not one number per action", 0),
        (changed(row, target_probs=[1.0] * size), "target_probs: more than 1", 0),
        (changed(row, target_probs=[-0.1] * size), "target_probs: negative", 0),
        (changed(row, q_hat=[None] * size), "q_hat: missing or not finite", 0),
    ]


@pytest.mark.parametrize("case", range(len(faulty(rows_of(1)[0]))))
def test_a_row_that_cannot_be_used_is_counted_with_its_reason(parquet: Parquet, tmp_path: Path, case: int) -> None:
    good = rows_of(9)
    bad, reason, inconsistent = faulty(good[4])[case]
    log = open_log(parquet([*good[:4], bad, *good[5:]]))
    found = merged(list(log.chunks()))
    assert found == from_lines([*good[:4], *good[5:]], tmp_path)
    assert dict(log.found.skipped) == {reason: 1}
    assert log.found.inconsistent == inconsistent
    assert any("row 5" in note and reason in note for note in log.found.notes)


def flat_table(n: int) -> pa.Table:
    rng = np.random.default_rng(3)
    return pa.table({
        "event_id": np.arange(n),
        "reward": rng.random(n),
        "propensity": 0.1 + 0.9 * rng.random(n),
        "target_prob": rng.random(n),
        "q_chosen": rng.random(n),
        "q_target": rng.random(n),
    })  # fmt: skip


def test_a_log_of_chosen_actions_alone(parquet: Parquet) -> None:
    table = flat_table(30)
    log = open_log(parquet(table, reward=pa.array([None, *table["reward"].to_pylist()[1:]])))
    (chunk,) = log.chunks()
    assert log.layout.flat
    assert chunk.n == len(chunk.row) == 29
    assert chunk.chosen.tolist() == list(range(29))
    assert column_target("target_prob")(chunk).tolist() == table["target_prob"].to_pylist()[1:]
    model = ColumnModel("q_chosen")
    assert model.predict(chunk).tolist() == table["q_chosen"].to_pylist()[1:]
    assert model.under_target(chunk, chunk.columns["target_prob"]).tolist() == table["q_target"].to_pylist()[1:]


def test_whole_numbers_and_their_digits_are_the_same_ids(parquet: Parquet) -> None:
    table = flat_table(5)
    (numbers,) = open_log(parquet(table)).chunks()
    (texts,) = open_log(parquet(table, event_id=pa.array([str(one) for one in range(5)]))).chunks()
    assert numbers.hashes.tolist() == texts.hashes.tolist()


def test_wide_logs_come_in_small_batches(parquet: Parquet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.parquet_log.MOST_PAIRS", 40)
    monkeypatch.setattr("evaluation.parquet_log.LEAST_ROWS", 1)
    chunks = list(open_log(parquet(rows_of(60))).chunks())
    assert max(len(chunk.row) for chunk in chunks) <= 80
    assert sum(chunk.n for chunk in chunks) == 60


def test_reading_may_stop_early(parquet: Parquet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.parquet_log.MOST_ROWS", 2)
    monkeypatch.setattr("evaluation.parquet_log.LEAST_ROWS", 1)
    chunks = open_log(parquet(flat_table(50))).chunks()
    assert next(chunks).n == 2


def test_unusable_files_are_refused_by_name(parquet: Parquet, tmp_path: Path) -> None:
    table = flat_table(3)
    for changes, why in (
        ({"reward": None}, "no field 'reward'; it has event_id, propensity"),
        ({"propensity": None}, "neither 'propensity' nor 'actions'"),
        ({"reward": pa.array(["1", "0", "1"])}, "column 'reward' holds no numbers but string"),
        ({"propensity": pa.array([0.0, 2.0, None])}, "no row can be used: propensity: outside (0, 1] (2)"),
    ):
        path = parquet(table, **changes)
        with pytest.raises(LogUnusable) as refused:
            list(open_log(path).chunks())
        assert str(path) in str(refused.value)
        assert why in str(refused.value)
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1" + b"\x00" * 50)
    with pytest.raises(LogUnusable, match=r"broken\.parquet: cannot be read"):
        open_log(broken)


def test_a_damaged_row_group_is_refused_by_name(parquet: Parquet) -> None:
    path = parquet(flat_table(500))
    content = bytearray(path.read_bytes())
    content[100:2000] = b"\xff" * 1900
    path.write_bytes(bytes(content))
    with pytest.raises(LogUnusable, match="breaks off after row"):
        list(open_log(path).chunks())


def test_wanted_columns_must_be_lists_where_rows_have_several_actions(parquet: Parquet) -> None:
    path = parquet(rows_of(3), mine=pa.array([0.1, 0.2, 0.3]))
    with pytest.raises(LogUnusable, match="'mine' holds no list with one number per action"):
        open_log(path, ["mine"])
    with pytest.raises(LogUnusable, match="no column 'yours'"):
        open_log(path, ["yours"])


def test_without_pyarrow_the_extra_is_named(parquet: Parquet, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet(flat_table(3))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(LogUnusable, match=r"install offerloop\[parquet\]"):
        open_log(path)
