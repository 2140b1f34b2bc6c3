"""The benchmark of policy quality: peers learn what can be learned, and the figures say what was played."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from benchmarks import quality
from benchmarks.quality_features import JointFeatures, action_columns, context_columns
from benchmarks.quality_peers import Contender, MabWiser, Product, SharedLinUcb, play
from benchmarks.quality_worlds import WORLDS, Episode, Floats, Round, stationary
from contextual_bandit.loops import DEFAULT_ARGUMENTS, LoopConfig
from contextual_bandit.policy import UniformPolicy
from contextual_bandit.types import Action, Context
from contextual_bandit.vowpal import BadArguments, VowpalPolicy

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = ("tea", "coffee", "juice")
ROUNDS, ROUND = 30, 20
LEARNERS: dict[str, Callable[[Episode], Contender]] = {
    "product": lambda episode: Product(episode, VowpalPolicy(episode.loop.setting)),
    "linucb_shared": lambda episode: SharedLinUcb(JointFeatures(episode, crossed=True), 0.3),
    "mabwiser_linucb": lambda episode: MabWiser(episode, "LinUCB", 0.3, contexts=True, seed=1),
    "mabwiser_lints": lambda episode: MabWiser(episode, "LinTS", 0.1, contexts=True, seed=1),
}  # fmt: skip


@pytest.fixture(scope="module")
def toy() -> Episode:
    """Whoever likes an offer's category takes it, nobody else takes anything."""
    generator = np.random.default_rng(5)
    rounds = []
    for _ in range(ROUNDS):
        likes = generator.integers(3, size=ROUND).tolist()
        contexts = [Context({"D": {"likes": KINDS[like]}}) for like in likes]
        actions = [[Action(kind, {"category": kind}, {"r16": 1.0 + place}) for place, kind in enumerate(KINDS)]] * ROUND
        rewards = np.eye(3)[likes]
        names = [f"c{number}" for number in range(ROUND)]
        rounds.append(Round([NOW] * ROUND, names, contexts, actions, [np.arange(3)] * ROUND, rewards, rewards))
    return Episode("toy", 1, LoopConfig("toy"), 3, rounds)


@pytest.mark.parametrize("name", LEARNERS)
def test_learners_find_who_likes_what(toy: Episode, name: str) -> None:
    values = play(toy, LEARNERS[name](toy))
    assert values[: 2 * ROUND].mean() < 0.7
    assert values[-5 * ROUND :].mean() > 0.9


def test_what_cannot_tell_customers_apart_stays_at_a_third(toy: Episode) -> None:
    for contender in (
        SharedLinUcb(JointFeatures(toy, crossed=False), 0.3),
        MabWiser(toy, "LinUCB", 0.3, contexts=False, seed=1),
        Product(toy, UniformPolicy(), 0.0),
    ):
        assert play(toy, contender)[-5 * ROUND :].mean() == pytest.approx(1.0 / 3.0, abs=0.1)


def test_the_shared_regression_is_ridge_in_closed_form() -> None:
    """Of the rows that it chose itself, over several rounds, offers and ridges."""
    episode = stationary(3, 300)
    features = JointFeatures(episode, crossed=True)
    peer = SharedLinUcb(features, 0.2, ridge=2.0)
    rows: list[Floats] = []
    rewards: list[Floats] = []
    for each in episode.rounds:
        served = peer.choose(each)
        earned = each.rewards[np.arange(each.size), served.chosen]
        dense = features.table(each).toarray().reshape(each.size, -1, features.size)
        rows.append(dense[np.arange(each.size), served.chosen])
        rewards.append(earned)
        peer.learn(each, served.chosen, earned)
    x, y = np.concatenate(rows), np.concatenate(rewards)
    gram = 2.0 * np.eye(features.size) + x.T @ x
    np.testing.assert_allclose(peer.inverse, np.linalg.inv(gram), atol=1e-9)
    np.testing.assert_allclose(peer.theta, np.linalg.solve(gram, x.T @ y), atol=1e-9)
    assert y.sum() > 0.0


def test_the_shared_bound_is_the_published_one() -> None:
    """Arm of the largest theta'x + alpha sqrt(x' A^-1 x), row by row."""
    episode = stationary(3, 300)
    features = JointFeatures(episode, crossed=False)
    peer = SharedLinUcb(features, 0.5)
    for each in episode.rounds:
        served = peer.choose(each)
        dense = features.table(each).toarray().reshape(each.size, -1, features.size)
        for row, chosen in enumerate(served.chosen.tolist()):
            bounds = [x @ peer.theta + 0.5 * np.sqrt(x @ peer.inverse @ x) for x in dense[row]]
            assert bounds[chosen] == pytest.approx(max(bounds))
        peer.learn(each, served.chosen, each.rewards[np.arange(each.size), served.chosen])


def test_columns_hold_the_products_own_features(toy: Episode) -> None:
    own, shared = action_columns(toy), context_columns(toy)
    assert set(shared.places) == {f"D.likes={kind}" for kind in KINDS}
    assert {f"O.category={kind}" for kind in KINDS} < set(own.places)
    table = shared.dense([{"D.likes=tea": 1.0, "D.unknown": 5.0}])
    assert table.sum() == table[0, shared.places["D.likes=tea"]] == 1.0
    scaled = own.dense([{"A.r16": value} for value in (1.0, 2.0, 3.0)])[:, own.places["A.r16"]]
    assert scaled.std() == pytest.approx(1.0)


