"""Regions in PostgreSQL; each change raises a version that services watch."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

import redis
from sqlalchemy import Engine, delete, select
from sqlalchemy.dialects.postgresql import insert

from adapters.catalogue import audit
from adapters.streams import VERSIONS_KEY
from adapters.tables import regions
from contextual_bandit.season import REGION_NAME, Region


class RegionStore:
    """Regions by name."""

    def __init__(self, engine: Engine, client: redis.Redis) -> None:
        self._engine = engine
        self._client = client

    def put(self, region: Region, actor: str, now: datetime) -> Region:
        """Create or replace a region."""
        record = asdict(region)
        row = {"region": record.pop("region"), "record": record, "updated_at": now}
        with self._engine.begin() as connection:
            connection.execute(insert(regions).values(row).on_conflict_do_update(index_elements=["region"], set_=row))
            audit(connection, now, actor, "region.put", region.region, record)
        self._client.hincrby(VERSIONS_KEY, "regions", 1)
        return region

    def get(self, region: str) -> Region | None:
        """One region."""
        query = select(regions.c.record).where(regions.c.region == region)
        with self._engine.connect() as connection:
            record = connection.execute(query).scalar_one_or_none()
        return None if record is None else Region(region, **record)

    def all(self) -> list[Region]:
        """Every region, by name."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(regions).order_by(regions.c.region)).all()
        return [Region(row.region, **row.record) for row in rows]

    def delete(self, region: str, actor: str, now: datetime) -> bool:
        """Take a region out; its weather stays. False when there is none."""
        with self._engine.begin() as connection:
            found = connection.execute(delete(regions).where(regions.c.region == region)).rowcount
            if found:
                audit(connection, now, actor, "region.delete", region, {})
        if found:
            self._client.hincrby(VERSIONS_KEY, "regions", 1)
        return bool(found)


def is_region_name(text: str) -> bool:
    """Whether a region may be called so: 1 to 64 letters, digits, "-" or "_", the first a letter or digit."""
    return REGION_NAME.fullmatch(text) is not None
