"""Why: what spoke for and against each offer, whether the pick was exploration, which values were missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from contextual_bandit.types import Context, Decision

# What features say when there is nothing to say.
NOT_KNOWN = frozenset({"unknown", "never", "none"})
# Here "none" is known: a dry day.
_NONE_IS_KNOWN = "W.precipitation"


class Unexplainable(ValueError):
    """A learning setting, or a number of features, whose predictions are not split into contributions."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one feature, or one product of features, adds to an offer's score.

    ``name`` is NAMESPACE.feature ("A.r16"), NAMESPACE.feature=word ("O.category=garden"), names joined by " × "
    ("H.segment=new × O.category=garden"), or "constant". ``value`` is the feature's (1 for words and booleans), or the
    product. ``reward`` is on the loop's reward scale: above 0 speaks for the offer. ``shared`` ones belong to the
    customer and the moment alone, so that they are the same for every offer of the decision.
    """

    name: str
    value: float
    reward: float
    shared: bool


@dataclass(frozen=True, slots=True)
class ActionExplanation:
    """How the model came to an offer's score: score = base + contributions + rest.

    ``score`` is the expected reward on the loop's scale, as the model predicts it: it may lie outside the range.
    ``base`` is the score of a model that knows nothing, the lower end of the range. ``contributions`` are the largest
    by size; ``rest`` is the sum of all ``others``, so many smaller ones.
    """

    offer_id: str
    score: float
    base: float
    contributions: tuple[Contribution, ...]
    rest: float
    others: int


def is_exploration(decision: Decision) -> bool:
    """Whether another action was likelier to be served than the chosen one; ties and fallbacks are no exploration."""
    slot = decision.slots[0]
    if slot.distribution is None:
        return False
    served = slot.distribution.served
    return served[slot.chosen] < max(served)


def missing_values(context: Context, sources: Mapping[str, str]) -> tuple[str, ...]:
    """Names of what was not known, sorted: sources marked ``missing``, features valued "unknown", "never" or "none".

    >>> missing_values(Context({"H": {"segment": "new", "recency": "never"}}), {"W": "missing", "D": "stored"})
    ('H.recency', 'W')
    """
    names = {name for name, source in sources.items() if source == "missing"}
    for namespace, features in context.namespaces.items():
        for name, value in features.items():
            path = f"{namespace}.{name}"
            if value in NOT_KNOWN and not (value == "none" and path == _NONE_IS_KNOWN):
                names.add(path)
    return tuple(sorted(names))
