"""The catalogue as a file over HTTP: all or nothing, errors by row, versions, and a round trip; and its command."""

from __future__ import annotations

import csv
import io
import json

import pytest

CSV = {"content-type": "text/csv; charset=utf-8"}


@pytest.fixture
def imported(api):
    """Import, expecting success; what was made is deleted when the test is over."""
    made = set()

    def run(offers, **params):
        answer = api.post("/v1/offers/import", json={"offers": offers}, params=params)
        assert answer.status_code == 200, answer.text
        made.update(offer["offer_id"] for offer in offers)
        found = answer.json()
        assert found.pop("imported") == len(offers)
        assert found.pop("dry_run") is bool(params.get("dry_run"))
        return found

    yield run
    for offer in made:
        assert api.delete(f"/v1/offers/{offer}").status_code in (204, 404)


def table(*rows):
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    return file.getvalue()


def everything(api):
    return api.get("/v1/offers").json()["offers"]


def test_a_file_creates_updates_and_leaves_offers(imported, api, unique):
    a, b, c = (unique("import") for _ in range(3))
    offers = [
        {"offer_id": offer, "category": "garden", "discount": 0.1, "features": {"size": "large"}} for offer in (a, b)
    ]
    assert imported(offers) == {"created": 2, "updated": 0, "unchanged": 0}
    assert imported(offers) == {"created": 0, "updated": 0, "unchanged": 2}
    offers = [offers[0], {"offer_id": b, "category": "tools"}, {"offer_id": c, "category": "tools"}]
    assert imported(offers) == {"created": 1, "updated": 1, "unchanged": 1}
    found = api.get(f"/v1/offers/{b}").json()
    assert (found["version"], found["category"], found["discount"], found["features"]) == (2, "tools", None, {})
    assert api.get(f"/v1/offers/{a}").json()["version"] == 1


def test_a_table_is_imported_and_what_it_does_not_name_stays(imported, api, unique):
    other, offer = unique("stays"), unique("table")
    imported([{"offer_id": other, "category": "garden"}])
    text = table(
        ["offer_id", "category", "channels", "stock", "creative.title", "feature.new", "rules"],
        [offer, "garden", "web|app", "5000", "Frühling", "true",
         json.dumps([{"code": "rain", "require": {"fact": "weather.condition", "is": "rain"}}])],
    )  # fmt: skip
    for body in ("\ufeff" + text, text):
        answer = api.post("/v1/offers/import", content=body.encode(), headers=CSV)
        assert answer.status_code == 200, answer.text
    assert answer.json() == {"imported": 1, "created": 0, "updated": 0, "unchanged": 1, "dry_run": False}
    found = api.get(f"/v1/offers/{offer}").json()
    assert (found["channels"], found["limits"]["stock"]) == (["web", "app"], 5000)
    assert (found["creative"], found["features"]) == ({"title": "Frühling"}, {"new": True})
    assert found["rules"][0]["code"] == "rain"
    assert api.get(f"/v1/offers/{other}").status_code == 200
    assert api.delete(f"/v1/offers/{offer}").status_code == 204


def test_one_bad_row_and_nothing_is_written(imported, api, unique, problem):
    kept, new = unique("kept"), unique("new")
    imported([{"offer_id": kept, "category": "garden"}])
    before = everything(api)
    text = table(
        ["offer_id", "category", "discount", "stock"],
        [kept, "tools", "", ""],
        [new, "tools", "2", "x"],
        [kept, "tools", "0,5", ""],
    )
    refused = problem(api.post("/v1/offers/import", content=text.encode(), headers=CSV), 400)
    assert [(error["field"], error["value"]) for error in refused["errors"]] == [
        ("rows.3.stock", "x"), ("rows.3.discount", 2), ("rows.4.discount", "0,5"), ("rows.4.offer_id", kept),
    ]  # fmt: skip
    assert "row 2" in refused["errors"][3]["message"]
    assert refused["detail"].startswith("4 errors, so nothing was imported")
    rows = [{"offer_id": kept, "category": "tools"}, {"offer_id": new, "category": "tools", "limits": {"stock": -1}}]
    refused = problem(api.post("/v1/offers/import", json=rows), 400)
    assert [error["field"] for error in refused["errors"]] == ["rows.1.limits.stock"]
    assert everything(api) == before
    problem(api.get(f"/v1/offers/{new}/versions"), 404)
    assert len(api.get(f"/v1/offers/{kept}/versions").json()["versions"]) == 1


