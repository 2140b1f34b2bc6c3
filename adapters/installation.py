"""The stores of this installation: those that the settings name, or private ones under the data folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import redis
from sqlalchemy import Engine, text

from adapters import embedded
from adapters.engines import make_engine, make_reader
from adapters.settings import Settings
from adapters.streams import connect


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
