"""Groups compared: an injected disparity is found and named, chance is not, and small groups are not spoken of."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from contextual_bandit.types import Action, Context, Decision, Distribution, LoggedInteraction, SlotDecision, Use
from evaluation import __main__ as command
from evaluation import fairness_charts, fairness_report
from evaluation.fairness import NOT_KNOWN, TooManyGroups, compare_groups, group_of

BANDS = ("19-24", "25-34", "35-44", "45-54", "55-64", "65+")
OFFERS = ("garden-10", "tools-5", "toys-20", "coffee-2")
STARTED_AT = datetime(2026, 3, 1, tzinfo=UTC)


def interaction(
    number: int,
    customer: str | None,
    band: object,
    served: Sequence[float],
    chosen: int,
    reward: float,
    *,
    use: Use = "learn",
    offers: Sequence[str] = OFFERS,
) -> LoggedInteraction:
    at = STARTED_AT + timedelta(seconds=30 * number)
    distribution = Distribution(tuple(served), tuple(served)) if use != "fallback" else None
    decision = Decision(
        loop="homepage",
        decision_id=f"d{number}",
        decided_at=at,
        occurred_at=at,
        customer_id=customer,
        context=Context({} if band is None else {"D": {"age_band": band}}),  # type: ignore[dict-item]
        actions=tuple(Action(offer, {"category": offer.split("-")[0]}) for offer in offers),
        removed=(),
        slots=(SlotDecision(chosen, distribution, served[chosen] if distribution else None, 0.5),),
        policy_id="p",
        snapshot_id="s",
        learning_mode="online",
        use=use,
        deferred=False,
        request_hash="h",
    )
    return LoggedInteraction(number + 1, decision, reward, use, at + timedelta(minutes=10))


def make_log(
    seed: int = 0,
    n: int = 4000,
    customers: int = 420,
    *,
    offer_bias: float = 0.0,
    reward_bias: float = 0.0,
) -> Iterator[LoggedInteraction]:
    """Customers with tastes of their own, alike in all bands; the oldest are kept from the first offer, the youngest
    from reward, by a share. Each seventh customer's band is not known."""
    rng = np.random.default_rng(seed)
    tastes = rng.dirichlet(np.ones(len(OFFERS)) * 3.0, customers)
    for number in range(n):
        who = int(rng.integers(customers))
        band = BANDS[who % len(BANDS)] if who % 7 else None
        served = tastes[who].copy()
        if band == "65+":
            served[0] *= 1.0 - offer_bias
            served /= served.sum()
        chosen = int(rng.choice(len(OFFERS), p=served))
        rate = 0.2 * (1.0 - (reward_bias if band == "19-24" else 0.0))
        yield interaction(number, f"c{who}", band, served.tolist(), chosen, float(rng.random() < rate))


def test_an_injected_disparity_of_exposure_is_found() -> None:
    found = compare_groups(make_log(offer_bias=0.7), "age_band")
    spread = next(one for one in found.spreads if one.item == "garden-10")
    assert spread.clearest.lower == "65+"
    assert spread.clearest.is_told_apart
    shown = {name: one["65+"] for name, one in found.shown.items()}
    others = [one.exposure.value for name, one in found.shown["garden-10"].items() if name != "65+"]
    assert shown["garden-10"].exposure.value == pytest.approx(0.3 * np.mean(others), abs=0.04)
    assert spread.ratio == pytest.approx(shown["garden-10"].exposure.value / max(others))
    assert spread.difference == pytest.approx(max(others) - shown["garden-10"].exposure.value)
    assert not next(one for one in found.spreads if one.item is None).clearest.is_told_apart
    words = fairness_report.in_words(found)
    assert "exposure to garden-10" in words
    assert "above 65+" in words
    assert "mean reward" not in words


def test_an_injected_disparity_of_reward_is_found() -> None:
    found = compare_groups(make_log(reward_bias=0.8), "age_band")
    reward = next(one for one in found.spreads if one.item is None)
    assert reward.clearest.lower == "19-24"
    assert reward.clearest.is_told_apart
    youngest = next(group for group in found.groups if group.name == "19-24")
    assert youngest.reward is not None
    assert youngest.reward.low < 0.04 < youngest.reward.high
    assert [one.item for one in found.spreads if one.clearest.is_told_apart] == [None]
    assert "differ in mean reward: most clearly in mean reward" in fairness_report.in_words(found)


