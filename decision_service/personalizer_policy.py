"""Learning settings as Personalizer's users write them, and the native setting that serves each."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from contextual_bandit.vowpal import BadArguments, check_arguments

DEFAULT_ARGUMENTS = "--cb_explore_adf --epsilon 0.2 --power_t 0 -l 0.001 --cb_type mtr -q ::"
DEFAULT_EPSILON = 0.2
MULTI_SLOT = "--ccb_explore_adf"
# Explorers of their own; any other setting is greedy, and the floor makes it epsilon-greedy.
EXPLORERS = frozenset({"--squarecb", "--regcb", "--regcbopt", "--softmax", "--synthcover", "--first"})
# Valid for the learner but not to be replayed to the byte: kept and answered, served without.
UNSERVED = {"--bag": 1, "--cover": 1, "--rnd": 1, "--greedify": 0, "--nounif": 0, "--first_only": 0}
_EPSILON = re.compile(r"(--epsilon[ =]+)(\S+)")


@dataclass(frozen=True, slots=True)
class ServedPolicy:
    """What serves some arguments.

    Attributes:
        arguments: the native learning setting; exploration is the loop's floor, so it names none.
        epsilon: what the arguments give as exploration, if they do.
        is_multi_slot: whether they ask for several slots.
    """

    arguments: str
    epsilon: float | None
    is_multi_slot: bool


def served_policy(arguments: str) -> ServedPolicy:
    """The native setting of arguments as they were sent; builds a workspace.

    Raises:
        BadArguments: names what is unusable.
    """
    try:
        words = [part for word in shlex.split(arguments) for part in word.split("=", 1)]
    except ValueError as error:
        raise BadArguments(f"arguments {arguments!r}: {error}") from None
    if "--cb_explore_adf" not in words and MULTI_SLOT not in words:
        raise BadArguments(f"arguments {arguments!r} have neither --cb_explore_adf nor {MULTI_SLOT}")
    native = ["--cb_explore_adf"]
    epsilon: float | None = None
    position = 0
    while position < len(words):
        name, value = words[position], words[position + 1] if position + 1 < len(words) else ""
        position += 1
        if name == "--epsilon":
            epsilon = _share(value)
            position += 1
        elif name in UNSERVED:
            position += UNSERVED[name]
        elif name == "--cb_type" and value == "dr":
            native += [name, "mtr"]
            position += 1
        elif name not in (MULTI_SLOT, "--cb_explore_adf"):
            native.append(name)
    if not EXPLORERS & set(native):
        native += ["--epsilon", "0"]
    return ServedPolicy(check_arguments(shlex.join(native)), epsilon, MULTI_SLOT in words)


def with_epsilon(arguments: str, epsilon: float) -> str:
    """Arguments whose exploration is this; they are left as they are where it is so already.

    >>> with_epsilon("--cb_explore_adf --epsilon 0.20 -q ::", 0.2)
    '--cb_explore_adf --epsilon 0.20 -q ::'
    >>> with_epsilon("--cb_explore_adf -q ::", 0.5)
    '--cb_explore_adf -q :: --epsilon 0.5'
    """
    found = _EPSILON.search(arguments)
    if found is None:
        return f"{arguments} --epsilon {epsilon:g}"
    if float(found.group(2)) == epsilon:
        return arguments
    return _EPSILON.sub(lambda match: f"{match.group(1)}{epsilon!r}", arguments)


def _share(text: str) -> float:
    try:
        epsilon = float(text)
    except ValueError:
        epsilon = -1.0
    if not 0.0 <= epsilon <= 1.0:
        raise BadArguments(f"--epsilon must lie in [0, 1], got {text!r}")
    return epsilon
