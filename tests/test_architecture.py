"""House rules as code: directions of imports, sizes, names, commands, and what may stand in a tracked file."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from offerloop.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "offerloop", "decision_service", "learner", "simulator", "loadtest", "benchmarks", "migrations", "evaluation",
    "adapters", "contextual_bandit",
)  # fmt: skip
BANNED_NAMES = frozenset({"utils", "helpers", "common", "core", "base", "misc", "manager", "handlers"})
LONGEST_CODE = 400
LONGEST_TEST = 600
STORES = frozenset({"sqlalchemy", "psycopg", "redis"})
# Outside adapters and migrations: types for annotations and exceptions to catch, nothing that speaks to a store.
STORE_NAMES = frozenset({
    "sqlalchemy.Engine", "sqlalchemy.exc.SQLAlchemyError", "sqlalchemy.exc.OperationalError", "sqlalchemy.exc.DBAPIError",
    "redis.Redis", "redis.RedisError", "redis.asyncio.Redis",
})  # fmt: skip


def code_files() -> list[Path]:
    return sorted(
        path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "__pycache__" not in path.parts
    )


def test_files() -> list[Path]:
    return sorted(path for path in (ROOT / "tests").rglob("*.py") if "__pycache__" not in path.parts)


test_files.__test__ = False  # type: ignore[attr-defined]


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tracked_files() -> list[Path]:
    """What is, or would be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, check=True,
    ).stdout.decode()  # fmt: skip
    return [path for name in sorted(filter(None, listed.split("\0"))) if (path := ROOT / name).is_file()]


# Imports


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter on the packages of ``folder``, with its contracts."""
    return subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_imports_follow_the_contracts() -> None:
    found = lint_imports(ROOT)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.fixture(scope="module")
def copied_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages, to plant faults in."""
    root = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        if (ROOT / package).exists():
            shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    shutil.copy(ROOT / ".importlinter", root)
    return root


LAYERS = "Imports point down only"
COMMAND = "The command dispatches by name"
CORE = "Every file of contextual_bandit has its place"
PURE = "The mathematics knows no framework"
VOWPAL = "Vowpal Wabbit only through"
STORES_CONTRACT = "Stores are spoken to only in adapters"
SETTINGS = "Settings are read only where"
ACYCLIC = "depend on each other in a circle"


@pytest.mark.parametrize(
    ("path", "line", "contract"),
    [
        ("contextual_bandit/types.py", "import adapters.streams", LAYERS),
        ("adapters/jobs.py", "import evaluation.intervals", LAYERS),
        ("evaluation/report.py", "import learner.join", LAYERS),
        ("learner/train.py", "import decision_service.schemas", LAYERS),
        ("decision_service/api.py", "import simulator.baskets", LAYERS),
        ("offerloop/up.py", "import learner.run", LAYERS),
        ("offerloop/up.py", "import contextual_bandit.types", COMMAND),
        ("contextual_bandit/policy.py", "import contextual_bandit.vowpal", CORE),
        ("contextual_bandit/reward.py", "import contextual_bandit.eligibility", CORE),
        ("contextual_bandit/placeless.py", '"""A new file."""', CORE),
        ("contextual_bandit/events.py", "import pydantic", PURE),
        ("evaluation/estimators.py", "import adapters.tables", PURE),
        ("simulator/world.py", "import httpx", PURE),
        ("contextual_bandit/decide.py", "import vowpalwabbit", VOWPAL),
        ("learner/train.py", "import pylibvw", VOWPAL),
        ("learner/train.py", "import redis", STORES_CONTRACT),
        ("decision_service/records.py", "import sqlalchemy", STORES_CONTRACT),
        ("evaluation/report.py", "import psycopg", STORES_CONTRACT),
        ("learner/train.py", "import adapters.settings", SETTINGS),
        ("adapters/streams.py", "import adapters.settings", SETTINGS),
        ("adapters/tables.py", "import adapters.catalogue", ACYCLIC),
        ("learner/join.py", "import learner.loop", ACYCLIC),
    ],
)
def test_a_planted_fault_is_caught(copied_tree: Path, path: str, line: str, contract: str) -> None:
    target = copied_tree / path
    before = target.read_text() if target.exists() else None
    target.write_text(f"{before or ''}\n{line}\n")
    try:
        found = lint_imports(copied_tree)
    finally:
        target.unlink() if before is None else target.write_text(before)
    broken = [line for line in found.stdout.splitlines() if "BROKEN" in line]
    assert found.returncode == 1, found.stdout + found.stderr
    assert any(contract in line for line in broken), found.stdout


