"""Evaluations as they are asked for: of a loop's log, or of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

from sqlalchemy import Engine

from adapters.interaction_log import count_loop, find_settings, read_interactions
from adapters.snapshots import find_snapshot
from contextual_bandit.loops import LoopConfig, RewardDefinition
from contextual_bandit.types import LoggedInteraction
from evaluation.evaluate import Choices, Evaluation, HoldoutArm, evaluate
from evaluation.feature_report import feature_report
from evaluation.holdout import HoldoutLog, holdout_target
from evaluation.interactions import Interactions
from evaluation.log_columns import ColumnModel, column_target
from evaluation.logs import open_log
from evaluation.policy_names import PolicySources, parse_all
from evaluation.request import EvaluationRequest
from evaluation.reward_choice import FittingRewards, reward_model
from evaluation.reward_model import RewardModel
from evaluation.row_faults import LogUnusable
from evaluation.targets import TargetPolicy

LOOP_POLICIES = ("uniform", "first", "baseline")
FILE_POLICIES = ("uniform", "first")
Progress = Callable[[int], None]


class NoSuchLoop(ValueError):
    """There is no loop of that name."""


def evaluate_loop(
    engine: Engine,
    request: EvaluationRequest,
    *,
    features: bool = False,
    each_feature: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate policies on a loop's own log; late outcomes count, where the loop lets them.

    Without policies in the request, ``LOOP_POLICIES`` and the most served offers are evaluated. With ``features`` the
    log is read once more to tell what each namespace is worth to the loop's learning setting, or with
    ``each_feature`` each single feature, ``MOST_NAMES`` of them at most.

    Raises:
        NoSuchLoop: names it.
        UnknownPolicy: names the word.
    """
    loop = find_settings(engine, request.loop)
    if loop is None:
        raise NoSuchLoop(f"there is no loop {request.loop!r}")
    sources = PolicySources(loop, lambda snapshot_id: find_snapshot(engine, snapshot_id))
    targets = _targets(request, LOOP_POLICIES, sources)
    choices = _choices(request, (loop.reward.low, loop.reward.high))
    model = _model(request.reward_model, loop)
    holdout, interactions = None, _between(engine, request)
    if loop.holdout.share > 0.0:
        watched = HoldoutLog()
        target = holdout_target(loop.holdout, loop.baseline, loop.fallback)
        holdout, interactions = HoldoutArm(watched, target, loop.holdout.share), watched.watch(interactions)
    found = evaluate(Interactions(interactions), targets, choices, model=model, holdout=holdout, progress=progress)
    if features and found.n:
        worth = feature_report(
            Interactions(_between(engine, request)), loop, features=each_feature, namespaces=not each_feature,
            level=request.choices.level,
        )  # fmt: skip
        found = replace(found, features=worth)
    return found


def evaluate_file(
    path: Path, request: EvaluationRequest, *, features: bool = False, progress: Progress | None = None
) -> Evaluation:
    """Evaluate policies on a log file: Parquet, dsjson or JSON lines.

    Without policies in the request, ``FILE_POLICIES`` and the most served offers are evaluated. The request's reward
    model may be ``column:NAME`` too.

    Raises:
        LogUnusable: names the file and what is wrong with it.
        UnknownPolicy: names the word.
    """
    low, high = request.rewards or (0.0, 1.0)
    loop = LoopConfig(path.name, reward=RewardDefinition(low, high), exploration_floor=request.floor)
    targets = _targets(request, FILE_POLICIES, PolicySources(loop, find_column=column_target))
    kind, _, column = request.reward_model.partition(":")
    words = [*request.policies, request.against]
    columns = [word.partition(":")[2] for word in words if word.startswith("column:")]
    if kind == "column":
        columns.append(column)
    # Features of contexts and actions cost much to read, and numbers alone do not need them.
    numbers = kind == "column" and all(word.startswith("column:") or word == "logged" for word in words)
    log = open_log(path, tuple(dict.fromkeys(columns)), features=not numbers or bool(request.slices))
    if log.layout.flat:
        _check_flat(path, targets)
    model = ColumnModel(column) if kind == "column" else _model(request.reward_model, loop, request.rewards)
    found = evaluate(log, targets, _choices(request, request.rewards), model=model, progress=progress)
    if features and found.n:
        known = replace(loop, reward=RewardDefinition(*found.rewards))
        found = replace(found, features=feature_report(open_log(path), known, level=request.choices.level))
    return found


def _check_flat(path: Path, words: Iterable[str]) -> None:
    """Refuse policies that need to know what else there was to choose from.

    Raises:
        LogUnusable: names the first.
    """
    for word in words:
        if word != "logged" and not word.startswith("column:"):
            why = f"it tells of the chosen actions alone, so policy {word!r} cannot be evaluated; name a column:NAME"
            raise LogUnusable(path, why)


def count_interactions(engine: Engine, request: EvaluationRequest) -> int:
    """At most so many interactions are read, for progress."""
    return count_loop(engine, request.loop).interactions


def _between(engine: Engine, request: EvaluationRequest) -> Iterator[LoggedInteraction]:
    interactions = read_interactions(engine, request.loop, latest=True, closed_from=request.closed_from)
    end = request.closed_to
    # A loop's interactions close in the order of their sequence.
    return interactions if end is None else takewhile(lambda one: one.closed_at < end, interactions)


def _targets(
    request: EvaluationRequest, standard: tuple[str, ...], sources: PolicySources
) -> Mapping[str, TargetPolicy]:
    return parse_all((*(request.policies or standard), request.against), sources)


def _choices(request: EvaluationRequest, rewards: tuple[float, float] | None) -> Choices:
    return replace(
        request.choices, rewards=rewards, fixed_offers=0 if request.policies else request.choices.fixed_offers
    )


def _model(name: str, loop: LoopConfig, rewards: tuple[float, float] | None = None) -> RewardModel:
    if name != "default":
        return reward_model(name)
    return FittingRewards(*(rewards or (loop.reward.low, loop.reward.high)))
