"""Why a decision fell as it did, for people: what was removed, and what spoke for each offer."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

from adapters.snapshots import SnapshotStore
from contextual_bandit.decide import is_by_campaign_baseline
from contextual_bandit.explain import ActionExplanation, Unexplainable, is_exploration, missing_values
from contextual_bandit.limits import masked_indices
from contextual_bandit.loops import LoopConfig
from contextual_bandit.slots import slot_views
from contextual_bandit.types import Decision, Removed, Use
from contextual_bandit.vowpal import VowpalPolicy

Scores: TypeAlias = Mapping[str, ActionExplanation]
MOST_POLICIES = 4
# Decisions that the model did not make.
UNSCORED: Mapping[Use, str] = {
    "fallback": "nothing was eligible: the loop's fallback was served",
    "holdout": "the customer is in the holdout: the model had no say",
    "baseline": "the loop only logs or is an apprentice: the sender's first action was served",
}
KILLED = "the loop's kill switch was on: the campaign manager's baseline was served"
LARGEST = 8


class Explainer:
    """Explains decisions by workspaces of its own, so that serving is neither changed nor held up."""

    def __init__(self, snapshots: SnapshotStore) -> None:
        self._snapshots = snapshots
        self._policies: OrderedDict[str, VowpalPolicy] = OrderedDict()
        self._turn = asyncio.Lock()

    async def explain(self, decision: Decision, loop: LoopConfig | None) -> dict[str, Any]:
        """The reasons as JSON (shape WhyOut); without scores when the snapshot that decided is gone."""
        views = list(slot_views(decision))
        async with self._turn:
            scores, note = await asyncio.to_thread(self._all_scores, views, loop)
        found = reasons(views[0], scores[0], note)
        if decision.has_slots:
            found["slots"] = [slot_reasons(*pair) for pair in zip(views, scores, strict=True)]
            found["removed"] = _listed(decision.removed)
            found |= {"use": decision.use, "missing": list(missing_values(decision.context, decision.sources))}
        return found

    def _all_scores(self, views: Sequence[Decision], loop: LoopConfig | None) -> tuple[list[Scores], str | None]:
        """The scores of each slot; those that share their features are explained once. And the first note."""
        known: list[tuple[Decision, Scores, str | None]] = []
        found: list[Scores] = []
        for view in views:
            same = next((one for one in known if one[0].context == view.context and one[0].use == view.use), None)
            if same is None:
                same = (view, *self._scores(view, loop))
                known.append(same)
            found.append(same[1])
        return found, known[0][2]

    def _scores(self, decision: Decision, loop: LoopConfig | None) -> tuple[Scores, str | None]:
        if decision.use != "learn":
            is_killed = decision.use == "baseline" and is_by_campaign_baseline(decision)
            return {}, KILLED if is_killed else UNSCORED[decision.use]
        policy = self._policy(decision, loop)
        if policy is None:
            return {}, f"snapshot {decision.snapshot_id!r} is no longer kept"
        try:
            found = policy.contributions(decision.context, decision.actions, largest=LARGEST, own_only=True)
        except Unexplainable as error:
            return {}, str(error)
        return {entry.offer_id: entry for entry in found}, None

    def _policy(self, decision: Decision, loop: LoopConfig | None) -> VowpalPolicy | None:
        name = decision.snapshot_id
        policy = self._policies.get(name)
        if policy is None:
            snapshot = self._snapshots.get(name)
            if snapshot is not None:
                policy = VowpalPolicy(snapshot.setting, snapshot.model)
            elif loop is not None and name == f"{loop.loop}-g1-0":
                # The learner had not begun: the policy was untrained.
                policy = VowpalPolicy(loop.setting)
            else:
                return None
            self._policies[name] = policy
            if len(self._policies) > MOST_POLICIES:
                self._policies.popitem(last=False)[1].close()
        self._policies.move_to_end(name)
        return policy

    def close(self) -> None:
        """Free the workspaces."""
        while self._policies:
            self._policies.popitem()[1].close()


def reasons(decision: Decision, scores: Scores, note: str | None) -> dict[str, Any]:
    """Every offer of a decision with one slot: removed by which rule, or its probability with what spoke for it."""
    return {
        "loop": decision.loop,
        "decision_id": decision.decision_id,
        "offer_id": decision.chosen.offer_id,
        "use": decision.use,
        "is_exploration": is_exploration(decision),
        "removed": _listed(decision.removed),
        "offers": _offers(decision, scores),
        "missing": list(missing_values(decision.context, decision.sources)),
        "sources": dict(decision.sources),
        "dropped": list(decision.dropped),
        "slots": None,
        "note": note,
    }


def slot_reasons(view: Decision, scores: Scores) -> dict[str, Any]:
    """One of several slots, by its view: what the draw left out of it, and what spoke for what was left."""
    names = {action.offer_id for action in view.actions}
    return {
        "slot_id": view.slots[0].slot_id,
        "offer_id": view.chosen.offer_id,
        "is_exploration": is_exploration(view),
        "removed": _listed(
            entry for entry in view.removed if entry.offer_id in names or entry in view.slots[0].removed
        ),
        "offers": _offers(view, scores),
    }


def _listed(removed: Iterable[Removed]) -> list[dict[str, str]]:
    return [{"offer_id": entry.offer_id, "reason": entry.reason} for entry in removed]


def _offers(decision: Decision, scores: Scores) -> list[dict[str, Any]]:
    slot = decision.slots[0]
    masked = masked_indices(decision)
    offers: list[dict[str, Any]] = []
    for index, action in enumerate(decision.actions):
        if index in masked:
            continue
        explained = scores.get(action.offer_id)
        offers.append(
            {
                "offer_id": action.offer_id,
                "probability": slot.distribution.served[index] if slot.distribution else None,
                "policy_probability": slot.distribution.policy[index] if slot.distribution else None,
                "score": explained.score if explained else None,
                "contributions": [asdict(one) for one in explained.contributions] if explained else [],
                "rest": explained.rest if explained else None,
                "others": explained.others if explained else 0,
            }
        )
    offers.sort(key=lambda offer: (offer["offer_id"] != decision.chosen.offer_id, -(offer["probability"] or 0.0)))
    return offers
