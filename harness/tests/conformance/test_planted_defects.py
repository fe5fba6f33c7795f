"""The laws can be broken: each planted defect is found by the law it breaks."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from s3torch.client import ObjectChangedError, ObjectNotFoundError
from s3torch.harness.conformance import ReaderConformance, StoredObject

if TYPE_CHECKING:
    from typing_extensions import Buffer

pytestmark = [pytest.mark.conformance, pytest.mark.usefixtures("in_continuous_integration")]


class Place:
    """The object that readers under test read."""

    def __init__(self, data: bytes) -> None:
        self.data: bytes | None = data
        self.version = 0
        self.fetched = 0

    def replace(self, data: bytes) -> None:
        self.data = data
        self.version += 1

    def remove(self) -> None:
        self.data = None


class GoodReader(io.BufferedIOBase):
    """Obeys all laws that the defects below break."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.position = 0
        self.version: int | None = None

    def take(self, start: int, count: int) -> bytes:
        """Fetch bytes."""
        data = self.look()
        found = data[start : start + count]
        self.place.fetched += len(found)
        return found

    def look(self) -> bytes:
        if self.closed:
            raise ValueError("closed")
        if self.place.data is None:
            raise ObjectNotFoundError("gone")
        if self.version not in (None, self.place.version):
            raise ObjectChangedError("replaced")
        self.version = self.place.version
        return self.place.data

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        if self.closed:
            raise ValueError("closed")
        return self.position

    def seek(self, offset: Any, whence: Any = 0, /) -> int:
        if not isinstance(offset, int) or not isinstance(whence, int):
            raise TypeError("not an int")
        if self.closed:
            raise ValueError("closed")
        if (offset, whence) == (0, 0):
            self.position = 0
            return 0
        size = len(self.look())
        target = offset + {0: 0, 1: self.position, 2: size}[whence]
        if target < 0:
            raise ValueError("before the start")
        self.position = min(target, size)
        return self.position

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = len(self.look())
        found = self.take(self.position, size)
        self.position += len(found)
        return found

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)
        if view.readonly:
            raise TypeError("read-only")
        view = view.cast("B")
        found = self.read(view.nbytes)
        view[: len(found)] = found
        return len(found)


class OffByOne(GoodReader):
    def take(self, start: int, count: int) -> bytes:
        # Only far from the start, as a mistake in a part's arithmetic would be.
        return super().take(start + 1 if start > 4000 else start, count)


class ShortReadinto(GoodReader):
    def readinto(self, buffer: Buffer, /) -> int:
        return super().readinto(memoryview(buffer).cast("B")[:1000])


class WritesTooMuch(GoodReader):
    def readinto(self, buffer: Buffer, /) -> int:
        count = super().readinto(buffer)
        view = memoryview(buffer).cast("B")
        if count < view.nbytes:
            view[count] = 0
        return count


class ReturnsBytearray(GoodReader):
    def read(self, size: int | None = -1, /) -> bytes:
        return bytearray(super().read(size))  # type: ignore[return-value]  # the defect


class SeeksBeyondTheEnd(GoodReader):
    def seek(self, offset: int, whence: int = 0, /) -> int:
        position = super().seek(offset, whence)
        if whence == 0:
            self.position = position = max(position, offset)
        return position


class StaleBuffer(GoodReader):
    """Keeps a buffer that a backward seek does not drop."""

    buffer = b""
    start = 0

    def take(self, start: int, count: int) -> bytes:
        if count < 100 and self.buffer and self.start < start:
            return self.buffer[:count]
        found = super().take(start, count)
        if count < 100:
            self.buffer, self.start = found, start
        return found


class Mixes(GoodReader):
    def look(self) -> bytes:
        self.version = None
        return super().look()


class LivesOn(GoodReader):
    """Reads after it was closed."""

    def close(self) -> None:
        pass


class FetchesAll(GoodReader):
    def look(self) -> bytes:
        data = super().look()
        if self.position > len(data) // 3:
            self.place.fetched += len(data)
        return data


class AsksOnOpening(GoodReader):
    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.look()


class HidesErrors(GoodReader):
    """Passes a failure off as the end."""

    def look(self) -> bytes:
        try:
            return super().look()
        except ObjectNotFoundError:
            return b""


LAWS = ReaderConformance()
BROKEN: list[tuple[type[GoodReader], Callable[..., None], tuple[Any, ...]]] = [
    (OffByOne, LAWS.test_equals_bytesio, (20, 5000)),
    (OffByOne, LAWS.test_equals_bytesio_for_long, (20,)),
    (OffByOne, LAWS.test_serves_torch_load, ()),
    (ShortReadinto, LAWS.test_equals_bytesio, (20, 5000)),
    (ShortReadinto, LAWS.test_serves_torch_load, ()),
    (WritesTooMuch, LAWS.test_equals_bytesio, (20, 5000)),
    (ReturnsBytearray, LAWS.test_equals_bytesio, (20, 1)),
    (SeeksBeyondTheEnd, LAWS.test_equals_bytesio, (20, 1)),
    (SeeksBeyondTheEnd, LAWS.test_seeks_within_the_object_only, ()),
    (StaleBuffer, LAWS.test_equals_bytesio, (40, 5000)),
    (Mixes, LAWS.test_never_mixes_two_objects, ()),
    (LivesOn, LAWS.test_close_ends_everything, ()),
    (FetchesAll, LAWS.test_the_tail_costs_the_tail, ()),
    (AsksOnOpening, LAWS.test_opening_asks_for_nothing, ()),
    (HidesErrors, LAWS.test_a_missing_object_has_its_error, ()),
    (HidesErrors, LAWS.test_errors_pass_through_torch_load, ()),
]


def store_for(reader: type[GoodReader]) -> Callable[[bytes], StoredObject]:
    def store(data: bytes) -> StoredObject:
        place = Place(data)
        return StoredObject(
            open=lambda: reader(place), replace=place.replace, remove=place.remove, fetched=lambda: place.fetched
        )

    return store


def call(law: Callable[..., None], reader: type[GoodReader], arguments: tuple[Any, ...]) -> None:
    law(store_for(reader), *arguments)


@pytest.mark.parametrize(("defect", "law", "arguments"), BROKEN, ids=lambda item: getattr(item, "__name__", None))
def test_a_defect_is_found(defect: type[GoodReader], law: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    call(law, GoodReader, arguments)
    broken: type[BaseException] | None = None
    try:
        call(law, defect, arguments)
    except BaseException as error:  # noqa: BLE001  # a failed assertion, pytest.raises, or whatever torch makes of it
        broken = type(error)
    assert broken is not None, f"{law.__name__} does not notice {defect.__name__}"
