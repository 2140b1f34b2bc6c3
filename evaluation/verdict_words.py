"""The first line of a report: what the log shows, or why it shows nothing."""

from __future__ import annotations

from collections.abc import Mapping

from evaluation.evaluate import Evaluation

VERDICT_NAMES: Mapping[str, str] = {
    "better": "better", "worse": "worse", "not_shown": "not shown", "refused": "refused",
}  # fmt: skip


def verdict_in_words(evaluation: Evaluation) -> str:
    """One sentence: what the log shows, or why it shows nothing.

    It claims "better" only for the policy whose gate says so.
    """
    served = "the served policy" if evaluation.against == "logged" else f"policy {evaluation.against}"
    others = [policy for policy in evaluation.policies if policy.name in evaluation.judged]
    if evaluation.findings.faults or not others or evaluation.headline is None:
        return f"No verdict: {'; '.join(evaluation.reasons)}."
    best = evaluation.policy(evaluation.headline)
    change = best.difference
    shown = f"{change.value:+.4g} reward per decision ({change.low:+.4g} to {change.high:+.4g})"
    if evaluation.verdict == "better":
        return f"Policy {best.name} is better than {served}: {shown}."
    if len(others) == 1:
        if evaluation.verdict == "refused":
            return f"No verdict on policy {best.name}: {'; '.join(best.gate.reasons)}."
        if evaluation.verdict == "worse":
            return f"Policy {best.name} is worse than {served}: {shown}."
        return f"Policy {best.name} is not shown to be better than {served}: {'; '.join(best.gate.reasons)}."
    if evaluation.verdict == "refused":
        return f"No verdict: the log supports none of the {len(others)} alternatives to {served}."
    worse = sum(policy.gate.verdict == "worse" for policy in others)
    refused = sum(policy.gate.verdict == "refused" for policy in others)
    unclear = len(others) - worse - refused
    counts = [
        text
        for count, text in (
            (worse, f"{worse} shown worse"),
            (unclear, f"{unclear} not told apart"),
            (refused, f"{refused} not supported by the log"),
        )
        if count
    ]
    return f"No alternative is shown to be better than {served}: {', '.join(counts)}."
