"""A policy that is asked and then taught on the same decision, which is read once for both: for going through logs."""

from __future__ import annotations

from math import fsum

import pylibvw

from contextual_bandit.types import LoggedInteraction
from contextual_bandit.vowpal import VowpalPolicy, _action, shared_line
from contextual_bandit.vowpal_json import ask_json, teach_json


class ProgressivePolicy(VowpalPolicy):
    """As ``VowpalPolicy``, to the bit in its probabilities; reading is most of what a decision costs.

    The saved bytes count the predictions too, so that they are not those of a learner, which does not predict.
    """

    def predict_then_learn(self, interaction: LoggedInteraction) -> tuple[float, ...]:
        """Give the probability of each action, and learn from the logged propensity after that.

        Raises:
            ValueError: the decision has no propensity.
            UnusableExample: the features did not parse to one shared example and one per action.
        """
        decision = interaction.decision
        slot = decision.slots[0]
        if slot.propensity is None:
            raise ValueError(f"decision {decision.decision_id!r} has no propensity to learn from")
        if self.slates is not None:
            given = self.slates.view_distribution(decision)
            self.slates.learn([interaction])
            return given
        if self.reads_json:
            given = ask_json(self, decision.context, decision.actions)
            teach_json(self, interaction)
            return given
        lines = [shared_line(decision.context), *map(_action, decision.actions)]
        lines[1 + slot.chosen] = f"0:{self.cost(interaction.reward)!r}:{slot.propensity!r} {lines[1 + slot.chosen]}"
        examples = self._parse(lines, len(lines))
        try:
            for example, action in zip(examples[1:], decision.actions, strict=True):
                self._set_affinity(example, action.affinity)
            pylibvw.vw.predict_multi(self._workspace, examples)
            scores = examples[0].get_action_scores()
            pylibvw.vw.learn_multi(self._workspace, examples)
        finally:
            pylibvw.vw._finish_example_multi_ex(self._workspace, examples)
        total = fsum(scores)
        return tuple(score / total for score in scores)
