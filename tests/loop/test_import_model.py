"""A log and a model, or its arguments alone, as a warm start, by the command, with a learner at work."""

from __future__ import annotations

import argparse
import json
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from vowpalwabbit.pyvw import Workspace

from adapters.installation import Installation
from contextual_bandit.learning_arguments import JSON_NAMES
from contextual_bandit.policy import with_floor
from contextual_bandit.types import Context
from contextual_bandit.vowpal import VowpalPolicy
from learner import export_dsjson, import_dsjson, import_model

ARGUMENTS = "--cb_explore_adf --epsilon 0.2 -q ::"
# As on the Personalizer routes: exploration is the loop's floor.
SERVED = "--cb_explore_adf -q :: --epsilon 0"
OTHERS = "--cb_explore_adf --squarecb -q ::"


def write_log(path: Path, user: str = "GUser", names: Sequence[str] = ("red", "green", "blue")) -> Path:
    chance, lines = random.Random(4), []
    for number in range(200):
        kind, chosen = chance.choice(["new", "old"]), chance.randrange(3)
        line = {
            "_label_cost": -float((kind == "new") == (chosen == 1)), "_label_probability": 0.3333333,
            "_label_Action": chosen + 1, "_labelIndex": chosen, "EventId": f"e{number}",
            "Timestamp": "2021-02-04T16:31:29Z", "a": [chosen + 1, *({1, 2, 3} - {chosen + 1})],
            "c": {
                user: {"kind": kind},
                "_multi": [{"_tag": name, "i": {"id": name}, "j": [{"shade": name}]} for name in names],
            },
            "p": [1 / 3] * 3,
        }  # fmt: skip
        lines.append(json.dumps(line))
    path.write_text("\n".join(lines))
    return path


def trained(log: Path, model: Path, arguments: str = ARGUMENTS) -> Path:
    Workspace(f"{arguments} --dsjson -d {log} -f {model} --quiet").finish()
    return model


@contextmanager
def learning(loop: Any) -> Iterator[None]:
    """A writer that takes what comes, until the end."""
    stop, failed = threading.Event(), list[BaseException]()

    def write() -> None:
        try:
            while not stop.wait(0.02):
                waiting = loop.waiting()
                if waiting:
                    loop.writer.handle(waiting)
                loop.writer.idle()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not failed, failed


def command(files: list[Path], loop: Any, policy: Path | None = None, model: Path | None = None) -> argparse.Namespace:
    return argparse.Namespace(files=files, loop=loop.name, policy=policy, model=model)


