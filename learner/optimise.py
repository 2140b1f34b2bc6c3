"""Job ``auto_optimise``: loops that want it are searched for better learning settings when that is due.

A setting is applied only when the search shows it better on decisions that nothing was chosen by: the mean of its gain
and the lower bound of the interval both above 0 (``evaluation.search``). It is applied as by an administrator: the log
is replayed, and the old model serves meanwhile. The audit log tells of every search.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from adapters.catalogue import LoopStore
from adapters.installation import Installation
from adapters.interaction_log import read_interactions
from adapters.jobs import Job
from adapters.loop_changes import change_loop
from adapters.search_notes import ACTOR, last_search, note_search
from contextual_bandit.loops import AutoOptimisation, LoopConfig
from evaluation.interactions import Interactions
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
    return "applied" if applied else result.verdict


def _detail(result: SearchResult) -> dict[str, Any]:
    detail: dict[str, Any] = {
        "verdict": result.verdict, "arguments": result.current, "best": result.best, "decisions": result.n,
        "held_out": result.n_held_out, "reasons": list(result.reasons),
    }  # fmt: skip
    best = next((one for one in result.trials if one.arguments == result.best), None)
    if best is not None and best.held_out is not None:
        detail |= {"gain": best.held_out.value, "low": best.held_out.low, "high": best.held_out.high}
    return detail
