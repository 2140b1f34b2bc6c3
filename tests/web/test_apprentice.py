"""Apprentice mode over HTTP: the baseline is served, the model's own choice learned, the status tells how it fares."""

from __future__ import annotations

NAMES = ["left", "right", "middle"]
ARGUMENTS = "--cb_explore_adf --epsilon 0.1 -l 0.1 --power_t 0"


def rank(loop, at, number, **body):
    candidates = [{"offer_id": name} for name in NAMES]
    return loop.rank(decision_id=f"{loop.name}-{number}", occurred_at=at(number), candidates=candidates, **body)


def play(loop, at, count, start=0):
    for number in range(start, start + count):
        answer = rank(loop, at, number)
        assert (answer["offer_id"], answer["use"], answer["learning_mode"]) == ("left", "baseline", "apprentice")
        loop.reward(answer["decision_id"], value=0.5, final=True, occurred_at=at(number))
    loop.tick(at(start + count))


def test_it_serves_the_first_action_and_learns_to_choose_it(make_loop, at):
    settings = {"arguments": ARGUMENTS, "learning_mode": "apprentice", "export_frequency_seconds": 0.001}
    loop = make_loop(simulated=True, **settings)
    assert loop.status()["apprentice"] is None
    for start in range(0, 100, 10):
        play(loop, at, 10, start)
    found = loop.status()["apprentice"]
    assert found["total"]["events"] == 100
    assert found["total"]["reward_sum"] == 50.0
    assert found["total"]["imitated_reward_sum"] == found["total"]["imitated"] / 2
    assert found["match_rate"] == found["total"]["imitated"] / 100 > 0.6
    assert found["last_batch"]["events"] <= 100
    assert found["started_at"] < found["last_at"]
    (own,) = loop.record(f"{loop.name}-99")["own"]
    assert own["propensity"] == own["served_probabilities"][NAMES.index(own["offer_id"])]
    assert (len(own["policy_probabilities"]), own["is_match"]) == (3, own["offer_id"] == "left")


def test_slots_are_learned_too_and_the_baselines_shown(make_loop, at):
    loop = make_loop(simulated=True, arguments=ARGUMENTS, learning_mode="apprentice")
    answer = rank(loop, at, 0, slots=[{"id": "top"}, {"id": "below", "baseline": "middle"}])
    assert [slot["offer_id"] for slot in answer["slots"]] == ["left", "middle"]
    assert len(loop.record(answer["decision_id"])["own"]) == 2
    loop.reward(answer["decision_id"], value=1.0, slot="below", final=True, occurred_at=at(1))
    loop.tick(at(2))
    assert loop.status()["apprentice"]["total"]["events"] == 2
    assert loop.status()["apprentice"]["total"]["reward_sum"] == 1.0


def test_counts_begin_anew_with_the_mode(make_loop, at, api):
    loop = make_loop(simulated=True, learning_mode="apprentice")
    play(loop, at, 3)
    settings = {"clock": "simulated", "close_on_final": True}
    for mode in ("apprentice", "online"):
        assert api.put(f"/v1/loops/{loop.name}", json={**settings, "learning_mode": mode}).status_code == 200
        assert loop.status()["apprentice"]["total"]["events"] == 3
    assert api.put(f"/v1/loops/{loop.name}", json={**settings, "learning_mode": "apprentice"}).status_code == 200
    assert loop.status()["apprentice"] is None


def test_why_is_answered_in_that_mode(make_loop, at, api):
    loop = make_loop(simulated=True, learning_mode="apprentice")
    answer = rank(loop, at, 0, explain=True)
    assert answer["why"]["use"] == "baseline"
    assert api.get(f"/v1/decisions/{answer['decision_id']}/why", params={"loop": loop.name}).status_code == 200
