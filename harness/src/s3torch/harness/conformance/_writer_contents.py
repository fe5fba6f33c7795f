"""Laws of what a writer writes: exactly what it was given, in order, from any memory."""

from __future__ import annotations

import array
import io
import zipfile
from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s3torch.harness.conformance._bytes import holds
from s3torch.harness.conformance._sequences import law_settings
from s3torch.harness.conformance._states import make_state, same_states
from s3torch.harness.conformance._writer_laws import KEY, OpenWriter, WriterLaws
from s3torch.harness.conformance.arrangement import Arrangement, make_bytes

__all__ = ["WriterContentLaws"]

_ITEM = 16  # bytes of the largest item below


def _array_of(raw: bytes, kind: Any, *shape: int) -> Any:
    # Of an empty buffer NumPy makes nothing.
    return np.frombuffer(bytearray(raw), kind).reshape(*shape) if raw else np.zeros((0, 2), kind)


_KINDS: dict[str, Callable[[bytes], Any]] = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "slice": lambda raw: memoryview(bytearray(b"xyz" + raw + b"xy"))[3 : len(raw) + 3],
    "array": lambda raw: array.array("I", raw),
    "numpy": lambda raw: _array_of(raw, np.float32, -1, 2),
    "complex": lambda raw: _array_of(raw, np.complex128, -1),
    "torch": lambda raw: torch.from_numpy(_array_of(raw, np.int16, -1)).numpy(),
}
_EDGES = [0, 1, 16, 4096, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1]


def _content(kind: str, size: int) -> bytes:
    whole = size if kind in ("bytes", "bytearray", "memoryview", "slice") else size // _ITEM * _ITEM
    return make_bytes(whole, size % 7)


def _names() -> Iterator[str]:
    for number in range(10**9):
        yield f"{KEY}-{number}"


