"""Learning settings worth trying on a log, drawn by seed from those that a loop may have."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import product

from contextual_bandit.vowpal import BadArguments, check_arguments

# Arguments of each explorer; what they mean is in Vowpal Wabbit's documentation of --cb_explore_adf.
EXPLORERS: tuple[str, ...] = (
    *(f"--epsilon {epsilon}" for epsilon in ("0.02", "0.05", "0.1", "0.2")),
    *(f"--squarecb --gamma_scale {scale} --gamma_exponent {exponent}"
      for scale, exponent in product(("10", "30", "100", "300"), ("0.25", "0.5"))),
    *(f"--softmax --lambda {temperature}" for temperature in ("3", "10", "30")),
    *(f"--regcb --mellowness {mellowness}" for mellowness in ("0.01", "0.1")),
    "--synthcover --psi 0.1",
)  # fmt: skip
COST_TYPES = ("mtr", "mtr", "ips", "dm")
LEARNING_RATES = ("0.01", "0.03", "0.1", "0.25", "0.5", "1.0")
POWERS = ("", "", " --power_t 0", " --power_t 0.25")
# So often a drawn setting may be known already, before there are taken to be no more.
MOST_REPEATS = 200


def propose(namespaces: Sequence[str], trials: int, *, current: str = "", seed: int = 0) -> tuple[str, ...]:
    """Draw different learning settings at random; the same seed draws the same ones.

    Args:
        namespaces: of the log's contexts and actions: what interactions are made of.
        trials: how many; fewer when there are no more.
        current: the loop's own setting, which is left out.
        seed: of the draws.

    Returns:
        Canonical arguments, each of which a loop may have.
    """
    dice = random.Random(seed)
    known, found, repeats = {_canonical(current)}, list[str](), 0
    makers = interaction_makers(namespaces)
    while len(found) < trials and repeats < MOST_REPEATS:
        words = (
            f"--cb_explore_adf {dice.choice(EXPLORERS)} --cb_type {dice.choice(COST_TYPES)} "
            f"--learning_rate {dice.choice(LEARNING_RATES)}{dice.choice(POWERS)} {dice.choice(makers)(dice)}"
        )
        canonical = _canonical(words)
        if canonical is None or canonical in known:
            repeats += 1
            continue
        known.add(canonical)
        found.append(canonical)
    return tuple(found)


def interaction_makers(namespaces: Sequence[str]) -> list[Callable[[random.Random], str]]:
    """Ways to choose which namespaces are multiplied: none, all pairs, all with the offer's, or some of the context's.

    A namespace whose name does not begin with a letter or digit is in all pairs only.
    """
    letters = sorted({name[0] for name in namespaces if name[:1].isascii() and name[:1].isalnum()} - {"O", "A"})
    # One more letter for the affinity, where there is any.
    others = "OA" if "A" in namespaces else "O"

    def nothing(dice: random.Random) -> str:
        return ""

    def all_pairs(dice: random.Random) -> str:
        return "-q ::"

    def with_offer(dice: random.Random) -> str:
        return " ".join(f"-q :{other}" for other in others)

    def some(dice: random.Random) -> str:
        chosen = dice.sample(letters, dice.randint(1, len(letters)))
        return " ".join(f"-q {letter}O" for letter in sorted(chosen))

    return [nothing, all_pairs, with_offer, *([some, some] if letters else [])]


def _canonical(arguments: str) -> str | None:
    try:
        return check_arguments(arguments)
    except BadArguments:
        return None
