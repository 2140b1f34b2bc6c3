"""The schema's steps lead up and down, and to exactly the tables that the code has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, make_url, text

from adapters.catalogue import LoopStore
from adapters.engines import is_migrated, make_engine
from adapters.installation import Installation, NoInstallation, existing_database, open_existing
from adapters.tables import metadata
from contextual_bandit.loops import DEFAULT_LOOP
from migrations.__main__ import config_for, downgrade, migrate, upgrade

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def empty(installation: Installation) -> Iterator[Engine]:
    """A database of its own on the shared server."""
    name = f"migrations_{uuid4().hex}"
    with installation.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
        url = make_url(installation.database_url).set(database=name)
        engine = make_engine(url.render_as_string(hide_password=False))
        yield engine
        engine.dispose()
        connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names())


def differences(engine: Engine) -> list[object]:
    with engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True, "include_object": ours}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def ours(thing: object, name: str | None, kind: str, reflected: bool, other: object) -> bool:
    return not (kind == "table" and reflected and name == "alembic_version")


def test_up_down_and_up_again(empty: Engine) -> None:
    upgrade(empty, "head")
    first = tables(empty)
    assert set(metadata.tables) <= first
    downgrade(empty, "base")
    assert tables(empty) == {"alembic_version"}
    upgrade(empty, "head")
    assert tables(empty) == first
    assert differences(empty) == []


def test_a_database_without_tables_is_no_installation(empty: Engine, installation: Installation) -> None:
    url = empty.url.render_as_string(hide_password=False)
    settings = installation.settings.model_copy(update={"database_url": url, "redis_url": installation.redis_url})
    assert not is_migrated(empty)
    for opening in (
        open_existing(settings),
        existing_database(settings),
        existing_database(installation.settings, url),
    ):
        with pytest.raises(NoInstallation, match="offerloop migrate") as caught, opening:
            pytest.fail("it was opened")
        assert str(empty.url.password) not in str(caught.value)
    upgrade(empty, "head")
    assert is_migrated(empty)
    with existing_database(settings) as found:
        assert found == url
    with open_existing(settings) as opened:
        assert opened.database_url == url


def test_every_step_can_be_taken_back(empty: Engine) -> None:
    script = ScriptDirectory.from_config(config_for(empty))
    for revision in reversed(list(script.walk_revisions())):
        upgrade(empty, revision.revision)
        after = tables(empty)
        downgrade(empty, "-1")
        upgrade(empty, revision.revision)
        assert tables(empty) == after


def test_the_tables_of_the_code_are_those_of_the_database(empty: Engine) -> None:
    upgrade(empty, "head")
    assert differences(empty) == []


def test_a_difference_would_be_seen(empty: Engine) -> None:
    upgrade(empty, "head")
    with empty.begin() as connection:
        connection.execute(text("ALTER TABLE offers ADD COLUMN forgotten text"))
        connection.execute(text("ALTER TABLE jobs DROP COLUMN error"))
    assert {difference[0] for difference in differences(empty)} == {"remove_column", "add_column"}  # type: ignore[index]


def test_upgrading_twice_is_upgrading_once(installation: Installation) -> None:
    migrate(installation)
    migrate(installation)
    loops = LoopStore(installation.engine, installation.client)
    assert DEFAULT_LOOP in [config.loop for config in loops.all()]


def test_there_is_one_line_of_steps(empty: Engine) -> None:
    script = ScriptDirectory.from_config(config_for(empty))
    assert len(script.get_heads()) == 1
    assert len(script.get_bases()) == 1
    for path in (ROOT / "migrations/versions").glob("[0-9]*.py"):
        assert "def downgrade()" in path.read_text(), path.name
