"""``offerloop migrate``: bring the database to this version, and make sure that the default loop exists."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine

from adapters.catalogue import LoopStore
from adapters.installation import Installation, open_installation
from adapters.settings import load_settings
from contextual_bandit.loops import DEFAULT_LOOP, LoopConfig


def main(arguments: Sequence[str] | None = None) -> int:
    """Upgrade to the newest revision, or to the one given."""
    parser = argparse.ArgumentParser(prog="offerloop migrate", description=__doc__)
    parser.add_argument("--revision", default="head")
    chosen = parser.parse_args(arguments)
    with open_installation(load_settings()) as installation:
        migrate(installation, chosen.revision)
    return 0


def migrate(installation: Installation, revision: str = "head") -> None:
    """Upgrade the schema; at its newest revision also create the default loop."""
    upgrade(installation.engine, revision)
    if revision == "head":
        LoopStore(installation.engine, installation.client).ensure(LoopConfig(DEFAULT_LOOP), datetime.now(UTC))


def upgrade(engine: Engine, revision: str) -> None:
    """Run the upgrades up to a revision; safe to run from several processes at once."""
    command.upgrade(config_for(engine), revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Run the downgrades down to a revision."""
    command.downgrade(config_for(engine), revision)


def config_for(engine: Engine) -> Config:
    """Alembic's configuration on an open engine."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["engine"] = engine
    return config


if __name__ == "__main__":
    sys.exit(main())
