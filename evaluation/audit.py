"""Propensity audit: are the logged distributions, draws and propensities the ones that the policy must have given?

Written against plain callables, so that it can hold any policy to its word without knowing what the policy is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from contextual_bandit.slots import slot_seed, slot_views
from contextual_bandit.types import Decision, SlotDecision


@dataclass(frozen=True, slots=True)
class AuditResult:
    """How many decisions were checked, how many did not hold, and messages of the first few of those."""

    checked: int
    mismatches: int
    examples: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """True when at least one decision was checked and all held."""
        return self.checked > 0 and self.mismatches == 0


def inverse_cdf(served: Sequence[float], draw: float) -> int:
    """Index of the first action whose cumulated probability exceeds the draw in [0, 1); never one of probability 0.

    Written apart from the service's own ``pick`` on purpose: an auditor does not borrow the books.

    >>> inverse_cdf((0.2, 0.0, 0.8), 0.2)
    2
    """
    for index, cumulated in enumerate(accumulate(served)):
        if draw < cumulated and served[index] > 0.0:
            return index
    # Rounding can leave the last cumulated sum just below 1 and the draw just above it.
    return max((index for index, one in enumerate(served) if one > 0.0), default=-1)


def audit(
    decisions: Iterable[Decision],
    distribution_for: Callable[[Decision], tuple[float, ...]],
    *,
    serve: Callable[[Decision, tuple[float, ...]], tuple[float, ...]],
    draw: Callable[[str, str], float],
    tolerance: float = 0.0,
    keep_examples: int = 10,
) -> AuditResult:
    """Recompute each logged decision, slot by slot, and compare; what has no distribution (a fallback) is passed over.

    Args:
        decisions: logged decisions.
        distribution_for: the policy's distribution over ``decision.actions``, from the decision's own snapshot; of
            several slots it is asked for each one's view (``contextual_bandit.slots.slot_view``), with its own context.
        serve: from the policy's distribution to the served one: floor, promotion, and what the draw masked
            (``contextual_bandit.decide.serve`` with the loop's settings); of a slot's view too.
        draw: the uniform number in [0, 1) of (loop, decision id), or of (loop, ``slot_seed``).
        tolerance: largest absolute difference of a probability that still counts as equal; 0 is exact.
        keep_examples: how many messages to keep.
    """
    checked = mismatches = 0
    examples: list[str] = []
    for decision in decisions:
        if all(slot.distribution is None for slot in decision.slots):
            continue
        checked += 1
        faults = list(_faults(decision, distribution_for, serve, draw, tolerance))
        if faults:
            mismatches += 1
            if len(examples) < keep_examples:
                examples.append(f"{decision.loop}/{decision.decision_id}: {'; '.join(faults)}")
    return AuditResult(checked, mismatches, tuple(examples))


def _faults(
    decision: Decision,
    distribution_for: Callable[[Decision], tuple[float, ...]],
    serve: Callable[[Decision, tuple[float, ...]], tuple[float, ...]],
    draw: Callable[[str, str], float],
    tolerance: float,
) -> Iterator[str]:
    shown: set[int] = set()
    for position, view in enumerate(slot_views(decision)):
        slot = view.slots[0]
        if slot.distribution is not None:
            policy = distribution_for(view)
            prefix = f"slot {position} " if decision.has_slots else ""
            yield from _apart(f"{prefix}policy distribution", slot.distribution.policy, policy, tolerance)
            yield from _apart(f"{prefix}served distribution", slot.distribution.served, serve(view, policy), tolerance)
            expected = draw(decision.loop, slot_seed(decision.decision_id, position))
            if slot.draw != expected:
                yield f"{prefix}draw logged {slot.draw}, recomputed {expected}"
            if slot.chosen in shown:
                yield f"{prefix}shows action {slot.chosen} again"
            shown.add(slot.chosen)
        yield from _slot_faults(position, slot, len(view.actions), tolerance)


def _slot_faults(position: int, slot: SlotDecision, actions: int, tolerance: float) -> Iterator[str]:
    if slot.distribution is None:
        if slot.propensity is not None or slot.draw is not None:
            yield f"slot {position} has a propensity or a draw but no distribution"
        return
    served = slot.distribution.served
    if len(served) != actions or not 0 <= slot.chosen < actions:
        yield f"slot {position} chose {slot.chosen} of {actions} actions with {len(served)} probabilities"
        return
    # Summing rounds, so even an exact audit allows the sum itself a few units in the last place.
    if not abs(math.fsum(served) - 1.0) <= max(tolerance, 1e-9):
        yield f"slot {position} served probabilities sum to {math.fsum(served)}"
    if slot.propensity is None or not abs(slot.propensity - served[slot.chosen]) <= tolerance:
        yield f"slot {position} propensity {slot.propensity} is not the served probability {served[slot.chosen]}"
    if slot.draw is None or not 0.0 <= slot.draw < 1.0:
        yield f"slot {position} draw {slot.draw} is outside [0, 1)"
    elif inverse_cdf(served, slot.draw) != slot.chosen:
        yield f"slot {position} draw {slot.draw} picks action {inverse_cdf(served, slot.draw)}, logged {slot.chosen}"


def _apart(what: str, logged: Sequence[float], recomputed: Sequence[float], tolerance: float) -> Iterator[str]:
    if len(logged) != len(recomputed):
        yield f"{what} has {len(logged)} probabilities logged, {len(recomputed)} recomputed"
        return
    differences = [abs(a - b) for a, b in zip(logged, recomputed, strict=True)]
    # "not <=" rather than ">", so that nan counts as a difference.
    apart = [index for index, difference in enumerate(differences) if not difference <= tolerance]
    if apart:
        worst = max(apart, key=lambda index: differences[index])
        yield f"{what} of action {worst} logged {logged[worst]}, recomputed {recomputed[worst]}"