def test_every_package_is_under_the_contracts() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    under = set(contracts["importlinter"]["root_packages"].split())
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests"}
    assert under == set(PACKAGES)
    assert folders <= under


def own_imports_out_of_place(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Lines that import own code inside a function or for type checking only."""
    for node in ast.walk(tree):
        is_inner = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if is_inner or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            for inner in ast.walk(node):
                for name in imported_modules(inner):
                    if name.partition(".")[0] in PACKAGES:
                        yield inner.lineno, name  # type: ignore[attr-defined]


def imported_modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return ["." * node.level + (node.module or "")]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
        return [argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)]
    return []


def test_own_code_is_imported_at_the_top_of_a_file() -> None:
    found = [
        f"{shown(path)}:{line} {name}"
        for path in code_files()
        for line, name in own_imports_out_of_place(ast.parse(path.read_text()))
    ]
    assert found == []


def test_only_the_command_imports_by_a_computed_name() -> None:
    found = {
        shown(path)
        for path in code_files()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("importlib.import_module", "import_module", "__import__")
        and not (node.args and isinstance(node.args[0], ast.Constant))
    }
    assert found == {"offerloop/__main__.py"}


def test_imports_are_absolute() -> None:
    found = [
        f"{shown(path)}:{node.lineno}"
        for path in code_files()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert found == []


def used_store_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Dotted names of the stores' libraries that a file imports by name or uses."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in STORES:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if re.fullmatch(r"(sqlalchemy|psycopg|redis)(\.\w+)+", name) and name != "redis.asyncio":
                yield node.lineno, name


def test_other_packages_use_only_types_and_exceptions_of_the_stores_libraries() -> None:
    others = [path for path in code_files() if path.relative_to(ROOT).parts[0] not in ("adapters", "migrations")]
    found = [
        f"{shown(path)}:{line} {name}"
        for path in others
        for line, name in used_store_names(ast.parse(path.read_text()))
        if name not in STORE_NAMES
    ]
    assert found == []


# Files


@pytest.mark.parametrize(("files", "limit"), [(code_files, LONGEST_CODE), (test_files, LONGEST_TEST)])
def test_no_file_is_too_long(files: object, limit: int) -> None:
    lengths = {shown(path): len(path.read_text().splitlines()) for path in files()}  # type: ignore[operator]
    assert {name: length for name, length in lengths.items() if length > limit} == {}


def test_names_of_files_say_what_they_hold() -> None:
    found = [
        shown(path)
        for path in code_files() + test_files()
        if BANNED_NAMES & {*path.relative_to(ROOT).with_suffix("").parts, path.stem.removeprefix("test_")}
    ]
    assert found == []
    assert [shown(path) for path in code_files() if path.stem in ("test", "tests")] == []


def test_process_folders_are_flat() -> None:
    nested = {shown(path.parent) for path in code_files() if len(path.relative_to(ROOT).parts) > 2}
    assert nested <= {"migrations/versions"}


def test_every_file_begins_with_its_one_job() -> None:
    # Migrations begin with what Alembic writes; they are described all the same.
    assert [shown(path) for path in code_files() if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_init_files_hold_only_a_docstring() -> None:
    for path in code_files():
        if path.name == "__init__.py":
            body = ast.parse(path.read_text()).body
            assert len(body) == 1, shown(path)
            assert isinstance(body[0], ast.Expr), shown(path)
            assert isinstance(body[0].value, ast.Constant), shown(path)


def test_no_clock_or_randomness_of_the_process_in_the_mathematics() -> None:
    banned = re.compile(
        r"datetime\.(now|utcnow|today)\(|\btime\.(time|monotonic)\(|^import (time|random)\b"
        r"|\brandom\.(random|choice|shuffle|seed)\(|uuid4\(|os\.environ",
        re.MULTILINE,
    )
    pure = [*sorted((ROOT / "contextual_bandit").glob("*.py")), ROOT / "learner/join.py"]
    assert {shown(path): banned.findall(path.read_text()) for path in pure if banned.search(path.read_text())} == {}


# Commands


@pytest.mark.parametrize(
    "words", [[], *([name] for name in COMMANDS)], ids=lambda words: " ".join(words) or "offerloop"
)
def test_every_command_answers_help(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OFFERLOOP_")}
    environment |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    found = subprocess.run(
        [sys.executable, "-m", "offerloop", *words, "--help"],
        cwd=tmp_path / "here", env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert "usage: offerloop" in found.stdout
    assert list((tmp_path / "here").iterdir()) == [], "asking for help left files behind"


def test_an_unknown_command_is_refused() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "offerloop", "fly"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 2
    assert "unknown command 'fly'" in found.stderr


def test_every_process_folder_has_a_command() -> None:
    started = {module.partition(".")[0] for module, _, _ in COMMANDS.values()}
    with_main = {path.parent.name for path in ROOT.glob("*/__main__.py")} - {"offerloop"}
    assert with_main <= started | {"loadtest", "benchmarks"}


def compose_commands(text: str) -> dict[str, list[str]]:
    """The words of each service's ``command:``, for the services that run our image."""
    services = text.partition("\nservices:\n")[2]
    found: dict[str, list[str]] = {}
    for name, block in re.findall(r"^  (\w+):\n((?:(?:    .*)?\n)+)", services, re.MULTILINE):
        if re.search(r"\*offerloop\b|image: *offerloop\b|^ +build:", block, re.MULTILINE):
            command = re.search(r"^ +command:[ \t]*(.+)$", block, re.MULTILINE)
            assert command, f"service {name}: write its command on one line"
            plain = command.group(1).partition(" #")[0]
            found[name] = [word for word in re.split(r"[\s,\[\]\"']+", plain) if word]
    return found


def test_compose_commands_exist() -> None:
    path = ROOT / "docker-compose.yml"
    assert path.exists(), "docker-compose.yml is missing at the root of the repository"
    commands = compose_commands(path.read_text())
    if any(words[0] != "offerloop" for words in commands.values()):
        assert 'ENTRYPOINT ["offerloop"]' in (ROOT / "Dockerfile").read_text()
    named = {name: [*words, ""][words[0] == "offerloop"] for name, words in commands.items()}
    assert {name: word for name, word in named.items() if word not in COMMANDS} == {}
    assert {"migrate", "serve", "learn", "work"} <= set(named.values())


def test_compose_commands_are_read_in_both_forms() -> None:
    text = """
services:
  redis:
    command: ["redis-server"]

  a:
    <<: *offerloop
    command: ["offerloop", "serve", "--host", "::"]
  b:
    image: offerloop
    command: learn # one
volumes: {}
"""
    assert compose_commands(text) == {"a": ["offerloop", "serve", "--host", "::"], "b": ["learn"]}


# Tracked files


# Where packages are fetched from is the machine's business: no mirror, index or image host of ours in a file.
REGISTRY = re.compile(
    r"pypi\.org|pythonhosted\.org|registry\.npmjs|registry\.yarnpkg|artifactory|/simple/?['\"\s]"
    r"|--(?:extra-)?index-url|--trusted-host|proxy\.golang|[\w.-]+\.(?:internal|local|lan|corp)\b(?!\()",
    re.IGNORECASE,
)
MACHINE_PATH = re.compile(r"(?<![\w.~}$-])/(?:work|root|home|Users|mnt)/[\w.-]+")


def test_no_registry_host_and_no_path_of_a_machine() -> None:
    found = []
    for path in tracked_files():
        if path == Path(__file__):
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if hit := REGISTRY.search(line) or MACHINE_PATH.search(line):
                found.append(f"{shown(path)}:{number} {hit.group()!r}")
    assert found == []


def test_locked_packages_have_hashes_and_no_address() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--(extra-)?index[-]url|--find-links|--trusted-host)", text, re.MULTILINE)
    joined = text.replace("\\\n", " ")
    pinned = [line for line in joined.splitlines() if line and not line.lstrip().startswith("#")]
    assert pinned
    for line in pinned:
        assert re.match(r"[\w.\[\],-]+==[\w.+!-]+", line), line
        assert "--hash=sha256:" in line, line
