"""Several slots drawn and taught by Vowpal Wabbit itself: its conditional contextual bandits, ``--ccb_explore_adf``.

A decision is one example for the context, one for each action and one for each slot. Vowpal Wabbit draws slot after
slot without replacement; a tag "seed=N" on a slot makes its draw repeatable. Slot k knows its place by a feature of its
own, so that the same offer may be worth more at the top than below.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import fsum, inf
from typing import Any, Protocol

import pylibvw
from vowpalwabbit.pyvw import Workspace

from contextual_bandit.learning_arguments import own_epsilon
from contextual_bandit.policy import ROUNDING, UnusableDistribution
from contextual_bandit.policy_draws import SlotDrawn, SlotTask
from contextual_bandit.slate_lessons import SlateLesson, SlotLesson, slate_lesson
from contextual_bandit.slots import SLOT_NAMESPACE
from contextual_bandit.types import Action, Context, Decision, Features, LearningSetting, LoggedInteraction

# Until it has seen several slots at once, Vowpal Wabbit leaves the places out. No answer may depend on what a worker
# was asked before, so every one is asked this first.
_TWO_SLOTS = ("ccb shared |", "ccb action |", "ccb action |", "ccb slot |", "ccb slot |")
# Stands for what a slot shows that has nothing to show: it can be left out of no place, as places are counted.
_NOTHING = "ccb action |"
_32, _64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF


class Opened(Protocol):
    """A policy's workspace, as far as slots are concerned."""

    @property
    def setting(self) -> LearningSetting:
        """How it learns."""

    @property
    def workspace(self) -> Workspace:
        """Vowpal Wabbit's own, which changes when it is opened again."""

    def lines(self, context: Context, actions: Sequence[Action]) -> list[str]:
        """The line of a context and those of actions."""

    def examples_of(self, lines: Sequence[str], actions: Sequence[Action]) -> list[Any]:
        """Lines that were written out, read: the context's, those of the actions with their affinities, and others."""

    def cost(self, reward: float) -> float:
        """A reward as a cost from 0 down to -1."""

    def reopen(self, more: str) -> None:
        """Go on with further arguments."""


