"""Laws of how a writer ends: by publishing a whole object when it is closed, or by leaving nothing at all."""

from __future__ import annotations

import gc
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

from s3torch.client import AccessDeniedError, BucketNotFoundError
from s3torch.harness.conformance._bytes import holds
from s3torch.harness.conformance._states import make_state
from s3torch.harness.conformance._writer_laws import KEY, OpenWriter, WriterLaws, error_of, write_all
from s3torch.harness.conformance.arrangement import Arrangement, make_bytes
from s3torch.harness.conformance.tapping import RequestTap

__all__ = ["WriterEndingLaws"]

_OLD = b"what was there before"
_STEP = 700_001
_CHILD_SECONDS = 60.0
_SIZES = pytest.mark.parametrize("parts", [0, 1], ids=["small", "large"])
_KINDS = pytest.mark.parametrize("kind", [AccessDeniedError, KeyboardInterrupt])


def _write_and_raise(writer: Any, data: bytes, error: BaseException) -> None:
    with writer:
        write_all(writer, data, _STEP)
        raise error


class WriterEndingLaws(WriterLaws):
    """All or nothing, and what went wrong is told."""

    def content(self, parts: int) -> bytes:
        """Return bytes that are so many parts and some more."""
        return make_bytes(parts * self.part_size + 1000)

    @_SIZES
    def test_nothing_is_visible_before_close(
        self, open_writer: OpenWriter, arrangement: Arrangement, bucket: str, parts: int
    ) -> None:
        """The object appears when `close` returns, and neither a write nor `flush` shows any of it."""
        data = self.content(parts)
        writer = open_writer(bucket, KEY)
        assert arrangement.keys(bucket) == set()
        for _ in range(2):
            write_all(writer, data, _STEP)
            writer.flush()
            assert arrangement.keys(bucket) == set()
        writer.close()
        assert holds(arrangement, bucket, KEY, data * 2)
        assert self.unfinished(arrangement, bucket) == []

    @_SIZES
    def test_an_object_is_replaced_when_closed(
        self, open_writer: OpenWriter, arrangement: Arrangement, bucket: str, parts: int
    ) -> None:
        """Until `close` whoever reads gets the old object, whole; afterwards the new one, whole."""
        arrangement.put(bucket, KEY, _OLD)
        data = self.content(parts)
        with open_writer(bucket, KEY) as writer:
            write_all(writer, data, _STEP)
            assert holds(arrangement, bucket, KEY, _OLD)
        assert holds(arrangement, bucket, KEY, data)

    def test_no_writes_are_an_empty_object(
        self, open_writer: OpenWriter, arrangement: Arrangement, bucket: str
    ) -> None:
        """What is opened and closed is an object of no bytes."""
        open_writer(bucket, "closed").close()
        with open_writer(bucket, "left"):
            pass
        assert arrangement.get(bucket, "closed") == arrangement.get(bucket, "left") == b""

    @_SIZES
    def test_close_publishes_once(
        self, open_writer: OpenWriter, arrangement: Arrangement, bucket: str, parts: int
    ) -> None:
        """The second `close` does nothing, and after it every write and `with` is `ValueError`."""
        writer = open_writer(bucket, KEY)
        write_all(writer, self.content(parts), _STEP)
        writer.close()
        arrangement.put(bucket, KEY, b"somebody else's")
        writer.close()
        assert writer.closed is True
        uses: list[Callable[[], object]] = [lambda: writer.write(b"x"), lambda: writer.write(b""), writer.__enter__]
        for use in uses:
            with pytest.raises(ValueError):
                use()
        writer.close()
        assert holds(arrangement, bucket, KEY, b"somebody else's")
        assert self.unfinished(arrangement, bucket) == []

    @_SIZES
    @pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
    def test_an_exception_in_the_block_publishes_nothing(
        self, open_writer: OpenWriter, arrangement: Arrangement, bucket: str, kind: type[BaseException], parts: int
    ) -> None:
        """That very exception leaves the ``with`` block; there is no object and no parts, and an old object stays."""
        arrangement.put(bucket, "old", _OLD)
        for key in ("new", "old"):
            writer, error = open_writer(bucket, key), kind("on purpose")
            assert error_of(lambda w=writer, e=error: _write_and_raise(w, self.content(parts), e)) is error  # type: ignore[misc]  # bound now
            assert writer.closed is True
            with pytest.raises(ValueError):
                writer.write(b"x")
        assert arrangement.keys(bucket) == {"old"}
        assert holds(arrangement, bucket, "old", _OLD)
        assert self.unfinished(arrangement, bucket) == []

    @_SIZES
    def test_a_dropped_writer_publishes_nothing(
        self, open_writer: OpenWriter, arrangement: Arrangement, bucket: str, parts: int
    ) -> None:
        """What is forgotten without `close` was not finished: the garbage collector publishes no half of an object."""
        writer = open_writer(bucket, KEY)
        write_all(writer, self.content(parts), _STEP)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # whoever warns of it is right
            del writer
            gc.collect()
        assert arrangement.keys(bucket) == set()
        assert self.unfinished(arrangement, bucket) == []

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
    def test_a_forked_child_leaves_it_alone(
        self, open_writer: OpenWriter, arrangement: Arrangement, bucket: str
    ) -> None:
        """A child that inherits a writer and drops it neither publishes nor aborts what its parent goes on writing."""
        data = self.content(2)
        writer: Any = open_writer(bucket, KEY)
        writer.write(data[: self.part_size + 1])
        with warnings.catch_warnings():
            # Python warns of forking beside threads (of torch, of the harness); that it works is what is tested.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if not child:
            try:
                del writer
                gc.collect(1)  # a whole collection in a fork copies all memory
            finally:
                os._exit(0)
        _wait_for(child)
        assert arrangement.keys(bucket) == set()
        writer.write(data[self.part_size + 1 :])
        writer.close()
        assert holds(arrangement, bucket, KEY, data)

    @_SIZES
    def test_a_missing_bucket_has_its_error(self, open_writer: OpenWriter, bucket: str, parts: int) -> None:
        """Writing to a bucket that is not there is `BucketNotFoundError`, through `torch.save`, too."""
        absent = f"{bucket}-absent"

        def write() -> None:
            with open_writer(absent, KEY) as writer:
                write_all(writer, self.content(parts), _STEP)

        def save() -> None:
            with open_writer(absent, KEY) as writer:
                torch.save(make_state(1000, (parts * self.part_size) // 4), writer)

        for call in (write, save):
            with pytest.raises(BucketNotFoundError) as caught:
                call()
            assert isinstance(caught.value, FileNotFoundError)
            assert caught.value.bucket == absent

    @_SIZES
    @pytest.mark.parametrize("carried_out", [False, True], ids=["not sent", "not answered"])
    @_KINDS
    def test_every_request_may_fail(
        self,
        open_writer: OpenWriter,
        arrangement: Arrangement,
        bucket: str,
        tap: RequestTap | None,
        kind: type[BaseException],
        carried_out: bool,
        parts: int,
    ) -> None:
        """Whichever request fails, and with whatever, that is raised; the old object stays, and no parts remain."""
        tap, data = self.needed(tap), self.content(parts)

        def write() -> None:
            with open_writer(bucket, KEY) as writer:
                write_all(writer, data, _STEP)

        for number in range(self._count(tap, write)):
            arrangement.put(bucket, KEY, _OLD)
            tap.break_at(number, carried_out=carried_out, for_good=False, error=kind("on purpose"))
            error = error_of(write)
            tap.clear()
            assert isinstance(error, kind), f"request {number} failed with {kind.__name__}, and what came was {error!r}"
            # If only the answer was lost, the store may have the object already.
            allowed = [_OLD, data] if carried_out else [_OLD]
            found = any(holds(arrangement, bucket, KEY, each) for each in allowed)
            assert found, f"request {number} failed, and the object is not the old one"
            # An upload whose beginning nobody heard of cannot be ended.
            assert len(self.unfinished(arrangement, bucket)) <= (1 if carried_out else 0)

    @_SIZES
    def test_close_tells_of_every_failure(
        self, open_writer: OpenWriter, arrangement: Arrangement, bucket: str, tap: RequestTap | None, parts: int
    ) -> None:
        """Whoever overlooks that a write failed learns it from `close`, which publishes nothing, and still closes."""
        tap, data = self.needed(tap), self.content(parts)

        def write() -> None:
            with open_writer(bucket, KEY) as writer:
                write_all(writer, data, _STEP)

        for number in range(self._count(tap, write)):
            arrangement.remove(bucket, KEY)
            tap.break_at(number, carried_out=False, for_good=False, error=AccessDeniedError("on purpose"))
            writer = open_writer(bucket, KEY)
            for first in range(0, len(data), _STEP):
                error_of(lambda w=writer, f=first: w.write(data[f : f + _STEP]))  # type: ignore[misc]  # bound now
            with pytest.raises(AccessDeniedError):
                writer.close()
            tap.clear()
            assert writer.closed is True
            writer.close()
            assert arrangement.keys(bucket) == set(), f"request {number} failed, and there is an object"
            assert self.unfinished(arrangement, bucket) == []

    @_KINDS
    def test_errors_pass_through_torch_save(
        self,
        open_writer: OpenWriter,
        arrangement: Arrangement,
        bucket: str,
        tap: RequestTap | None,
        kind: type[BaseException],
    ) -> None:
        """What goes wrong within `torch.save` leaves the ``with`` block as what it is, although `torch` hides it."""
        tap, state = self.needed(tap), make_state(1000, self.part_size // 2, 10)

        def save() -> None:
            with open_writer(bucket, KEY) as writer:
                torch.save(state, writer)

        for number in range(self._count(tap, save)):
            arrangement.remove(bucket, KEY)
            tap.break_at(number, carried_out=False, for_good=False, error=kind("on purpose"))
            error = error_of(save)
            tap.clear()
            assert isinstance(error, kind), f"request {number} failed with {kind.__name__}, and what came was {error!r}"
            assert arrangement.keys(bucket) == set()
            assert self.unfinished(arrangement, bucket) == []

    def _count(self, tap: RequestTap, write: Callable[[], None]) -> int:
        """Return how many requests it takes."""
        tap.clear()
        write()
        count = len(tap.requests())
        assert count > 0, "an object was written without a request"
        tap.clear()
        return count


def _wait_for(child: int) -> None:
    deadline = time.monotonic() + _CHILD_SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert status == 0, "the child failed"
            return
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise AssertionError("the child hangs")
