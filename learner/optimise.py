"""Job ``auto_optimise``: loops that want it are searched for better learning settings when that is due.

A setting is applied only when the search shows it better on decisions that nothing was chosen by: the mean of its gain
and the lower bound of the interval both above 0 (``evaluation.search``). It is applied as by an administrator: the log
is replayed, and the old model serves meanwhile. The audit log tells of every search. Where the Personalizer API is in
use, an evaluation of the type Auto is asked for too, of what ran and of the best setting that was found.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from adapters.catalogue import LoopStore
from adapters.evaluations import EvaluationStore
from adapters.installation import Installation
from adapters.interaction_log import read_interactions
from adapters.jobs import Job
from adapters.loop_changes import change_loop
from adapters.personalizer_settings import PersonalizerStore, evaluation_key, with_epsilon
from adapters.search_notes import ACTOR, last_search, note_search
from contextual_bandit.loops import AutoOptimisation, LoopConfig
from evaluation.interactions import Interactions
from evaluation.request import ASKED, EvaluationRequest
from evaluation.search import SearchPlan, SearchResult, search
from evaluation.spooled_log import NothingToLearn

# One process, since the worker shares its machine with those who answer.
PLAN = SearchPlan(processes=1)


def auto_optimise(installation: Installation, job: Job) -> dict[str, Any]:
    """Search every loop for which it is due; the result says what came of each."""
    loops = LoopStore(installation.engine, installation.client)
    found: dict[str, str] = {}
    for config in loops.all():
        last = last_search(installation.engine, config.loop) if config.auto_optimisation.is_enabled else None
        if config.learning_mode == "online" and is_due(config.auto_optimisation, last, datetime.now(UTC)):
            found[config.loop] = _optimise(installation, loops, config)
    return {"loops": found}


def is_due(setting: AutoOptimisation, last: datetime | None, now: datetime) -> bool:
    """Whether a search is due: one in every period of ``frequency_days``, counted from the start, or from the last."""
    if not setting.is_enabled:
        return False
    period = timedelta(days=setting.frequency_days)
    if setting.start is None:
        return last is None or now - last >= period
    if now < setting.start:
        return False
    began = setting.start + (now - setting.start) // period * period
    return last is None or last < began


def _optimise(installation: Installation, loops: LoopStore, config: LoopConfig) -> str:
    engine = installation.engine
    log = Interactions(read_interactions(engine, config.loop, latest=True))
    try:
        result = search(log, config, plan=PLAN)
    except NothingToLearn as error:
        nothing = {"verdict": "refused", "arguments": config.arguments, "reasons": [str(error)]}
        note_search(engine, config.loop, applied=False, detail=nothing, now=datetime.now(UTC))
        return "refused"
    now = datetime.now(UTC)
    # A search takes a while, in which somebody may have changed the loop.
    current = loops.get(config.loop)
    is_same = current is not None and current.auto_optimisation.is_enabled and current.arguments == config.arguments
    applied, detail = False, _detail(result)
    if current is not None and is_same and result.verdict == "better" and result.best is not None:
        wanted = replace(current, arguments=result.best)
        changed = change_loop(engine, installation.client, current, wanted, ACTOR, now)
        detail["operation_id"] = changed.operation_id
        applied = True
    note_search(engine, config.loop, applied=applied, detail=detail, now=now)
    if PersonalizerStore(engine).get(config.loop) is not None:
        _evaluate(installation, config, result, applied=applied, now=now)
    return "applied" if applied else result.verdict


def _evaluate(
    installation: Installation, config: LoopConfig, result: SearchResult, *, applied: bool, now: datetime
) -> None:
    """Ask for the evaluation that tells users of the Personalizer API of a search."""
    span = PersonalizerStore(installation.engine).log_span(config.loop)
    if span is None:
        return
    best = result.best or next((one.arguments for one in result.trials), None)
    found = []
    if best is not None:
        shown = with_epsilon(best, config.exploration_floor)
        found = [{"name": "Hyper1", "arguments": shown, "source": "OfflineExperimentation", "word": f"vw:{best}"}]
    asked = {
        "start": span[0].isoformat(), "end": now.isoformat(), "policies": found, "type": "Auto",
        "outcome": "OptimalPolicyApplied" if applied else "OnlinePolicyRetained",
    }  # fmt: skip
    words = ("logged", "first", "uniform", *(one["word"] for one in found))
    request = EvaluationRequest(config.loop, closed_to=now, policies=words, choices=replace(ASKED, fixed_offers=0))
    key = evaluation_key(config.loop, f"auto-{now:%Y%m%dT%H%M%SZ}")
    name = f"Automatic optimization {now:%Y-%m-%d}"
    EvaluationStore(installation.engine).add(
        config.loop, name, {**request.to_json(), "personalizer": asked}, now, ACTOR, key
    )


def _detail(result: SearchResult) -> dict[str, Any]:
    detail: dict[str, Any] = {
        "verdict": result.verdict, "arguments": result.current, "best": result.best, "decisions": result.n,
        "held_out": result.n_held_out, "reasons": list(result.reasons),
    }  # fmt: skip
    best = next((one for one in result.trials if one.arguments == result.best), None)
    if best is not None and best.held_out is not None:
        detail |= {"gain": best.held_out.value, "low": best.held_out.low, "high": best.held_out.high}
    return detail
