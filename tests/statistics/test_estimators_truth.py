"""Estimators against known truth: bias, variance and coverage, with fixed seeds and stated tolerances.

Each run is a log of its own, and runs are many and small, so the logs are drawn for all runs at once.
"""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.estimators import DirectMethod, DoublyRobust, FloatArray, Ips, Snips
from evaluation.intervals import PoissonBootstrap, normal_interval
from evaluation.reward_model import FOLDS, CrossFittedRates

ACTIONS = 5


class Logs:
    """``runs`` logs of ``n`` decisions; each decision has a group that changes both the logger and the rates.

    The logger is greedy on an action per group, with ``exploration`` spread evenly; the target is the next action with
    probability 0.8 and uniform otherwise, so that most of what it wants was only explored.
    """

    def __init__(self, *, rate: float, exploration: float, n: int, runs: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        groups = np.arange(3)
        rates = rate * (0.5 + (groups[:, np.newaxis] + np.arange(ACTIONS)) % ACTIONS / (ACTIONS - 1))
        logging = np.full((3, ACTIONS), exploration / ACTIONS)
        logging[groups, groups] += 1.0 - exploration
        target = np.full((3, ACTIONS), 0.2 / ACTIONS)
        target[groups, groups + 1] += 0.8
        self.truth = float((target * rates).sum(axis=1).mean())
        group = rng.integers(0, 3, (runs, n))
        self.chosen = (rng.random((runs, n, 1)) > np.cumsum(logging, axis=1)[group][..., :-1]).sum(axis=-1)
        self.reward = (rng.random((runs, n)) < rates[group, self.chosen]).astype(np.float64)
        self.propensity = logging[group, self.chosen]
        self.target = target[group, self.chosen]
        self.all_targets = target[group]
        self.fold = rng.integers(0, FOLDS, (runs, n))
        self.runs = runs

    def robust(self, run: int) -> tuple[DoublyRobust, DirectMethod]:
        """DR and DM of a run with the table of smoothed rates, fitted on the other folds."""
        fold, chosen = self.fold[run], self.chosen[run]
        model = CrossFittedRates().learned(fold, chosen, self.reward[run])
        table = model.rates(np.repeat(np.arange(FOLDS), ACTIONS), np.tile(np.arange(ACTIONS), FOLDS))
        q = table.reshape(FOLDS, ACTIONS)[fold]
        q_target = (self.all_targets[run] * q).sum(axis=1)
        q_chosen = q[np.arange(len(chosen)), chosen]
        robust = DoublyRobust.of(self.reward[run], self.propensity[run], self.target[run], q_chosen, q_target)
        return robust, DirectMethod.of(q_target)

    def ips(self, run: int) -> Ips:
        return Ips.of(self.reward[run], self.propensity[run], self.target[run])

    def snips(self, run: int) -> Snips:
        return Snips.of(self.reward[run], self.propensity[run], self.target[run])


def z_of_mean(values: FloatArray, truth: float) -> float:
    return float((values.mean() - truth) / (values.std(ddof=1) / np.sqrt(len(values))))


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_ips_and_dr_are_unbiased_and_dr_varies_less(seed: int) -> None:
    """The mean over 400 logs lies within 4 of its own standard errors of the truth (false alarm: 1 in 16,000)."""
    logs = Logs(rate=0.2, exploration=0.3, n=1000, runs=400, seed=seed)
    plain = np.array([logs.ips(run).value for run in range(logs.runs)])
    robust = np.array([logs.robust(run)[0].value for run in range(logs.runs)])
    assert abs(z_of_mean(plain, logs.truth)) < 4.0
    assert abs(z_of_mean(robust, logs.truth)) < 4.0
    assert robust.var() < 0.95 * plain.var()


def test_the_direct_method_is_biased_by_its_model() -> None:
    """Rates per action leave out the group, which decides here: that is why no verdict rests on this estimator."""
    logs = Logs(rate=0.2, exploration=0.3, n=1000, runs=200, seed=11)
    values = np.array([logs.robust(run)[1].value for run in range(logs.runs)])
    assert abs(z_of_mean(values, logs.truth)) > 10.0


@pytest.mark.parametrize("seed", [21, 22])
def test_normal_intervals_cover_in_the_easy_cell(seed: int) -> None:
    """20% rate, 30% exploration, n = 5,000: at least 0.93 of 400 intervals hold the truth, for each estimator."""
    logs = Logs(rate=0.2, exploration=0.3, n=5000, runs=400, seed=seed)
    covered = {"ips": 0, "snips": 0, "dr": 0}
    for run in range(logs.runs):
        for name, point in (("ips", logs.ips(run)), ("snips", logs.snips(run)), ("dr", logs.robust(run)[0])):
            one = normal_interval(point, name)
            covered[name] += one.low <= logs.truth <= one.high
    for name, count in covered.items():
        assert count / logs.runs >= 0.93, name


def test_bootstrap_intervals_cover_in_the_easy_cell() -> None:
    """As above with 300 logs and 200 replicates, whose noise costs about a point of coverage."""
    logs = Logs(rate=0.2, exploration=0.3, n=5000, runs=300, seed=23)
    hashes = np.random.default_rng(0).integers(0, 2**62, 5000)
    covered = 0
    for run in range(logs.runs):
        weight = logs.target[run] / logs.propensity[run]
        sums = PoissonBootstrap.of(hashes, weight, weight * logs.reward[run])
        ((low, high),) = sums.intervals((2, 1), replicates=200)
        covered += low <= logs.truth <= high
    assert covered / logs.runs >= 0.92


def test_normal_intervals_need_thirty_effective_rewards() -> None:
    """The gate's limit: coverage is 0.92 or more (800 logs) where weight rests on some 30 rewards, and breaks at 5."""
    coverage, rewards = {}, {}
    for name, rate in (("few", 0.02), ("enough", 0.12)):
        logs = Logs(rate=rate, exploration=0.2, n=5000, runs=800, seed=31)
        covered, effective = 0, []
        for run in range(logs.runs):
            one = normal_interval(logs.ips(run), "ips")
            covered += one.low <= logs.truth <= one.high
            terms = logs.reward[run] * logs.target[run] / logs.propensity[run]
            effective.append(terms.sum() ** 2 / max(1e-12, (terms**2).sum()))
        coverage[name], rewards[name] = covered / logs.runs, float(np.median(effective))
    assert rewards["few"] < 6
    assert 25 < rewards["enough"] < 35
    assert coverage["enough"] >= 0.92
    assert coverage["few"] < 0.90