def test_chance_is_no_disparity() -> None:
    """Of 20 logs without any disparity one in twenty at most may be accused: here at most two."""
    accused = 0
    for seed in range(20):
        found = compare_groups(make_log(seed, n=1500), "age_band")
        assert all(spread.difference > 0.0 for spread in found.spreads)
        accused += any(spread.clearest.is_told_apart for spread in found.spreads)
    assert accused <= 2
    assert "larger than chance explains" in fairness_report.in_words(compare_groups(make_log(0), "age_band"))


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """The mean reward is 0.2 in every group; decisions of one customer share a taste, so exposure varies by customer."""
    held = total = 0
    for seed in range(30):
        found = compare_groups(make_log(seed, n=1500), "age_band")
        for group in found.groups:
            assert group.reward is not None
            held += group.reward.low <= 0.2 <= group.reward.high
            total += 1
            for by_group in found.shown.values():
                exposure = by_group[group.name].exposure
                held += exposure.low <= 1 / len(OFFERS) <= exposure.high
                total += 1
    assert 0.93 <= held / total <= 0.97


def test_expected_exposure_is_less_noisy_than_counts() -> None:
    found = compare_groups(make_log(), "age_band")
    truth = 1 / len(OFFERS)
    by_expectation = [one.exposure.value - truth for item in found.shown.values() for one in item.values()]
    by_count = [one.shown - truth for item in found.shown.values() for one in item.values()]
    assert np.std(by_expectation) < np.std(by_count)
    assert {one.eligible for item in found.shown.values() for one in item.values()} == {1.0}


def test_small_groups_are_not_spoken_of() -> None:
    log = [interaction(number, f"c{number}", "35-44", (1, 0, 0, 0), 0, 1.0) for number in range(29)]
    log += [interaction(29 + number, f"o{number % 60}", "65+", (0, 1, 0, 0), 1, 0.0) for number in range(300)]
    # Many decisions of few customers are few customers.
    log += [interaction(400 + number, f"y{number % 5}", "19-24", (0, 0, 1, 0), 2, 0.0) for number in range(300)]
    found = compare_groups(log, "age_band")
    assert {group.name: group.is_enough for group in found.groups} == {"19-24": False, "35-44": False, "65+": True}
    assert [group.decisions for group in found.groups] == [300, 29, 300]
    assert found.spreads == ()
    assert set(found.shown["garden-10"]) == {"65+"}
    assert fairness_report.in_words(found).startswith("No comparison")
    page = fairness_report.to_html(found)
    assert page.count("not enough data") >= 2
    written = fairness_report.to_json(found)
    assert written["groups"]["35-44"] == {
        "decisions": 29, "customers": 29, "reward": None, "left_out": "not enough data",
    }  # fmt: skip
    assert written["groups"]["65+"]["left_out"] is None


def test_thirty_without_reward_are_no_proof_of_none() -> None:
    """A group without a single reward has no spread of its own; it is given everybody's."""
    rng = np.random.default_rng(1)
    log = [interaction(i, f"c{i}", "35-44", (1, 0, 0, 0), 0, float(rng.random() < 0.05)) for i in range(3000)]
    log += [interaction(5000 + i, f"o{i}", "65+", (1, 0, 0, 0), 0, 0.0) for i in range(40)]
    (reward, *_) = compare_groups(log, "age_band").spreads
    assert reward.item is None
    assert reward.ratio == 0.0
    assert not reward.clearest.is_told_apart
    assert reward.clearest.ratio is None


def test_what_is_not_known_is_listed_and_not_compared() -> None:
    found = compare_groups(make_log(), "age_band")
    assert found.groups[-1].name == NOT_KNOWN
    assert NOT_KNOWN in found.shown["garden-10"]
    assert NOT_KNOWN not in {group.name for group in found.compared}
    assert all(NOT_KNOWN not in (one.clearest.higher, one.clearest.lower) for one in found.spreads)
    nothing = compare_groups(make_log(), "shoe_size")
    assert [group.name for group in nothing.groups] == [NOT_KNOWN]
    assert nothing.spreads == ()


def test_every_use_counts_and_a_fallback_served_its_choice_for_certain() -> None:
    log = [interaction(i, f"c{i}", "35-44", (0.5, 0.5, 0, 0), i % 2, 0.0) for i in range(60)]
    log += [interaction(100 + i, f"c{i}", "35-44", (0,) * 4, 3, 0.0, use="fallback") for i in range(60)]
    found = compare_groups(log, "age_band")
    assert found.uses == {"fallback": 60, "learn": 60}
    exposure = {item: by_group["35-44"] for item, by_group in found.shown.items()}
    assert exposure["coffee-2"].exposure.value == pytest.approx(0.5)
    assert exposure["garden-10"].exposure.value == pytest.approx(0.25)
    # With a probability of 0 it did not compete: a cap had taken it out.
    assert exposure["garden-10"].eligible == 1.0
    assert exposure["coffee-2"].eligible == 0.5


