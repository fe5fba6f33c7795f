"""The laws of a reader, one test each."""

from __future__ import annotations

import array
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import pytest
import torch

from s3torch.client import AccessDeniedError, ObjectChangedError, ObjectNotFoundError
from s3torch.harness.conformance._bytes import all_same, same
from s3torch.harness.conformance._sequences import check_against_bytesio, check_as_state_machine
from s3torch.harness.conformance._states import make_state, same_states
from s3torch.harness.conformance.arrangement import make_bytes

__all__ = ["ReaderLaws", "StoreObject", "StoredObject"]

_MIB = 1024 * 1024
# More than any buffer of a reader holds, so that a replaced object must be noticed.
_LARGE = 12 * _MIB
_MOST_REQUESTS = 60


@dataclass(frozen=True)
class StoredObject:
    """One object and what a suite can do with it."""

    open: Callable[[], Any]
    """Opens it with the reader under test, as a new reader each time."""
    replace: Callable[[bytes], None]
    """Puts other bytes in its place."""
    remove: Callable[[], None]
    """Deletes it."""
    fetched: Callable[[], int] | None = None
    """How many bytes readers have fetched so far, if that can be told."""
    fail: Callable[[int, BaseException], None] | None = None
    """Lets every GET after some more raise an error, if that can be arranged."""
    heal: Callable[[], None] | None = None
    """Ends that."""


StoreObject: TypeAlias = Callable[[bytes], StoredObject]


def _state() -> dict[str, torch.Tensor]:
    return make_state(1, 1000, 200_000)


def _saved(state: object) -> bytes:
    memory = io.BytesIO()
    torch.save(state, memory)
    return memory.getvalue()


