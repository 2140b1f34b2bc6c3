"""Which offers may be decided among now: rules come before exploration, and say why (step Decide)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias
from weakref import WeakValueDictionary

from contextual_bandit.features import LOOSE_NAMESPACE
from contextual_bandit.rules import BadRule, Compiled, Fact, Facts, Memo, Scope, compile_rule
from contextual_bandit.schema import path_of
from contextual_bandit.types import SENSITIVE_TAGS, Context, Offer, Removed, Rule

MOST_RULES = 100
# Years, for a sensitive offer that names no minimum age of its own.
SENSITIVE_AGE = 18
SENSITIVE_AGES = {"alcohol": 21}
# A sensitive offer may ask for less than these, but not for less than this.
LOWEST_SENSITIVE_AGE = 16
OLDEST = 130
# The reason of offers whose kill switch is on; services take them out before all other gates.
KILLED = "killed"
# In the order of the gates: the first that fails gives the reason.
REASONS = (
    KILLED, "status_draft", "status_paused", "status_ended", "not_yet_valid", "expired", "channel", "region",
    *(f"consent_{tag}" for tag in sorted(SENSITIVE_TAGS)), "age_unknown", "too_young", "rule:CODE", "loop_rule:CODE",
)  # fmt: skip
# What only the service says: a client's namespace of such a name gives no facts.
SERVICE_PREFIXES = frozenset({"customer.", "request.", "offer."})

_RULE_CODE = re.compile(r"[a-z0-9_-]{1,64}")
_BAND = re.compile(
    r"(?:aged? )?(?:"
    r"(?:under|below|less than|younger than|up to|<=?) ?(?P<below>[0-9]{1,3})"
    r"|(?:over|from|>=?) ?(?P<over>[0-9]{1,3})"
    r"|(?P<open>[0-9]{1,3}) ?(?:\+|plus|(?:and|or) (?:over|older|above|more))"
    r"|(?P<low>[0-9]{1,3}) ?(?:-|–|—|to) ?(?P<high>[0-9]{1,3})"
    r")(?: ?(?:years|yrs)(?: old)?)?"
)


@dataclass(frozen=True, slots=True)
class Situation:
    """What the gates know of a request.

    ``now`` is the moment that dates are compared with, ``age`` years (at least so old; None: unknown), ``consents``
    what the customer explicitly granted. ``facts`` serve rules alone.
    """

    now: datetime
    facts: Facts
    channel: str | None = None
    region: str | None = None
    age: int | None = None
    consents: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PreparedRule:
    """A rule ready to be asked, and the reason that it gives when it does not hold."""

    reason: str
    require: Compiled


@dataclass(frozen=True, slots=True)
class LoopRules:
    """A loop's own rules, ready to be asked of every offer."""

    rules: RuleList


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class RuleList:
    """Rules in the order in which they are asked; equal lists are one object.

    ``shared`` are those not about the offer, which fall alike for all offers of a request; ``own`` the others. Each
    stands with its place in the list.
    """

    shared: tuple[tuple[int, PreparedRule], ...]
    own: tuple[tuple[int, PreparedRule], ...]

    def reason(self, scope: Scope, failed: Failed) -> str | None:
        """Of the first rule that does not hold; unknown is not enough."""
        found = failed.get(self)
        if found is None:
            found = failed[self] = self._first_shared(scope)
        place, reason = found
        for index, rule in self.own:
            if index > place:
                break
            if not rule.require.evaluate(scope):
                return rule.reason
        return reason

    def _first_shared(self, scope: Scope) -> tuple[int, str | None]:
        for index, rule in self.shared:
            if not rule.require.evaluate(scope):
                return index, rule.reason
        return MOST_RULES, None


# By list: where the first shared rule stands that does not hold, and its reason. It belongs to one request.
Failed: TypeAlias = dict[RuleList, tuple[int, str | None]]
_RULE_LISTS: WeakValueDictionary[tuple[tuple[str, str], ...], RuleList] = WeakValueDictionary()


def _rule_list(rules: Sequence[PreparedRule]) -> RuleList:
    key = tuple((rule.reason, rule.require.text) for rule in rules)
    found = _RULE_LISTS.get(key)
    if found is None:
        places = list(enumerate(rules))
        found = _RULE_LISTS[key] = RuleList(
            tuple((place, rule) for place, rule in places if not rule.require.about_offer),
            tuple((place, rule) for place, rule in places if rule.require.about_offer),
        )
    return found


