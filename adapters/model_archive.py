"""A model as a signed archive: its bytes, what it was trained by, and a proof that this installation made it.

The proof is HMAC-SHA512 over both with a key that only the installation's database holds, so it shows that nothing was
altered and that the archive came from here; nobody else can check it.
"""

from __future__ import annotations

import hmac
import io
import json
import secrets
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.dialects.postgresql import insert

from adapters.tables import installation_keys
from contextual_bandit.types import LearningSetting

MODEL_MEMBER = "model.vw"
METADATA_MEMBER = "metadata.json"
SIGNATURE_MEMBER = "sha512_signature.bin"
KEY_NAME = "model signature"
FORMAT = 1
LARGEST_MODEL = 256 * 1024 * 1024
LARGEST_METADATA = 64 * 1024
# The same bytes for the same model; zip files know no time before this.
_WHEN = (1980, 1, 1, 0, 0, 0)


class BadArchive(ValueError):
    """Bytes that are no archive of a model."""


class BadSignature(ValueError):
    """An archive that was altered, or that another installation signed, or nobody."""


@dataclass(frozen=True, slots=True)
class ModelArchive:
    """A model's bytes with the setting that it was trained by, and the name of the snapshot that it was."""

    model: bytes
    setting: LearningSetting
    snapshot_id: str


def installation_key(engine: Engine) -> bytes:
    """The installation's own key, 64 bytes; made when it is first asked for."""
    query = select(installation_keys.c.secret).where(installation_keys.c.name == KEY_NAME)
    with engine.begin() as connection:
        found = connection.execute(query).scalar_one_or_none()
        if found is None:
            row = {"name": KEY_NAME, "secret": secrets.token_bytes(64), "created_at": datetime.now(UTC)}
            connection.execute(insert(installation_keys).values(row).on_conflict_do_nothing())
            found = connection.execute(query).scalar_one()
    return bytes(found)


def pack(key: bytes, archive: ModelArchive) -> bytes:
    """A model as a signed zip file."""
    setting = archive.setting
    metadata = json.dumps(
        {
            "format": FORMAT,
            "snapshot_id": archive.snapshot_id,
            "arguments": setting.arguments,
            "reward_low": setting.reward_low,
            "reward_high": setting.reward_high,
            "sha256": sha256(archive.model).hexdigest(),
        },
        indent=1,
    ).encode()
    members = {
        MODEL_MEMBER: archive.model,
        METADATA_MEMBER: metadata,
        SIGNATURE_MEMBER: _signature(key, archive.model, metadata),
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members.items():
            packed.writestr(zipfile.ZipInfo(name, _WHEN), data, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def unpack(key: bytes, data: bytes) -> ModelArchive:
    """A model out of a signed zip file.

    Raises:
        BadArchive: no zip file, or without a model, or one of another form.
        BadSignature: altered, or not signed with this key.
    """
    members = _members(data)
    if MODEL_MEMBER not in members:
        raise BadArchive(f"the archive has no member {MODEL_MEMBER!r}")
    if METADATA_MEMBER not in members or SIGNATURE_MEMBER not in members:
        raise BadSignature("the archive is not signed")
    model, metadata = members[MODEL_MEMBER], members[METADATA_MEMBER]
    if not hmac.compare_digest(_signature(key, model, metadata), members[SIGNATURE_MEMBER]):
        raise BadSignature("the archive was altered, or another installation signed it")
    return _archive(model, json.loads(metadata))


def _members(data: bytes) -> dict[str, bytes]:
    limits = {MODEL_MEMBER: LARGEST_MODEL, METADATA_MEMBER: LARGEST_METADATA, SIGNATURE_MEMBER: 64}
    found = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            for entry in packed.infolist():
                limit = limits.get(entry.filename)
                if limit is None:
                    continue
                # What the directory says of a member's size need not be true.
                with packed.open(entry) as member:
                    content = member.read(limit + 1)
                if len(content) > limit:
                    raise BadArchive(f"the archive's {entry.filename!r} is larger than {limit} bytes")
                found[entry.filename] = content
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError, NotImplementedError) as error:
        if isinstance(error, BadArchive):
            raise
        raise BadArchive(f"this is no zip archive: {error}") from None
    except Exception as error:
        # A broken deflate stream: zlib.error is no ValueError.
        raise BadArchive(f"the archive is broken: {error}") from None
    return found


def _archive(model: bytes, metadata: Mapping[str, Any]) -> ModelArchive:
    if metadata["format"] != FORMAT:
        raise BadArchive(f"the archive has the form {metadata['format']!r}; this installation reads {FORMAT}")
    setting = LearningSetting(metadata["arguments"], metadata["reward_low"], metadata["reward_high"])
    return ModelArchive(model, setting, metadata["snapshot_id"])


def _signature(key: bytes, model: bytes, metadata: bytes) -> bytes:
    """HMAC-SHA512 of both, with their lengths, so that no byte can move from one to the other."""
    lengths = struct.pack(">QQ", len(model), len(metadata))
    return hmac.digest(key, lengths + metadata + model, "sha512")
