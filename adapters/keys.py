"""API keys: only their SHA-256 is stored."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Literal, TypeAlias

import redis
from sqlalchemy import Engine, select, update
from sqlalchemy.dialects.postgresql import insert

from adapters.catalogue import audit
from adapters.streams import VERSIONS_KEY
from adapters.tables import api_keys

# A page ranks and reports, and reads nothing.
Role: TypeAlias = Literal["page", "read", "write", "admin"]


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key's public side."""

    key_id: str
    name: str
    role: Role
    created_at: datetime


class KeyStore:
    """Creates, lists, revokes and recognises keys."""

    def __init__(self, engine: Engine, client: redis.Redis) -> None:
        self._engine = engine
        self._client = client

    def create(self, name: str, role: Role, actor: str, now: datetime) -> tuple[ApiKey, str]:
        """A new key and its secret, which is shown this once."""
        secret = "ol_" + secrets.token_urlsafe(32)
        key = ApiKey(secrets.token_hex(6), name, role, now)
        with self._engine.begin() as connection:
            connection.execute(
                insert(api_keys).values(
                    key_id=key.key_id, key_sha256=fingerprint(secret), name=name, role=role, created_at=now,
                    revoked_at=None,
                )
            )  # fmt: skip
            audit(connection, now, actor, "key.create", key.key_id, {"name": name, "role": role})
        self._client.hincrby(VERSIONS_KEY, "keys", 1)
        return key, secret

    def revoke(self, key_id: str, actor: str, now: datetime) -> bool:
        """End a key; False when there is no such live key."""
        with self._engine.begin() as connection:
            changed = connection.execute(
                update(api_keys)
                .where(api_keys.c.key_id == key_id, api_keys.c.revoked_at.is_(None))
                .values(revoked_at=now)
            ).rowcount
            if changed:
                audit(connection, now, actor, "key.revoke", key_id, {})
        if changed:
            self._client.hincrby(VERSIONS_KEY, "keys", 1)
        return bool(changed)

    def live(self) -> list[tuple[ApiKey, str]]:
        """Live keys with their SHA-256."""
        query = select(api_keys).where(api_keys.c.revoked_at.is_(None)).order_by(api_keys.c.created_at)
        with self._engine.connect() as connection:
            return [
                (ApiKey(row.key_id, row.name, row.role, row.created_at), row.key_sha256)
                for row in connection.execute(query)
            ]


def fingerprint(secret: str) -> str:
    """The stored form of a key: SHA-256 in hex; keys are random, so no salt is needed."""
    return sha256(secret.encode()).hexdigest()
