"""Hashes of ids: the same whichever way they come in, and even enough for folds and buckets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.arrays import IntArray
from evaluation.bootstrap import BUCKETS
from evaluation.hashing import hash_buffers, hash_ids

KNOWN = [
    8147104208329303767,
    1070177757232256492,
    2309135594084443870,
    227203870071362578,
    602274917346393316,
    8929243467266524230,
]


def buffers(ids: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and bytes as an Arrow column of strings has them."""
    encoded = [one.encode() for one in ids]
    offsets = np.cumsum([0, *map(len, encoded)]).astype(np.int32)
    return offsets, np.frombuffer(b"".join(encoded), dtype=np.uint8)


def chi_square_z(counts: IntArray) -> float:
    """How far counts are from even, in standard deviations of chi-square with as many degrees of freedom."""
    expected = counts.sum() / counts.size
    freedom = counts.size - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2.0 * freedom))


def test_hashes_are_the_same_on_every_machine() -> None:
    """Written down: buckets of stored evaluations and folds of models rest on them."""
    known = hash_ids(["", "d0", "12345678", "123456789", "Grüße", "a-much-longer-id-of-several-words"])
    assert known.tolist() == KNOWN


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30), max_size=40))
def test_every_way_in_gives_the_same(ids: list[str]) -> None:
    expected = hash_ids(ids)
    assert expected.dtype == np.int64
    assert np.all(expected >= 0)
    assert hash_buffers(*buffers(ids)).tolist() == expected.tolist()
    assert [int(hash_ids([one])[0]) for one in ids] == expected.tolist()
    assert hash_ids(np.array(ids, dtype=np.str_)).tolist() == expected.tolist()
    assert hash_ids(np.array(ids, dtype=object)).tolist() == expected.tolist()
    assert hash_ids(np.array([one.encode() for one in ids], dtype=np.bytes_)).tolist() == expected.tolist()


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=40))
def test_whole_numbers_are_their_digits(numbers: list[int]) -> None:
    assert hash_ids(np.array(numbers, dtype=np.int64)).tolist() == hash_ids([str(one) for one in numbers]).tolist()


def test_largest_unsigned_number() -> None:
    assert hash_ids(np.array([2**64 - 1], dtype=np.uint64)).tolist() == hash_ids([str(2**64 - 1)]).tolist()


def test_a_slice_of_a_column_hashes_as_its_rows() -> None:
    ids = [f"event-{number}" * (number % 4) for number in range(100)]
    offsets, data = buffers(ids)
    assert hash_buffers(offsets[30:61], data).tolist() == hash_ids(ids[30:60]).tolist()
    assert hash_buffers(offsets[:1], data).tolist() == []


def test_more_ids_than_are_hashed_at_once() -> None:
    ids = [f"d{number}" for number in range(70000)]
    hashes = hash_ids(ids)
    assert hashes[69999] == hash_ids(["d69999"])[0]
    assert hash_buffers(*buffers(ids)).tolist() == hashes.tolist()
    assert hash_ids(np.array(ids)).tolist() == hashes.tolist()
    assert len(np.unique(hashes)) == 70000


@pytest.mark.parametrize("form", ["{}", "d{}", "{:08x}-0000-4000-8000-000000000000", "2026-03-01T00:00:00/{:012d}"])
def test_sequential_ids_fill_buckets_and_folds_evenly(form: str) -> None:
    """Chi-square within 4 standard deviations, for buckets, folds, and both together (independence)."""
    hashes = hash_ids([form.format(number) for number in range(200_000)])
    bucket, fold = hashes % BUCKETS, (hashes >> 20) % 5
    assert abs(chi_square_z(np.bincount(bucket, minlength=BUCKETS))) < 4.0
    assert abs(chi_square_z(np.bincount(fold, minlength=5))) < 4.0
    assert abs(chi_square_z(np.bincount(bucket * 5 + fold, minlength=5 * BUCKETS))) < 4.0


def test_one_bit_of_an_id_turns_half_of_the_hash() -> None:
    """Each of the 63 bits turns for 45 to 55% of 4,000 ids, whichever character is changed."""
    ids = [f"customer-{number:06d}-x" for number in range(4000)]
    plain = hash_ids(ids)
    for place in (0, 9, 14, 16):
        changed = [one[:place] + chr(ord(one[place]) ^ 1) + one[place + 1 :] for one in ids]
        turned = plain ^ hash_ids(changed)
        shares = [float(np.mean((turned >> bit) & 1)) for bit in range(63)]
        assert min(shares) > 0.45
        assert max(shares) < 0.55


def test_padding_is_no_part_of_an_id() -> None:
    assert len(set(hash_ids(["a", "a\0", "a\0\0", "", "\0"]).tolist())) == 5


def test_what_is_no_id_is_refused() -> None:
    with pytest.raises(ValueError, match="float64"):
        hash_ids(np.array([1.0]))
    with pytest.raises(ValueError, match="bool"):
        hash_ids(np.array([True]))
    with pytest.raises(ValueError, match="2 dimensions"):
        hash_ids(np.array([["a"]]))
    with pytest.raises(ValueError, match="7 is not text"):
        hash_ids(["a", 7])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="0 to 9"):
        hash_buffers(np.array([0, 9]), np.zeros(4, dtype=np.uint8))
    with pytest.raises(ValueError, match="ascend"):
        hash_buffers(np.array([0, 3, 1, 4]), np.zeros(4, dtype=np.uint8))
