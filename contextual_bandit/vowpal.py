"""The gate to Vowpal Wabbit: features in, probabilities out, cost = -reward; the only file that imports it."""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from hashlib import sha256
from math import fsum
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pylibvw
from vowpalwabbit.pyvw import Workspace

from contextual_bandit.explain import ActionExplanation
from contextual_bandit.types import Action, Context, Features, FeatureValue, LearningSetting, LoggedInteraction
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

# Explorers whose probabilities can be replayed to the byte; bag, cover and rnd draw from hidden state.
FLAGS = frozenset({"--cb_explore_adf", "--squarecb", "--regcb", "--regcbopt", "--softmax", "--synthcover",
                   "--large_action_space", "--noconstant", "--adaptive", "--normalized", "--invariant", "--sgd",
                   "--coin", "--leave_duplicate_interactions", "--elim"})  # fmt: skip
NUMBERS = frozenset({"--epsilon", "--gamma_scale", "--gamma_exponent", "--mellowness", "--lambda", "--psi", "--first",
                     "-l", "--learning_rate", "--power_t", "--initial_t", "--l1", "--l2", "-b", "--bit_precision",
                     "--decay_learning_rate", "--cb_min_cost", "--cb_max_cost", "--max_actions", "--clip_p",
                     "--random_seed"})  # fmt: skip
WORDS = {
    "-q": r"[\x21-\x7e]{2}|::",
    "--quadratic": r"[\x21-\x7e]{2}|::",
    "--cubic": r"[\x21-\x7e]{3}|:::",
    "--interactions": r"[\x21-\x7e]{2,6}",
    "--ignore": r"[\x21-\x7e]+",
    "--ignore_linear": r"[\x21-\x7e]+",
    "--keep": r"[\x21-\x7e]+",
    "--cb_type": r"mtr|ips|dm|dr",
    "--loss_function": r"squared|logistic",
    "--link": r"identity|logistic",
}
LARGEST_BITS = 22
_OWN = "--quiet --preserve_performance_counters"
_UNSAFE = re.compile("[\x00-\x20|:%\x7f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")
# Versions of offers whose lines a learner keeps.
MOST_LINES = 20_000
_AFFINITY = ord("A")
# Features as (index, value).
_Hashed: TypeAlias = list[tuple[int, float]]


class BadArguments(ValueError):
    """A learning setting that is not allowed or that Vowpal Wabbit refuses."""


class UnusableExample(ValueError):
    """Features that Vowpal Wabbit did not read as one shared example and one per action."""


def check_arguments(arguments: str) -> str:
    """The learning setting in its canonical spelling, after a workspace was built from it.

    Raises:
        BadArguments: names the argument that is unknown, ill-formed or refused.
    """
    try:
        words = [part for word in shlex.split(arguments) for part in word.split("=", 1)]
    except ValueError as error:
        raise BadArguments(f"arguments {arguments!r}: {error}") from None
    position = 0
    while position < len(words):
        name = words[position]
        position += 1
        if name in FLAGS:
            continue
        if name not in NUMBERS and name not in WORDS:
            raise BadArguments(f"argument {name!r} is not allowed in a learning setting")
        value = words[position] if position < len(words) else ""
        position += 1
        if not re.fullmatch(WORDS.get(name, r"-?[0-9]+(\.[0-9]+)?([eE]-?[0-9]+)?"), value):
            raise BadArguments(f"argument {name} has the unusable value {value!r}")
        if name in ("-b", "--bit_precision") and not (value.isdigit() and 1 <= int(value) <= LARGEST_BITS):
            raise BadArguments(f"argument {name} must be a whole number from 1 to {LARGEST_BITS}, got {value!r}")
    if "--cb_explore_adf" not in words:
        raise BadArguments(f"arguments {arguments!r} lack --cb_explore_adf")
    if "dr" in words:
        raise BadArguments("--cb_type dr cannot be replayed to the byte; use mtr, ips or dm")
    canonical = " ".join(words)
    try:
        VowpalPolicy(canonical).close()
    except RuntimeError as error:
        raise BadArguments(f"arguments {arguments!r}: {error}") from None
    return canonical


