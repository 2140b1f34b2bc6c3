"""Job ``evaluate``: an off-policy evaluation of a loop's log, asked for by the API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from adapters.evaluations import EvaluationStore
from adapters.installation import Installation
from adapters.jobs import Job, JobStore
from evaluation import report
from evaluation.request import EvaluationRequest
from evaluation.run import count_interactions, evaluate_loop

TELL_EVERY_SECONDS = 1.0


def evaluate(installation: Installation, job: Job) -> dict[str, Any]:
    """Run the evaluation that the job names, and store its report.

    Raises:
        ValueError: when the evaluation is gone, or what was asked cannot be evaluated any more.
    """
    store, jobs = EvaluationStore(installation.engine), JobStore(installation.engine)
    evaluation_id = str(job.arguments.get("evaluation_id"))
    stored = store.get(evaluation_id)
    if stored is None:
        return {"evaluation_id": evaluation_id, "deleted": True}
    request = EvaluationRequest.from_json(stored.request)
    whole = max(1, count_interactions(installation.engine, request))
    told = datetime.now(UTC)

    def tell(done: int) -> None:
        nonlocal told
        now = datetime.now(UTC)
        if (now - told).total_seconds() >= TELL_EVERY_SECONDS:
            told = now
            jobs.progress(job, min(0.99, done / whole), now)

    wants_features = bool(stored.request.get("features"))
    found = evaluate_loop(
        installation.engine, request, features=wants_features, each_feature=wants_features, progress=tell
    )
    store.finish(evaluation_id, report.to_json(found), report.to_html(found), datetime.now(UTC))
    return {"evaluation_id": evaluation_id, "verdict": found.verdict, "n": found.n}
