"""How a simulated run went, beside what could have been: value, regret, recovery after a shift, worth of features.

All values are true expected rewards under the moments that the served offers made. Bots are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from simulator.shoppers import Floats
from simulator.world import DAY, World

RECOVERED_SHARE = 0.9
WINDOWS_A_RUN = 20
LEAST_WINDOW = 50


class NothingServed(ValueError):
    """A run without decisions has no values."""


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Expected value per decision, in order of time, of what was served and of what could have been; shape (rows,).

    ``optimal`` knows the truth, ``best_fixed`` the best single offer that was there all the time (in hindsight),
    ``manager`` is the campaign manager's policy. ``without`` is what the loop that saw neither weather nor season
    served at the same visits, None without an ablation.
    """

    at: tuple[datetime, ...]
    day: Floats
    served: Floats
    optimal: Floats
    uniform: Floats
    best_fixed: Floats
    manager: Floats
    best_fixed_offer: int
    without: Floats | None = None

    @property
    def regret(self) -> Floats:
        """Cumulative expected reward lost against the optimal policy, shape (rows,)."""
        return np.asarray(np.cumsum(self.optimal - self.served))

    def lines(self) -> dict[str, Floats]:
        """The values by the name that output gives them."""
        found = {"optimal": self.optimal, "served": self.served, "campaign manager": self.manager,
                 "best fixed offer": self.best_fixed, "uniform": self.uniform}  # fmt: skip
        return found if self.without is None else {**found, "served without weather and season": self.without}


@dataclass(frozen=True, slots=True)
class Recovery:
    """How long a run took to get back after a shift.

    ``before`` and ``lowest`` are shares of what a policy can gain over drawing evenly: (served - uniform) / (optimal -
    uniform), over a window. ``decisions`` and ``days`` from the shift until the share of a whole window after it is
    RECOVERED_SHARE of ``before`` again; None when that did not happen within the run, or nothing was gained before.
    """

    before: float
    lowest: float
    decisions: int | None
    days: float | None


def make_series(
    start: datetime,
    at: Sequence[datetime],
    chosen: Sequence[int],
    truth: Floats,
    manager: Floats,
    without: Floats | None = None,
) -> Series:
    """Score decisions.

    Args:
        start: The market's start.
        at: Moment of each decision, in order of time.
        chosen: Index of the offer that was served at each.
        truth: Expected reward of every offer at each, shape (rows, offers); -inf where it was not available.
        manager: The campaign manager's probabilities, shape (rows, offers).
        without: What the ablation's loop was worth at each, shape (rows,).

    Raises:
        NothingServed: there is no decision, or no offer that was available at all of them.
    """
    if not len(at):
        raise NothingServed("no customer came; more days or a higher rate are needed")
    there = np.isfinite(truth)
    always = np.flatnonzero(there.all(axis=0))
    if not always.size:
        raise NothingServed("no offer was available all the time")
    best = int(always[truth[:, always].mean(axis=0).argmax()])
    finite = np.where(there, truth, 0.0)
    return Series(
        tuple(at),
        np.array([(moment - start) / DAY for moment in at]),
        truth[np.arange(len(at)), np.asarray(chosen)],
        truth.max(axis=1),
        finite.sum(axis=1) / there.sum(axis=1),
        truth[:, best],
        np.asarray((manager * finite).sum(axis=1)),
        best,
        without,
    )


def windowed(values: Floats, window: int) -> Floats:
    """Means of each ``window`` values up to and including each place from the first whole one on."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray((sums[window:] - sums[:-window]) / window)


def window_of(size: int) -> int:
    """A window that suits a run of so many decisions."""
    return min(max(size // WINDOWS_A_RUN, LEAST_WINDOW), size)


def gained_share(series: Series, window: int) -> Floats:
    """(served - uniform) / (optimal - uniform) over windows, from the first whole one on."""
    served, uniform, optimal = (windowed(part, window) for part in (series.served, series.uniform, series.optimal))
    return np.asarray((served - uniform) / np.maximum(optimal - uniform, 1e-12))


def recovery(series: Series, shift_day: float, window: int | None = None) -> Recovery | None:
    """How a run got over a shift; None when there is not one whole window before it and one after it.

    Args:
        series: The run.
        shift_day: Day of the shift since the market's start.
        window: Decisions per window; by default as suits the run.
    """
    size = window or window_of(series.day.size)
    first_after = int(np.searchsorted(series.day, shift_day))
    if first_after < size or series.day.size - first_after < size:
        return None
    shares = gained_share(series, size)
    # The window that ends at decision i is shares[i - size + 1].
    before = float(shares[max(0, first_after - 2 * size) : first_after - size + 1].mean())
    after = shares[first_after:]
    back = np.flatnonzero(after >= RECOVERED_SHARE * before)
    if before <= 0.0 or not back.size:
        return Recovery(before, float(after.min()), None, None)
    # Windows wholly after the shift: the first ends ``size`` decisions after it.
    last = first_after + size - 1 + int(back[0])
    return Recovery(before, float(after.min()), last - first_after + 1, float(series.day[last] - shift_day))


def scores(world: World, series: Series) -> dict[str, object]:
    """The figures of a run: means per decision, of all and of the last half."""
    half = slice(series.served.size // 2, None)
    values: dict[str, Mapping[str, float]] = {
        name.replace(" ", "_"): {"all": _rounded(line), "last_half": _rounded(line[half])}
        for name, line in series.lines().items()
    }
    found: dict[str, object] = {
        "value": values,
        "best_fixed_offer": world.offers[series.best_fixed_offer].offer_id,
        "regret": round(float(series.regret[-1]), 4),
        "regret_per_decision": _rounded(series.optimal - series.served),
        "regret_of": {
            name.replace(" ", "_"): round(float((series.optimal - line).sum()), 4)
            for name, line in series.lines().items() if name != "optimal"
        },
    }  # fmt: skip
    if series.without is not None:
        found["value_of_weather_and_season"] = value_of_features(series)
    if world.drift.shift_day is not None:
        found["recovery"] = _recovery(series, world.drift.shift_day)
    return found


def value_of_features(series: Series) -> dict[str, float]:
    """What seeing weather and season was worth per decision in the last half, with an interval of two standard errors.

    Standard errors are of paired differences at the same visits; they know nothing of other markets.
    """
    assert series.without is not None
    half = (series.served - series.without)[series.served.size // 2 :]
    error = float(half.std(ddof=1) / np.sqrt(half.size)) if half.size > 1 else float("inf")
    mean = float(half.mean())
    return {"mean": round(mean, 5), "low": round(mean - 2.0 * error, 5), "high": round(mean + 2.0 * error, 5)}


def _recovery(series: Series, shift_day: float) -> dict[str, object]:
    found = recovery(series, shift_day)
    if found is None:
        return {"shift_day": shift_day, "decisions": None, "why": "too few decisions before or after the shift"}
    days = None if found.days is None else round(found.days, 2)
    return {"shift_day": shift_day, "gained_before": round(found.before, 4), "gained_lowest": round(found.lowest, 4),
            "decisions": found.decisions, "days": days}  # fmt: skip


def _rounded(values: Floats) -> float:
    return round(float(values.mean()), 5)
