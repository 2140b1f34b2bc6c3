"""What a call may choose among: the eligible offers as actions, the removed ones, and what is served without any."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from contextual_bandit.actions import action_of
from contextual_bandit.eligibility import LoopRules, Situation
from contextual_bandit.logged_actions import choice_parts
from contextual_bandit.loops import LoopConfig
from contextual_bandit.types import Action, Decision, Features, Removed
from decision_service.candidates import Asked, eligible, fallback_of
from decision_service.held import Candidate, Catalogue
from decision_service.schemas import RankIn
from decision_service.sent import Sent

LAST = datetime.max.replace(tzinfo=UTC)
# Of one customer: as many pages as a visit has, more or less.
MOST_KEPT = 8
MOST_NAMES = 200


@dataclass(frozen=True, slots=True)
class Outlook:
    """Actions in the order of their candidates, with the customer's affinity.

    It holds for calls that ask the same, from ``since`` to before ``until``: then the dates of an offer let another in
    or out. ``parts`` are the log's JSON of actions and removed offers, ``features`` the most that an action has.
    """

    candidates: tuple[Candidate, ...]
    actions: tuple[Action, ...]
    removed: tuple[Removed, ...]
    fallback: Action
    parts: Mapping[str, Any]
    features: int
    since: datetime
    until: datetime

    def is_of(self, decision: Decision) -> bool:
        """Whether a decision has these very actions and removed offers."""
        return decision.actions is self.actions and decision.removed is self.removed


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What a call asks of the catalogue, ``names`` None being all of it, and what the service answers by."""

    sent: Sent
    channel: str | None
    names: tuple[str, ...] | None
    rules: LoopRules
    killed: Set[str]


class Outlooks:
    """The latest outlooks of one customer's circumstances, by what was asked."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: list[tuple[Question, Outlook]] = []

    def get(self, question: Question, now: datetime) -> Outlook | None:
        """The outlook of a call that asked the same, if it holds at a moment of the service."""
        for asked, outlook in self._kept:
            if (
                asked.sent is question.sent
                and asked.rules == question.rules
                and asked.killed == question.killed
                and asked.channel == question.channel
                and asked.names == question.names
            ):
                return outlook if outlook.since <= now < outlook.until else None
        return None

    def put(self, question: Question, outlook: Outlook) -> None:
        """Keep an outlook, instead of that of the same question and of too old ones."""
        others = [
            entry for entry in self._kept
            if entry[0].sent is not question.sent or entry[0].names != question.names
            or entry[0].channel != question.channel
        ]  # fmt: skip
        self._kept = [(question, outlook), *others[: MOST_KEPT - 1]]


def question_of(request: RankIn, sent: Sent, rules: LoopRules, killed: Set[str]) -> Question | None:
    """What a call asks; None where its answer is of no use to others, as offers come with it or slots are asked for."""
    if request.slots is not None:
        return None
    if request.candidates is None:
        return Question(sent, request.channel, None, rules, killed)
    names = tuple(entry for entry in request.candidates if isinstance(entry, str))
    if not len(names) == len(request.candidates) <= MOST_NAMES:
        return None
    return Question(sent, request.channel, names, rules, killed)


def look(
    asked_for: Asked,
    situation: Situation,
    rules: LoopRules,
    killed: Set[str],
    loop: LoopConfig,
    catalogue: Catalogue,
    affinity: Callable[[str | None], Features],
) -> Outlook:
    """Ask all gates of all offers that a call is about.

    ``killed`` offers are out whatever the gates say, ``affinity`` is the customer's to a category.
    """

    def action(candidate: Candidate) -> Action:
        return action_of(candidate.offer, candidate.features, affinity(candidate.category), loop.promoted_tag)

    kept, removed = eligible(asked_for, situation, rules, killed)
    actions = tuple([action(candidate) for candidate in kept])
    # Written once, for all decisions among the same.
    parts = {name: orjson.Fragment(orjson.dumps(part)) for name, part in choice_parts(actions, removed).items()}
    place = bisect_right(catalogue.turns, situation.now)
    return Outlook(
        tuple(kept),
        actions,
        tuple(removed),
        fallback_of(loop.fallback, catalogue, situation, rules, action, killed),
        parts,
        max([len(one.features) + len(one.affinity) for one in actions], default=0),
        situation.now,
        catalogue.turns[place] if place < len(catalogue.turns) else LAST,
    )
