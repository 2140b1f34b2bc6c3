"""A loop's log audited with each decision recomputed by what really decided it: its policy, or one of the baselines.

Held-out customers, and everybody while a kill switch is on, get the campaign manager's baseline or no offer; a loop
that is an apprentice or only logs serves the sender's first action. An apprentice's own choices are recomputed too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

from contextual_bandit.baseline import BaselinePolicy
from contextual_bandit.decide import gets_no_offer, is_by_campaign_baseline, serve
from contextual_bandit.learning_arguments import SLATES_POLICY
from contextual_bandit.limits import below, left_over, mask, masked_indices
from contextual_bandit.loops import LoopConfig
from contextual_bandit.policy import FirstActionPolicy, Policy, uniform_number
from contextual_bandit.slots import SlotAsked, baseline_order, gone_indices, own_seed, slot_context
from contextual_bandit.types import Decision
from evaluation.audit import AuditResult, audit, inverse_cdf

Probabilities: TypeAlias = tuple[float, ...]


def audit_loop(
    decisions: Iterable[Decision],
    loop: LoopConfig,
    distribution_for: Callable[[Decision], Probabilities],
    *,
    tolerance: float = 0.0,
    keep_examples: int = 10,
) -> AuditResult:
    """Recompute each logged decision as ``evaluation.audit`` does, and an apprentice's own choices beside it.

    Args:
        decisions: logged decisions.
        loop: the settings that they were made by.
        distribution_for: the loop's policy over ``decision.actions``, from the decision's own snapshot; asked only
            where that policy decided or watched. Of several slots it is asked for each one's view.
        tolerance: largest absolute difference of a probability that still counts as equal; 0 is exact.
        keep_examples: how many messages to keep.
    """
    checked = mismatches = 0
    examples: list[str] = []
    for decision in decisions:
        one = _Decided(loop, decision, distribution_for)
        found = audit([decision], one.policy, serve=one.served, draw=uniform_number, tolerance=tolerance)
        own = list(one.own_faults(tolerance))
        checked += found.checked
        mismatches += int(bool(found.mismatches or own))
        examples += [*found.examples, *(f"{decision.loop}/{decision.decision_id}: {fault}" for fault in own)]
    return AuditResult(checked, mismatches, tuple(examples[:keep_examples]))


class _Decided:
    """What one decision must have been drawn from; its slots are asked for one by one, as views."""

    def __init__(self, loop: LoopConfig, whole: Decision, own: Callable[[Decision], Probabilities]) -> None:
        self._loop = loop
        self._whole = whole
        self._own = own
        self._is_campaigns = is_by_campaign_baseline(whole) and not gets_no_offer(loop, whole)
        self._baseline: Policy = BaselinePolicy(loop.baseline) if self._is_campaigns else FirstActionPolicy()

    def policy(self, view: Decision) -> Probabilities:
        """The distribution of what decided."""
        if view.use == "learn":
            return self._own(view)
        return self._baseline.distribution(view.context, view.actions)

    def served(self, view: Decision, given: Sequence[float]) -> Probabilities:
        """The distribution that was drawn from.

        Where a baseline chose from an order, because an offer has limits or there are slots, the highest of what was
        left was served. The log does not keep catalogue priorities: on a loop with tiers such decisions are believed.
        """
        if view.use == "learn":
            return serve(self._loop, view, given)
        logged = view.slots[0].distribution
        if logged is not None and self._loop.priority_tiers and (self._whole.has_slots or self._is_campaigns):
            return logged.served
        if self._whole.has_slots:
            return self._by_order(view)
        plain = serve(self._loop, view, given)
        if not self._is_campaigns:
            return plain
        ordered = self._by_order(view)
        # Without a limited offer nothing was drawn from the order; shares of several may differ in the last bit.
        return ordered if logged is not None and logged.served == ordered else plain

    def own_faults(self, tolerance: float) -> Iterator[str]:
        """What does not hold of an apprentice's own choices."""
        whole = self._whole
        if whole.policy_id.startswith(SLATES_POLICY):
            # Drawn inside the policy, whose log has other numbers.
            return
        for index, own in enumerate(whole.own):
            features = whole.slots[index].features
            # It chose among all that were eligible, before anything was taken.
            asked = replace(
                whole, use="learn", removed=(), context=slot_context(whole.context, features), slots=whole.slots[:1]
            )
            given = self._own(asked)
            expected = serve(self._loop, asked, given)
            number = uniform_number(whole.loop, own_seed(whole.decision_id, index))
            if not _are_near(own.distribution.policy, given, tolerance):
                yield f"own choice {index}: policy distribution logged {own.distribution.policy}, recomputed {given}"
            if not _are_near(own.distribution.served, expected, tolerance):
                yield f"own choice {index}: served distribution logged {own.distribution.served}, recomputed {expected}"
            if own.draw != number:
                yield f"own choice {index}: draw logged {own.draw}, recomputed {number}"
            elif inverse_cdf(own.distribution.served, own.draw) != own.chosen:
                yield f"own choice {index}: draw {own.draw} does not pick action {own.chosen}"
            if own.propensity != own.distribution.served[own.chosen]:
                yield f"own choice {index}: propensity {own.propensity} is not the served probability"

    def _by_order(self, view: Decision) -> Probabilities:
        """Evenly the highest of the baseline's order that was left."""
        count, gone = len(view.actions), gone_indices(view)
        even = (1.0 / count,) * count
        masked = masked_indices(view) - gone
        out = masked | below(self._order(view), masked | gone)
        left = left_over(even, gone, 0.0, (), 0.0) if gone else even
        return mask(left, gone | out) if out else left

    def _order(self, view: Decision) -> Sequence[int]:
        baseline, whole = self._baseline, self._whole
        order: Sequence[int] = range(len(view.actions), 0, -1)
        if isinstance(baseline, BaselinePolicy):
            order = baseline.tiers(view.actions)
        if not whole.has_slots:
            return order
        asked = [SlotAsked(slot.slot_id, slot.features, slot.baseline, slot.exclude) for slot in whole.slots]
        return baseline_order(order, asked, whole.actions)[view.slots[0].index]


def _are_near(logged: Sequence[float], recomputed: Sequence[float], tolerance: float) -> bool:
    if len(logged) != len(recomputed):
        return False
    return all(abs(a - b) <= tolerance for a, b in zip(logged, recomputed, strict=True))
