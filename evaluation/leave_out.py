"""Decisions without some of their features: what a policy would have seen had they never been collected."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from contextual_bandit.types import Action, Context, Decision, Features
from evaluation.chunks import Chunk

OFFER = "O"
AFFINITY = "A"


def without(decision: Decision, names: Collection[str]) -> Decision:
    """A decision without these namespaces ("W") and features ("D.age_band", "O.category", "A.r16").

    The namespace O is what is known of an offer beside its id, which stays: without it, offers could not be told apart.
    """
    namespaces = {
        space: kept
        for space, features in decision.context.namespaces.items()
        if space not in names and (kept := _kept(space, features, names))
    }
    actions = decision.actions
    if any(name.split(".", 1)[0] in (OFFER, AFFINITY) for name in names):
        actions = tuple(_action_without(action, names) for action in actions)
    return replace(decision, context=Context(namespaces), actions=actions)


def chunk_without(chunk: Chunk, names: Collection[str]) -> Chunk:
    """A chunk whose decisions lack these namespaces and features."""
    if not names:
        return chunk
    return replace(chunk, decisions=tuple(without(decision, names) for decision in chunk.decisions))


def names_in(decisions: Sequence[Decision], *, features: bool = False) -> list[str]:
    """The namespaces that any of the decisions has, or with ``features`` each feature by namespace; sorted."""
    found: set[str] = set()
    for decision in decisions:
        spaces = dict(decision.context.namespaces)
        for action in decision.actions:
            spaces |= {OFFER: {**spaces.get(OFFER, {}), **action.features}}
            spaces |= {AFFINITY: {**spaces.get(AFFINITY, {}), **action.affinity}}
        found |= {
            f"{space}.{name}" if features else space for space, values in spaces.items() for name in values
        }  # fmt: skip
    return sorted(found)


def _action_without(action: Action, names: Collection[str]) -> Action:
    features = {} if OFFER in names else _kept(OFFER, action.features, names)
    affinity = {} if AFFINITY in names else _kept(AFFINITY, action.affinity, names)
    return replace(action, features=features, affinity=affinity)


def _kept(space: str, features: Features, names: Collection[str]) -> Features:
    return {name: value for name, value in features.items() if f"{space}.{name}" not in names}
