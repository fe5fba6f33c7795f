import io
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3torch.client import ProtocolError
from s3torch.readers._iterator_stream import IteratorStream, as_byte_stream


@given(
    st.lists(st.binary(max_size=20), max_size=12),
    st.lists(st.tuples(st.sampled_from(["read", "readinto", "set", "cur", "end"]), st.integers(-30, 260)), max_size=20),
)
def test_it_reads_as_bytesio(chunks: list[bytes], steps: list[tuple[str, int]]) -> None:
    data = b"".join(chunks)
    stream, model = IteratorStream(iter(chunks), lambda: len(data)), io.BytesIO(data)
    for step, number in steps:
        if step == "read":
            assert stream.read(number) == model.read(number)
        elif step == "readinto":
            mine, its = bytearray(abs(number)), bytearray(abs(number))
            assert stream.readinto(memoryview(mine)) == model.readinto(its)
            assert mine == its
        else:
            base = {"set": 0, "cur": model.tell(), "end": len(data)}[step]
            if base + number < 0:
                with pytest.raises(ValueError):
                    stream.seek(number, ["set", "cur", "end"].index(step))
                continue
            target = model.seek(min(base + number, len(data)))
            assert stream.seek(number, ["set", "cur", "end"].index(step)) == target
        assert stream.tell() == model.tell()


def test_one_chunk_is_handed_out_as_it_is() -> None:
    chunk = bytes(1000)
    assert IteratorStream(iter([chunk]), lambda: 1000).read() is chunk


def test_a_whole_object_is_kept_once() -> None:
    stream = IteratorStream(iter([b"ab", b"cd", b"ef"]), lambda: 6)
    whole = stream.read()
    stream.seek(0)
    assert stream.read() is whole


def test_memory_that_the_source_uses_again_is_copied() -> None:
    def reuse() -> Iterator[bytes]:
        memory = bytearray(2)
        for number in range(3):
            memory[:] = bytes([number, number])
            yield memory  # type: ignore[misc]  # what strangers do

    stream = IteratorStream(reuse(), lambda: 6)
    assert stream.read() == b"\0\0\1\1\2\2"


def test_what_is_forgotten_is_gone() -> None:
    stream = IteratorStream(iter([b"ab", b"cd", b"ef"]), lambda: 6)
    stream.read(5)
    stream.forget_before(3)
    assert stream.seek(3) == 3
    assert stream.read() == b"def"
    with pytest.raises(ValueError):
        stream.seek(2)


@pytest.mark.parametrize("end", [4, 8])
def test_another_length_than_said_is_an_error(end: int) -> None:
    stream = IteratorStream(iter([b"ab", b"cd", b"ef"]), lambda: 6, end=end)
    with pytest.raises(ProtocolError):
        stream.read()


def test_a_source_that_failed_does_not_look_like_the_end() -> None:
    def fail() -> Iterator[bytes]:
        yield b"ab"
        raise ConnectionResetError("cut")

    stream = IteratorStream(fail(), lambda: 6)
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            stream.read()
    stream.seek(0)
    assert stream.read(2) == b"ab"


def test_what_is_no_stream_is_refused() -> None:
    with pytest.raises(TypeError):
        as_byte_stream(7, lambda: 1)  # type: ignore[arg-type]  # the mistake under test
