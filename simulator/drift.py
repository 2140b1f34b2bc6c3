"""How a simulated market changes: tastes that turn slowly, and one day after which other categories are wanted."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Drift:
    """Which changes there are; the default is none.

    After ``turn_days`` a customer's tastes are wholly other ones, and after four times as many the first again. From
    ``shift_day`` on (days since the market's start) the half of the categories that was wanted most loses ``shift``
    log-odds, and the other half gains them.

    Raises:
        ValueError: names the number that is not one a market can have.
    """

    turn_days: float | None = None
    shift_day: float | None = None
    shift: float = 1.5

    def __post_init__(self) -> None:
        if self.turn_days is not None and not self.turn_days > 0.0:
            raise ValueError(f"turn_days must be more than 0, got {self.turn_days!r}")
        if self.shift_day is not None and not self.shift_day >= 0.0:
            raise ValueError(f"shift_day must be at least 0, got {self.shift_day!r}")

    def tastes(
        self, taste: NDArray[np.float64], other: NDArray[np.float64], day: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Tastes of rows at their days, shape (rows, categories): a quarter turn from ``taste`` to ``other``."""
        if self.turn_days is None:
            return taste
        angle = (day * (0.5 * pi / self.turn_days))[:, np.newaxis]
        return np.asarray(np.cos(angle) * taste + np.sin(angle) * other)

    def popularity(self, wanted: NDArray[np.float64], day: NDArray[np.float64]) -> NDArray[np.float64] | float:
        """Log-odds that the shift has given to each category by each day, shape (rows, categories); 0 without one.

        Args:
            wanted: how much each category was wanted before, shape (categories,).
            day: days since the market's start, shape (rows,).
        """
        if self.shift_day is None:
            return 0.0
        ranks = np.argsort(np.argsort(-wanted))
        given = np.where(ranks < wanted.size // 2, -self.shift, self.shift)
        return np.asarray((day >= self.shift_day)[:, np.newaxis] * given)
