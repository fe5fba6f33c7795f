"""Pieces of memory read as one file equal the joined bytes."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from s3torch.client._body_reader import BodyReader
from s3torch.harness.conformance import law_settings

STEPS = st.one_of(
    st.tuples(st.just("read"), st.integers(-1, 40)),
    st.tuples(st.just("seek"), st.integers(0, 60)),
    st.tuples(st.just("readinto"), st.integers(0, 40)),
)


@law_settings(100)
@given(st.lists(st.binary(max_size=12), max_size=6), st.lists(STEPS, max_size=12))
def test_equals_the_joined_bytes(pieces: list[bytes], steps: list[tuple[str, int]]) -> None:
    joined = io.BytesIO(b"".join(pieces))
    reader = BodyReader([memoryview(piece) for piece in pieces])
    assert len(reader) == len(joined.getvalue())
    for name, number in steps:
        if name == "readinto":
            expected, found = bytearray(number), bytearray(number)
            assert reader.readinto(found) == joined.readinto(expected)
            assert found == expected
        else:
            assert getattr(reader, name)(number) == getattr(joined, name)(number)
        assert reader.tell() == joined.tell()
    assert reader.seek(0, io.SEEK_END) == len(reader)
