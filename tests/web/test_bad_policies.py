"""Bad input of policies, kill switches, guardrails and sessions: refused by name, and nothing changes."""

from __future__ import annotations

import pytest

ARGUMENTS = "--cb_explore_adf --epsilon 0.1"
LOOP, POLICY = "/v1/loops/{loop}", "/v1/loops/{loop}/policies/{name}"
# A good body of each operation, so that a row is bad for its own reason alone; None: it takes none.
OPERATIONS = {
    f"GET {LOOP}/policies": None,
    f"PUT {POLICY}": {"arguments": ARGUMENTS},
    f"DELETE {POLICY}": None,
    f"PUT {POLICY}/share": {"share": 0.1, "reason": "a test"},
    f"POST {POLICY}/promote": {"reason": "a test"},
    f"POST {LOOP}/policies/rollback": {"reason": "a test"},
    f"GET {LOOP}/kill-switch": None,
    f"PUT {LOOP}/kill-switch": {"on": True, "reason": "a test"},
    "GET /v1/offers/{offer_id}/kill-switch": None,
    "PUT /v1/offers/{offer_id}/kill-switch": {"on": True, "reason": "a test"},
}
REASONS = [None, "", "  \n", 5, "a\0b", "x" * 1001]
BODIES = {
    f"PUT {POLICY}": {
        "arguments": [None, "", 5, "--cb_explore_adf --no_such_option", "--cb_explore_adf -f file", "x" * 1025],
        "share": [-0.1, 1.1, "0.1", None, True],
        "colour": ["red"],
    },
    f"PUT {POLICY}/share": {"share": [-0.1, 1.1, "0.1", None], "reason": REASONS, "colour": ["red"]},
    f"POST {POLICY}/promote": {"reason": REASONS, "colour": ["red"]},
    f"POST {LOOP}/policies/rollback": {"reason": REASONS},
    f"PUT {LOOP}/kill-switch": {"on": [None, "yes", 1], "reason": REASONS, "colour": ["red"]},
    "PUT /v1/offers/{offer_id}/kill-switch": {"on": [None, "yes", 1], "reason": REASONS},
}
ROWS = [
    (operation, field, value) for operation, fields in BODIES.items() for field, bad in fields.items() for value in bad
]  # fmt: skip


def url(path, loop="nowhere", name="bold", offer_id="spring"):
    return path.replace("{loop}", loop).replace("{name}", name).replace("{offer_id}", offer_id)


def call(api, operation, body, **names):
    method, path = operation.split()
    return api.request(method, url(path, **names), **({} if body is None else {"json": body}))


def traces(api, loop):
    """All that such calls could change."""
    paths = (LOOP, f"{LOOP}/policies", f"{LOOP}/kill-switch", f"{LOOP}/operations")
    found = [api.get(url(path, loop)).json() for path in paths]
    found[0].pop("status")
    # What a challenger has learned goes on by itself.
    found[1] = [found[1]["version"], [(one["name"], one["arguments"], one["share"]) for one in found[1]["challengers"]]]
    return [*found, api.get("/v1/kill-switches").json()]


def test_every_operation_of_its_kind_has_rows(api):
    paths = api.get("/openapi.json").json()["paths"]
    wanted = {
        f"{method.upper()} {path}"
        for path, operations in paths.items()
        for method in operations
        if path.startswith(f"{LOOP}/policies") or path.endswith("/kill-switch")
    }
    assert wanted == set(OPERATIONS)


@pytest.fixture(scope="module")
def loop(lasting_loop, api):
    """A loop with a challenger."""
    made = lasting_loop()
    assert api.put(url(POLICY, made.name), json={"arguments": ARGUMENTS}).status_code == 200
    return made.name


@pytest.mark.parametrize(("operation", "field", "value"), ROWS)
def test_bad_bodies(api, problem, loop, operation, field, value):
    before = traces(api, loop)
    refused = problem(call(api, operation, {**OPERATIONS[operation], field: value}, loop=loop), 400)
    assert field in [error["field"] for error in refused["errors"]]
    assert traces(api, loop) == before


