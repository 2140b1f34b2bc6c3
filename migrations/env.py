"""Alembic's entry: runs migrations on the engine it is given, or on the one that the settings name."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Engine, text

from adapters.installation import open_installation
from adapters.settings import load_settings
from adapters.tables import metadata

MIGRATION_LOCK = 7461626


def run(engine: Engine) -> None:
    """Migrate under a lock, so that processes started together do it once."""
    with engine.connect() as connection:
        connection.execute(text(f"SELECT pg_advisory_lock({MIGRATION_LOCK})"))
        connection.commit()
        try:
            context.configure(connection=connection, target_metadata=metadata, include_object=_ours)
            with context.begin_transaction():
                context.run_migrations()
            connection.commit()
        finally:
            connection.execute(text(f"SELECT pg_advisory_unlock({MIGRATION_LOCK})"))
            connection.commit()


def _ours(thing: object, name: str | None, kind: str, reflected: bool, other: object) -> bool:
    """Daily partitions come and go by themselves."""
    return not (kind == "table" and reflected and other is None and name not in metadata.tables)


_given = context.config.attributes.get("engine")
if _given is not None:
    run(_given)
else:
    with open_installation(load_settings()) as installation:
        run(installation.engine)
