"""Checksums: known values, any split, and the choice among them."""

from __future__ import annotations

import base64
import hashlib
import zlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3torch.client import checksum
from s3torch.client.checksum import choose_algorithm, compute, find_checksum

# Check values of the CRC catalogue (reveng) for the nine digits.
CHECK = {"crc32": 0xCBF43926, "crc32c": 0xE3069283, "crc64nvme": 0xAE8B14860A799888}
HAS_CRT = checksum._awscrt() is not None
NAMES = ["crc32", "sha1", "sha256", *(["crc32c", "crc64nvme"] if HAS_CRT else [])]


@pytest.fixture
def without_crt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksum, "_awscrt", lambda: None)


def test_known_values() -> None:
    for name, value in CHECK.items():
        if name in NAMES:
            size = 8 if name == "crc64nvme" else 4
            assert compute(name, [memoryview(b"123456789")]) == base64.b64encode(value.to_bytes(size, "big")).decode()
    for name in ("sha1", "sha256"):
        expected = base64.b64encode(hashlib.new(name, b"123456789").digest()).decode()
        assert compute(name, [memoryview(b"123456789")]) == expected
    assert compute("crc32", []) == "AAAAAA=="


@settings(deadline=None)
@given(data=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=5), name=st.sampled_from(NAMES))
def test_the_split_does_not_matter(data: bytes, cuts: list[int], name: str) -> None:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [memoryview(data)[start:end] for start, end in pairwise(edges)]
    assert compute(name, pieces) == compute(name, [memoryview(data)])


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_crc32_is_the_same_with_and_without_awscrt(data: bytes) -> None:
    assert compute("crc32", [memoryview(data)]) == base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def test_large_pieces_are_right() -> None:
    data = bytes(range(256)) * 40_000
    assert compute("crc32", [memoryview(data)]) == base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def test_the_choice_is_the_fastest_there_is() -> None:
    assert choose_algorithm("none", is_amazon=True) is None
    assert choose_algorithm("crc32", is_amazon=True) == "crc32"
    if HAS_CRT:
        assert choose_algorithm("auto", is_amazon=True) == "crc64nvme"
        assert choose_algorithm("auto", is_amazon=False) == "crc32c"
        assert choose_algorithm("crc64nvme", is_amazon=False) == "crc64nvme"


def test_without_awscrt_there_is_crc32(without_crt: None) -> None:
    assert choose_algorithm("auto", is_amazon=True) == "crc32"
    assert choose_algorithm("auto", is_amazon=False) == "crc32"
    assert compute("crc32", [memoryview(b"123456789")]) == "y/Q5Jg=="
    for name in ("crc32c", "crc64nvme"):
        with pytest.raises(ValueError, match="awscrt"):
            choose_algorithm(name, is_amazon=True)
        with pytest.raises(ValueError, match="awscrt"):
            compute(name, [memoryview(b"x")])
    assert find_checksum({b"x-amz-checksum-crc64nvme": b"a", b"x-amz-checksum-crc32": b"b"}) == ("crc32", "b")


def test_a_response_is_held_to_the_best_checksum_it_has() -> None:
    headers = {b"x-amz-checksum-sha256": b"s", b"x-amz-checksum-crc32": b"c", b"etag": b"e"}
    assert find_checksum(headers) == ("crc32", "c")
    assert find_checksum({b"x-amz-checksum-sha256": b"s"}) == ("sha256", "s")
    assert find_checksum({b"etag": b"e"}) is None
    assert find_checksum({b"x-amz-checksum-crc32": b"c-12", b"x-amz-checksum-sha1": b"s"}) == ("sha1", "s")
    assert find_checksum({b"x-amz-checksum-unknown": b"c"}) is None
