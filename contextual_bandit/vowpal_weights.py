"""Whether a model has weights for features as they are named here: one that was trained elsewhere may have none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pylibvw

from contextual_bandit.types import Action, Context
from contextual_bandit.vowpal import VowpalPolicy
from contextual_bandit.vowpal_json import json_line
from contextual_bandit.vowpal_terms import CONSTANT


def knows(policy: VowpalPolicy, context: Context, actions: Sequence[Action], place: int) -> bool:
    """Whether any feature of the action at ``place`` has a weight; products of features do not count.

    It is asked for a prediction meanwhile, which changes the bytes that it would save.

    Raises:
        UnusableExample: the features did not parse to one example for each line.
    """
    shared, *own = [""] if policy.reads_json else policy.lines(context, actions)
    if policy.reads_json:
        lines = [json_line(context, actions)]
    elif policy.slates is None:
        lines = [shared, *own]
    else:
        lines = [f"ccb {shared}", *(f"ccb action {line}" for line in own), "ccb slot |"]
    count = 1 + len(actions) + (policy.slates is not None)
    examples = policy.examples_of(lines, () if policy.reads_json else actions, count)
    workspace = policy.workspace
    try:
        pylibvw.vw.predict_multi(workspace, examples)
        action, stride = examples[1 + place], workspace.get_stride()
        letters = [action.namespace(index) for index in range(action.num_namespaces())]
        places = np.array(
            [
                action.feature(letter, index) // stride
                for letter in letters if letter != CONSTANT
                for index in range(action.num_features_in(letter))
            ],
            dtype=np.uint64,
        )  # fmt: skip
        inside = places & np.uint64(workspace.num_weights() - 1)
        return any(pylibvw.vw.get_weight(workspace, index, 0) != 0.0 for index in inside.tolist())
    finally:
        pylibvw.vw._finish_example_multi_ex(workspace, examples)
