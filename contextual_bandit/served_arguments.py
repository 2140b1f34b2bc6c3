"""Learning settings as Personalizer's users write them, and the native setting that serves each."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from contextual_bandit.learning_arguments import SINGLE, SLATES, BadArguments, has_epsilon, words_of
from contextual_bandit.vowpal import check_arguments

# Explorers of their own; any other setting is greedy, and the floor makes it epsilon-greedy.
EXPLORERS = frozenset({"--squarecb", "--regcb", "--regcbopt", "--softmax", "--synthcover", "--first"})
# Valid for the learner but not to be replayed to the byte: kept and answered, served without.
UNSERVED = {"--bag": 1, "--cover": 1, "--rnd": 1, "--greedify": 0, "--nounif": 0, "--first_only": 0}


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

    Several slots are drawn by Vowpal Wabbit itself, with the loop's floor as its epsilon. Explorers that have none
    draw by the service instead, slot after slot from the policy of single decisions.

    Raises:
        BadArguments: names what is unusable.
    """
    words = words_of(arguments)
    if SINGLE not in words and SLATES not in words:
        raise BadArguments(f"arguments {arguments!r} have neither {SINGLE} nor {SLATES}")
    is_inside = SLATES in words and has_epsilon(words)
    native = [SLATES if is_inside else SINGLE]
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
        elif name not in (SLATES, SINGLE):
            native.append(name)
    if not is_inside and not EXPLORERS & set(native):
        native += ["--epsilon", "0"]
    return ServedPolicy(check_arguments(shlex.join(native)), epsilon, SLATES in words)


def _share(text: str) -> float:
    try:
        epsilon = float(text)
    except ValueError:
        epsilon = -1.0
    if not 0.0 <= epsilon <= 1.0:
        raise BadArguments(f"--epsilon must lie in [0, 1], got {text!r}")
    return epsilon
