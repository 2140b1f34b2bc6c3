"""Estimates from a market's log cover the true value of other policies, as often as their intervals promise."""

from __future__ import annotations

import numpy as np
import pytest

from contextual_bandit.baseline import BaselinePolicy
from contextual_bandit.vowpal import VowpalPolicy
from evaluation.estimators import DoublyRobust, Ips, Snips
from simulator.offline import OfflineLoop, Visits, draw_visits, market_loop
from simulator.responses import draw_responses
from simulator.shoppers import Floats, Indices
from simulator.world import World, make_world

SEED = 5
CUSTOMERS = 300
DAYS = 60
DECISIONS = 2500
LOGS = 200
FLOOR = 0.3
NORMAL_95 = 1.96


class Logged:
    """A market, the logging policy's exact probabilities at every visit, and those of the policies to judge."""

    def __init__(self) -> None:
        self.world = make_world(SEED, CUSTOMERS, DAYS)
        self.visits = draw_visits(self.world, DECISIONS, 1)
        self.truth = self.visits.truth.reward("clicks")
        loop = market_loop(self.world, exploration_floor=FLOOR)
        policy = VowpalPolicy(loop.setting)
        learner = OfflineLoop(self.world, policy, loop)
        earlier = draw_visits(self.world, 1500, 2)
        learner.play(earlier, 1)
        self.logging = _probabilities(learner, self.visits)
        greedy = np.zeros_like(self.logging)
        greedy[np.arange(DECISIONS), self.logging.argmax(axis=1)] = 1.0
        manager = OfflineLoop(
            self.world, BaselinePolicy(loop.baseline), market_loop(self.world, exploration_floor=0.0)
        )  # fmt: skip
        fixed = np.zeros_like(self.logging)
        fixed[:, int(self.truth.mean(axis=0).argmax())] = 1.0
        self.targets = {
            "uniform": np.full_like(self.logging, 1.0 / self.logging.shape[1]),
            "greedy": greedy,
            "manager": _probabilities(manager, self.visits),
            "best fixed": fixed,
        }
        policy.close()

    def true_value(self, name: str) -> float:
        return float((self.targets[name] * self.truth).sum(axis=1).mean())

    def log(self, number: int) -> tuple[Indices, Floats]:
        """Another log of the same visits: which offers were drawn, and what came in."""
        generator = np.random.default_rng([SEED, 20, number])
        chosen = (generator.random((DECISIONS, 1)) > np.cumsum(self.logging, axis=1)).sum(axis=1)
        chosen = np.minimum(chosen, self.logging.shape[1] - 1)
        return chosen, draw_responses(self.world, self.visits.moments, self.visits.truth, chosen, generator).reward(
            "clicks"
        )

    def model(self) -> Floats:
        """A reward model that was fitted on nothing of the log: as good as a guess by offer, and wrong."""
        return np.broadcast_to(0.7 * self.truth.mean(axis=0) + 0.02, self.truth.shape)


def _probabilities(loop: OfflineLoop, visits: Visits) -> Floats:
    served = np.zeros((visits.size, len(loop.world.offers)))
    for row in range(visits.size):
        decision, available = loop.decide(visits, row, f"judged-{row}")
        distribution = decision.slots[0].distribution
        assert distribution is not None
        served[row, available] = distribution.served
    return served


@pytest.fixture(scope="module")
def logged() -> Logged:
    return Logged()


def _estimates(logged: Logged, name: str, kind: str, propensities: Floats | None = None) -> tuple[Floats, Floats]:
    """Values and standard errors of one estimator over all logs."""
    rows, target, model = np.arange(DECISIONS), logged.targets[name], logged.model()
    given = logged.logging if propensities is None else propensities
    values, errors = [], []
    for number in range(LOGS):
        chosen, reward = logged.log(number)
        propensity, weight = given[rows, chosen], target[rows, chosen]
        if kind == "dr":
            expected = (target * model).sum(axis=1)
            found: Ips | Snips | DoublyRobust = DoublyRobust.of(
                reward, propensity, weight, model[rows, chosen], expected
            )  # fmt: skip
        else:
            found = {"ips": Ips, "snips": Snips}[kind].of(reward, propensity, weight)
        values.append(found.value)
        errors.append(found.standard_error)
    return np.array(values), np.array(errors)


def _bounds(level: float, count: int) -> tuple[float, float]:
    """Where a share with this chance lies but once in 16,000 times (four standard errors)."""
    error = (level * (1.0 - level) / count) ** 0.5
    return level - 4.0 * error, min(level + 4.0 * error, 1.0)


@pytest.mark.parametrize("kind", ["ips", "snips", "dr"])
@pytest.mark.parametrize("name", ["uniform", "greedy", "manager", "best fixed"])
def test_intervals_cover_the_truth(logged: Logged, name: str, kind: str) -> None:
    """Of 200 logs 95 percent, within four standard errors of that share, of which skewed weights may take 3 points."""
    values, errors = _estimates(logged, name, kind)
    truth = logged.true_value(name)
    covered = float(np.mean(np.abs(values - truth) <= NORMAL_95 * errors))
    low, high = _bounds(0.95, LOGS)
    assert low - 0.03 <= covered <= high, f"{covered:.3f} of the intervals hold {truth:.5f}"


@pytest.mark.parametrize("kind", ["ips", "dr"])
@pytest.mark.parametrize("name", ["uniform", "greedy", "manager", "best fixed"])
def test_estimates_are_unbiased(logged: Logged, name: str, kind: str) -> None:
    values, _ = _estimates(logged, name, kind)
    assert abs(values.mean() - logged.true_value(name)) < 4.0 * values.std() / LOGS**0.5


def test_wrong_propensities_are_found_out(logged: Logged) -> None:
    """The checks above can fail: an even draw is claimed where the policy preferred some offers."""
    even = np.full_like(logged.logging, 1.0 / logged.logging.shape[1])
    values, errors = _estimates(logged, "greedy", "ips", even)
    covered = np.mean(np.abs(values - logged.true_value("greedy")) <= NORMAL_95 * errors)
    assert covered < 0.5


def test_a_log_written_while_learning_estimates_as_well() -> None:
    """Propensities of a policy that changes with every decision are exact too: the pull over markets is standard."""
    pulls = [_pull(make_world(seed, 200, DAYS), seed) for seed in (11, 12, 13)]
    assert max(map(abs, pulls)) < 3.5, pulls
    assert abs(sum(pulls)) / len(pulls) ** 0.5 < 3.5, pulls


def _pull(world: World, seed: int) -> float:
    """Error of the estimated uniform policy over its standard error."""
    loop = market_loop(world, exploration_floor=FLOOR)
    policy = VowpalPolicy(loop.setting)
    visits = draw_visits(world, 1200, seed)
    run = OfflineLoop(world, policy, loop).play(visits, seed)
    policy.close()
    found = Ips.of(run.reward, run.propensity, np.full(visits.size, 1.0 / len(world.offers)))
    truth = float(visits.truth.reward("clicks").mean())
    return (found.value - truth) / found.standard_error
