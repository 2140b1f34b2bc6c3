"""Who may call: keys and roles, and loopback only while there is no key."""

from __future__ import annotations

import httpx
import pytest

RANK = {"candidates": [{"offer_id": "a"}, {"offer_id": "b"}]}


@pytest.fixture(scope="module")
def admin(guarded):
    with guarded.client("test-admin-key") as client:
        yield client


@pytest.fixture
def new_key(admin, guarded, until):
    """A key that every worker knows (they have a second to hear of it)."""

    def make(role):
        made = admin.post("/v1/keys", json={"name": f"a {role}", "role": role})
        assert made.status_code == 201, made.text

        def known():
            codes = set()
            for _ in range(12):  # new connections, so that both workers are asked
                with guarded.client(made.json()["secret"]) as caller:
                    codes.add(caller.get("/v1/offers").status_code)
            return codes == {403 if role == "page" else 200}

        until(known, 3, "the new key works")
        return made.json()

    return make


ROUTES = [
    ("POST", "/v1/rank"), ("POST", "/rank"), ("POST", "/v1/rank/batch"), ("POST", "/v1/reward"), ("POST", "/v1/activate"),
    ("POST", "/v1/activity"), ("GET", "/v1/decisions/x"), ("GET", "/v1/offers"), ("PUT", "/v1/offers/x"), ("GET", "/v1/customers/x"),
    ("GET", "/v1/loops"), ("PUT", "/v1/loops/x"), ("DELETE", "/v1/loops/default"), ("POST", "/v1/loops/x/ticks"), ("GET", "/v1/keys"),
    ("POST", "/v1/keys"), ("DELETE", "/v1/keys/x"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_without_a_key_everything_is_401(guarded, problem, method, path):
    with guarded.client() as nobody:
        answer = nobody.request(method, path, json=RANK)
        problem(answer, 401)


@pytest.mark.parametrize(
    "header", ["Bearer wrong", "Bearer", "Basic dGVzdDp0ZXN0", "test-admin-kez", "Bearer test-admin-key2"]
)
def test_wrong_keys_are_401(guarded, problem, header):
    with guarded.client(Authorization=header) as stranger:
        problem(stranger.post("/v1/rank", json=RANK), 401)


def test_odd_bytes_in_keys_are_401(guarded):
    with guarded.client() as stranger:
        answer = stranger.post("/v1/rank", json=RANK, headers=[(b"Authorization", b"Bearer \xff\xfe\xc3")])
        assert answer.status_code in (400, 401)


def test_the_admin_key_may_do_all(admin):
    assert admin.post("/v1/rank", json=RANK).status_code == 200
    assert admin.get("/v1/keys").status_code == 200
    assert admin.put("/v1/offers/by-admin", json={"category": "garden"}).status_code == 200


def test_health_needs_no_key(guarded):
    with guarded.client() as nobody:
        assert nobody.get("/healthz").status_code == 200
        assert nobody.get("/readyz").status_code == 200


CALLS = {
    "read": ("GET", "/v1/offers", None),
    "decide": ("POST", "/v1/rank", RANK),
    "reward": ("POST", "/v1/reward", {"decision_id": "some", "value": 1.0}),
    "decide many": ("POST", "/v1/rank/batch", {"requests": [RANK]}),
    "activate": ("POST", "/v1/activate", {"decision_id": "some"}),
    "activity": ("POST", "/v1/activity", {"activities": [{"customer_id": "c", "kind": "view"}]}),
    "explain": ("POST", "/v1/rank", {**RANK, "explain": True}),
    "explain many": ("POST", "/v1/rank/batch", {"requests": [RANK, {**RANK, "explain": True}]}),
    "read loops": ("GET", "/v1/loops", None),
    "loop": ("PUT", "/v1/loops/by-role", {}),
    "keys": ("GET", "/v1/keys", None),
    "new key": ("POST", "/v1/keys", {"name": "sly", "role": "admin"}),
}
PAGE = {"decide", "decide many", "reward", "activate", "activity"}
READ = {"read", "read loops"}
ALLOWED = {
    "page": PAGE, "read": READ, "write": PAGE | READ | {"explain", "explain many"}, "admin": set(CALLS),
}  # fmt: skip


@pytest.mark.parametrize("role", ALLOWED)
def test_roles(guarded, new_key, problem, role):
    key = new_key(role)
    with guarded.client(key["secret"]) as caller:
        for call, (method, path, body) in CALLS.items():
            answer = caller.request(method, path, json=body)
            if call in ALLOWED[role]:
                assert answer.is_success, (role, call, answer.text)
            else:
                problem(answer, 403)


def test_revoked_keys_stop_working_in_every_worker(guarded, admin, new_key, until):
    key = new_key("write")
    with guarded.client(key["secret"]) as shop:
        assert shop.post("/v1/rank", json=RANK).status_code == 200
    assert admin.delete(f"/v1/keys/{key['key_id']}").status_code == 204

    def refused_often():
        # New connections each time, so that both workers are asked.
        codes = []
        for _ in range(12):
            with guarded.client(key["secret"]) as shop:
                codes.append(shop.post("/v1/rank", json=RANK).status_code)
        return set(codes) == {401}

    until(refused_often, 3, "the key is dead in both workers")


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "203.0.113.9"},
        {"X-Forwarded-For": "203.0.113.9, 127.0.0.1"},
        {"X-Forwarded-For": "127.0.0.1, 203.0.113.9"},
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/rank"), ("GET", "/v1/offers"), ("POST", "/v1/keys")])
def test_with_no_key_only_loopback_is_served(service, problem, headers, method, path):
    with service.client(**headers) as far:
        problem(far.request(method, path, json=RANK), 403)


def test_loopback_is_served_without_a_key(api):
    assert api.post("/v1/rank", json=RANK).status_code == 200


@pytest.mark.timeout(180)
def test_the_first_key_closes_the_door_and_a_restart_forgets_nothing(up, tmp_path, problem, until):
    """Also: SIGTERM loses nothing (the decision, its reward and the key are there after a restart)."""
    with up(tmp_path / "data") as first, first.client() as anyone:
        assert anyone.put("/v1/loops/kept", json={"grace_seconds": 0, "reward": {"wait_seconds": 1}}).status_code == 200
        body = {**RANK, "loop": "kept", "decision_id": "d"}
        answer = anyone.post("/v1/rank", json=body)
        assert answer.status_code == 200
        assert anyone.post("/v1/reward", json={"loop": "kept", "decision_id": "d", "value": 1.0}).status_code == 202
        made = anyone.post("/v1/keys", json={"name": "first", "role": "admin"})
        assert made.status_code == 201
        secret = made.json()["secret"]

        def closed():
            with first.client() as nobody:
                return nobody.get("/v1/offers").status_code == 401

        until(closed, 3, "the door is closed")
        with first.client(secret) as owner:
            assert owner.get("/v1/offers").status_code == 200
    with up(tmp_path / "data") as second:
        with second.client() as nobody:
            problem(nobody.get("/v1/offers"), 401)
        with second.client(secret) as owner:
            assert owner.post("/v1/rank", json=body).json() == answer.json()

            def closed_decision():
                return owner.get("/v1/decisions/d", params={"loop": "kept"}).json()["state"] == "closed"

            until(closed_decision, 10, "the decision closes")
            assert owner.get("/v1/decisions/d", params={"loop": "kept"}).json()["reward"] == 1.0
            assert owner.get("/v1/loops/kept").json()["status"]["interactions"] == 1


def test_other_ways_to_name_the_key_are_not_needed(guarded):
    """The scheme's name is case-insensitive (RFC 9110)."""
    with httpx.Client(
        base_url=guarded.url, trust_env=False, headers={"Authorization": "bearer test-admin-key"}
    ) as client:
        assert client.get("/v1/offers").status_code == 200
