"""/v1/loops/{loop}/model and /operations: exported, imported, reset; and settings that hold when they are answered."""

from __future__ import annotations

import io
import json
import os
import signal
import zipfile
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

SLOW = "--cb_explore_adf --epsilon 0.1 -l 0.01 --power_t 0"
OTHER = "--cb_explore_adf --epsilon 0.2 -l 0.01 --power_t 0"


@pytest.fixture
def trained(make_loop, at):
    """A loop whose model has learned that left is good."""

    def make(count=20, **settings):
        loop = make_loop(simulated=True, **{"arguments": SLOW, "export_frequency_seconds": 0.001, **settings})
        teach(loop, at, count)
        return loop

    return make


def teach(loop, at, count=20, start=0):
    for number in range(start, start + count):
        decision = loop.rank(decision_id=f"{loop.name}-{number}", occurred_at=at(number))
        value = float(decision["offer_id"] == "left")
        loop.reward(decision["decision_id"], value=value, final=True, occurred_at=at(number))
    loop.tick(at(start + count))


def path(loop):
    return f"/v1/loops/{loop.name}/model"


def export(loop, **how):
    answer = loop.api.get(path(loop), params=how)
    assert answer.status_code == 200, answer.text
    return answer


def repacked(archive, **changed):
    """The archive with members changed, or left out where None."""
    members = {name: archive.read(name) for name in archive.namelist()}
    members |= {name.replace("__", "."): content for name, content in changed.items()}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name, content in members.items():
            if content is not None:
                packed.writestr(name, content)
    return file.getvalue()


def opened(answer):
    return zipfile.ZipFile(io.BytesIO(answer.content))


def test_an_exported_model_is_the_snapshot_to_the_byte_and_comes_back_as_it_was(trained, at, api):
    loop = trained()
    plain, signed = export(loop), export(loop, signed="true")
    assert plain.headers["content-type"] == "application/octet-stream"
    assert plain.headers["content-disposition"] == "attachment; filename=model.vw"
    assert signed.headers["content-disposition"] == "attachment; filename=model.vw.zip"
    archive = opened(signed)
    assert archive.read("model.vw") == plain.content
    metadata = json.loads(archive.read("metadata.json"))
    assert (metadata["arguments"], metadata["reward_low"], metadata["reward_high"]) == (SLOW, 0.0, 1.0)
    assert export(loop, signed="true").content == signed.content
    teach(loop, at, start=20)
    assert export(loop).content != plain.content
    before = loop.status()["snapshot_id"]
    answer = api.put(path(loop), content=signed.content, headers={"content-type": "application/octet-stream"})
    assert answer.status_code == 204, answer.text
    assert export(loop).content == plain.content
    after = loop.status()["snapshot_id"]
    assert ("-g1-" in before, "-g2-" in after) == (True, True)
    assert loop.rank(occurred_at=at(30))["snapshot_id"] == after
    assert api.put(path(loop), content=iter([signed.content[:100], signed.content[100:]])).status_code == 204
    teach(loop, at, start=40)
    assert export(loop).content != plain.content


def test_an_import_brings_its_arguments(trained, api, at):
    loop = trained()
    signed = export(loop, signed="true").content
    settings = {"arguments": OTHER, "clock": "simulated", "close_on_final": True}
    assert api.put(f"/v1/loops/{loop.name}", json=settings).status_code == 200
    assert api.put(path(loop), content=signed).status_code == 204
    assert api.get(f"/v1/loops/{loop.name}").json()["arguments"] == SLOW
    assert export(loop, signed="true").content != signed
    assert opened(export(loop, signed="true")).read("model.vw") == zipfile.ZipFile(io.BytesIO(signed)).read("model.vw")


def test_a_reset_model_is_untrained(trained, make_loop, api, at):
    loop, fresh = trained(), make_loop(arguments=SLOW)
    assert api.delete(path(loop)).status_code == 204
    assert export(loop).content == export(fresh).content
    assert loop.rank(occurred_at=at(30))["snapshot_id"] == loop.status()["snapshot_id"]
    (operation,) = api.get(f"/v1/loops/{loop.name}/operations").json()["operations"]
    assert (operation["kind"], operation["state"], operation["progress"]) == ("reset", "done", 1.0)
    assert operation["detail"]["generation"] == 2


def test_properties_tell_when_the_model_was_made(trained, at, api):
    started = datetime.now(UTC)
    loop = trained()
    first = api.get(path(loop) + "/properties").json()
    times = [datetime.fromisoformat(first[name]) for name in ("created_at", "modified_at")]
    assert started <= times[0] <= times[1] <= datetime.now(UTC)
    assert parsedate_to_datetime(export(loop).headers["last-modified"]) == times[1].replace(microsecond=0)
    assert api.delete(path(loop)).status_code == 204
    assert datetime.fromisoformat(api.get(path(loop) + "/properties").json()["created_at"]) > times[1]