class WriterContentLaws(WriterLaws):
    """What is written arrives."""

    def test_an_object_is_what_was_written(
        self, open_writer: OpenWriter, arrangement: Arrangement, bucket: str, examples: int
    ) -> None:
        """Any sequence of writes, from any kind of memory, gives their concatenation, and each write its count."""
        sizes = st.one_of(st.sampled_from(_EDGES), st.integers(0, 2000), st.integers(0, 200_000))
        names = _names()

        @law_settings(examples)
        @given(st.lists(st.tuples(st.sampled_from(sorted(_KINDS)), sizes), max_size=10))
        def check(steps: list[tuple[str, int]]) -> None:
            key, written = next(names), b""
            with open_writer(bucket, key) as writer:
                for kind, size in steps:
                    content = _content(kind, size)
                    assert writer.write(_KINDS[kind](content)) == len(content), f"write() must count bytes of {kind}"
                    written += content
                    assert writer.tell() == len(written)
            assert holds(arrangement, bucket, key, written)

        check()

    @pytest.mark.parametrize(("parts", "extra"), [(1, -1), (1, 0), (1, 1), (2, 0), (3, 70_000)])
    def test_an_object_may_need_several_requests(
        self, open_writer: OpenWriter, arrangement: Arrangement, bucket: str, parts: int, extra: int
    ) -> None:
        """Around a whole number of parts nothing is lost, doubled or swapped, in one write or in many."""
        data = make_bytes(parts * self.part_size + extra)
        for step in (len(data), self.part_size // 3 + 1):
            with open_writer(bucket, KEY) as writer:
                for first in range(0, len(data), step):
                    piece = data[first : first + step]
                    assert writer.write(piece) == len(piece)
            assert holds(arrangement, bucket, KEY, data), f"in writes of {step} bytes"
            assert self.unfinished(arrangement, bucket) == []

    def test_large_and_small_writes_mix(
        self, open_writer: OpenWriter, arrangement: Arrangement, bucket: str, examples: int
    ) -> None:
        """However large and small writes follow one another, parts are cut and joined without a trace."""
        part, names = self.part_size, _names()
        sizes = st.one_of(
            st.sampled_from([1, 30_000, 100_000, part - 1, part, part + 1, part - 100_000]), st.integers(0, part)
        )

        @law_settings(max(2, examples // 6))
        @given(st.lists(sizes, min_size=2, max_size=8))
        def check(steps: list[int]) -> None:
            key, data = next(names), make_bytes(sum(steps))
            with open_writer(bucket, key) as writer:
                for first, end in pairwise([0, *accumulate(steps)]):
                    assert writer.write(memoryview(data)[first:end]) == end - first
            assert holds(arrangement, bucket, key, data)
            arrangement.remove(bucket, key)

        check()

    def test_the_callers_memory_is_his_again(
        self, open_writer: OpenWriter, arrangement: Arrangement, bucket: str
    ) -> None:
        """Memory may be used anew as soon as `write` has returned, as `torch.save` and readers into buffers do."""
        for size in (10, 100_000, self.part_size // 2, self.part_size + 5):
            written, memory = b"", bytearray(size)
            with open_writer(bucket, KEY) as writer:
                for turn in range(8):
                    piece = memoryview(memory)[: size if turn % 2 else size // 3]
                    piece[:] = make_bytes(piece.nbytes, turn)
                    written += bytes(piece)
                    writer.write(piece)
                    memory[:] = b"\xee" * size
            assert holds(arrangement, bucket, KEY, written), f"memory of {size} bytes"

    def test_is_a_writable_file(self, open_writer: OpenWriter, arrangement: Arrangement, bucket: str) -> None:
        """It is a binary file that can be written and told where it stands, and not read."""
        with open_writer(bucket, KEY) as writer:
            assert isinstance(writer, io.IOBase)
            assert writer.writable() is True
            assert writer.readable() is False
            assert writer.closed is False
            assert writer.tell() == 0
            writer.writelines([b"abc", bytearray(b"d"), b""])
            writer.flush()
            assert writer.tell() == 4
            with pytest.raises(OSError, match=r"."):
                writer.read()
        assert arrangement.get(bucket, KEY) == b"abcd"

    def test_what_cannot_be_written_is_refused(
        self, open_writer: OpenWriter, arrangement: Arrangement, bucket: str
    ) -> None:
        """Text and what is no memory is `TypeError`, memory with gaps is an error, too; the file goes on as it was."""
        with open_writer(bucket, KEY) as writer:
            writer.write(b"ab")
            for wrong in ("text", None, 5, [b"list"]):
                with pytest.raises(TypeError):
                    writer.write(wrong)
            with pytest.raises((ValueError, BufferError)):
                writer.write(memoryview(b"abcd")[::2])
            assert writer.tell() == 2
            writer.write(b"c")
        assert arrangement.get(bucket, KEY) == b"abc"

    def test_serves_torch_save(self, open_writer: OpenWriter, arrangement: Arrangement, bucket: str) -> None:
        """`torch.load` gets back what `torch.save` was given, in one request or in several."""
        for sizes in ((), (1, 1000), (3, self.part_size // 3, 70_000, self.part_size // 2)):
            state = make_state(*sizes)
            with open_writer(bucket, KEY) as writer:
                torch.save(state, writer)
            loaded = torch.load(io.BytesIO(arrangement.get(bucket, KEY) or b""), weights_only=True)
            assert same_states(loaded, state)

    def test_serves_archives_and_text(self, open_writer: OpenWriter, arrangement: Arrangement, bucket: str) -> None:
        """`zipfile`, `numpy` and `io.TextIOWrapper` work on it as on a local file."""
        matrix = np.arange(30_000, dtype=np.float64).reshape(100, 300)
        with open_writer(bucket, KEY) as writer, zipfile.ZipFile(writer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("text", "text " * 1000)
            with archive.open("matrix.npy", "w") as file:
                np.save(file, matrix)
        with zipfile.ZipFile(io.BytesIO(arrangement.get(bucket, KEY) or b"")) as archive:
            assert archive.read("text") == b"text " * 1000
            with archive.open("matrix.npy") as file:
                assert np.array_equal(np.load(file), matrix)
        with io.TextIOWrapper(open_writer(bucket, KEY), encoding="utf-8", newline="\n") as text:
            text.write("grüße\n")
        assert arrangement.get(bucket, KEY) == "grüße\n".encode()

    def test_writers_do_not_disturb_each_other(
        self, open_writer: OpenWriter, arrangement: Arrangement, bucket: str
    ) -> None:
        """Several are written at a time, of one key too: each object is one writer's, the last to close."""
        size = self.part_size + 1000
        contents = [make_bytes(size, seed) for seed in range(3)]
        writers = [open_writer(bucket, key) for key in ("x", "y", "y")]
        for first in range(0, size, 700_001):
            for writer, content in zip(writers, contents, strict=True):
                writer.write(content[first : first + 700_001])
        for which, expected in ((2, {"y": 2}), (0, {"x": 0, "y": 2}), (1, {"x": 0, "y": 1})):
            writers[which].close()
            assert arrangement.keys(bucket) == set(expected)
            for key, seed in expected.items():
                assert holds(arrangement, bucket, key, contents[seed])
