"""The JavaScript module: in node against the running service, and in a real browser where there is one."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from fastapi import Response
from starlette.staticfiles import StaticFiles

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODULE = ROOT / "clients" / "javascript"
FILES = sorted((HERE / "javascript").glob("*.test.mjs"))
OFFERS = ("spring-10", "free-shipping")


def counts(output: str) -> dict[str, int]:
    """The closing lines of node's test runner."""
    return {name: int(number) for name, number in re.findall(r"^# (\w+) (\d+)$", output, re.MULTILINE)}


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name.removesuffix(".test.mjs"))
def test_in_node(node, network, service, nobody, file):
    found = node(
        "--test", "--test-reporter=tap", str(file), NETWORK_URL=network.url, SERVICE_URL=service.url, NOBODY_URL=nobody
    )
    assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]
    ran = counts(found.stdout)
    assert ran["pass"] == ran["tests"] >= file.read_text().count('\ntest("') > 0, found.stdout[-2000:]
    assert (ran["skipped"], ran["todo"], ran["cancelled"]) == (0, 0, 0)


@pytest.fixture(scope="module")
def offers(api):
    for name in OFFERS:
        assert api.put(f"/v1/offers/{name}", json={"category": "garden"}).status_code == 200


def test_the_example_of_a_server_runs(blocks, node, network, offers, tmp_path):
    (example,) = blocks("javascript", "js")
    place = (MODULE / "offerloop.js").as_uri()
    code = example.replace("./clients/javascript/offerloop.js", place).replace("http://127.0.0.1:8080", network.url)
    (tmp_path / "shop.mjs").write_text(code)
    found = node(str(tmp_path / "shop.mjs"))
    assert found.returncode == 0, found.stderr
    assert re.fullmatch(r"show (spring-10|free-shipping) false\n", found.stdout)
    assert [one.path for one in network.seen] == ["/v1/rank", "/v1/reward", "/v1/activity"]


@pytest.fixture
def shop(blocks, guarded, guarded_network, serving, monkeypatch, tmp_path):
    """The README's proxy before an installation with keys, with the README's page in it."""
    with guarded.client("test-admin-key") as admin:
        for name in OFFERS:
            assert admin.put(f"/v1/offers/{name}", json={"category": "garden"}).status_code == 200
        key = admin.post("/v1/keys", json={"name": "web shop", "role": "write"}).json()["secret"]
    monkeypatch.setenv("OFFERLOOP_URL", guarded_network.url)
    monkeypatch.setenv("OFFERLOOP_KEY", key)
    (example,) = blocks("javascript", "python")
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    app = names["app"]

    @app.get("/enter")
    def enter() -> Response:
        return Response(status_code=303, headers={"Location": "/shop.html", "Set-Cookie": "customer=c-9; HttpOnly"})

    @app.get("/scrolled")
    def scrolled() -> Response:
        guarded_network.note("scrolled")
        return Response()

    @app.get("/activated")
    def activated() -> bool:
        return bool(guarded_network.of("/v1/activate"))

    shutil.copy(MODULE / "offerloop.js", tmp_path)
    app.mount("/", StaticFiles(directory=tmp_path))
    with serving(app) as url:
        yield url, tmp_path


def test_the_proxy_adds_the_key_and_the_customer_and_passes_on_nothing_else(shop, guarded_network, node, tmp_path):
    url, _ = shop
    (tmp_path / "page.mjs").write_text(
        f"""
        import {{ Offerloop }} from "{(MODULE / "offerloop.js").as_uri()}";
        const headers = {{ Cookie: "customer=c-9" }};
        const offers = new Offerloop({{ url: "{url}/offerloop", headers, timeoutSeconds: 20, budgetSeconds: 40 }});
        const decision = await offers.rank({{ customer_id: "somebody-else", candidates: ["spring-10"] }});
        await offers.reward({{ decision_id: decision.decision_id, kind: "click" }});
        offers.activity({{ customer_id: "somebody-else", kind: "view", category: "garden" }});
        await offers.close();
        const post = async (call, body) => (await fetch(`{url}/offerloop/v1/${{call}}`, {{ method: "POST", body }})).status;
        console.log(decision.offer_id, decision.fallback, await post("keys", "{{}}"));
        for (const body of ["", "{{", "[]", "null", "\xff"]) console.log(await post("rank", body));
        for (const body of ["{{}}", '{{"activities": 5}}', '{{"activities": ["view"]}}'])
          console.log(await post("activity", body));
        for (const value of ['NaN', '"\\\\ud800"']) console.log(await post("reward", `{{"decision_id": ${{value}}}}`));
        """
    )
    found = node(str(tmp_path / "page.mjs"))
    assert found.returncode == 0, found.stderr
    assert found.stdout.split("\n") == ["spring-10 false 404", *["400"] * 10, ""]
    rank, reward, activity, *_ = guarded_network.seen
    assert rank.body["customer_id"] == "c-9"
    assert activity.body["activities"][0]["customer_id"] == "c-9"
    assert {one.headers["authorization"].partition(" ")[0] for one in (rank, reward, activity)} == {"Bearer"}


