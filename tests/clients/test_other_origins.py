"""Pages of other origins may call only where the installation says so."""

from __future__ import annotations

import pytest

SHOP = "https://shop.example.com"
ASKED = {
    "Origin": SHOP,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "x-api-key,content-type",
}
BODY = {"candidates": [{"offer_id": "a"}]}


@pytest.fixture(scope="module")
def open_to_the_shop(up, tmp_path_factory):
    settings = {"OFFERLOOP_CORS_ORIGINS": f"https://other.example.com, {SHOP}", "OFFERLOOP_ADMIN_KEY": "test-admin-key"}
    with up(tmp_path_factory.mktemp("origins") / "data", **settings) as started:
        yield started


def test_a_named_origin_may_call_and_reads_refusals(open_to_the_shop):
    with open_to_the_shop.client() as browser:
        asked = browser.options("/v1/rank", headers=ASKED)
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, SHOP)
        refused = browser.post("/v1/rank", json=BODY, headers={"Origin": SHOP})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, SHOP)
        ranked = browser.post("/v1/rank", json=BODY, headers={"Origin": SHOP, "X-Api-Key": "test-admin-key"})
        assert (ranked.status_code, ranked.headers["access-control-allow-origin"]) == (200, SHOP)
        assert (
            browser.options("/v1/offers/x", headers={**ASKED, "Access-Control-Request-Method": "PUT"}).status_code
            == 400
        )


def test_another_origin_may_not(open_to_the_shop):
    with open_to_the_shop.client() as browser:
        asked = browser.options("/v1/rank", headers={**ASKED, "Origin": "https://evil.example.com"})
        assert (asked.status_code, "access-control-allow-origin" in asked.headers) == (400, False)


def test_by_default_none_may(service):
    with service.client() as browser:
        assert "access-control-allow-origin" not in browser.options("/v1/rank", headers=ASKED).headers
        assert (
            "access-control-allow-origin" not in browser.post("/v1/rank", json=BODY, headers={"Origin": SHOP}).headers
        )