class ReaderLaws:
    """What a reader promises; see `ReaderConformance`."""

    slack: ClassVar[int] = 0
    """Bytes beyond those asked for that a small read may fetch; the strategy's promise."""

    @pytest.fixture
    def store_object(self) -> StoreObject:
        """A function that stores bytes as an object of its own."""
        raise NotImplementedError("supply the fixture 'store_object'")

    @pytest.fixture
    def examples(self) -> int:
        """How many sequences of operations are tried at each size."""
        return 20

    @pytest.mark.parametrize("size", [0, 1, 5000, 700_000])
    def test_equals_bytesio(self, store_object: StoreObject, examples: int, size: int) -> None:
        """Any sequence of seek, read, readinto and tell gives what it gives on `io.BytesIO`; the end cannot be left.

        With that: `readinto` is full unless at the end, writes nothing beyond what it says, `read` returns `bytes`.
        """
        data = make_bytes(size)
        check_against_bytesio(store_object(data).open, data, max_examples=examples)

    def test_equals_bytesio_for_long(self, store_object: StoreObject, examples: int) -> None:
        """One reader equals `io.BytesIO` through many operations, as its buffers fill and are dropped."""
        data = make_bytes(1_300_000)
        check_as_state_machine(store_object(data).open, data, max_examples=max(2, examples // 4))

    def test_large_reads_equal_too(self, store_object: StoreObject) -> None:
        """Reads over several parts, from odd offsets, into memory and as `bytes`."""
        data = make_bytes(_LARGE)
        with store_object(data).open() as reader:
            assert reader.read(10) == data[:10]
            buffer = bytearray(11 * _MIB)
            assert reader.readinto(buffer) == len(buffer)
            assert same(buffer, data[10 : 10 + len(buffer)])
            assert same(reader.read(), data[10 + len(buffer) :])
            assert reader.seek(-6 * _MIB - 3, io.SEEK_END) == _LARGE - 6 * _MIB - 3
            assert same(reader.read(6 * _MIB), data[-6 * _MIB - 3 : -3])
            assert reader.readinto(buffer) == 3
            assert buffer[:3] == data[-3:]

    def test_small_steps_equal_too(self, store_object: StoreObject) -> None:
        """Many small reads in a row, as from a parser."""
        data = make_bytes(300_000)
        with store_object(data).open() as reader:
            assert same(b"".join(iter(lambda: reader.read(7001), b"")), data)
            reader.seek(0)
            assert same(b"".join(iter(lambda: reader.read(50_000), b"")), data)

    def test_is_a_readable_seekable_file(self, store_object: StoreObject) -> None:
        """It is an `io.BufferedIOBase` that can be read and sought, and not written."""
        with store_object(b"data").open() as reader:
            assert isinstance(reader, io.BufferedIOBase)
            assert reader.readable() is True
            assert reader.seekable() is True
            assert reader.writable() is False
            assert reader.closed is False
            assert type(reader.tell()) is int
            with pytest.raises(OSError, match=r"."):
                reader.write(b"x")

    def test_reads_to_the_end_by_any_name(self, store_object: StoreObject) -> None:
        """`read()`, `read(None)` and any negative size read all that is left; then nothing is left."""
        data = make_bytes(5000)
        stored = store_object(data)
        for arguments in ((), (None,), (-1,), (-5,), (5000,), (10**9,)):
            with stored.open() as reader:
                assert reader.read(0) == b""
                assert same(reader.read(*arguments), data)
                assert reader.read(*arguments) == b""
                assert reader.readinto(bytearray(3)) == 0

    def test_lines_come_whole(self, store_object: StoreObject) -> None:
        """Lines of any length are read as from a file."""
        data = b"first\n\n" + b"x" * 20_000 + b"\nlast"
        with store_object(data).open() as reader:
            assert all_same(list(reader), io.BytesIO(data).readlines())

    @pytest.mark.parametrize("kind", ["bytearray", "array", "numpy", "torch", "matrix"])
    def test_fills_any_writable_memory(self, store_object: StoreObject, kind: str) -> None:
        """`readinto` counts bytes, whatever the memory's items are."""
        data = make_bytes(4000)
        kinds: dict[str, Callable[[], Any]] = {
            "bytearray": lambda: bytearray(800),
            "array": lambda: array.array("I", bytes(800)),
            "numpy": lambda: np.zeros(100),
            "torch": lambda: torch.zeros(200).numpy(),
            "matrix": lambda: np.zeros((10, 20), dtype=np.float32),
        }
        memory = kinds[kind]()
        with store_object(data).open() as reader:
            reader.seek(100)
            assert reader.readinto(memory) == 800
            assert bytes(memoryview(memory).cast("B")) == data[100:900]
            assert reader.tell() == 900

    def test_refuses_memory_that_cannot_be_written(self, store_object: StoreObject) -> None:
        """Read-only memory and what is no memory is `TypeError`; the position stays."""
        with store_object(b"data").open() as reader:
            for wrong in (b"read-only", memoryview(b"read-only"), "text", None, 5):
                with pytest.raises(TypeError):
                    reader.readinto(wrong)
            assert reader.tell() == 0
            assert reader.read() == b"data"

    def test_seeks_within_the_object_only(self, store_object: StoreObject) -> None:
        """Past the end stays at the end; before the start is `ValueError`; either way the position is told right."""
        data = make_bytes(5000)
        with store_object(data).open() as reader:
            assert reader.seek(6000) == reader.tell() == 5000
            assert reader.read(1) == b""
            assert reader.seek(10) == 10
            assert reader.seek(10**12, io.SEEK_CUR) == 5000
            assert reader.seek(7, io.SEEK_END) == 5000
            assert reader.seek(-10, io.SEEK_END) == 4990
            for offset, whence in ((-1, io.SEEK_SET), (-4991, io.SEEK_CUR), (-5001, io.SEEK_END)):
                with pytest.raises(ValueError):
                    reader.seek(offset, whence)
                assert reader.tell() == 4990
            assert reader.read() == data[4990:]

    def test_refuses_wrong_types(self, store_object: StoreObject) -> None:
        """An offset, whence or size that is no integer is `TypeError`; an unknown whence is refused, too."""
        with store_object(b"data").open() as reader:
            for wrong in ("1", 1.5, b"1", [1]):
                with pytest.raises(TypeError):
                    reader.seek(wrong)
                with pytest.raises(TypeError):
                    reader.seek(0, wrong)
                with pytest.raises(TypeError):
                    reader.read(wrong)
            with pytest.raises(TypeError):
                reader.seek(None)
            with pytest.raises((TypeError, ValueError)):
                reader.seek(0, 9)
            assert reader.tell() == 0

    def test_close_ends_everything(self, store_object: StoreObject) -> None:
        """After `close`, which may be called again, every use is `ValueError`, and nothing more is fetched."""
        stored = store_object(make_bytes(700_000))
        for use in (lambda _: None, lambda r: r.read(10), lambda r: r.seek(-5, io.SEEK_END), lambda r: r.read()):
            reader = stored.open()
            use(reader)
            before = stored.fetched() if stored.fetched is not None else 0
            reader.close()
            reader.close()
            assert reader.closed is True
            calls: list[Callable[[], object]] = [
                lambda r=reader: r.read(1),  # type: ignore[misc]  # bound now, called later in this turn
                lambda r=reader: r.readinto(bytearray(1)),  # type: ignore[misc]  # the same
                lambda r=reader: r.seek(0),  # type: ignore[misc]  # the same
                lambda r=reader: r.tell(),  # type: ignore[misc]  # the same
                lambda r=reader: r.__enter__(),  # type: ignore[misc]  # the same
            ]
            for call in calls:
                with pytest.raises(ValueError):
                    call()
            if stored.fetched is not None:
                assert stored.fetched() == before

    def test_a_missing_object_has_its_error(self, store_object: StoreObject) -> None:
        """Whatever first asks the store raises `ObjectNotFoundError`, and raises it again the next time."""
        stored = store_object(b"data")
        stored.remove()
        uses: list[Callable[[Any], object]] = [
            lambda r: r.read(),
            lambda r: r.read(1),
            lambda r: r.readinto(bytearray(10)),
            lambda r: r.readinto(bytearray(_MIB)),
            lambda r: r.seek(0, io.SEEK_END),
        ]
        for use in uses:
            with stored.open() as reader:
                for _ in range(2):
                    with pytest.raises(ObjectNotFoundError):
                        use(reader)

    def test_opening_asks_for_nothing(self, store_object: StoreObject) -> None:
        """No request is sent before a byte or the size is needed: a dataset may open readers it never reads."""
        stored = store_object(b"data")
        stored.remove()
        with stored.open() as reader:
            assert reader.tell() == 0
            assert reader.seek(0) == 0

    def test_never_mixes_two_objects(self, store_object: StoreObject) -> None:
        """An object that is replaced while it is read is `ObjectChangedError`, never bytes of both."""
        stored = store_object(make_bytes(_LARGE))
        with stored.open() as reader:
            assert reader.read(10) == make_bytes(_LARGE)[:10]
            stored.replace(make_bytes(_LARGE, seed=1))
            with pytest.raises(ObjectChangedError):
                reader.read()

    def test_serves_archives(self, store_object: StoreObject) -> None:
        """`zipfile` and `numpy` work on it as on a local file."""
        memory, matrix = io.BytesIO(), np.arange(30_000, dtype=np.float64).reshape(100, 300)
        with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("text", "text " * 1000)
            with archive.open("matrix.npy", "w") as file:
                np.save(file, matrix)
        with store_object(memory.getvalue()).open() as reader, zipfile.ZipFile(reader) as archive:
            assert archive.testzip() is None
            with archive.open("matrix.npy") as file:
                assert np.array_equal(np.load(file), matrix)

    def test_serves_torch_load(self, store_object: StoreObject) -> None:
        """`torch.load` gets back what `torch.save` was given."""
        stored, state = store_object(_saved(_state())), _state()
        for _ in range(2):
            with stored.open() as reader:
                assert same_states(torch.load(reader, weights_only=True), state)

    def test_errors_pass_through_torch_load(self, store_object: StoreObject) -> None:
        """What goes wrong within `torch.load` is raised as what it is, although `torch` hides exceptions."""
        stored = store_object(_saved(_state()))
        stored.remove()
        with stored.open() as reader, pytest.raises(ObjectNotFoundError):
            torch.load(reader, weights_only=True)

    @pytest.mark.parametrize("kind", [AccessDeniedError, KeyboardInterrupt])
    def test_every_request_of_torch_load_may_fail(self, store_object: StoreObject, kind: type[BaseException]) -> None:
        """Whichever request it is that fails, and with whatever, that very exception comes out of `torch.load`."""
        stored, state = store_object(_saved(_state())), _state()
        if stored.fail is None or stored.heal is None:
            pytest.skip("no request can be made to fail here")
        for after in range(_MOST_REQUESTS):
            error = kind("on purpose")
            stored.fail(after, error)
            loaded: dict[str, torch.Tensor] = {}
            with stored.open() as reader:
                try:
                    loaded = torch.load(reader, weights_only=True)
                except BaseException as raised:  # noqa: BLE001  # whatever comes out, it must be this one
                    caught: BaseException | None = raised
                else:
                    caught = None
            if caught is not None:
                assert caught is error, f"request {after + 1} failed with {kind.__name__}, not {caught!r}"
                stored.heal()
                continue
            assert after > 0, "torch.load succeeded without a request"
            assert same_states(loaded, state)
            stored.heal()
            return
        raise AssertionError(f"torch.load of three tensors needs more than {_MOST_REQUESTS} requests")

    def test_a_checkpoint_replaced_while_loading_is_never_mixed(self, store_object: StoreObject) -> None:
        """`torch.load` gives the old checkpoint, if all of it was there already, or raises `ObjectChangedError`."""
        state = _state()
        stored = store_object(_saved(state))
        with stored.open() as reader:
            reader.read(4)
            reader.seek(0)
            stored.replace(_saved({name: tensor + 1 for name, tensor in state.items()}))
            try:
                loaded = torch.load(reader, weights_only=True)
            except ObjectChangedError:
                return
            assert same_states(loaded, state)

    def test_reads_no_byte_twice(self, store_object: StoreObject) -> None:
        """Reading all of it, at once or bit by bit, fetches every byte once."""
        size = 3 * _MIB
        for step in (-1, 50_000, _MIB + 1):
            stored = store_object(make_bytes(size))
            if stored.fetched is None:
                pytest.skip("the bytes fetched cannot be counted here")
            before = stored.fetched()
            with stored.open() as reader:
                while reader.read(step):
                    pass
            assert stored.fetched() - before == size

    def test_the_tail_costs_the_tail(self, store_object: StoreObject) -> None:
        """Reading the end, or somewhere in the middle, fetches that, and not the object."""
        stored = store_object(make_bytes(_LARGE))
        if stored.fetched is None:
            pytest.skip("the bytes fetched cannot be counted here")
        for offset in (-100, -_LARGE // 2):
            before = stored.fetched()
            with stored.open() as reader:
                reader.seek(offset, io.SEEK_END)
                assert len(reader.read(100)) == 100
            fetched = stored.fetched() - before
            # Where the size is not known, it comes with the object's last bytes.
            assert fetched <= 2 * (100 + self.slack)