# A real browser


@pytest.fixture
def browse(tmp_path_factory):
    """Open a page in Chromium, until the check holds."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on the PATH")
    home = tmp_path_factory.mktemp("browser")
    words = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             f"--user-data-dir={home / 'profile'}", "--window-size=800,600"]  # fmt: skip

    def open_page(url, check, what):
        log = home / "log"
        with log.open("w") as output, subprocess.Popen([*words, url], stdout=output, stderr=output) as process:
            try:
                deadline = time.monotonic() + 60
                while not check():
                    assert process.poll() is None, f"the browser ended: {log.read_text()[-2000:]}"
                    assert time.monotonic() < deadline, f"{what} did not hold within 60 s: {log.read_text()[-2000:]}"
                    time.sleep(0.05)
            finally:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                process.kill()

    return open_page


SCROLL_AND_CLICK = """
<script type="module">
  const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const offer = document.querySelector("#offer");
  while (offer.textContent === "") await pause(0.05);
  await pause(1.5);
  await fetch("/scrolled");
  offer.scrollIntoView();
  while (!(await (await fetch("/activated")).json())) await pause(0.05);
  offer.click();
</script>
"""


def test_in_a_browser_the_offer_is_activated_once_it_is_scrolled_into_view(shop, guarded_network, blocks, browse):
    url, folder = shop
    (page,) = blocks("javascript", "html")
    # The offer is far down; after longer than it would take if it were in view the page scrolls to it.
    far = page.replace('<p id="offer"></p>', '<div style="height: 4000px"></div><p id="offer"></p>')
    (folder / "shop.html").write_text(far + SCROLL_AND_CLICK)
    browse(f"{url}/enter", lambda: guarded_network.of("/v1/reward"), "the reward of the click")
    (rank,) = guarded_network.of("/v1/rank")
    (activation,) = guarded_network.of("/v1/activate")
    (reward,) = guarded_network.of("/v1/reward")
    assert rank.body["customer_id"] == "c-9"
    assert activation.body == {"decision_id": rank.body["decision_id"]}
    assert reward.body["decision_id"] == rank.body["decision_id"]
    order = [one.path for one in guarded_network.seen]
    assert order == ["/v1/rank", "scrolled", "/v1/activate", "/v1/reward"]


def test_in_a_browser_an_offer_below_the_fold_stays_unseen_and_activity_outlives_the_page(
    shop, guarded_network, browse
):
    url, folder = shop
    (folder / "shop.html").write_text(
        """<!doctype html><div style="height: 4000px"></div><p id="offer"></p><script type="module">
        import { Offerloop } from "./offerloop.js";
        const offers = new Offerloop({ url: "/offerloop", batchSeconds: 600 });
        const decision = await offers.rank({ candidates: ["spring-10"], defer_activation: true });
        const element = document.querySelector("#offer");
        element.textContent = decision.offer_id;
        offers.whenSeen(element, decision, { seconds: 0.1 });
        offers.activity({ customer_id: "", kind: "view", category: "garden" });
        setTimeout(() => location.assign("/elsewhere.html"), 1500);
        </script>"""
    )
    (folder / "elsewhere.html").write_text("<!doctype html><title>Elsewhere</title>")
    browse(f"{url}/enter", lambda: guarded_network.of("/v1/activity"), "the activity of the page that was left")
    (activity,) = guarded_network.of("/v1/activity")
    assert [(one["customer_id"], one["kind"]) for one in activity.body["activities"]] == [("c-9", "view")]
    assert guarded_network.of("/v1/activate") == []
