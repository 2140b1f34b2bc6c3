"""Learning settings as text: which of Vowpal Wabbit's arguments are allowed, and what they ask for."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

SINGLE = "--cb_explore_adf"
# Vowpal Wabbit draws the offers of several slots itself, one after the other.
SLATES = "--ccb_explore_adf"
# Policy ids of settings that draw themselves begin so.
SLATES_POLICY = "ccb-"
# Explorers whose probabilities can be replayed to the byte; bag, cover and rnd draw from hidden state.
FLAGS = frozenset({SINGLE, SLATES, "--squarecb", "--regcb", "--regcbopt", "--softmax", "--synthcover",
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
    "--feature_names": "vw_json",
}
LARGEST_BITS = 22
# An argument of ours, which Vowpal Wabbit does not get: features under the names that its JSON reader gives them.
FEATURE_NAMES = "--feature_names"
VW_JSON = "vw_json"
JSON_NAMES = f"{FEATURE_NAMES} {VW_JSON}"
# Explorers without an epsilon, or that give some actions no probability in spite of it.
WITHOUT_EPSILON = ("--squarecb", "--regcb", "--regcbopt", "--large_action_space")


class BadArguments(ValueError):
    """A learning setting that is not allowed or that Vowpal Wabbit refuses."""


def words_of(arguments: str) -> list[str]:
    """The words of a learning setting; ``--name=value`` is two.

    Raises:
        BadArguments: a quotation mark without its partner.

    >>> words_of("--cb_explore_adf --epsilon=0.1 '-q' ::")
    ['--cb_explore_adf', '--epsilon', '0.1', '-q', '::']
    """
    try:
        return [part for word in shlex.split(arguments) for part in word.split("=", 1)]
    except ValueError as error:
        raise BadArguments(f"arguments {arguments!r}: {error}") from None


def canonical(arguments: str) -> str:
    """A learning setting in its canonical spelling, of allowed arguments only; Vowpal Wabbit may still refuse it.

    Raises:
        BadArguments: names the argument that is unknown or ill-formed.
    """
    words = words_of(arguments)
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
    if SINGLE not in words and SLATES not in words:
        raise BadArguments(f"arguments {arguments!r} lack {SINGLE}")
    if words.count(FEATURE_NAMES) > 1:
        raise BadArguments(f"argument {FEATURE_NAMES} stands there twice")
    if "dr" in words:
        raise BadArguments("--cb_type dr cannot be replayed to the byte; use mtr, ips or dm")
    if SLATES in words:
        _check_slates(words)
    return " ".join(words)


def reads_json(arguments: str) -> bool:
    """Whether features have the names that Vowpal Wabbit's JSON reader gives them."""
    return FEATURE_NAMES in arguments.split()


def for_vowpal(arguments: str) -> str:
    """The arguments that Vowpal Wabbit gets.

    >>> for_vowpal("--cb_explore_adf --feature_names vw_json -q ij")
    '--cb_explore_adf -q ij --json'
    """
    if not reads_json(arguments):
        return arguments
    words = arguments.split()
    place = words.index(FEATURE_NAMES)
    return " ".join([*words[:place], *words[place + 2 :], "--json"])


def draws_slates(arguments: str) -> bool:
    """Whether Vowpal Wabbit draws by itself under this setting."""
    return SLATES in arguments.split()


def own_epsilon(arguments: str) -> float | None:
    """The epsilon that a setting names.

    >>> own_epsilon("--ccb_explore_adf --epsilon 0.2 -q ::"), own_epsilon("--ccb_explore_adf")
    (0.2, None)
    """
    words = arguments.split()
    return float(words[words.index("--epsilon") + 1]) if "--epsilon" in words else None


def has_epsilon(words: Sequence[str]) -> bool:
    """Whether the explorer gives every action at least epsilon / K."""
    return not any(name in words for name in WITHOUT_EPSILON)


def _check_slates(words: Sequence[str]) -> None:
    if SINGLE in words:
        raise BadArguments(f"{SINGLE} and {SLATES} exclude each other")
    for name in WITHOUT_EPSILON:
        if name in words:
            raise BadArguments(f"{SLATES} with {name} has no epsilon that every offer keeps; use {SINGLE}")
    if FEATURE_NAMES in words:
        raise BadArguments(f"{JSON_NAMES} is for {SINGLE} alone, not for {SLATES}")
    epsilon = own_epsilon(" ".join(words))
    if epsilon is not None and not 0.0 <= epsilon <= 1.0:
        raise BadArguments(f"--epsilon must lie in [0, 1], got {epsilon!r}")
