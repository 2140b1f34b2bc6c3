"""Propensity audit of decisions that a policy drew itself: does it draw the same again, with the same probabilities?

``evaluation.audit`` recomputes the service's own draws from their uniform numbers. A policy that draws itself does so
in an order of its own, so it is asked again under the same seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from contextual_bandit.learning_arguments import SLATES_POLICY
from contextual_bandit.policy_draws import SlotDrawn
from contextual_bandit.types import Decision
from evaluation.audit import AuditResult


def audit_inside(
    decisions: Iterable[Decision],
    drawn_again: Callable[[Decision], Sequence[SlotDrawn]],
    *,
    tolerance: float = 0.0,
    keep_examples: int = 10,
) -> AuditResult:
    """Have each decision drawn again, and compare; those that another policy drew, or nobody, are passed over.

    Args:
        decisions: logged decisions.
        drawn_again: what the decision's own snapshot draws for it (``contextual_bandit.policy_draws.drawn_again``).
        tolerance: largest absolute difference of a probability that still counts as equal; 0 is exact.
        keep_examples: how many messages to keep.
    """
    checked = mismatches = 0
    examples: list[str] = []
    for decision in decisions:
        if decision.use != "learn" or not decision.policy_id.startswith(SLATES_POLICY):
            continue
        checked += 1
        faults = list(_faults(decision, drawn_again(decision), tolerance))
        if faults:
            mismatches += 1
            if len(examples) < keep_examples:
                examples.append(f"{decision.loop}/{decision.decision_id}: {'; '.join(faults)}")
    return AuditResult(checked, mismatches, tuple(examples))


def _faults(decision: Decision, again: Sequence[SlotDrawn], tolerance: float) -> Iterator[str]:
    for position, (slot, drawn) in enumerate(zip(decision.slots, again, strict=True)):
        if slot.distribution is None:
            if slot.propensity is not None or slot.draw is not None:
                yield f"slot {position} has a propensity or a draw but no distribution"
            continue
        if slot.chosen != drawn.chosen:
            yield f"slot {position} chose {slot.chosen}, drawn again {drawn.chosen}"
        if slot.draw != drawn.number:
            yield f"slot {position} draw logged {slot.draw}, recomputed {drawn.number}"
        for name, logged in (("policy", slot.distribution.policy), ("served", slot.distribution.served)):
            pairs = zip(logged, drawn.probabilities, strict=True)
            # "not <=" rather than ">", so that nan counts as a difference.
            if not all(abs(one - other) <= tolerance for one, other in pairs):
                yield f"slot {position} {name} distribution logged {logged}, recomputed {drawn.probabilities}"
        if slot.propensity != slot.distribution.served[slot.chosen]:
            yield f"slot {position} propensity {slot.propensity} is not the served probability"