def test_errors_are_collected_over_all_rows_and_counted(api, problem):
    rows = [["offer_id", "category", "discount"], *([f"bad-{number}", "c", "7"] for number in range(3000))]
    refused = problem(api.post("/v1/offers/import", content=table(*rows).encode(), headers=CSV), 400)
    assert len(refused["errors"]) == 100
    assert refused["errors"][-1]["field"] == "rows.101.discount"
    assert "3000 errors" in refused["detail"]


def test_a_dry_run_only_says(imported, api, unique):
    kept, new = unique("kept"), unique("new")
    imported([{"offer_id": kept, "category": "garden"}])
    before = everything(api)
    found = imported([{"offer_id": kept, "category": "x"}, {"offer_id": new, "category": "x"}], dry_run=True)
    assert found == {"created": 1, "updated": 1, "unchanged": 0}
    assert everything(api) == before


@pytest.mark.parametrize(
    ("body", "media_type", "status", "named"),
    [
        (b"[]", "application/xml", 415, "text/csv"),
        (b"[]", None, 415, "text/csv"),
        (b"[", "application/json", 400, "JSON"),
        (b"{}", "application/json", 400, "offers"),
        (b"", "application/json", 400, "JSON"),
        (b"", "text/csv", 400, "offer_id"),
        (b"offer_id,category,colour\na,c,red", "text/csv", 400, "colour"),
        (b'offer_id,category\na,"c', "text/csv", 400, "line 2"),
        (b"offer_id,category\na,\xff", "text/csv", 400, "UTF-8"),
        (b"offer_id,category\na,c\x00", "text/csv", 400, "rows.2.category"),
        (
            b'[{"offer_id": "a", "category": "c", "features": {"x": "\\u0000"}}]',
            "application/json",
            400,
            "rows.0.features",
        ),
        (b"[{}]" + b" " * (20 * 1024 * 1024), "application/json", 413, "20971520 bytes"),
        (b"offer_id,category\n" + b"a,c\n" * 50_001, "text/csv", 400, "50000 rows"),
        (b"[" + b",".join([b"{}"] * 50_001) + b"]", "application/json", 400, "50000 are the most"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_files_are_refused(api, problem, body, media_type, status, named):
    before = everything(api)
    headers = {"content-type": media_type} if media_type else {}
    refused = problem(api.post("/v1/offers/import", content=body, headers=headers), status)
    assert named in json.dumps(refused)
    assert len(json.dumps(refused)) < 2000
    assert everything(api) == before


def test_a_file_larger_than_other_bodies_is_taken(api, unique):
    offer = unique("large")
    body = json.dumps([{"offer_id": offer, "category": "garden"}]).encode() + b" " * (19 * 1024 * 1024)
    answer = api.post("/v1/offers/import", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    assert api.delete(f"/v1/offers/{offer}").status_code == 204


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_an_export_imported_again_changes_nothing(imported, api, unique, kind):
    offers = [
        {
            "offer_id": "=" + unique("round|trip"), "category": " -a\\ ", "status": "draft", "type": "amount",
            "valid_from": "2026-03-01T00:00:00.000001-05:00", "discount": 0.1 + 0.2, "price": 1e-7, "margin": -1,
            "cost": 3, "code": "'=1", "creative": {"body": 'Zeile\r\n"zwei"\t;', "none": ""}, "channels": ["a|b", "\\", " c "],
            "regions": ["US-WA"], "priority": -5, "tags": ["alcohol"], "minimum_age": 21,
            "features": {"text": "3,5", "number": -3, "digits": "3", "true": "true", "bool": True, "a.b": "x", "ä;,": ""},
            "rules": [{"code": "r", "require": {"fact": "basket.worth", "at_least": 1e20}}],
            "limits": {"stock": 0, "budget": 0.5, "caps": [{"name": "c", "scope": "total", "shows": 1}],
                       "cooldown_days": 0.25, "excludes": ["x|y"], "requires": ["=z"], "relation_days": 7},
        },
        {"offer_id": unique("plain"), "category": "garden"},
    ]  # fmt: skip
    imported(offers)
    before = everything(api)
    file = api.get("/v1/offers/export", params={"format": kind})
    assert file.status_code == 200, file.text
    assert file.headers["content-disposition"] == f'attachment; filename="offers.{kind}"'
    headers = {"content-type": file.headers["content-type"]}
    answer = api.post("/v1/offers/import", content=file.content, headers=headers)
    assert answer.status_code == 200, answer.text
    count = len(before)
    assert answer.json() == {"imported": count, "created": 0, "updated": 0, "unchanged": count, "dry_run": False}
    assert everything(api) == before
    assert set(offers[0]) - {"offer_id"} <= set(before[0])


def test_every_version_is_listed_and_a_decision_finds_its_own(imported, make_loop, api, unique, problem):
    offer = unique("versions")
    imported([{"offer_id": offer, "category": "garden", "price": 24.9}])
    loop = make_loop()
    decision = loop.record(loop.rank(candidates=[offer])["decision_id"])
    imported([{"offer_id": offer, "category": "garden", "price": 19.9}])
    versions = api.get(f"/v1/offers/{offer}/versions").json()["versions"]
    assert [(version["version"], version["price"]) for version in versions] == [(2, 19.9), (1, 24.9)]
    assert versions[0]["created_at"] > versions[1]["created_at"]
    assert loop.record(loop.rank(candidates=[offer])["decision_id"])["eligible"][0]["version"] == 2
    seen = decision["eligible"][0]["version"]
    assert api.get(f"/v1/offers/{offer}/versions/{seen}").json() == versions[1]
    assert api.delete(f"/v1/offers/{offer}").status_code == 204
    assert api.get(f"/v1/offers/{offer}/versions").json()["versions"] == versions
    for path in (f"{offer}/versions/3", f"{unique('never')}/versions", f"{unique('never')}/versions/1"):
        problem(api.get(f"/v1/offers/{path}"), 404)
    for bad in ("0", "x", "99999999999"):
        problem(api.get(f"/v1/offers/{offer}/versions/{bad}"), 400)


def test_only_an_admin_imports_and_any_key_reads(guarded, problem):
    rows = [{"offer_id": "guarded", "category": "garden"}]
    with guarded.client("test-admin-key") as admin, guarded.client() as nobody:
        key = admin.post("/v1/keys", json={"name": "reader", "role": "read"}).json()
        problem(nobody.post("/v1/offers/import", json=rows), 401)
        problem(nobody.get("/v1/offers/export"), 401)
        with guarded.client(key["secret"]) as reader:
            problem(reader.post("/v1/offers/import", json=rows), 403)
            assert admin.post("/v1/offers/import", json=rows).status_code == 200
            assert b"guarded" in reader.get("/v1/offers/export").content
            assert reader.get("/v1/offers/guarded/versions").status_code == 200
        assert admin.delete("/v1/offers/guarded").status_code == 204
        assert admin.delete(f"/v1/keys/{key['key_id']}").status_code == 204


def command(service, *words):
    return service.command("offers", *words, "--url", service.url)


def test_the_command_imports_and_exports(service, api, unique, tmp_path):
    offer = unique("command")
    file = tmp_path / "offers.csv"
    file.write_text(f"offer_id;category;discount\n{offer};garden;0.1\n")
    for words, said in ((("--dry-run",), "1 would be created"), ((), "1 created"), ((), "1 unchanged")):
        done = command(service, "import", str(file), *words)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
    out = tmp_path / "out.json"
    assert command(service, "export", "--out", str(out)).returncode == 0
    assert offer in [entry["offer_id"] for entry in json.loads(out.read_text())["offers"]]
    assert (
        command(service, "import", str(out), "--dry-run")
        .stdout.split(":")[1]
        .startswith(" 0 would be created, 0 would")
    )
    shown = command(service, "export")
    assert shown.stdout.startswith("\ufeffoffer_id,category,")
    assert api.delete(f"/v1/offers/{offer}").status_code == 204


def test_the_command_says_what_is_wrong(service, guarded, api, unique, tmp_path):
    before = everything(api)
    file = tmp_path / "offers.csv"
    file.write_text('offer_id,category,discount\na,"c\n",0.1\nb,c,"0,1"\nc,,3\n')
    done = command(service, "import", str(file))
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        f"{file}:2",
        f"{file}:4",
        f"{file}:5",
        f"{file}:5",
        str(file),
    ]
    assert lines[1].endswith("got '0,1'")
    assert lines[-1].endswith("4 errors, so nothing was imported")
    assert everything(api) == before
    nameless = tmp_path / "offers.txt"
    nameless.write_text("[]")
    assert command(service, "import", str(nameless)).returncode == 2
    assert command(service, "import", str(nameless), "--format", "json").returncode == 0
    assert command(service, "import", str(nameless), "--format", "csv").returncode == 2
    assert command(service, "import", str(tmp_path / "missing.csv")).returncode == 1
    assert command(guarded, "import", str(file)).returncode == 1
    assert service.command("offers", "export", "--url", "http://127.0.0.1:9").returncode == 1
