"""What is asked of an evaluation, as stored and as run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from evaluation.bootstrap import REPLICATES
from evaluation.columns import Hyperparameters
from evaluation.evaluate import Choices

FIXED_OFFERS = 20

ASKED = Choices(fixed_offers=FIXED_OFFERS, replicates=REPLICATES)


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """An evaluation of a loop's log or of a file.

    Attributes:
        loop: whose log, or the file's name.
        closed_from: only decisions that closed then or later; of a loop's log.
        closed_to: only decisions that closed before; of a loop's log.
        policies: target policies by name (``policy_names.FORMS``); none asks for the standard ones.
        reward_model: by name (``reward_choice.REWARD_MODELS``).
        rewards: smallest and largest possible reward of a file; a loop has its own.
        floor: exploration floor that policies of a file are served with.
        choices: how it is evaluated.
    """

    loop: str
    closed_from: datetime | None = None
    closed_to: datetime | None = None
    policies: tuple[str, ...] = ()
    reward_model: str = "default"
    rewards: tuple[float, float] | None = None
    floor: float = 0.02
    choices: Choices = ASKED

    @property
    def against(self) -> str:
        """The policy that the others are compared with."""
        return self.choices.against

    @property
    def slices(self) -> tuple[str, ...]:
        """Dimensions to slice by."""
        return self.choices.slices

    def to_json(self) -> dict[str, Any]:
        """What can be asked for by the API, in plain JSON types."""
        chosen = self.choices
        return {
            "loop": self.loop,
            "closed_from": self.closed_from.isoformat() if self.closed_from else None,
            "closed_to": self.closed_to.isoformat() if self.closed_to else None,
            "policies": list(self.policies),
            "reward_model": self.reward_model,
            "against": chosen.against,
            "level": chosen.level,
            "fixed_offers": chosen.fixed_offers,
            "slices": list(chosen.slices),
            "clip": chosen.hyperparameters.clip,
            "switch_tau": chosen.hyperparameters.switch_tau,
            "dros_lambda": chosen.hyperparameters.dros_lambda,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """What ``to_json`` gave."""
        return cls(
            loop=stored["loop"],
            closed_from=_time(stored["closed_from"]),
            closed_to=_time(stored["closed_to"]),
            policies=tuple(stored["policies"]),
            reward_model=stored["reward_model"],
            choices=Choices(
                against=stored["against"],
                level=stored["level"],
                fixed_offers=stored["fixed_offers"],
                slices=tuple(stored["slices"]),
                hyperparameters=Hyperparameters(stored["clip"], stored["switch_tau"], stored["dros_lambda"]),
                replicates=REPLICATES,
            ),
        )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