def test_exposure_by_category_adds_offers_up() -> None:
    offers = ("toys-1", "toys-2", "tools-1")
    log = [interaction(i, f"c{i}", "35-44", (0.2, 0.3, 0.5), 0, 0.0, offers=offers) for i in range(50)]
    found = compare_groups(log, "age_band", per="category")
    shares = {item: by_group["35-44"].exposure.value for item, by_group in found.shown.items()}
    assert shares == pytest.approx({"category:tools": 0.5, "category:toys": 0.5})
    assert found.shown["category:toys"]["35-44"].eligible == 1.0
    assert compare_groups(log, "age_band", most_items=2).left_out_items == 1


@pytest.mark.parametrize(
    ("value", "name"), [("a", "a"), (True, "true"), (False, "false"), (3.0, "3"), (None, NOT_KNOWN)]
)
def test_names_of_groups(value: object, name: str) -> None:
    assert group_of(interaction(0, "c", value, (1, 0, 0, 0), 0, 0.0).decision, "age_band") == name


def test_bad_questions_are_refused() -> None:
    log = [interaction(i, f"c{i}", f"{i}", (1, 0, 0, 0), 0, 0.0) for i in range(50)]
    with pytest.raises(TooManyGroups, match=r"'age_band' has 50 values, 40 at most.*bands"):
        compare_groups(log, "age_band")
    with pytest.raises(ValueError, match="per must be one of offer, category, got 'colour'"):
        compare_groups([], "age_band", per="colour")
    with pytest.raises(ValueError, match="level 1"):
        compare_groups([], "age_band", level=1)


def test_the_page_and_the_numbers(tmp_path: Path) -> None:
    found = compare_groups(make_log(offer_bias=0.7), "age_band")
    page = fairness_report.write(found, tmp_path / "out").read_text(encoding="utf-8")
    body = page.split("<main>")[1]
    assert body.strip().startswith('<p class="verdict">age_band groups differ in exposure to')
    assert not re.search(r'(?:src|href|srcset)="(?!data:)', page)
    for text in ("no proof of unfair treatment", "off-policy evaluation", "Between groups"):
        assert text in body
    written = json.loads((tmp_path / "out" / "fairness.json").read_text(encoding="utf-8"))
    assert written == fairness_report.to_json(found)
    first = next(one for one in written["between_groups"] if one["item"] == "garden-10")
    assert first["clearest"]["is_told_apart"] is True
    assert first["clearest"]["ratio"]["high"] < 0.6
    assert written["exposure"]["garden-10"]["65+"]["decisions"] > 30
    for name in fairness_charts.CHARTS:
        assert (tmp_path / "out" / f"fairness_{name}.png").read_bytes().startswith(b"\x89PNG")


def test_names_are_escaped_and_missing_charts_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    hostile = "<script>alert(1)</script>"
    log = [interaction(i, f"c{i}", band, (0.5, 0.5), i % 2, 0.0, offers=(hostile, "b"))
           for i in range(100) for band in [(hostile, "x")[i % 2]]]  # fmt: skip
    page = fairness_report.to_html(compare_groups(log, "age_band"))
    assert hostile not in page
    assert "&lt;script&gt;" in page
    assert "offerloop[charts]" in page


def test_an_empty_log_has_a_page(tmp_path: Path) -> None:
    page = fairness_report.write(compare_groups([], "age_band"), tmp_path).read_text(encoding="utf-8")
    assert "No comparison" in page


class _Engine:
    def dispose(self) -> None:
        pass


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    logs: dict[str, Callable[[], Iterator[LoggedInteraction]]] = {
        "homepage": lambda: make_log(offer_bias=0.7),
        "empty": lambda: iter(()),
        "wide": lambda: (interaction(i, f"c{i}", f"{i}", (1, 0, 0, 0), 0, 0.0) for i in range(50)),
    }
    monkeypatch.setattr(command, "existing_database", lambda settings, given: nullcontext(given))
    monkeypatch.setattr(command, "make_engine", lambda url: _Engine())
    monkeypatch.setattr(command, "read_interactions", lambda engine, loop, latest=False: logs[loop]())

    def run(loop: str) -> int:
        words = ["fairness", "--loop", loop, "--by", "age_band", "--out", str(tmp_path / loop)]
        return command.main([*words, "--database-url", "postgresql://nowhere"])

    assert run("homepage") == 0
    said = capsys.readouterr().out
    assert "exposure to garden-10" in said
    assert str(tmp_path / "homepage" / "fairness.html") in said
    assert run("empty") == 1
    assert run("wide") == 1
    assert "50 values" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["fairness", "--loop", "homepage"])
    monkeypatch.setitem(sys.modules, "fairlearn.metrics", None)
    assert run("homepage") == 1
    assert "offerloop[fairness]" in capsys.readouterr().err
