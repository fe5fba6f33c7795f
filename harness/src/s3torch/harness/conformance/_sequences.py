"""Sequences of seek, read, readinto and tell, beside `io.BytesIO`: the law that a file object stands or falls with."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Protocol

from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from s3torch.harness.conformance._bytes import same

__all__ = ["ReadableFile", "check_against_bytesio", "check_as_state_machine", "law_settings"]

_GUARD = 0xEE


class ReadableFile(Protocol):
    """What is compared with `io.BytesIO`."""

    def read(self, size: int = -1, /) -> bytes:
        """Read up to ``size`` bytes."""
        ...

    def readinto(self, buffer: bytearray, /) -> int:
        """Fill a buffer."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move."""
        ...

    def tell(self) -> int:
        """Return the position."""
        ...

    def close(self) -> None:
        """End all I/O."""
        ...


def law_settings(max_examples: int, **others: Any) -> settings:
    """Settings under which every run is the same: whoever breaks a law sees the same counterexample again.

    Args:
        max_examples: How many examples are tried.
        **others: Further settings of hypothesis.
    """
    return settings(
        max_examples=max_examples,
        derandomize=True,
        database=None,
        deadline=None,  # the test's own time limit holds
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        **others,
    )


class _Model:
    """`io.BytesIO` with the one difference of readers: seeking past the end stays at the end."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)
        self._size = len(data)

    def seek(self, offset: int, whence: int) -> int:
        target = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._file.tell(), io.SEEK_END: self._size}[whence]
        if target < 0:
            raise ValueError("negative")
        return self._file.seek(min(target, self._size))

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def readinto(self, buffer: bytearray) -> int:
        return self._file.readinto(buffer)

    def tell(self) -> int:
        return self._file.tell()


class _Pair:
    """Subject and model, driven alike."""

    def __init__(self, file: ReadableFile, data: bytes) -> None:
        self.file = file
        self._model = _Model(data)

    def seek(self, offset: int, whence: int) -> None:
        try:
            expected = self._model.seek(offset, whence)
        except ValueError:
            before = self.file.tell()
            try:
                self.file.seek(offset, whence)
            except ValueError:
                assert self.file.tell() == before, "a refused seek moved the position"
                return
            raise AssertionError(f"seek({offset}, {whence}) to before the first byte must be a ValueError") from None
        assert self.file.seek(offset, whence) == expected

    def read(self, size: int) -> None:
        expected = self._model.read(size)
        found = self.file.read(size)
        assert type(found) is bytes, f"read() must return bytes, got {type(found).__name__}"
        assert len(found) == len(expected)
        assert same(found, expected), "read() returned other bytes"

    def readinto(self, size: int) -> None:
        expected, found = bytearray([_GUARD]) * size, bytearray([_GUARD]) * size
        count = self._model.readinto(expected)
        assert self.file.readinto(found) == count, f"readinto() must fill the buffer unless at the end: {count} bytes"
        assert same(found, expected), "readinto() wrote other bytes, or beyond what it said"

    def tell(self) -> None:
        assert self.file.tell() == self._model.tell()


def _distances(size: int) -> st.SearchStrategy[int]:
    """Offsets and lengths near what matters: small ones, the object's ends, the sizes at which buffers change."""
    edges = [0, 1, size - 1, size, size + 1, size // 2, 4096, 256 * 1024, 512 * 1024]
    return st.one_of(
        st.sampled_from(sorted({edge for edge in edges if edge >= 0})),
        st.integers(0, 64),
        st.integers(0, size + 10),
    )


def check_against_bytesio(open_file: Callable[[], ReadableFile], data: bytes, *, max_examples: int = 25) -> None:
    """Try sequences of operations, each on a newly opened file.

    Args:
        open_file: Opens the subject.
        data: What it must contain.
        max_examples: How many sequences.
    """
    size = len(data)
    operations = st.lists(
        st.one_of(
            st.tuples(st.just("seek"), st.one_of(_distances(size), st.integers(-70, -1)), st.sampled_from([0, 1])),
            st.tuples(st.just("seek"), _distances(size).map(int.__neg__), st.sampled_from([1, 2])),
            st.tuples(st.just("read"), st.one_of(_distances(size), st.just(-1))),
            st.tuples(st.just("readinto"), _distances(size)),
            st.tuples(st.just("tell")),
        ),
        min_size=1,
        max_size=10,
    )

    @law_settings(max_examples)
    @given(operations)
    def check(steps: list[tuple[Any, ...]]) -> None:
        file = open_file()
        try:
            pair = _Pair(file, data)
            for name, *arguments in steps:
                getattr(pair, name)(*arguments)
                pair.tell()
        finally:
            file.close()

    check()


def check_as_state_machine(
    open_file: Callable[[], ReadableFile], data: bytes, *, max_examples: int = 8, steps: int = 25
) -> None:
    """Drive one long-lived file by rules, so that what one operation leaves behind meets all others.

    Args:
        open_file: Opens the subject.
        data: What it must contain.
        max_examples: How many runs.
        steps: Operations in a run at most.
    """
    machine = _make_machine(open_file, data)
    run_state_machine_as_test(machine, settings=law_settings(max_examples, stateful_step_count=steps))


def _make_machine(  # noqa: C901  # a rule for each operation
    open_file: Callable[[], ReadableFile], data: bytes
) -> type[RuleBasedStateMachine]:
    distances = _distances(len(data))

    class Machine(RuleBasedStateMachine):
        pair: _Pair

        @initialize()
        def open(self) -> None:
            self.pair = _Pair(open_file(), data)

        @rule(offset=distances)
        def seek(self, offset: int) -> None:
            self.pair.seek(offset, io.SEEK_SET)

        @rule(offset=st.integers(-5000, 5000))
        def move(self, offset: int) -> None:
            self.pair.seek(offset, io.SEEK_CUR)

        @rule(offset=distances)
        def seek_from_end(self, offset: int) -> None:
            self.pair.seek(-offset, io.SEEK_END)

        @rule(size=distances)
        def read(self, size: int) -> None:
            self.pair.read(size)

        @rule()
        def read_to_the_end(self) -> None:
            self.pair.read(-1)

        @rule(size=distances)
        def readinto(self, size: int) -> None:
            self.pair.readinto(size)

        @rule()
        def reopen(self) -> None:
            note(f"closing {self.pair.file!r}")
            self.pair.file.close()
            self.pair = _Pair(open_file(), data)

        @invariant()
        def is_where_it_should_be(self) -> None:
            if hasattr(self, "pair"):
                self.pair.tell()

        def teardown(self) -> None:
            if hasattr(self, "pair"):
                self.pair.file.close()

    return Machine