def test_every_policy_meets_the_same_market() -> None:
    once, again = stationary(4, 250), stationary(4, 250)
    assert [each.size for each in once.rounds] == [100, 100, 50]
    for one, other in zip(once.rounds, again.rounds, strict=True):
        np.testing.assert_array_equal(one.rewards, other.rewards)
        assert list(one.contexts) == list(other.contexts)
    rewards = np.concatenate([each.rewards for each in once.rounds])
    expected = np.concatenate([each.expected for each in once.rounds])
    assert rewards.mean() == pytest.approx(expected.mean(), abs=4.0 * rewards.std() / rewards.size**0.5)


def test_the_product_serves_exact_probabilities_and_its_floor(toy: Episode) -> None:
    product = Product(toy, VowpalPolicy(toy.loop.setting))
    served = product.choose(toy.rounds[0])
    product.close()
    least = toy.loop.exploration_floor / 3
    # Before anything is known every offer is as good, and one of three is right.
    assert served.value == pytest.approx(1.0 / 3.0)
    assert (served.value >= least).all()


def played(world: str, seed: int, served: float, peer: float, other: float) -> quality.Played:
    means = {"served": served, "peer alpha 1": peer, "peer alpha 2": other, "optimal": 0.5, "uniform": 0.1}
    return quality.Played(world, seed, means, means, {name: np.full(10, value) for name, value in means.items()})


def test_the_ratio_is_to_the_best_member_over_all_seeds() -> None:
    """Not to the best of each seed, which would be another policy each time."""
    both = [played("baskets", 1, 0.30, 0.20, 0.29), played("baskets", 2, 0.30, 0.40, 0.21)]
    found = quality.figures(both)
    assert found["policy_quality_best_peer_baskets"] == "peer alpha 1"
    assert found["policy_quality_ratio_baskets"] == pytest.approx((1.5 + 0.75) / 2)
    # Two seeds: the t quantile of one degree of freedom times half their distance.
    reach = 12.7062 * 0.375
    assert found["policy_quality_ratio_baskets_high"] == pytest.approx(1.125 + reach, abs=1e-3)
    assert found["policy_quality_ratio_baskets_low"] == pytest.approx(1.125 - reach, abs=1e-3)
    assert found["policy_quality_value_baskets_peer"] == pytest.approx(0.3)
    assert found["policy_quality_regret_baskets_served"] == pytest.approx(0.2)


def test_the_ratio_of_all_worlds_is_their_mean() -> None:
    worlds = [played(world, seed, served, 0.2, 0.1)
              for world, served in (("baskets", 0.1), ("drifting", 0.2)) for seed in (1, 2)]  # fmt: skip
    found = quality.figures(worlds)
    assert found["policy_quality_ratio"] == pytest.approx(0.75)
    assert found["policy_quality_within_goal"] is False
    assert found["policy_quality_worlds_within_goal"] == 1
    assert found["policy_quality_seeds"] == 2


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grid of a few members: all of them take long."""
    all_of_them = quality.contenders
    kept = (quality.SERVED, "highest_affinity", "linucb_shared alpha 0.1", "linucb_shared alpha 0.3")
    monkeypatch.setattr(quality, "contenders", lambda episode: {name: all_of_them(episode)[name] for name in kept})


def test_every_grid_has_its_peers() -> None:
    for world, alphas in (("stationary", 3), ("many_offers", 1)):
        names = list(quality.contenders(WORLDS[world](1, 100)))
        assert {quality.peer_of(name) for name in names} == {
            quality.SERVED, "vw_plain", "highest_affinity", "linucb_shared", "mabwiser_linucb", "mabwiser_lints",
        }  # fmt: skip
        assert len(names) == 3 + 2 * 3 + 4 * alphas


@pytest.mark.usefixtures("few")
def test_a_small_run_writes_its_figures_and_charts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "play_all", _play_markets)
    said: list[str] = []
    found = quality.measure(None, 1, 1.0, said.append, seeds=2, rounds=2, out=tmp_path)  # type: ignore[arg-type]
    assert {"policy_quality_ratio", "policy_quality_ratio_stationary", "policy_quality_ratio_stationary_low"} <= set(
        found
    )
    assert found["policy_quality_value_stationary_uniform"] < found["policy_quality_value_stationary_optimal"]
    assert (tmp_path / "policy_quality.png").stat().st_size > 10_000
    assert "served policy" in (tmp_path / "policy_quality.html").read_text()
    assert found["policy_quality_arguments"] == DEFAULT_ARGUMENTS
    assert len(said) == 2


@pytest.mark.usefixtures("few")
def test_another_setting_is_served_and_peers_stay_as_they_were() -> None:
    usual, other = (quality.play_one("stationary", 6, 200, one) for one in (DEFAULT_ARGUMENTS, quality.PLAIN_ARGUMENTS))
    assert usual.mean[quality.SERVED] != other.mean[quality.SERVED]
    assert {name: value for name, value in usual.mean.items() if name != quality.SERVED} == {
        name: value for name, value in other.mean.items() if name != quality.SERVED
    }


def test_a_setting_that_is_not_allowed_is_refused() -> None:
    with pytest.raises(BadArguments, match="--nonsense"):
        quality.measure(None, 1, 1.0, print, arguments="--cb_explore_adf --nonsense")  # type: ignore[arg-type]


def _play_markets(seeds: range, rounds: dict[str, int], arguments: str, say: object) -> list[quality.Played]:
    assert set(rounds) == {"baskets", "stationary", "drifting", "many_offers"}
    return [quality.play_one("stationary", seed, rounds["stationary"] * quality.ROUND, arguments) for seed in seeds]


@pytest.mark.parametrize(("seeds", "rounds"), [(1, None), (5, 0)])
def test_too_little_is_refused(seeds: int, rounds: int | None) -> None:
    with pytest.raises(ValueError, match=f"got {seeds} and {rounds}"):
        quality.measure(None, 1, 1.0, print, seeds=seeds, rounds=rounds)  # type: ignore[arg-type]