@pytest.mark.parametrize("operation", [name for name, body in OPERATIONS.items() if body])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"reason": NaN}'])
def test_bodies_that_are_none(api, problem, loop, operation, body):
    before = traces(api, loop)
    method, path = operation.split()
    headers = {"content-type": "application/json"}
    refused = problem(api.request(method, url(path, loop), content=body, headers=headers), 400)
    assert ("not valid JSON" in refused["detail"]) == (body not in (b"", b"[]", b"null"))
    assert traces(api, loop) == before


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if "{loop}" in name])
@pytest.mark.parametrize("name", ["Upper", "a.b", "a@b", "-a", "a" * 65, "a%00b"])
def test_ill_formed_loops(api, problem, operation, name):
    refused = problem(call(api, operation, OPERATIONS[operation], loop=name), 400)
    assert [error["field"] for error in refused["errors"]] == ["loop"]


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if "{loop}" in name])
def test_unknown_loops(api, problem, operation):
    assert "nowhere" in problem(call(api, operation, OPERATIONS[operation], loop="nowhere"), 404)["detail"]


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if "{name}" in name])
@pytest.mark.parametrize("name", ["Upper", "a.b", "a@b", "a_b", "-a", "a" * 41, "a%00b"])
def test_ill_formed_policies(api, problem, loop, operation, name):
    refused = problem(call(api, operation, OPERATIONS[operation], loop=loop, name=name), 400)
    assert [error["field"] for error in refused["errors"]] == ["name"]


@pytest.mark.parametrize("name", ["champion", "previous"])
def test_names_that_a_loop_gives_itself(api, problem, loop, name):
    before = traces(api, loop)
    refused = problem(api.put(url(POLICY, loop, name), json={"arguments": ARGUMENTS}), 400)
    assert [(error["field"], error["value"]) for error in refused["errors"]] == [("name", name)]
    assert traces(api, loop) == before


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if "{offer_id}" in name])
@pytest.mark.parametrize("name", ["a%00b", "tab%09", "x" * 257])
def test_ill_formed_offers(api, problem, operation, name):
    refused = problem(call(api, operation, OPERATIONS[operation], offer_id=name), 400)
    assert [error["field"] for error in refused["errors"]] == ["offer_id"]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"sticky_seconds": -1}, "sticky_seconds"),
        ({"sticky_seconds": "60"}, "sticky_seconds"),
        ({"sticky_seconds": None}, "sticky_seconds"),
        ({"sticky_seconds": 601}, "sticky_seconds"),
        ({"challengers": []}, "challengers"),
        ({"guardrails": {}}, "guardrails"),
        ({"guardrails": [{"metric": "clicks", "low": 0}]}, "guardrails.0.metric"),
        ({"guardrails": [{"metric": "outcome:", "low": 0}]}, "guardrails.0.metric"),
        ({"guardrails": [{"low": 0}]}, "guardrails.0.metric"),
        ({"guardrails": [{"metric": "reward", "low": 0}, {"metric": "outcome:clik", "low": 0}]}, "guardrails.1.metric"),
        (
            {"reward": {"kinds": {"sale": 1}}, "guardrails": [{"metric": "outcome:click", "low": 0}]},
            "guardrails.0.metric",
        ),
        ({"guardrails": [{"metric": "reward"}]}, "guardrails.0.low"),
        ({"guardrails": [{"metric": "reward", "low": 0.2, "high": 0.1}]}, "guardrails.0.low"),
        ({"guardrails": [{"metric": "reward", "low": "0.2"}]}, "guardrails.0.low"),
        ({"guardrails": [{"metric": "reward", "high": 1e10}]}, "guardrails.0.high"),
        ({"guardrails": [{"metric": "reward", "low": 0, "relative": 1}]}, "guardrails.0.relative"),
        ({"guardrails": [{"metric": "reward", "low": 0, "least_decisions": 0}]}, "guardrails.0.least_decisions"),
        ({"guardrails": [{"metric": "reward", "low": 0}] * 21}, "guardrails"),
    ],
)
def test_settings_that_cannot_be(api, problem, loop, settings, field):
    before = traces(api, loop)
    refused = problem(api.put(url(LOOP, loop), json=settings), 400)
    assert field in [error["field"] for error in refused["errors"]]
    assert traces(api, loop) == before


def test_settings_that_can_be_are_kept(api, make_loop):
    guardrail = {"metric": "outcome:purchase", "low": None, "high": 0.1, "relative": True, "least_decisions": 50}
    own = {"metric": "outcome:value", "low": 0.0, "high": None, "relative": False, "least_decisions": 50}
    settings = {"sticky_seconds": 600.0, "guardrails": [guardrail, own]}
    stored = api.get(url(LOOP, make_loop(**settings).name)).json()
    assert {name: stored[name] for name in settings} == settings
