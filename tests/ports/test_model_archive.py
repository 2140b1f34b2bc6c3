"""A signed archive gives back what was packed, and refuses everything else."""

from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import model_archive
from adapters.installation import Installation
from adapters.model_archive import BadArchive, BadSignature, ModelArchive, installation_key, pack, unpack
from contextual_bandit.types import LearningSetting

KEY = b"k" * 64
ARCHIVE = ModelArchive(b"\x00model\xff" * 50, LearningSetting("--cb_explore_adf -q ::", -1.0, 2.5), "loop-g2-7")


@given(st.binary(max_size=300), st.text(max_size=50), st.floats(-1e9, 0.0), st.floats(0.1, 1e9))
def test_what_is_packed_comes_back(model: bytes, arguments: str, low: float, high: float) -> None:
    archive = ModelArchive(model, LearningSetting(arguments, low, high), "loop-g1-0")
    packed = pack(KEY, archive)
    assert unpack(KEY, packed) == archive
    assert pack(KEY, archive) == packed


def test_another_installation_refuses_it() -> None:
    with pytest.raises(BadSignature):
        unpack(b"o" * 64, pack(KEY, ARCHIVE))


@given(st.data())
def test_no_changed_byte_goes_unseen(data: st.DataObject) -> None:
    packed = bytearray(pack(KEY, ARCHIVE))
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] ^= data.draw(st.integers(1, 255))
    try:
        found = unpack(KEY, bytes(packed))
    except (BadArchive, BadSignature):
        return
    # Bytes of the container that say nothing of its members, such as times.
    assert found == ARCHIVE


@given(st.binary(max_size=200))
def test_what_is_no_archive_is_refused(data: bytes) -> None:
    with pytest.raises(BadArchive):
        unpack(KEY, data)


def test_bytes_cannot_move_from_one_member_to_the_other() -> None:
    with zipfile.ZipFile(io.BytesIO(pack(KEY, ARCHIVE))) as packed:
        members = {name: packed.read(name) for name in packed.namelist()}
    members["model.vw"], members["metadata.json"] = (
        members["metadata.json"][-1:] + members["model.vw"], members["metadata.json"][:-1],
    )  # fmt: skip
    with pytest.raises(BadSignature):
        unpack(KEY, _zipped(members))


def test_a_member_that_swells_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_archive, "LARGEST_MODEL", 100)
    with pytest.raises(BadArchive, match="larger than 100"):
        unpack(KEY, _zipped({"model.vw": b"\x00" * 10_000}))


def test_another_form_is_refused() -> None:
    archive = pack(KEY, ARCHIVE)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(model_archive, "FORMAT", 2)
        with pytest.raises(BadArchive, match="form 1"):
            unpack(KEY, archive)


def test_the_installation_keeps_one_key(installation: Installation) -> None:
    key = installation_key(installation.engine)
    assert (installation_key(installation.engine), len(key), len(set(key)) > 10) == (key, 64, True)


def _zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return file.getvalue()