class CcbSlates:
    """Draws and learns whole slates in a policy's workspace."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._epsilon: float | None = None
        self._is_ready = False

    def distribution(self, context: Context, actions: Sequence[Action]) -> tuple[float, ...]:
        """Probability of each action for one slot alone; the epsilon is the last that was drawn with."""
        everything = tuple(range(len(actions)))
        return self._ask(context, actions, [SlotTask({}, everything, 0)])[0].probabilities

    def view_distribution(self, view: Decision, epsilon: float | None = None) -> tuple[float, ...]:
        """Probability of each action of a plain decision, or of a slot's view, given what was left to it.

        Args:
            view: as ``contextual_bandit.slots.slot_view`` gives it.
            epsilon: Vowpal Wabbit's, where the setting names none.
        """
        self._explore(epsilon)
        names = {entry.offer_id for entry in view.removed}
        left = tuple(index for index, action in enumerate(view.actions) if action.offer_id not in names)
        # Places are counted: those above show nothing here, which changes nothing below.
        above = [SlotTask({}, (), 0)] * view.slots[0].index
        everything = tuple(range(len(view.actions)))
        return self._ask(view.context, view.actions, [*above, SlotTask({}, left or everything, 0)])[-1].probabilities

    def draw(
        self, context: Context, actions: Sequence[Action], tasks: Sequence[SlotTask], epsilon: float
    ) -> tuple[SlotDrawn, ...]:
        """Have Vowpal Wabbit draw slot after slot.

        Args:
            context: the shared features.
            actions: what is to be chosen from.
            tasks: the slots; whatever slots above draw, something of a slot's own is left, unless it has nothing.
            epsilon: Vowpal Wabbit's, where the setting names none: each of K actions left keeps at least epsilon / K.

        Raises:
            UnusableExample: the features did not parse to one example for each line.
            UnusableDistribution: the model's numbers are no probabilities.
        """
        self._explore(epsilon)
        return tuple(self._ask(context, actions, tasks))

    def learn(self, interactions: Iterable[LoggedInteraction]) -> None:
        """Learn each interaction once, in order: every slot from its conditional propensity and its own reward."""
        for interaction in interactions:
            low, high = self._opened.setting.reward_low, self._opened.setting.reward_high
            lesson = slate_lesson(interaction, low, high)
            if lesson is not None:
                self._teach(lesson)

    def _explore(self, epsilon: float | None) -> None:
        if epsilon is None or epsilon == self._epsilon or own_epsilon(self._opened.setting.arguments) is not None:
            return
        self._opened.reopen(f"--epsilon {epsilon!r}")
        self._epsilon = epsilon

    def _ask(self, context: Context, actions: Sequence[Action], tasks: Sequence[SlotTask]) -> list[SlotDrawn]:
        if not self._is_ready:
            self._run(_TWO_SLOTS, ())
            self._is_ready = True
        count = len(actions)
        slots = [f"ccb slot {{left}} 'seed={task.seed}{_slot_features(self._opened, task.features)}" for task in tasks]
        lefts = [task.left for task in tasks]
        answers = self._run(self._lines(context, actions, slots, lefts), actions)
        found = []
        for task, answer in zip(tasks, answers, strict=True):
            if not task.left:
                found.append(SlotDrawn(-1, (), 0.0))
                continue
            total = fsum(one for _, one in answer)
            # "not <" rather than ">=", so that nan counts too.
            if not 0.0 < total < inf or min(one for _, one in answer) < -ROUNDING:
                raise UnusableDistribution(f"the policy gave {answer[:5]}, which are no probabilities")
            probabilities = [0.0] * count
            for index, one in answer:
                probabilities[index] = one / total
            found.append(SlotDrawn(answer[0][0], tuple(probabilities), drawn_number(task.seed)))
        return found

    def _teach(self, lesson: SlateLesson) -> None:
        slots = [SlotLesson({})] * lesson.above + list(lesson.slots)
        lines = [
            f"ccb slot {self._label(slot)}{{left}} {_slot_features(self._opened, slot.features)}" for slot in slots
        ]
        lefts = [slot.left for slot in slots]
        self._run(self._lines(lesson.context, lesson.actions, lines, lefts), lesson.actions, teach=True)

    def _run(
        self, lines: Sequence[str], actions: Sequence[Action], *, teach: bool = False
    ) -> list[list[tuple[int, float]]]:
        """Of each slot the actions that are left with their probabilities, the drawn (or taught) one first."""
        workspace, examples = self._opened.workspace, self._opened.examples_of(lines, actions)
        try:
            (pylibvw.vw.learn_multi if teach else pylibvw.vw.predict_multi)(workspace, examples)
            found: list[list[tuple[int, float]]] = examples[0].get_decision_scores()
            return found
        finally:
            pylibvw.vw._finish_example_multi_ex(workspace, examples)

    def _label(self, slot: SlotLesson) -> str:
        return "" if slot.chosen < 0 else f"{slot.chosen}:{self._opened.cost(slot.reward)!r}:{slot.propensity!r} "

    def _lines(
        self, context: Context, actions: Sequence[Action], slots: Sequence[str], lefts: Sequence[tuple[int, ...]]
    ) -> list[str]:
        """All lines of a decision; ``{left}`` in those of the slots becomes the list of what is left to each."""
        shared, *own = self._opened.lines(context, actions)
        lines = [f"ccb {shared}", *(f"ccb action {line}" for line in own)]
        count, written = len(actions), []
        for slot, left in zip(slots, lefts, strict=True):
            if left:
                written.append((slot, left))
            else:
                written.append((slot, (len(lines) - 1,)))
                lines.append(_NOTHING)
        # No list stands for everything, which what stands for nothing belongs to.
        is_plain = len(lines) == 1 + count
        lines += [
            slot.replace("{left}", "" if is_plain and len(left) == count else ",".join(map(str, left)), 1)
            for slot, left in written
        ]
        return lines


def drawn_number(seed: int) -> float:
    """The number in [0, 1) by which Vowpal Wabbit draws under the tag "seed=N".

    It is MurmurHash3 (32 bits) of the digits, then one step of a linear congruential generator of which 23 bits are
    taken. The first action in the order of its list whose cumulated probability exceeds it is drawn.

    Args:
        seed: N, at least 0.
    """
    state = (0xEECE66D5DEECE66D * _murmur(str(seed).encode()) + 0x7FFFFFFF) & _64
    return float((state >> 25) & 0x7FFFFF) / 8388608.0


def _murmur(key: bytes) -> int:
    """MurmurHash3 for 32 bits with seed 0 (Appleby, public domain)."""
    found = 0
    whole = len(key) // 4 * 4
    for start in range(0, whole, 4):
        found = _rotated(found ^ _mixed(int.from_bytes(key[start : start + 4], "little")), 13)
        found = (found * 5 + 0xE6546B64) & _32
    if whole < len(key):
        found ^= _mixed(int.from_bytes(key[whole:], "little"))
    found ^= len(key)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        found = ((found ^ (found >> shift)) * factor) & _32
    return found ^ (found >> 16)


def _mixed(block: int) -> int:
    return _rotated(block * 0xCC9E2D51 & _32, 15) * 0x1B873593 & _32


def _rotated(number: int, bits: int) -> int:
    return ((number << bits) | (number >> (32 - bits))) & _32


def _slot_features(opened: Opened, features: Features) -> str:
    """A slot's own features, behind its tag."""
    if not features:
        return "|"
    (line,) = opened.lines(Context({SLOT_NAMESPACE: features}), ())
    return line.removeprefix("shared ")