NO_RULES = LoopRules(_rule_list(()))


@dataclass(frozen=True, slots=True)
class PreparedOffer:
    """An offer with all that its gates need, made once per version of it.

    ``sensitive`` are its sensitive tags in order, ``minimum_age`` the years it asks for, its own or its tags'.
    """

    offer: Offer
    facts: Facts
    sensitive: tuple[str, ...]
    minimum_age: int | None
    rules: RuleList


def situate(
    now: datetime,
    context: Context,
    *,
    channel: str | None = None,
    region: str | None = None,
    age: int | None = None,
    consents: frozenset[str] = frozenset(),
    home_region: str | None = None,
) -> Situation:
    """The situation of a request, with the facts that rules know, by dotted name.

    ``region`` is where the request takes place, ``home_region`` the customer's own. What is None or not in the context
    is a missing fact. The service alone gives facts of ``customer``, ``request`` and ``offer``.
    """
    facts: dict[str, Fact] = {}
    for namespace, features in context.namespaces.items():
        # Spelled as the sender did; loose values keep their namespace, so that every fact has one.
        prefix = path_of(namespace, "") or f"{LOOSE_NAMESPACE}."
        if prefix not in SERVICE_PREFIXES:
            for name, value in features.items():
                facts[prefix + name] = value
    found: dict[str, Fact | None] = {
        "customer.age": age,
        "customer.region": home_region,
        "customer.consents": tuple(sorted(consents)),
        "customer.segment": facts.get("history.segment"),
        "request.channel": channel,
        "request.region": region,
    }
    facts.update({name: fact for name, fact in found.items() if fact is not None})
    return Situation(now, facts, channel, region, age, consents)


def prepare(offer: Offer) -> PreparedOffer:
    """Compile what an offer's gates need.

    Raises:
        BadRule: as ``check_offer``.
    """
    # A category of such a name counts as a tag.
    sensitive = tuple(sorted(sensitive_words((*offer.tags, offer.category))))
    minimum_age = offer.minimum_age
    if sensitive:
        if minimum_age is None:
            minimum_age = max(SENSITIVE_AGES.get(tag, SENSITIVE_AGE) for tag in sensitive)
        minimum_age = max(minimum_age, LOWEST_SENSITIVE_AGE)
    return PreparedOffer(offer, offer_facts(offer), sensitive, minimum_age, _prepared(offer.rules, "rules", "rule"))


def sensitive_words(words: Iterable[str]) -> frozenset[str]:
    """The sensitive tags among words, however they are spelled."""
    return SENSITIVE_TAGS & {word.strip().casefold() for word in words}


def prepare_rules(rules: Sequence[Rule], path: str = "rules") -> LoopRules:
    """Compile a loop's own rules.

    Raises:
        BadRule: as ``check_rules``.
    """
    return LoopRules(_prepared(rules, path, "loop_rule"))


def check_offer(offer: Offer) -> None:
    """Refuse an offer whose rules cannot be used.

    Raises:
        BadRule: a bad rule, a code that is repeated or does not match [a-z0-9_-]{1,64}, or more than 100 rules; its
            path begins with ``rules.N``. Also a sensitive offer's minimum age below 16.
    """
    _prepared(offer.rules, "rules", "rule")
    if offer.offer_id in offer.limits.requires:
        raise BadRule("limits.requires", offer.offer_id, "an offer that requires itself is never shown")
    is_low = offer.minimum_age is not None and offer.minimum_age < LOWEST_SENSITIVE_AGE
    if is_low and sensitive_words((*offer.tags, offer.category)):
        why = f"a sensitive offer asks for at least {LOWEST_SENSITIVE_AGE} years"
        raise BadRule("minimum_age", offer.minimum_age, why)


def check_rules(rules: Sequence[Rule], path: str) -> None:
    """Refuse a loop's rules that cannot be used; ``path`` is where they stand.

    Raises:
        BadRule: as ``check_offer``.
    """
    _prepared(rules, path, "loop_rule")


