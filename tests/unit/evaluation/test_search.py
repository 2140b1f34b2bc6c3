"""A search finds what is better, says when nothing is, and gives the same answer again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from contextual_bandit.loops import LoopConfig
from contextual_bandit.types import LoggedInteraction
from contextual_bandit.vowpal import BadArguments
from evaluation import chart_style, search_command, search_report
from evaluation.interactions import Interactions
from evaluation.search import BadPlan, SearchPlan, SearchResult, search

ContextualLog = Callable[..., list[LoggedInteraction]]
PLAIN = "--cb_explore_adf --epsilon 0.1 --cb_type mtr"
CROSSED = f"{PLAIN} -q DO"
SETTINGS = (CROSSED, f"{PLAIN} --learning_rate 0.1", f"{PLAIN} -q WO", f"{PLAIN} --learning_rate 0.3 -q WO")
LOOP = LoopConfig("homepage", arguments=PLAIN)
PLAN = SearchPlan(processes=1, finalists=1)


@pytest.fixture(scope="module")
def found(contextual_log: ContextualLog) -> SearchResult:
    return search(Interactions(contextual_log(2500)), LOOP, SETTINGS, plan=PLAN)


def test_the_better_setting_is_found_and_judged_on_the_held_out_part(found: SearchResult) -> None:
    assert (found.verdict, found.best) == ("better", CROSSED)
    assert (found.loop, found.n, found.n_held_out, found.current) == ("homepage", 2500, 1000, PLAIN)
    best = found.trials[0]
    assert best.outcome == "finalist"
    assert best.held_out is not None
    assert 0.0 < best.held_out.low < best.held_out.value < 0.35
    assert best.held_out.n == 1000
    assert best.decisions == 1500
    losers = found.trials[1:]
    assert {trial.arguments for trial in losers} == set(SETTINGS[1:])
    assert all(trial.held_out is None and trial.outcome != "finalist" for trial in losers)
    assert any(trial.rungs < best.rungs for trial in losers)
    assert "difference +" in found.reasons[0]


def test_the_same_search_gives_the_same_result(contextual_log: ContextualLog, found: SearchResult) -> None:
    assert search(Interactions(contextual_log(2500)), LOOP, SETTINGS, plan=PLAN) == found


def test_processes_change_nothing(contextual_log: ContextualLog) -> None:
    log = contextual_log(1000)
    alone, two = (
        search(Interactions(log), LOOP, SETTINGS[:2], plan=replace(PLAN, processes=processes)) for processes in (1, 2)
    )
    assert alone == two


def test_settings_are_drawn_when_none_are_named(contextual_log: ContextualLog) -> None:
    told: list[str] = []
    plan = replace(PLAN, trials=3, seed=4)
    one = search(
        Interactions(contextual_log(2001)), LOOP, plan=plan, progress=lambda what, n: told.append(f"{n} {what}")
    )
    assert len(one.trials) == 3
    assert PLAIN not in {trial.arguments for trial in one.trials}
    assert told[0] == "2001 decisions read"
    assert any("settings tried" in line for line in told)


def test_a_worse_setting_never_wins(contextual_log: ContextualLog) -> None:
    found = search(Interactions(contextual_log(2100)), replace(LOOP, arguments=CROSSED), (PLAIN,), plan=PLAN)
    assert (found.verdict, found.best) == ("not_shown", None)
    assert found.trials[0].outcome == "no gain"
    assert found.trials[0].held_out is None
    assert found.reasons == ("no setting earned more than the current one on the part of the log that was searched",)


def test_too_little_shows_nothing(contextual_log: ContextualLog) -> None:
    few = search(Interactions(contextual_log(30)), LOOP, SETTINGS, plan=PLAN)
    assert (few.verdict, few.reasons) == ("refused", ("not enough data: 30 decisions",))
    nothing = search(Interactions([]), LOOP, SETTINGS, plan=PLAN)
    assert (nothing.verdict, nothing.n) == ("refused", 0)


def test_the_current_setting_is_not_tried_against_itself(contextual_log: ContextualLog) -> None:
    found = search(Interactions(contextual_log(2100)), LOOP, [PLAIN, f"{PLAIN} "], plan=PLAN)
    assert (found.verdict, found.trials) == ("not_shown", ())
    assert found.reasons == ("there was no other setting to try",)


def test_estimated_propensities_show_nothing(contextual_log: ContextualLog) -> None:
    log = Interactions(contextual_log(2500))
    log.found.estimated = True
    assert search(log, LOOP, SETTINGS[:1], plan=PLAN).verdict == "not_shown"


def test_bad_input_is_named(contextual_log: ContextualLog) -> None:
    log = contextual_log(10)
    with pytest.raises(BadArguments, match="'--bag' is not allowed"):
        search(Interactions(log), LOOP, ["--cb_explore_adf --bag 3"])
    with pytest.raises(BadArguments, match="'--nonsense'"):
        search(Interactions(log), replace(LOOP, arguments="--nonsense"))
    for bad, reason in (
        ({"held_out": 1.0}, "held_out 1.0 is outside"),
        ({"level": 0.0}, "level 0.0 is outside"),
        ({"trials": 0}, "trials 0 is below 1"),
        ({"processes": 0}, "processes 0 is below 1"),
    ):
        with pytest.raises(BadPlan, match=reason):
            SearchPlan(**bad)  # type: ignore[arg-type]


def test_the_report_begins_with_the_verdict(found: SearchResult, tmp_path: Path) -> None:
    page = search_report.write(found, tmp_path)
    text = page.read_text(encoding="utf-8")
    words = search_report.in_words(found)
    assert words.startswith(f"A better setting was shown: {CROSSED} earns +0.")
    assert text.index("A better setting was shown") < text.index("<h1>")
    assert "http" not in text.replace("http://www.w3.org", "")
    told = json.loads((tmp_path / "search.json").read_text(encoding="utf-8"))
    assert (told["verdict"], told["best"], told["decisions"]) == ("better", CROSSED, 2500)
    assert told["trials"][0]["held_out"]["low"] > 0.0
    assert len(told["trials"]) == len(SETTINGS)
    for arguments in SETTINGS:
        assert arguments in text
    try:
        chart_style.load_altair()
    except chart_style.ChartsUnavailable:
        return
    assert (tmp_path / "search.png").read_bytes().startswith(b"\x89PNG")


def test_reports_of_nothing_say_so(contextual_log: ContextualLog, tmp_path: Path) -> None:
    nothing = search(Interactions([]), LOOP, SETTINGS, plan=PLAN)
    assert search_report.in_words(nothing) == "No verdict: not enough data: 0 decisions."
    assert search_report.write(nothing, tmp_path).exists()
    worse = search(Interactions(contextual_log(2100)), replace(LOOP, arguments=CROSSED), (PLAIN,), plan=PLAN)
    assert search_report.in_words(worse) == "No better setting was shown (1 tried, 0 judged on held-out decisions)."


@contextmanager
def no_database(given: str | None) -> Iterator[str]:
    raise AssertionError("a file needs no database")
    yield ""


# A client's own namespaces never begin like the product's.
FILE_NAMES = {"D": "age", "W": "weather"}


def write_json_lines(log: list[LoggedInteraction], path: Path) -> Path:
    rows = []
    for one in log:
        decision = one.decision
        rows.append(
            {
                "event_id": decision.decision_id,
                "ts": decision.decided_at.isoformat(),
                "context": {FILE_NAMES[space]: dict(given) for space, given in decision.context.namespaces.items()},
                "actions": [{"id": action.offer_id, **action.features} for action in decision.actions],
                "chosen": decision.slots[0].chosen,
                "propensity": decision.slots[0].propensity,
                "reward": one.reward,
            }
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_command_searches_a_file(
    contextual_log: ContextualLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_json_lines(contextual_log(2500), tmp_path / "log.jsonl")
    words = ["--log", str(path), "--out", str(tmp_path / "out"), "--arguments", PLAIN, "--processes", "1",
             "--finalists", "1", "--try", f"{PLAIN} -q aO"]  # fmt: skip
    assert search_command.main(words, no_database) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("A better setting was shown:")
    assert str(tmp_path / "out" / "search.html") in printed
    assert (tmp_path / "out" / "search.json").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--try", "--cb_explore_adf --bag 3"], "'--bag' is not allowed"),
        (["--held-out", "2"], "held_out 2.0 is outside (0, 1)"),
        (["--rewards", "1", "1"], "range 1 to 1 is empty"),
    ],
)
def test_the_command_names_bad_input(
    contextual_log: ContextualLog, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], reason: str
) -> None:
    path = write_json_lines(contextual_log(20), tmp_path / "log.jsonl")
    given = ["--log", str(path), "--out", str(tmp_path / "out"), *words]
    assert search_command.main(given, no_database) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_refuses_what_is_too_little(contextual_log: ContextualLog, tmp_path: Path) -> None:
    path = write_json_lines(contextual_log(20), tmp_path / "log.jsonl")
    assert search_command.main(["--log", str(path), "--out", str(tmp_path / "out")], no_database) == 1
    assert (tmp_path / "out" / "search.html").exists()
    assert search_command.main(["--log", str(tmp_path / "none"), "--out", str(tmp_path / "o")], no_database) == 2