def test_a_model_trained_on_our_export_serves_as_it_is(
    drive: Callable[..., Any], installation: Installation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, exported, policy = write_log(tmp_path / "log.json"), tmp_path / "export.json", tmp_path / "policy.json"
    policy.write_text(json.dumps({"name": "mine", "arguments": ARGUMENTS}))
    loop = drive(arguments=OTHERS)
    with learning(loop):
        assert import_dsjson.run(installation, command([log], loop)) == 0
        wanted = argparse.Namespace(loop=loop.name, since=None, until=None, out=exported)
        assert export_dsjson.run(installation, wanted) == 0
        # The export has our names; another loop's log is imported with the model that plain Vowpal Wabbit made of it.
        ours = [json.loads(line) for line in exported.read_text().splitlines()]
        named = [json.dumps({**one, "c": by_our_names(one)}) for one in ours]
        exported.write_text("\n".join(named))
        model = trained(exported, tmp_path / "ours.vw")
        assert import_dsjson.run(installation, command([log], loop, policy, model)) == 0
    assert "goes on from the model, as snapshot" in capsys.readouterr().out
    snapshot = loop.stores.snapshots.newest(loop.name, published=True)
    assert snapshot.arguments == SERVED
    assert loop.stores.loops.get(loop.name).exploration_floor == 0.2
    with closing(VowpalPolicy(snapshot.setting, snapshot.model)) as own:
        actions = loop.log()[0].decision.actions
        new, old = (own.distribution(Context({"GUser": {"kind": kind}}), actions) for kind in ("new", "old"))
    assert new[1] > 0.8 > 0.1 > old[1]


def test_personalizers_own_model_serves_as_plain_vowpal_wabbit_does_and_goes_on_learning(
    drive: Callable[..., Any], installation: Installation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, policy = write_log(tmp_path / "log.json"), tmp_path / "policy.json"
    policy.write_text(json.dumps({"name": "theirs", "arguments": ARGUMENTS}))
    model = trained(log, tmp_path / "theirs.vw")
    loop = drive(arguments=OTHERS, exploration_floor=0.5)
    with learning(loop):
        assert import_dsjson.run(installation, command([log], loop, policy, model)) == 0
    assert "goes on from the model, as snapshot" in capsys.readouterr().out
    config = loop.stores.loops.get(loop.name)
    assert (config.arguments, config.exploration_floor) == (f"{SERVED} {JSON_NAMES}", 0.2)
    snapshot = loop.stores.snapshots.newest(loop.name, published=True)
    assert snapshot.model == model.read_bytes()
    plain = Workspace(f"{ARGUMENTS} --dsjson -i {model} --quiet -t")
    with closing(VowpalPolicy(snapshot.setting, snapshot.model)) as own:
        for line, one in zip(log.read_text().splitlines(), loop.log(), strict=True):
            assert one.decision.decision_id == json.loads(line)["EventId"]
            found = plain.parse(line)
            expected = plain.predict(found)
            plain.finish_example(found)
            given = with_floor(own.distribution(one.decision.context, one.decision.actions), config.exploration_floor)
            assert given == pytest.approx(expected, abs=1e-6)
    plain.finish()
    assert loop.verified().equal, "nothing was learned since, and the bytes are another program's"
    before, loop.config = snapshot.trained_through, config
    loop.restart()
    more = write_log(tmp_path / "more.json", names=("red", "green", "grey"))
    more.write_text(more.read_text().replace('"EventId": "e', '"EventId": "f'))
    with learning(loop):
        assert import_dsjson.run(installation, command([more], loop)) == 0
    loop.restart()
    loop.tick(120).run()
    newest = loop.stores.snapshots.newest(loop.name)
    assert newest.trained_through == before + 200
    assert (newest.arguments, newest.model == snapshot.model) == (config.arguments, False)


def by_our_names(line: dict[str, Any]) -> dict[str, Any]:
    """An imported line's features as those of a decision that was made here."""
    multi = [
        {"_tag": one["_tag"], "O": {f"id={one['_tag']}": 1, f"shade={one['_tag']}": 1}} for one in line["c"]["_multi"]
    ]
    return {"GUser": {f"kind={line['c']['GUser']['kind']}": 1}, "_multi": multi}


def test_a_policy_alone_is_learned_from_the_log(
    drive: Callable[..., Any], installation: Installation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, policy = write_log(tmp_path / "log.json"), tmp_path / "policy.txt"
    policy.write_text(ARGUMENTS)
    loop = drive(arguments=OTHERS)
    with learning(loop):
        assert import_dsjson.run(installation, command([log], loop, policy)) == 0
    assert "the log is learned by the policy" in capsys.readouterr().out
    loop.config = loop.stores.loops.get(loop.name)
    assert (loop.config.arguments, loop.config.exploration_floor) == (SERVED, 0.2)
    loop.restart()
    loop.tick(10).run()
    snapshot = loop.stores.snapshots.newest(loop.name)
    assert (snapshot.arguments, snapshot.trained_through) == (SERVED, 200)


@pytest.mark.parametrize(
    ("policy", "model", "message"),
    [
        ("--cb_explore_adf --bag 3", None, "argument '--bag' is not allowed"),
        ('{"name": "x"}', None, "no text under 'arguments'"),
        (None, b"x", "its arguments are needed too"),
        (ARGUMENTS, b"nonsense", "model.vw: "),
        (ARGUMENTS, "others'", "knows the shown offer of 0 and 0 among 200 decisions"),
        ("--cb_explore_adf --cb_type dr", None, "--cb_type dr cannot be replayed"),
    ],
)
def test_what_cannot_be_taken_is_refused_before_anything_is_imported(
    drive: Callable[..., Any], installation: Installation, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    policy: str | None, model: bytes | str | None, message: str,
) -> None:  # fmt: skip
    log, files = write_log(tmp_path / "log.json"), {"policy": tmp_path / "policy.json", "model": tmp_path / "model.vw"}
    if policy is not None:
        files["policy"].write_text(policy)
    if model == "others'":
        stranger = write_log(tmp_path / "stranger.json", "Visitor", ("x", "y", "z"))
        stranger.write_text(stranger.read_text().replace('"j": [{"shade"', '"k": [{"tone"').replace('"i": ', '"l": '))
        trained(stranger, files["model"])
    elif isinstance(model, bytes):
        files["model"].write_bytes(model)
    loop = drive()
    asked = command([log], loop, *(files[name] if files[name].exists() else None for name in ("policy", "model")))
    assert import_dsjson.run(installation, asked) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.endswith("nothing was imported\n")
    assert loop.waiting() == []


def test_without_a_learner_the_model_is_taken_back(
    drive: Callable[..., Any], installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_model, "BEGIN_SECONDS", 0.1)
    loop = drive()
    setting = replace(loop.config.setting, arguments=ARGUMENTS)
    with closing(VowpalPolicy(setting)) as policy:
        start = import_model.WarmStart(setting, policy.save(), "model.vw")
    with pytest.raises(import_model.UnusableModel, match=r"model\.vw: no learner took it in time"):
        import_model.begin_warm(installation, loop.config, start)
    loop.run()
    assert loop.stores.loops.get(loop.name).arguments == loop.config.arguments