def policy_id(arguments: str) -> str:
    """A short name of a learning setting: equal settings have equal names."""
    return "vw-" + sha256(arguments.encode()).hexdigest()[:10]


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
        if model is None:
            self._workspace = Workspace(f"{arguments} {_OWN}")
        else:
            with tempfile.TemporaryDirectory(prefix="offerloop-") as folder:
                path = Path(folder) / "model.vw"
                path.write_bytes(model)
                self._workspace = Workspace(f"{arguments} {_OWN} -i {path}")
        # Among many actions the large action space keeps state with each example: reused ones get other probabilities.
        self._caches = "--large_action_space" not in arguments
        self._cached: dict[tuple[str, int], Any] = {}
        self._lines: dict[tuple[str, int], tuple[Features, str]] = {}
        self._indices: dict[str, int] = {}
        self._numbers: dict[str, int] = {}

    def distribution(self, context: Context, actions: Sequence[Action]) -> tuple[float, ...]:
        """Probability of each action; float32 accuracy, normalised to sum to 1.

        Raises:
            UnusableExample: the features did not parse to one shared example and one per action.
        """
        fresh = self._parse([shared_line(context)], 1)
        examples = [fresh[0]]
        known: dict[int, _Hashed] = {}
        try:
            for action in actions:
                # Only the catalogue's are kept.
                example = self._cached.get((action.offer_id, action.version))
                if example is None:
                    example = self._action_example(action)
                    if action.version > 0 and self._caches:
                        self._cached[(action.offer_id, action.version)] = example
                    else:
                        fresh.append(example)
                # Offers of a category share one object.
                hashed = known.get(id(action.affinity))
                if hashed is None:
                    hashed = known[id(action.affinity)] = self._hashed(action.affinity)
                self._put_affinity(example, hashed)
                examples.append(example)
            pylibvw.vw.predict_multi(self._workspace, examples)
            scores = fresh[0].get_action_scores()
        finally:
            pylibvw.vw._finish_example_multi_ex(self._workspace, fresh)
        total = fsum(scores)
        return tuple(score / total for score in scores)

    def learn(self, interactions: Iterable[LoggedInteraction]) -> None:
        """Learn each interaction once, in order, from its logged propensity."""
        for interaction in interactions:
            decision = interaction.decision
            slot = decision.slots[0]
            if slot.propensity is None:
                raise ValueError(f"decision {decision.decision_id!r} has no propensity to learn from")
            label = f"0:{self._cost(interaction.reward)!r}:{slot.propensity!r} "
            lines = [shared_line(decision.context), *map(self._action_line, decision.actions)]
            lines[1 + slot.chosen] = label + lines[1 + slot.chosen]
            examples = self._parse(lines, len(lines))
            for example, action in zip(examples[1:], decision.actions, strict=True):
                self._set_affinity(example, action.affinity)
            pylibvw.vw.learn_multi(self._workspace, examples)
            pylibvw.vw._finish_example_multi_ex(self._workspace, examples)

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
            Unexplainable: more than a million terms, or a namespace that the setting spells in hexadecimal.
        """
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

    def _cost(self, reward: float) -> float:
        low, high = self.setting.reward_low, self.setting.reward_high
        # Rewards of the log may stem from a time when the range was another.
        return (low - min(max(reward, low), high)) / (high - low)

    def save(self) -> bytes:
        """The whole learning state; loading it and going on equals never having stopped."""
        with tempfile.TemporaryDirectory(prefix="offerloop-") as folder:
            path = Path(folder) / "model.vw"
            self._workspace.save(path)
            return path.read_bytes()

    def close(self) -> None:
        """Give all memory back; cached offers must be finished before their workspace."""
        if self._cached:
            pylibvw.vw._finish_example_multi_ex(self._workspace, list(self._cached.values()))
            self._cached.clear()
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
        self._put_affinity(example, self._hashed(affinity))

    def _put_affinity(self, example: Any, hashed: _Hashed) -> None:
        example.erase_namespace(_AFFINITY)
        # The third argument is the hash that names given as text would get; these are hashed already.
        example.push_feature_list(self._workspace, _AFFINITY, 0, hashed)

    def _hashed(self, affinity: Features) -> _Hashed:
        found = []
        for name, value in affinity.items():
            # Nearly all are numbers.
            if type(value) is float and (index := self._numbers.get(name)) is not None:
                number = value
            else:
                token, number = _binary(name, value)
                index = self._index(token)
                if type(value) is float:
                    self._numbers[name] = index
            if number != 0.0:
                found.append((index, float(number)))
        return found

    def _index(self, token: str) -> int:
        index = self._indices.get(token)
        if index is None:
            space = self._workspace.hash_space("A")
            index = self._workspace.hash_feature(token, space) * self._workspace.get_stride()
            self._indices[token] = index
        return index


def shared_line(context: Context) -> str:
    """A context as Vowpal Wabbit reads it: every name and word escaped, indicators as name=value."""
    parts = ["shared"]
    for namespace, features in context.namespaces.items():
        parts.append(f"|{_token(namespace)} {_line(features)}")
    return " ".join(parts) if len(parts) > 1 else "shared |"


def context_numbers(context: Context) -> dict[str, dict[str, float]]:
    """A context's namespaces under the names, and with the numbers, by which Vowpal Wabbit knows its features."""
    return {_token(name): _numbers(features) for name, features in context.namespaces.items()}


def action_numbers(action: Action) -> dict[str, dict[str, float]]:
    """The same of an action."""
    return {"O": _numbers(_offer(action)), "A": _numbers(action.affinity)}


def _numbers(features: Features) -> dict[str, float]:
    return dict(_binary(name, value) for name, value in features.items())


def _action(action: Action) -> str:
    # The placeholder makes the namespace A exist; its content is replaced for every decision.
    return f"|O {_line(_offer(action))} |A _"


def _offer(action: Action) -> Features:
    return {"id": action.offer_id, **action.features}


def _line(features: Features) -> str:
    return " ".join(_feature(name, value) for name, value in features.items())


# Few features differ from call to call; 1, 1.0 and True are different ones.
@lru_cache(maxsize=65536, typed=True)
def _feature(name: str, value: FeatureValue) -> str:
    token, number = _binary(name, value)
    return token if number == 1.0 else f"{token}:{number!r}"


def _binary(name: str, value: FeatureValue) -> tuple[str, float]:
    """A feature as Vowpal Wabbit sees it: words and booleans are indicators named name=value."""
    if isinstance(value, str):
        return f"{_token(name)}={_token(value)}", 1.0
    if isinstance(value, bool):
        return f"{_token(name)}={'true' if value else 'false'}", 1.0
    return _token(name), value


def _shown(name: str, value: FeatureValue) -> str:
    """A feature as people know it: nothing escaped."""
    if isinstance(value, bool):
        return f"{name}={'true' if value else 'false'}"
    return f"{name}={value}" if isinstance(value, str) else name


def _weights(workspace: Workspace, indices: Indices) -> Floats:
    get_weight, places = pylibvw.vw.get_weight, indices & np.uint64(workspace.num_weights() - 1)
    return np.array([get_weight(workspace, place, 0) for place in places.tolist()], dtype=np.float64)


@lru_cache(maxsize=8192)
def _token(text: str) -> str:
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match.group().encode())
