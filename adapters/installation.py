"""The stores of this installation: those that the settings name, or private ones under the data folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import redis
from sqlalchemy import Engine, text

from adapters import embedded
from adapters.engines import is_migrated, make_engine, make_reader
from adapters.settings import Settings
from adapters.streams import connect


class NoInstallation(Exception):
    """There is nothing to read where an installation was looked for; the message says where, and what to do."""


@dataclass(frozen=True, slots=True)
class Installation:
    """Open connections, and the addresses they came from."""

    settings: Settings
    database_url: str
    redis_url: str
    engine: Engine
    reader: Engine
    client: redis.Redis

    def ping(self) -> None:
        """Raise unless PostgreSQL answers."""
        with self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))


@contextmanager
def open_installation(settings: Settings) -> Iterator[Installation]:
    """Connect to the named stores; start or adopt the private ones for what is not named."""
    with ExitStack() as stack:
        database_url, redis_url = settings.database_url, settings.redis_url
        if database_url is None or redis_url is None:
            membership = stack.enter_context(embedded.join(settings.data_dir))
            database_url = database_url or membership.urls.database_url
            redis_url = redis_url or membership.urls.redis_url
        engine = make_engine(database_url)
        stack.callback(engine.dispose)
        reader = make_reader(database_url)
        stack.callback(reader.dispose)
        client = connect(redis_url)
        stack.callback(client.close)
        yield Installation(settings, database_url, redis_url, engine, reader, client)


@contextmanager
def open_existing(settings: Settings) -> Iterator[Installation]:
    """As ``open_installation``, for what only works on stored data; no new private stores are made for it.

    Raises:
        NoInstallation: There are no stores, or they have no tables.
    """
    _check_folder(settings)
    with open_installation(settings) as installation:
        _check_tables(installation.engine, settings)
        yield installation


@contextmanager
def existing_database(settings: Settings, given: str | None = None) -> Iterator[str]:
    """The address of the database to read: the given one, the settings' one, or the private one while it is used.

    Raises:
        NoInstallation: There is none, or it has no tables.
    """
    named = settings if given is None else settings.model_copy(update={"database_url": given})
    _check_folder(named)
    with ExitStack() as stack:
        url = named.database_url or stack.enter_context(embedded.join(named.data_dir)).urls.database_url
        engine = make_engine(url)
        try:
            _check_tables(engine, named)
        finally:
            engine.dispose()
        yield url


def _check_folder(settings: Settings) -> None:
    """Refuse a data folder without a PostgreSQL in it, where that is the one to read."""
    if settings.database_url is None and not any(settings.data_dir.glob("pg[0-9]*/PG_VERSION")):
        raise _missing(settings)


def _check_tables(engine: Engine, settings: Settings) -> None:
    if not is_migrated(engine):
        raise _missing(settings)


def _missing(settings: Settings) -> NoInstallation:
    if settings.database_url is not None:
        # The address may hold a password.
        return NoInstallation(
            "no installation in this database: run `offerloop migrate`, or set OFFERLOOP_DATABASE_URL"
        )
    return NoInstallation(
        f"no installation under {settings.data_dir.resolve()}: run `offerloop migrate`, "
        "or set OFFERLOOP_DATA_DIR or OFFERLOOP_DATABASE_URL"
    )
