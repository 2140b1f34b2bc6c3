"""``offerloop evaluate open-bandit``: the published Open Bandit data as a log file (docs/open-bandit.md).

ZOZOTOWN, a shop for fashion, showed items at three positions by two policies, uniform random and Bernoulli Thompson
sampling, on three campaigns: Saito, Aihara, Matsutani, Narita 2021, "Open Bandit Dataset and Pipeline: towards
realistic and reproducible off-policy evaluation". The wheel of ``obp`` 0.4.1 carries 10,000 decisions of each and the
parameters of the sampling; it is read as a file, or where it is installed, and never imported.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import io
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import orjson

from evaluation.arrays import FloatArray, IntArray
from evaluation.arrow import pa, pq

CAMPAIGNS = ("all", "men", "women")
BEHAVIORS = ("random", "bts")
POSITIONS = 3
# As the publishers estimate the probabilities of the sampling.
DRAWS = 100_000
SEED = 12345
# How many decisions the mean click rate is worth in an item's rate at a position.
SMOOTHING = 100.0
_BLOCK = 2000

Place: TypeAlias = Path | zipfile.Path


class DatasetUnavailable(RuntimeError):
    """The data is not where it was looked for."""


@dataclass(frozen=True, slots=True)
class Impressions:
    """What one policy showed on one campaign, in the order of time; n decisions over k items.

    Attributes:
        campaign: one of CAMPAIGNS.
        behavior: one of BEHAVIORS, the policy that decided.
        rows: number of each in the published file.
        at: when, UTC.
        item: shown, from 0, (n,).
        position: from 0, (n,).
        click: 0 or 1, (n,).
        propensity: logged, (n,).
        users: features of the visitor, by name.
        items: features of the k items, by name.
    """

    campaign: str
    behavior: str
    rows: Sequence[int]
    at: Sequence[datetime]
    item: IntArray
    position: IntArray
    click: FloatArray
    propensity: FloatArray
    users: Sequence[Mapping[str, str]]
    items: Sequence[Mapping[str, str | float]]


def find_dataset(given: Path | None = None) -> Place:
    """The folder ``obp`` of the installed distribution, or of a wheel or a folder that is given.

    Raises:
        DatasetUnavailable: there is none, or it does not hold the data.
    """
    if given is None:
        try:
            place: Place = Path(str(importlib.metadata.distribution("obp").locate_file("obp")))
        except importlib.metadata.PackageNotFoundError:
            raise DatasetUnavailable(
                "obp is not installed: run 'pip download obp==0.4.1 --no-deps' and name the wheel with --wheel"
            ) from None
    elif given.is_file():
        try:
            place = zipfile.Path(given, "obp/")
        except zipfile.BadZipFile:
            raise DatasetUnavailable(f"{given} is no wheel") from None
    else:
        place = given / "obp"
    if not (place / "dataset" / "obd" / "random" / "all" / "all.csv").is_file():
        raise DatasetUnavailable(f"{place} does not hold dataset/obd: it takes obp 0.4.1")
    return place


def read_impressions(dataset: Place, campaign: str, behavior: str) -> Impressions:
    """Read one log of the dataset.

    Raises:
        DatasetUnavailable: the file is not there.
    """
    folder = dataset / "dataset" / "obd" / behavior / campaign
    rows = sorted(_table(folder / f"{campaign}.csv"), key=lambda row: row["timestamp"])
    return Impressions(
        campaign=campaign,
        behavior=behavior,
        rows=[int(row[""]) for row in rows],
        at=[datetime.fromisoformat(row["timestamp"]) for row in rows],
        item=np.array([int(row["item_id"]) for row in rows], dtype=np.int64),
        position=np.array([int(row["position"]) - 1 for row in rows], dtype=np.int64),
        click=np.array([float(row["click"]) for row in rows]),
        propensity=np.array([float(row["propensity_score"]) for row in rows]),
        users=[_renamed(row, "user_feature_") for row in rows],
        items=_items(folder / "item_context.csv"),
    )


def _table(place: Place) -> list[dict[str, str]]:
    try:
        return list(csv.DictReader(io.StringIO(place.read_text(encoding="utf-8"))))
    except (OSError, KeyError):
        raise DatasetUnavailable(f"{place} is not there") from None


def _items(place: Place) -> list[dict[str, str | float]]:
    rows = sorted(_table(place), key=lambda row: int(row["item_id"]))
    items = []
    for row in rows:
        features: dict[str, str | float] = dict(_renamed(row, "item_feature_"))
        # The first one is a number, the others are codes.
        features["feature_0"] = float(features["feature_0"])
        items.append(features)
    return items


def _renamed(row: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {f"feature_{name.removeprefix(prefix)}": value for name, value in row.items() if name.startswith(prefix)}


def sampling_parameters(dataset: Place, campaign: str) -> tuple[FloatArray, FloatArray]:
    """The Beta parameters alpha and beta of each item, (k,), that ZOZOTOWN's sampling started from.

    Raises:
        DatasetUnavailable: the file is not there.
    """
    place = dataset / "policy" / "conf" / "prior_bts.yaml"
    try:
        lines = place.read_text(encoding="utf-8").splitlines()
    except (OSError, KeyError):
        raise DatasetUnavailable(f"{place} is not there") from None
    found: dict[tuple[str, str], list[float]] = {}
    section = name = ""
    # The file is nothing but campaign, parameter and numbers, so that no YAML library is needed.
    for line in lines:
        word = line.strip()
        if word.startswith("- "):
            found.setdefault((section, name), []).append(float(word[2:]))
        elif word.endswith(":") and line.startswith(" "):
            name = word[:-1]
        elif word.endswith(":"):
            section = word[:-1]
    return np.array(found[campaign, "alpha"]), np.array(found[campaign, "beta"])


def thompson_probabilities(alpha: FloatArray, beta: FloatArray, draws: int = DRAWS, seed: int = SEED) -> FloatArray:
    """Probability that each item is shown at each position by Bernoulli Thompson sampling, (k, 3), by simulation.

    In each draw every item's click rate is drawn from its Beta distribution, and the highest three take the positions.
    The same generator and order of draws as the publishers' gives the very same numbers.
    """
    generator = np.random.RandomState(seed)
    counts = np.zeros((len(alpha), POSITIONS))
    for start in range(0, draws, _BLOCK):
        rates = generator.beta(alpha, beta, size=(min(_BLOCK, draws - start), len(alpha)))
        best = rates.argsort(axis=1)[:, ::-1][:, :POSITIONS]
        for position in range(POSITIONS):
            counts[:, position] += np.bincount(best[:, position], minlength=len(alpha))
    return counts / draws


def click_rates(found: Impressions, smoothing: float = SMOOTHING) -> FloatArray:
    """Smoothed click rate of each item at each position, (clicks + m mean) / (n + m), (k, 3).

    Fitted on the very log that it is used with, as in the published benchmark numbers; it is a reference, not advice.
    """
    items = len(found.items)
    cell = found.item * POSITIONS + found.position
    shown = np.bincount(cell, minlength=items * POSITIONS)
    clicks = np.bincount(cell, weights=found.click, minlength=items * POSITIONS)
    rates = (clicks + smoothing * found.click.mean()) / (shown + smoothing)
    return np.asarray(rates.reshape(items, POSITIONS))


def target_probabilities(dataset: Place, found: Impressions) -> FloatArray:
    """What the other policy would have shown, (k, 3): the sampling for the random log, and the other way round."""
    if found.behavior == "bts":
        return np.full((len(found.items), POSITIONS), 1.0 / len(found.items))
    return thompson_probabilities(*sampling_parameters(dataset, found.campaign))


def write_log(found: Impressions, target: FloatArray, rates: FloatArray, out: Path) -> None:
    """Write a log file with ``target_probs`` and ``q_hat``: Parquet, or JSON lines where the name does not end so.

    Args:
        found: the decisions.
        target: probabilities, (k, 3).
        rates: predictions, (k, 3).
        out: the file; its folder is made.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    write = _write_parquet if out.suffix in (".parquet", ".pq") else _write_lines
    write(found, target, rates, out)


