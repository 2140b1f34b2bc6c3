"""The gate to Vowpal Wabbit: features in, probabilities out, cost = -reward; the only file that imports it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from math import fsum
from pathlib import Path
from typing import Any

import numpy as np
import pylibvw
from vowpalwabbit.pyvw import Workspace

from contextual_bandit.explain import ActionExplanation, Unexplainable
from contextual_bandit.learning_arguments import (
    LARGEST_BITS,
    SLATES_POLICY,
    BadArguments,
    canonical,
    draws_slates,
    for_vowpal,
    reads_json,
)
from contextual_bandit.types import (
    Action,
    Context,
    Decision,
    Features,
    LearningSetting,
    LoggedInteraction,
)
from contextual_bandit.vowpal_ccb import CcbSlates
from contextual_bandit.vowpal_json import ask_json, teach_json
from contextual_bandit.vowpal_lessons import ChosenExamples, learns_chosen_alone
from contextual_bandit.vowpal_lines import (
    _action,
    _binary,
    _line,
    _offer,
    _shown,
    _token,
    action_numbers,
    context_numbers,
    shared_line,
)
from contextual_bandit.vowpal_offers import OfferExamples
from contextual_bandit.vowpal_terms import (
    CONSTANT,
    CONSTANT_HASH,
    Feature,
    Floats,
    Indices,
    Listing,
    TermRules,
    explain_offers,
    group,
    term_rules,
)

__all__ = [
    "LARGEST_BITS", "BadArguments", "UnusableExample", "VowpalPolicy", "_action", "_line", "action_numbers",
    "check_arguments", "context_numbers", "policy_id", "shared_line",
]  # fmt: skip

_OWN = "--quiet --preserve_performance_counters"
# Versions of offers whose lines a learner keeps.
MOST_LINES = 20_000


class UnusableExample(ValueError):
    """Features that Vowpal Wabbit did not read as one shared example and one per action."""


def check_arguments(arguments: str) -> str:
    """The learning setting in its canonical spelling, after a workspace was built from it.

    Raises:
        BadArguments: names the argument that is unknown, ill-formed or refused.
    """
    found = canonical(arguments)
    try:
        VowpalPolicy(found).close()
    except RuntimeError as error:
        raise BadArguments(f"arguments {arguments!r}: {error}") from None
    return found


def policy_id(arguments: str) -> str:
    """A short name of a learning setting: equal settings have equal names."""
    return (SLATES_POLICY if draws_slates(arguments) else "vw-") + sha256(arguments.encode()).hexdigest()[:10]


class VowpalPolicy:
    """A contextual-bandit policy in one workspace; not to be shared between threads.

    Offers of the catalogue are parsed once and reused. Their Affinity features are replaced in place: the numbers
    reach Vowpal Wabbit as binary floats on every path (its text reader rounds decimals), so that serving,
    learning, replay and audit see the same bits.
    """

    def __init__(self, setting: LearningSetting | str, model: bytes | None = None) -> None:
        """Build from a learning setting (or its arguments alone), untrained or continuing from a saved model.

        Rewards in the setting's range become costs from 0 down to -1, since explorers assume costs of that size.

        Raises:
            RuntimeError: the setting or the model's bytes are refused.
        """
        self.setting = LearningSetting(setting) if isinstance(setting, str) else setting
        arguments = self.setting.arguments
        self._workspace = self._open(model)
        self._slates = CcbSlates(self) if draws_slates(arguments) else None
        self.reads_json = reads_json(arguments)
        # Among many actions the large action space keeps state with each example: reused ones get other probabilities.
        self._caches = "--large_action_space" not in arguments
        self._offers = OfferExamples(self._workspace, self._action_example, keeps=self._caches)
        self._lines: dict[tuple[str, int], tuple[Features, str]] = {}
        self._chosen: ChosenExamples | None = None

    @property
    def workspace(self) -> Workspace:
        """Vowpal Wabbit's own."""
        return self._workspace

    @property
    def slates(self) -> CcbSlates | None:
        """What draws and learns several slots at once, where the setting says that Vowpal Wabbit does."""
        return self._slates

    def distribution(self, context: Context, actions: Sequence[Action]) -> tuple[float, ...]:
        """Probability of each action; float32 accuracy, normalised to sum to 1.

        Raises:
            UnusableExample: the features did not parse to one shared example and one per action.
        """
        if self._slates is not None:
            return self._slates.distribution(context, actions)
        if self.reads_json:
            return ask_json(self, context, actions)
        fresh = self._parse([shared_line(context, self._offers.line)], 1)
        try:
            pylibvw.vw.predict_multi(self._workspace, [fresh[0], *self._offers.parsed(actions, fresh)])
            scores = fresh[0].get_action_scores()
        finally:
            pylibvw.vw._finish_example_multi_ex(self._workspace, fresh)
        total = fsum(scores)
        # Whoever spreads the floor refuses what has no mass.
        return tuple([score / total for score in scores]) if total else tuple(scores)

    def view_distribution(self, view: Decision, epsilon: float) -> tuple[float, ...]:
        """Probability of each action of a plain decision, or of a slot's view, as this policy gives it.

        Args:
            view: as ``contextual_bandit.slots.slot_view`` gives it.
            epsilon: the loop's floor; used where the policy draws slots itself, among what was left to this one.
        """
        if self._slates is not None:
            return self._slates.view_distribution(view, epsilon)
        return self.distribution(view.context, view.actions)

    def learn(self, interactions: Iterable[LoggedInteraction]) -> None:
        """Learn each interaction once, in order, from its logged propensity."""
        if self._slates is not None:
            self._slates.learn(interactions)
            return
        for interaction in interactions:
            decision = interaction.decision
            slot = decision.slots[0]
            if slot.propensity is None:
                raise ValueError(f"decision {decision.decision_id!r} has no propensity to learn from")
            if self.reads_json:
                teach_json(self, interaction)
                continue
            label = f"0:{self.cost(interaction.reward)!r}:{slot.propensity!r} "
            if learns_chosen_alone(self.setting.arguments):
                self._learn_chosen(decision, label)
                continue
            lines = [shared_line(decision.context), *map(self._action_line, decision.actions)]
            lines[1 + slot.chosen] = label + lines[1 + slot.chosen]
            examples = self._parse(lines, len(lines))
            for example, action in zip(examples[1:], decision.actions, strict=True):
                self._set_affinity(example, action.affinity)
            pylibvw.vw.learn_multi(self._workspace, examples)
            pylibvw.vw._finish_example_multi_ex(self._workspace, examples)

    def _learn_chosen(self, decision: Decision, label: str) -> None:
        if self._chosen is None:
            self._chosen = ChosenExamples(self._workspace, _token, _binary)
        place, actions = decision.slots[0].chosen, decision.actions
        action = actions[place]
        (example,) = self._parse([label + _action(action)], 1)
        self._set_affinity(example, action.affinity)
        self._chosen.learn(example, decision.context, place, len(actions))

    def contributions(
        self, context: Context, actions: Sequence[Action], *, largest: int = 8, own_only: bool = False
    ) -> tuple[ActionExplanation, ...]:
        """Why each action scores as it does: its expected reward, split into what each feature and product adds.

        Nothing is parsed, predicted or counted, so that neither probabilities nor saved bytes change. Exact to float32
        for every allowed setting. ``context`` and ``actions`` are as for ``distribution``.

        Args:
            context: the shared features.
            actions: what is to be explained.
            largest: how many contributions to list for each action, the largest by size; ``rest`` has the others.
            own_only: list none that all actions share, which cannot tell one from another.

        Raises:
            Unexplainable: more than a million terms, a namespace that the setting spells in hexadecimal, or a setting
                under which Vowpal Wabbit draws several slots itself or reads JSON.
        """
        if self._slates is not None or self.reads_json:
            raise Unexplainable(f"predictions of {self.setting.arguments!r} are not split")
        rules = term_rules(self.setting.arguments)
        shared = list(self._features(context.namespaces))
        if rules.constant:
            shared.append(("constant", CONSTANT, CONSTANT_HASH, 1.0))
        offers = [
            (action.offer_id, group(rules, self._features({"O": _offer(action), "A": action.affinity}), own=True))
            for action in actions
        ]
        with self._readable(rules) as workspace:
            return explain_offers(
                rules,
                self.setting,
                group(rules, shared, own=False),
                offers,
                partial(_weights, workspace),
                Listing(largest, own_only),
            )

    def _features(self, namespaces: Mapping[str, Features]) -> Iterator[Feature]:
        """Features in the order in which they are parsed."""
        for namespace, features in namespaces.items():
            token = _token(namespace)
            letter, space = token.encode()[0], self._workspace.hash_space(token)
            for name, value in features.items():
                feature, number = _binary(name, value)
                yield f"{namespace}.{_shown(name, value)}", letter, self._workspace.hash_feature(feature, space), number

    @contextmanager
    def _readable(self, rules: TermRules) -> Iterator[Workspace]:
        """A workspace whose weights are those that predict."""
        if not rules.regularised:
            yield self._workspace
            return
        # What --l1 and --l2 take off is kept apart from the weights, but applied to those loaded for testing only.
        with tempfile.TemporaryDirectory(prefix="offerloop-") as folder:
            path = Path(folder) / "model.vw"
            self._workspace.save(path)
            tested = Workspace(f"{self.setting.arguments} --quiet -t -i {path}")
        try:
            yield tested
        finally:
            tested.finish()

    def cost(self, reward: float) -> float:
        """A reward as a cost from 0 down to -1; as its negative where a model goes on that others trained so."""
        low, high = self.setting.reward_low, self.setting.reward_high
        # Rewards of the log may stem from a time when the range was another.
        clipped = min(max(reward, low), high)
        return 0.0 - clipped if self.reads_json else (low - clipped) / (high - low)

    def lines(self, context: Context, actions: Sequence[Action]) -> list[str]:
        """The line of a context, and those of actions, whose affinities are put in later."""
        return [shared_line(context), *map(self._action_line, actions)]

    def examples_of(self, lines: Sequence[str], actions: Sequence[Action], count: int | None = None) -> list[Any]:
        """Lines that were written out, read: the context's, those of the actions with their affinities, and others."""
        try:
            examples = self._parse(list(lines), len(lines) if count is None else count)
        except RuntimeError as error:
            raise UnusableExample(str(error)) from None
        for example, action in zip(examples[1:], actions, strict=False):
            self._set_affinity(example, action.affinity)
        return examples

    def reopen(self, more: str) -> None:
        """Go on, with further arguments, from what was learned."""
        model = self.save()
        self._finish()
        self._workspace = self._open(model, more)
        self._offers = OfferExamples(self._workspace, self._action_example, keeps=self._caches)

    def save(self) -> bytes:
        """The whole learning state; loading it and going on equals never having stopped."""
        with tempfile.TemporaryDirectory(prefix="offerloop-") as folder:
            path = Path(folder) / "model.vw"
            self._workspace.save(path)
            return path.read_bytes()

    def _open(self, model: bytes | None, more: str = "") -> Workspace:
        arguments = f"{for_vowpal(self.setting.arguments)} {_OWN} {more}"
        if model is None:
            return Workspace(arguments)
        with tempfile.TemporaryDirectory(prefix="offerloop-") as folder:
            path = Path(folder) / "model.vw"
            path.write_bytes(model)
            return Workspace(f"{arguments} -i {path}")

    def close(self) -> None:
        """Give all memory back; once more does nothing."""
        if "_workspace" not in vars(self):
            return
        self._finish()
        # Its parts know it: only without them is it gone now, and not when cycles are looked for.
        setting = self.setting
        vars(self).clear()
        self.setting = setting

    def _finish(self) -> None:
        """End the workspace; cached offers must be finished before it."""
        if kept := self._offers.take_all():
            pylibvw.vw._finish_example_multi_ex(self._workspace, kept)
        if self._chosen is not None:
            self._chosen.close()
            self._chosen = None
        self._workspace.finish()

    def _parse(self, lines: list[str], expected: int) -> list[Any]:
        examples: list[Any] = self._workspace._parse("\n".join(lines))
        if len(examples) != expected:
            if examples:
                pylibvw.vw._finish_example_multi_ex(self._workspace, examples)
            raise UnusableExample(f"{expected} lines parsed to {len(examples)} examples")
        return examples

    def _action_line(self, action: Action) -> str:
        """The line of an offer, written once for each version of the catalogue's."""
        key = (action.offer_id, action.version)
        features, line = self._lines.get(key, (None, ""))
        if features != action.features:
            line = _action(action)
            if action.version > 0:
                self._lines[key] = action.features, line
                if len(self._lines) > MOST_LINES:
                    self._lines.clear()
        return line

    def _action_example(self, action: Action) -> Any:
        (example,) = self._parse([_action(action)], 1)
        return example

    def _set_affinity(self, example: Any, affinity: Features) -> None:
        self._offers.put_affinity(example, affinity)


def _weights(workspace: Workspace, indices: Indices) -> Floats:
    get_weight, places = pylibvw.vw.get_weight, indices & np.uint64(workspace.num_weights() - 1)
    return np.array([get_weight(workspace, place, 0) for place in places.tolist()], dtype=np.float64)