@pytest.mark.parametrize(
    ("spoil", "title"),
    [
        (lambda archive: b"", "Bad model archive"),
        (lambda archive: b"PK\x03\x04 nonsense", "Bad model archive"),
        (lambda archive: archive.read("model.vw"), "Bad model archive"),
        (lambda archive: repacked(archive, model__vw=None), "Bad model archive"),
        (lambda archive: repacked(archive, model__vw=archive.read("model.vw") + b"\x00"), "Bad model signature"),
        (lambda archive: repacked(archive, metadata__json=archive.read("metadata.json").replace(b"0.1", b"0.9")),
         "Bad model signature"),
        (lambda archive: repacked(archive, metadata__json=b"{}"), "Bad model signature"),
        (lambda archive: repacked(archive, metadata__json=None), "Bad model signature"),
        (lambda archive: repacked(archive, sha512_signature__bin=None), "Bad model signature"),
        (lambda archive: repacked(archive, sha512_signature__bin=b"\x00" * 64), "Bad model signature"),
    ],
)  # fmt: skip
def test_what_this_installation_did_not_sign_is_refused_and_the_model_stays(trained, api, problem, spoil, title):
    loop = trained(count=3)
    before, signed = export(loop).content, export(loop, signed="true")
    assert problem(api.put(path(loop), content=spoil(opened(signed))), 400)["title"] == title
    assert export(loop).content == before
    assert api.get(f"/v1/loops/{loop.name}/operations").json() == {"operations": []}


def test_a_model_for_other_rewards_is_refused(trained, make_loop, api, problem):
    loop, other = trained(count=3), make_loop(reward={"low": -1.0, "high": 1.0})
    assert "[0, 1]" in problem(api.put(path(other), content=export(loop, signed="true").content), 409)["detail"]


def test_unknown_loops_and_bad_questions(api, problem, make_loop):
    for method, end in (("GET", ""), ("DELETE", ""), ("GET", "/properties")):
        assert "nowhere" in problem(api.request(method, "/v1/loops/nowhere/model" + end), 404)["detail"]
    problem(api.get("/v1/loops/nowhere/operations"), 404)
    assert "signed" in problem(api.get(path(make_loop()), params={"signed": "maybe"}), 400)["detail"]


def test_only_an_admin_replaces_models(guarded, problem):
    with guarded.client("test-admin-key") as admin, guarded.client() as nobody:
        key = admin.post("/v1/keys", json={"name": "reader", "role": "read"}).json()
        try:
            with guarded.client(key["secret"]) as reader:
                assert reader.get("/v1/loops/default/model").status_code == 200
                problem(reader.delete("/v1/loops/default/model"), 403)
                problem(reader.put("/v1/loops/default/model", content=b"x"), 403)
            for end in ("model", "model/properties", "operations"):
                problem(nobody.get(f"/v1/loops/default/{end}"), 401)
        finally:
            admin.delete(f"/v1/keys/{key['key_id']}")


def test_a_changed_setting_is_read_back_at_once_and_serves_after_the_replay(trained, api, until):
    loop = trained()
    settings = {"arguments": OTHER, "clock": "simulated", "close_on_final": True, "export_frequency_seconds": 0.001}
    assert api.put(f"/v1/loops/{loop.name}", json=settings).json()["arguments"] == OTHER

    def replayed():
        (operation,) = api.get(f"/v1/loops/{loop.name}/operations").json()["operations"]
        return operation if operation["state"] == "done" else None

    operation = until(replayed, 20, "the replay")
    assert (operation["kind"], operation["detail"]["arguments"], operation["detail"]["learned"]) == (
        "replay", OTHER, 20,
    )  # fmt: skip
    until(lambda: loop.status()["snapshot_id"] == operation["detail"]["snapshot_id"], 5, "the new model serves")
    assert opened(export(loop, signed="true")).read("metadata.json").find(b"epsilon 0.2") > 0


def test_settings_and_models_hold_in_every_worker_when_they_are_answered(guarded):
    with guarded.client("test-admin-key") as admin:
        for mode in ("online", "logging_only") * 5:
            answer = admin.put("/v1/loops/held", json={"learning_mode": mode})
            assert answer.status_code == 200, answer.text
            assert "offerloop-workers-behind" not in answer.headers
            for _ in range(6):
                # A connection of its own reaches either worker.
                with guarded.client("test-admin-key") as caller:
                    body = {"loop": "held", "candidates": [{"offer_id": "left"}, {"offer_id": "right"}]}
                    assert caller.post("/v1/rank", json=body).json()["learning_mode"] == mode
        for generation in (2, 3):
            assert admin.delete("/v1/loops/held/model").status_code == 204
            for _ in range(6):
                with guarded.client("test-admin-key") as caller:
                    body = {"loop": "held", "candidates": [{"offer_id": "left"}]}
                    assert caller.post("/v1/rank", json=body).json()["snapshot_id"] == f"held-g{generation}-0"
        assert admin.delete("/v1/loops/held").status_code == 204


def test_without_a_learner_a_reset_is_refused_and_taken_back(up, tmp_path, problem, until):
    with up(tmp_path / "data") as installation, installation.client() as api:
        assert api.put("/v1/loops/still", json={}).status_code == 200
        until(lambda: api.get("/v1/loops/still").json()["status"]["snapshots"] == 1, 20, "the learner has begun")
        before = api.get("/v1/loops/still/model").content
        learner = _learner(installation.process.pid)
        os.kill(learner, signal.SIGSTOP)
        try:
            assert "learner" in problem(api.delete("/v1/loops/still/model"), 503)["detail"]
        finally:
            os.kill(learner, signal.SIGCONT)
        (operation,) = api.get("/v1/loops/still/operations").json()["operations"]
        assert operation["state"] == "failed"
        assert api.delete("/v1/loops/still/model").status_code == 204
        newest = api.get("/v1/loops/still/operations").json()["operations"]
        assert [one["state"] for one in newest] == ["done", "failed"]
        assert api.get("/v1/loops/still/model").content == before


def _learner(up_pid):
    """The learner among the children of `offerloop up`."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat, words = (folder / "stat").read_text(), (folder / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == up_pid and "learn" in words:
            return int(folder.name)
    pytest.fail("there is no learner")