def offer_facts(offer: Offer) -> Facts:
    """What rules may ask of an offer, by dotted name; what it does not say is missing."""
    facts: dict[str, Fact] = {f"offer.features.{name}": value for name, value in offer.features.items()}
    found: dict[str, Fact | None] = {
        "offer.id": offer.offer_id,
        "offer.category": offer.category,
        "offer.type": offer.type,
        "offer.discount": offer.discount,
        "offer.price": offer.price,
        "offer.margin": offer.margin,
        "offer.priority": offer.priority,
        "offer.tags": offer.tags,
    }
    facts.update({name: fact for name, fact in found.items() if fact is not None})
    return facts


def reason_against(
    prepared: PreparedOffer,
    situation: Situation,
    loop_rules: LoopRules = NO_RULES,
    memo: Memo | None = None,
    failed: Failed | None = None,
) -> str | None:
    """The code of the first gate that removes the offer (one of ``REASONS``), or None when it is eligible.

    An offer is valid from ``valid_from`` (inclusive) to ``valid_to`` (exclusive). One that names channels or regions
    is removed when the request's is another or unknown. ``memo`` and ``failed`` belong to one situation.
    """
    offer = prepared.offer
    if offer.status != "active":
        return f"status_{offer.status}"
    if offer.valid_from is not None and situation.now < offer.valid_from:
        return "not_yet_valid"
    if offer.valid_to is not None and situation.now >= offer.valid_to:
        return "expired"
    if offer.channels and situation.channel not in offer.channels:
        return "channel"
    if offer.regions and situation.region not in offer.regions:
        return "region"
    reason = _reason_of_sensitivity(prepared, situation)
    if reason is not None:
        return reason
    scope = (situation.facts, prepared.facts, {} if memo is None else memo)
    failed = {} if failed is None else failed
    return prepared.rules.reason(scope, failed) or loop_rules.rules.reason(scope, failed)


def _reason_of_sensitivity(prepared: PreparedOffer, situation: Situation) -> str | None:
    # These two gates read nothing but explicit consents and the stated age. Facts are what requests send and what was
    # inferred from behaviour, and rules read facts: a rule can remove a sensitive offer, nothing there can let one in.
    for tag in prepared.sensitive:
        if tag not in situation.consents:
            return f"consent_{tag}"
    if prepared.minimum_age is not None:
        if situation.age is None:
            return "age_unknown"
        if situation.age < prepared.minimum_age:
            return "too_young"
    return None


def split(
    offers: Iterable[PreparedOffer], situation: Situation, loop_rules: LoopRules = NO_RULES
) -> tuple[list[PreparedOffer], list[Removed]]:
    """Eligible offers in their order, and the removed ones with reason codes."""
    eligible: list[PreparedOffer] = []
    removed: list[Removed] = []
    memo: Memo = {}
    failed: Failed = {}
    for prepared in offers:
        reason = reason_against(prepared, situation, loop_rules, memo, failed)
        if reason is None:
            eligible.append(prepared)
        else:
            removed.append(Removed(prepared.offer.offer_id, reason))
    return eligible, removed


def age_from_band(band: str) -> int | None:
    """The lowest age (years) of a stated band; None when the text is no band.

    A band without a lower end begins at 0. Never for a band that was inferred from behaviour.

    >>> age_from_band("35-44"), age_from_band("65+"), age_from_band("under 18"), age_from_band("senior")
    (35, 65, 0, None)
    """
    found = _BAND.fullmatch(" ".join(band.casefold().split()))
    if found is None:
        return None
    if found["below"] is not None:
        return 0
    low = int(found["over"] or found["open"] or found["low"])
    high = int(found["high"]) if found["high"] else OLDEST
    return low if low <= high <= OLDEST else None


def _prepared(rules: Sequence[Rule], path: str, kind: str) -> RuleList:
    if len(rules) > MOST_RULES:
        raise BadRule(path, len(rules), f"more than {MOST_RULES} rules")
    prepared: list[PreparedRule] = []
    codes: set[str] = set()
    for index, rule in enumerate(rules):
        if not isinstance(rule.code, str) or not _RULE_CODE.fullmatch(rule.code):
            raise BadRule(f"{path}.{index}.code", rule.code, f"must match {_RULE_CODE.pattern}")
        if rule.code in codes:
            raise BadRule(f"{path}.{index}.code", rule.code, "another rule has this code")
        codes.add(rule.code)
        prepared.append(PreparedRule(f"{kind}:{rule.code}", compile_rule(rule.require, f"{path}.{index}.require")))
    return _rule_list(prepared)
