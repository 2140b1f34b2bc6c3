"""Hashes of ids, the same on every machine and whichever way the ids come in.

They decide folds and bootstrap buckets, and are made for that alone: fast and even, not safe against an adversary who
chooses ids. Other hashes of the same ids (draws, holdout) are made otherwise and so independent of these.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from evaluation.arrays import IntArray

# Ids hashed at once: few enough for the processor's cache, enough for numpy.
_BLOCK = 65536

# Odd constants of SplitMix64: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators".
_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)

_Words = npt.NDArray[np.uint64]
_Bytes = npt.NDArray[np.uint8]


def hash_ids(ids: Sequence[str] | npt.NDArray[np.generic]) -> IntArray:
    """Hash ids to 63-bit integers >= 0, shape (n,).

    An id is hashed by the bytes of its UTF-8 text; a whole number by its decimal digits, so that 42 is the id "42".

    Args:
        ids: text, or an array (n,) of text, of bytes (UTF-8) or of whole numbers.

    Raises:
        ValueError: when the ids are neither, such as floating-point numbers.
    """
    if isinstance(ids, np.ndarray):
        return _hash_array(ids)
    hashes = np.empty(len(ids), dtype=np.int64)
    for start in range(0, len(ids), _BLOCK):
        block = ids[start : start + _BLOCK]
        hashes[start : start + len(block)] = _hash_block(block)
    return hashes


def hash_buffers(offsets: npt.NDArray[np.integer], data: _Bytes) -> IntArray:
    """Hash ids that lie one after the other in a buffer, as in an Arrow column of strings, shape (n,).

    Gives the same as ``hash_ids`` of the texts. Absent values (null) are the caller's to look after: they hash as "".

    Args:
        offsets: where each id starts, and where the last one ends, shape (n + 1,); a slice of a column is fine.
        data: the bytes.

    Raises:
        ValueError: when an offset lies outside the data, or they descend.
    """
    bounds = np.asarray(offsets, dtype=np.int64)
    if len(bounds) < 2:
        return np.empty(0, dtype=np.int64)
    if bounds[0] < 0 or bounds[-1] > len(data) or np.any(bounds[1:] < bounds[:-1]):
        raise ValueError(f"offsets from {bounds[0]} to {bounds[-1]} do not ascend within {len(data)} bytes")
    hashes = np.empty(len(bounds) - 1, dtype=np.int64)
    for start in range(0, len(hashes), _BLOCK):
        part = bounds[start : start + _BLOCK + 1]
        lengths = part[1:] - part[:-1]
        hashes[start : start + len(lengths)] = _hash(data[part[0] : part[-1]], part[:-1] - part[0], lengths)
    return hashes


def _hash_array(ids: npt.NDArray[np.generic]) -> IntArray:
    if ids.ndim != 1:
        raise ValueError(f"ids have {ids.ndim} dimensions, not 1")
    if ids.dtype.kind in "iu":
        return _hash_fixed(_decimal(ids))
    if ids.dtype.kind == "S":
        return _hash_fixed(ids)
    if ids.dtype.kind in "UOT":
        ascii_ids = _as_ascii(ids)
        return hash_ids(ids.tolist()) if ascii_ids is None else _hash_fixed(ascii_ids)
    raise ValueError(f"ids of type {ids.dtype} are neither text nor whole numbers")


def _hash_block(ids: Sequence[str]) -> IntArray:
    try:
        text = "".join(ids)
    except TypeError:
        wrong = next(one for one in ids if not isinstance(one, str))
        raise ValueError(f"id {wrong!r} is not text") from None
    if text.isascii():
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        return _hash(np.frombuffer(text.encode(), dtype=np.uint8), np.cumsum(lengths) - lengths, lengths)
    encoded = [one.encode() for one in ids]
    lengths = np.fromiter(map(len, encoded), np.int64, len(ids))
    return _hash(np.frombuffer(b"".join(encoded), dtype=np.uint8), np.cumsum(lengths) - lengths, lengths)


def _hash_fixed(ids: npt.NDArray[np.generic]) -> IntArray:
    """Hash bytes of one width each, filled up with NUL at the end as numpy keeps them."""
    hashes = np.empty(len(ids), dtype=np.int64)
    width = ids.dtype.itemsize
    for start in range(0, len(ids), _BLOCK):
        block = np.ascontiguousarray(ids[start : start + _BLOCK])
        lengths = np.strings.str_len(block).astype(np.int64)
        starts = np.arange(len(block), dtype=np.int64) * width
        hashes[start : start + len(block)] = _hash(block.view(np.uint8), starts, lengths)
    return hashes


def _as_ascii(ids: npt.NDArray[np.generic]) -> npt.NDArray[np.generic] | None:
    """Text of fixed width as bytes; None where it is kept otherwise or needs more than one byte for a character."""
    if ids.dtype.kind != "U" or ids.dtype.itemsize == 0 or not ids.dtype.isnative or len(ids) == 0:
        return None
    codes = np.ascontiguousarray(ids).view(np.uint32).reshape(len(ids), -1)
    return codes.astype(np.uint8).view(f"S{codes.shape[1]}")[:, 0] if codes.max() < 128 else None


def _decimal(numbers: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    return numbers.astype("S20")  # the longest of 64 bits, sign included


def _hash(data: _Bytes, starts: IntArray, lengths: IntArray) -> IntArray:
    """Mix each id's bytes in words of eight, the last one filled up with zeros, into a state that starts at its length.

    One step is a bijection of the state, so ids of equal length that differ in one word never collide.
    """
    state = lengths.astype(np.uint64) * _STEP
    longest = int(lengths.max(initial=0))
    shortest = int(lengths.min(initial=longest))
    words = _overlapping_words(data)
    for at in range(0, longest, 8):
        if at + 8 <= shortest:
            state = _mixed(state ^ words[starts + at])
            continue
        left = np.flatnonzero(lengths > at) if at >= shortest else np.arange(len(lengths))
        unused = np.maximum(8 - (lengths[left] - at), 0).astype(np.uint64) * np.uint64(8)
        kept = np.uint64(0xFFFFFFFFFFFFFFFF) >> unused
        state[left] = _mixed(state[left] ^ (words[starts[left] + at] & kept))
    return np.asarray((_mixed(state + _STEP) >> np.uint64(1)).astype(np.int64))


def _overlapping_words(data: _Bytes) -> _Words:
    """The eight bytes from every place on, as little-endian numbers; zeros follow the end."""
    padded = np.zeros(len(data) + 8, dtype=np.uint8)
    padded[: len(data)] = data
    return np.ndarray((len(data) + 1,), dtype="<u8", buffer=padded, strides=(1,))


def _mixed(state: _Words) -> _Words:
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return state ^ (state >> np.uint64(31))