def _event_ids(found: Impressions) -> list[str]:
    return [f"{found.behavior}-{found.campaign}-{row}" for row in found.rows]


def _contexts(found: Impressions) -> list[dict[str, Any]]:
    return [
        {"position": str(position + 1), "user": user}
        for position, user in zip(found.position.tolist(), found.users, strict=True)
    ]


def _actions(found: Impressions) -> list[dict[str, Any]]:
    return [{"id": str(item), "features": features} for item, features in enumerate(found.items)]


def _write_lines(found: Impressions, target: FloatArray, rates: FloatArray, out: Path) -> None:
    # Ids alone: the items' features would stand in every line.
    actions = [str(item) for item in range(len(found.items))]
    with out.open("wb") as file:
        for place, (event_id, context) in enumerate(zip(_event_ids(found), _contexts(found), strict=True)):
            position = int(found.position[place])
            row = {
                "event_id": event_id,
                "ts": found.at[place],
                "context": context,
                "actions": actions,
                "chosen": int(found.item[place]),
                "propensity": float(found.propensity[place]),
                "reward": float(found.click[place]),
                "target_probs": target[:, position].tolist(),
                "q_hat": rates[:, position].tolist(),
            }
            file.write(orjson.dumps(row) + b"\n")


def _write_parquet(found: Impressions, target: FloatArray, rates: FloatArray, out: Path) -> None:
    try:
        pa.__version__  # noqa: B018  # it is imported now or not at all
    except ImportError:
        raise DatasetUnavailable("Parquet needs pyarrow: install offerloop[parquet], or write a .jsonl file") from None
    n, items = len(found.item), len(found.items)
    offsets = pa.array(np.arange(n + 1, dtype=np.int32) * items)

    def lists(values: Any) -> Any:
        return pa.ListArray.from_arrays(offsets, values)

    every_item = pa.array(np.tile(np.arange(items), n))
    table = pa.table({
        "event_id": _event_ids(found),
        "ts": pa.array(found.at, pa.timestamp("us", "UTC")),
        "context": _contexts(found),
        "actions": lists(pa.array(_actions(found)).take(every_item)),
        "chosen": found.item,
        "propensity": found.propensity,
        "reward": found.click,
        "target_probs": lists(pa.array(target[:, found.position].T.ravel())),
        "q_hat": lists(pa.array(rates[:, found.position].T.ravel())),
    })  # fmt: skip
    pq.write_table(table, out, compression="zstd", row_group_size=4096)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    arguments = argparse.ArgumentParser(
        prog="offerloop evaluate open-bandit",
        description="write a log of the published Open Bandit data, for 'offerloop evaluate --log'",
    )
    arguments.add_argument("--campaign", choices=CAMPAIGNS, default="all", help="default: %(default)s")
    arguments.add_argument(
        "--behavior", choices=BEHAVIORS, default="random",
        help="the policy whose log it is; the other one is the target (default: %(default)s)",
    )  # fmt: skip
    arguments.add_argument("--wheel", type=Path, help="of obp 0.4.1, or the folder it was unpacked in; else installed")
    arguments.add_argument("--out", type=Path, required=True, help="the log to write, .parquet or .jsonl")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Write the log; 1 when the data is not there."""
    arguments = parser().parse_args(argv)
    try:
        dataset = find_dataset(arguments.wheel)
        found = read_impressions(dataset, arguments.campaign, arguments.behavior)
        write_log(found, target_probabilities(dataset, found), click_rates(found), arguments.out)
    except DatasetUnavailable as error:
        print(f"offerloop evaluate open-bandit: {error}", file=sys.stderr)
        return 1
    clicks = int(found.click.sum())
    print(f"{arguments.out}: {len(found.item):,} decisions over {len(found.items)} items, {clicks} clicks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
