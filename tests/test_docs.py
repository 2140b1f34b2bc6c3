"""The pages of docs/ say what is there: nothing missing, nothing made up."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic.fields import FieldInfo

from adapters.settings import Settings
from contextual_bandit import types

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
NOT_OURS = frozenset({"var", "build", "dist", "__pycache__"})


def cells(text: str) -> list[list[str]]:
    """Rows of a page's tables, without their heads."""
    lines = text.splitlines()
    heads = {number - 1 for number, line in enumerate(lines) if re.fullmatch(r"\|[-| ]+\|", line)}
    rows = [
        line for number, line in enumerate(lines) if line[:1] == "|" and number not in heads and number - 1 not in heads
    ]
    return [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in rows]


def top_folders() -> list[str]:
    return sorted(
        path.name
        for path in ROOT.iterdir()
        if path.is_dir() and path.name not in NOT_OURS and not path.name.endswith(".egg-info")
        and (not path.name.startswith(".") or path.name == ".ci")
    )  # fmt: skip


def sections(text: str) -> dict[str, str]:
    """The folders of MAP.md, each with what is said about it."""
    parts = re.split(r"^### `([^`]+)/`$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


# Settings


def range_of(field: FieldInfo) -> str:
    bounds = {
        name: getattr(mark, name) for mark in field.metadata for name in ("ge", "gt", "le") if hasattr(mark, name)
    }
    low, high = bounds.get("ge"), bounds.get("le")
    if "gt" in bounds:
        return f"more than {bounds['gt']}" + (f", at most {high}" if high is not None else "")
    if low is None:
        return ""
    return f"{low} or more" if high is None else f"{low} to {high}"


def test_every_setting_is_explained_and_every_explained_one_exists() -> None:
    text = (DOCS / "SETTINGS.md").read_text()
    named = set(re.findall(r"OFFERLOOP_[A-Z_]+", text))
    assert named == {f"OFFERLOOP_{name.upper()}" for name in Settings.model_fields}


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_setting_is_explained_as_it_is(name: str) -> None:
    field = Settings.model_fields[name]
    rows = [row for row in cells((DOCS / "SETTINGS.md").read_text()) if row[0] == f"`OFFERLOOP_{name.upper()}`"]
    assert len(rows) == 1
    default, meaning, allowed = (*rows[0][1:], "")[:3]
    assert default == ("none" if field.default is None else f"`{field.default}`")
    assert len(meaning) > 20
    assert allowed.strip(" |") == range_of(field)


# Map


@pytest.fixture(scope="module")
def map_text() -> str:
    return (DOCS / "MAP.md").read_text()


def test_every_folder_has_its_place_on_the_map(map_text: str) -> None:
    assert set(sections(map_text)) == set(top_folders())


def test_every_module_has_its_place_on_the_map(map_text: str) -> None:
    missing = []
    for folder, text in sections(map_text).items():
        if folder in ("tests", "docs", ".ci"):
            continue
        named = set(re.findall(r"^\| `([\w.]+)` \|", text, flags=re.MULTILINE))
        there = {path.name for path in (ROOT / folder).glob("*.py")} - {"__init__.py"}
        missing += [f"{folder}/{name}" for name in there - named]
        assert named <= there, f"{folder}/: the map names files that do not exist"
    assert sorted(missing) == []


def test_every_folder_of_tests_has_its_place_on_the_map(map_text: str) -> None:
    there = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()} - {"__pycache__"}
    assert set(re.findall(r"`tests/(\w+)/`", sections(map_text)["tests"])) == there


def test_every_path_on_the_map_exists(map_text: str) -> None:
    paths = [word for word in re.findall(r"`([^`\s]+)`", map_text) if "/" in word or word.startswith(".")]
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*DOCS.rglob("*.md"), *(path for path in ROOT.glob("*.md"))]
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert dead == []


# Glossary


def nouns() -> list[str]:
    return [
        name for name, thing in vars(types).items() if inspect.isclass(thing) and thing.__module__ == types.__name__
    ]


def test_every_noun_of_the_code_is_in_the_glossary() -> None:
    explained: set[Any] = set()
    for row in cells((DOCS / "GLOSSARY.md").read_text()):
        explained |= set(re.findall(r"`(\w+)`", row[0]))
        assert len(row) > 1, row
        assert len(row[1]) > 15, row
    assert nouns()
    assert sorted(set(nouns()) - explained) == []
    aliases = set(re.findall(r"^(\w+): TypeAlias", inspect.getsource(types), re.MULTILINE))
    assert sorted(aliases - explained) == []
    assert sorted(explained - aliases - set(nouns())) == [], "the glossary names code that does not exist"


# Decisions


def test_decision_records_are_listed_with_their_status() -> None:
    records = sorted((DOCS / "decisions").glob("[0-9]*.md"))
    index = (DOCS / "decisions" / "README.md").read_text()
    assert records, "there is no decision record"
    for record in records:
        assert re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", record.name), record.name
        text = record.read_text()
        assert len(text.splitlines()) <= 60, f"{record.name} is too long"
        status = re.search(r"^(?:[-*] )?\**Status:?\**:? *\**(\w+)", text, re.MULTILINE | re.IGNORECASE)
        assert status, f"{record.name} has no status line"
        listed = [line for line in index.splitlines() if f"({record.name})" in line]
        assert len(listed) == 1, f"{record.name} is not listed once in docs/decisions/README.md"
        assert status.group(1).lower() in listed[0].lower(), f"{record.name}: the index gives another status"
    numbers = [record.name[:4] for record in records]
    assert len(set(numbers)) == len(numbers)


# The front page


def make_targets(text: str) -> set[str]:
    return {name for line in re.findall(r"^([a-z][\w -]*):(?!=)", text, re.MULTILINE) for name in line.split()}


def test_the_readme_names_the_two_commands_and_targets_that_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    targets = make_targets((ROOT / "Makefile").read_text())
    assert "make demo" in readme
    assert "make test" in readme
    pages = [ROOT / "README.md", *DOCS.rglob("*.md")]
    named = {
        name for page in pages for name in re.findall(r"(?:^|`)(?:sudo )?make ([a-z]+)", page.read_text(), re.MULTILINE)
    }
    assert named - targets == set()
    assert {"help", "setup", "check", "test", "demo", "up"} <= targets


def test_commands_on_the_front_page_exist() -> None:
    from offerloop.__main__ import COMMANDS

    pages = [ROOT / "README.md", *DOCS.rglob("*.md")]
    named = {name for page in pages for name in re.findall(r"`offerloop ([a-z]+)", page.read_text())}
    assert named - set(COMMANDS) == set()


def test_the_changelog_begins_with_what_is_not_released() -> None:
    heads = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heads
    assert re.fullmatch(r"\[?Unreleased\]?", heads[0])
