"""Target policies by name, as ``--policy`` takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from contextual_bandit.loops import LoopConfig
from contextual_bandit.types import PolicySnapshot
from contextual_bandit.vowpal import BadArguments, check_arguments
from evaluation.learned_targets import ProgressiveTarget, SnapshotTarget
from evaluation.targets import STANDARD_TARGETS, TargetPolicy, UnusableFunction, baseline, fixed_offer, from_path

FORMS = (
    "logged", "uniform", "first", "baseline", "offer:ID", "snapshot:ID", "vw", "vw:ARGUMENTS",
    "python:package.module:function", "column:NAME",
)  # fmt: skip


class UnknownPolicy(ValueError):
    """A word that names no target policy, or one that this log cannot give."""


@dataclass(frozen=True, slots=True)
class PolicySources:
    """What named policies are made from.

    Attributes:
        loop: settings of the log's loop: floor, promotion, baseline, reward range, learning setting.
        find_snapshot: a snapshot by id, or None; without it, ``snapshot:`` cannot be used.
        find_column: the policy of a column by name; without it, ``column:`` cannot be used.
    """

    loop: LoopConfig
    find_snapshot: Callable[[str], PolicySnapshot | None] | None = None
    find_column: Callable[[str], TargetPolicy] | None = None


def parse(word: str, sources: PolicySources) -> TargetPolicy:
    """The target policy of a word: one of ``FORMS``. ``vw`` is the loop's own learning setting, learned anew.

    Raises:
        UnknownPolicy: names the word, and what is wrong with it.
    """
    standard = STANDARD_TARGETS.get(word)
    if standard is not None:
        return standard
    if word == "baseline":
        return baseline(sources.loop.baseline)
    kind, _, rest = word.partition(":")
    if kind == "vw":
        return _progressive(word, rest or sources.loop.arguments, sources.loop)
    made = _MAKERS.get(kind)
    if made is None or not rest:
        raise UnknownPolicy(f"no policy {word!r}; there are {', '.join(FORMS)}")
    return made(word, rest, sources)


def parse_all(words: Sequence[str], sources: PolicySources) -> dict[str, TargetPolicy]:
    """Target policies by their words, in order; the same word counts once.

    Raises:
        UnknownPolicy: names the first bad word.
    """
    return {word: parse(word, sources) for word in dict.fromkeys(words)}


def _offer(word: str, offer_id: str, sources: PolicySources) -> TargetPolicy:
    return fixed_offer(offer_id)


def _progressive(word: str, arguments: str, loop: LoopConfig) -> TargetPolicy:
    try:
        canonical = check_arguments(arguments)
    except BadArguments as error:
        raise UnknownPolicy(f"policy {word!r}: {error}") from None
    return ProgressiveTarget(replace(loop, arguments=canonical).setting, loop)


def _snapshot(word: str, snapshot_id: str, sources: PolicySources) -> TargetPolicy:
    if sources.find_snapshot is None:
        raise UnknownPolicy(f"policy {word!r}: snapshots are found with --loop only")
    snapshot = sources.find_snapshot(snapshot_id)
    if snapshot is None:
        raise UnknownPolicy(f"policy {word!r}: there is no snapshot {snapshot_id!r}")
    return SnapshotTarget(snapshot, sources.loop)


def _function(word: str, path: str, sources: PolicySources) -> TargetPolicy:
    try:
        return from_path(path)
    except UnusableFunction as error:
        raise UnknownPolicy(f"policy {word!r}: {error}") from None


def _column(word: str, name: str, sources: PolicySources) -> TargetPolicy:
    if sources.find_column is None:
        raise UnknownPolicy(f"policy {word!r}: columns are found with --log only")
    return sources.find_column(name)


_MAKERS: Mapping[str, Callable[[str, str, PolicySources], TargetPolicy]] = {
    "offer": _offer,
    "snapshot": _snapshot,
    "python": _function,
    "column": _column,
}
