"""Settings side by side on a spooled log: the same as alone, in any number of pieces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contextual_bandit.loops import LoopConfig
from contextual_bandit.types import LoggedInteraction
from evaluation.contenders import Contender, Leg, Runner, run_contenders, run_reference
from evaluation.interactions import Interactions
from evaluation.learned_targets import ProgressiveTarget
from evaluation.reward_model import Rates
from evaluation.spooled_log import NothingToLearn, SpooledLog, spool

ContextualLog = Callable[..., list[LoggedInteraction]]
PLAIN = "--cb_explore_adf --epsilon 0.1 --cb_type mtr"
CROSSED = f"{PLAIN} -q DO"
LOOP = LoopConfig("homepage", arguments=PLAIN)


def spooled(log: list[LoggedInteraction], folder: Path, chunk_size: int = 8192, **named: int) -> SpooledLog:
    folder.mkdir(exist_ok=True)
    return spool(Interactions(log, chunk_size), Rates(), folder, **named)


def legs(found: SpooledLog, *contenders: Contender) -> list[Leg]:
    run_reference(found.pieces, LOOP, Runner(Contender(PLAIN)))
    return run_contenders(found.pieces, LOOP, [Runner(one) for one in contenders], map)


def test_pieces_hold_the_whole_log_in_order(contextual_log: ContextualLog, tmp_path: Path) -> None:
    log = contextual_log(257, shown=(0.5, 0.3, 0.2))
    found = spooled(log, tmp_path, 100, piece_size=40)
    assert [piece.n for piece in found.pieces] == [40, 40, 20, 40, 40, 20, 40, 17]
    chunks = [piece.read()[0] for piece in found.pieces]
    assert [one.decision_id for chunk in chunks for one in chunk.decisions] == [one.decision.decision_id for one in log]
    (whole,) = Interactions(log).chunks()
    for name in ("reward", "propensity", "offer", "served", "hashes"):
        assert np.array_equal(np.concatenate([getattr(chunk, name) for chunk in chunks]), getattr(whole, name)), name
    for chunk in chunks:
        assert chunk.per_decision(np.ones(len(chunk.row))) == pytest.approx(np.full(chunk.n, 3.0))
        assert np.array_equal(chunk.propensity, chunk.served[chunk.chosen])
    assert found.features == ("D.age_band", "O.category", "W.band")
    assert found.namespaces == ("D", "O", "W")
    assert found.rewards_within(0.0, 0.5) == (0.0, 1.0)
    assert min(piece.least_propensity for piece in found.pieces) == 0.2


def test_the_newest_are_kept(contextual_log: ContextualLog, tmp_path: Path) -> None:
    log = contextual_log(200)
    found = spooled(log, tmp_path, most=90, piece_size=40)
    assert found.n == 120
    assert found.pieces[0].read()[0].decisions[0].decision_id == log[80].decision.decision_id
    assert len(list(tmp_path.iterdir())) == len(found.pieces)


def test_a_log_without_contexts_is_refused(contextual_log: ContextualLog, tmp_path: Path) -> None:
    class Bare(Interactions):
        def chunks(self):
            for chunk in super().chunks():
                yield replace(chunk, decisions=())

    with pytest.raises(NothingToLearn, match="no contexts and actions"):
        spool(Bare(contextual_log(5)), Rates(), tmp_path)


def test_the_reference_differs_from_itself_by_nothing(contextual_log: ContextualLog, tmp_path: Path) -> None:
    (leg,) = legs(spooled(contextual_log(500), tmp_path), Contender(PLAIN))
    assert np.array_equal(leg.differences, np.zeros(500))
    one = leg.difference(0.0, 1.0, 0.95)
    assert one.value == 0.0


def test_company_changes_nothing(contextual_log: ContextualLog, tmp_path: Path) -> None:
    log = contextual_log(600)
    found = spooled(log, tmp_path, piece_size=70)
    others = [Contender(f"{PLAIN} --learning_rate 0.{rate}") for rate in range(1, 9)]
    together = legs(found, Contender(CROSSED), *others)
    (alone,) = legs(found, Contender(CROSSED))
    assert np.array_equal(together[0].differences, alone.differences)
    assert together[0].runner.model == alone.runner.model
    target = ProgressiveTarget(replace(LOOP, arguments=CROSSED).setting, LOOP)
    (chunk,) = Interactions(log).chunks()
    given = target(chunk)
    assert alone.weights.result.mean == pytest.approx((given[chunk.chosen] / chunk.propensity).mean())


def test_a_contender_goes_on_where_it_stopped(contextual_log: ContextualLog, tmp_path: Path) -> None:
    found = spooled(contextual_log(600), tmp_path, piece_size=100)
    (whole,) = legs(found, Contender(CROSSED))
    first, rest = found.pieces[:2], found.pieces[2:]
    reference = run_reference(first, LOOP, Runner(Contender(PLAIN)))
    (start,) = run_contenders(first, LOOP, [Runner(Contender(CROSSED))], map)
    run_reference(rest, LOOP, reference)
    (end,) = run_contenders(rest, LOOP, [start.runner], map)
    assert np.concatenate([start.differences, end.differences]) == pytest.approx(whole.differences, abs=1e-6)


def test_what_is_left_out_is_not_seen(contextual_log: ContextualLog, tmp_path: Path) -> None:
    found = spooled(contextual_log(2000, liked=0.8), tmp_path)
    with_age, without_age, without_band = legs(
        found, Contender(CROSSED), Contender(CROSSED, ("D",)), Contender(CROSSED, ("W",))
    )
    assert with_age.differences.mean() > without_age.differences.mean() + 0.1
    assert with_age.differences.mean() == pytest.approx(without_band.differences.mean(), abs=0.05)
