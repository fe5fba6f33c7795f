"""The laws of writers can be broken: each planted defect is found by the law it breaks."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from s3torch.client import GetRequest, PartResult, PutOptions, S3Client, S3ClientConfig
from s3torch.client.memory import MemoryStore
from s3torch.harness.conformance import EngineTap, MemoryArrangement, OpenWriter, WriterConformance

pytestmark = [
    pytest.mark.conformance,
    pytest.mark.usefixtures("in_continuous_integration"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # of writers that fail when dropped
]

MIB = 1024 * 1024
OPTIONS = PutOptions()


class GoodWriter(io.BufferedIOBase):
    """Obeys all laws that the defects below break, in the plainest way."""

    part: ClassVar[int] = 5 * MIB

    def __init__(self, client: S3Client, bucket: str, key: str) -> None:
        self.engine = client.engine
        self.bucket = bucket
        self.key = key
        self.buffer = bytearray()
        self.position = 0
        self.upload: str | None = None
        self.parts: list[PartResult] = []
        self.error: BaseException | None = None
        self.owner = os.getpid()

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def write(self, data: Any) -> int:
        if self.closed:
            raise ValueError("closed")
        if self.error is not None:
            raise self.error
        view = memoryview(data)
        if not view.c_contiguous:
            raise ValueError("gaps")
        count = view.nbytes
        try:
            self.take(data)
        except BaseException as error:
            self.error = error
            raise
        self.position += count
        return count

    def take(self, data: Any) -> None:
        self.buffer += memoryview(data).tobytes()
        while len(self.buffer) > self.part:
            self.send(bytes(self.buffer[: self.part]))
            del self.buffer[: self.part]

    def send(self, data: bytes) -> None:
        if self.upload is None:
            self.upload = self.engine.create_multipart(self.bucket, self.key, OPTIONS)
        number = len(self.parts) + 1
        part = self.engine.start_part(self.bucket, self.key, self.upload, number, [memoryview(data)])
        self.parts.append(part.result())

    def publish(self) -> None:
        if self.upload is None:
            self.engine.start_put(self.bucket, self.key, [memoryview(bytes(self.buffer))], OPTIONS).result()
            return
        self.send(bytes(self.buffer))
        self.engine.complete_multipart(self.bucket, self.key, self.upload, self.parts, OPTIONS)
        self.upload = None

    def discard(self) -> None:
        if self.upload is not None:
            self.engine.abort_multipart(self.bucket, self.key, self.upload)
            self.upload = None

    def close(self) -> None:
        if self.closed:
            return
        try:
            if self.error is not None:
                raise self.error
            self.publish()
        except BaseException:
            self.discard()
            raise
        finally:
            super().close()

    def abort(self) -> None:
        if not self.closed:
            self.discard()
            super().close()

    def __enter__(self) -> Any:
        if self.closed:
            raise ValueError("closed")
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.close()
            return
        self.abort()
        if self.error is not None and self.error is not error:
            raise self.error from None  # torch.save made another of it

    def __del__(self) -> None:
        if self.owner == os.getpid():
            self.abort()


class PublishesOnError(GoodWriter):
    """As a file whose block is left by an exception, and is closed nevertheless."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close()


class PublishesOnInterrupt(GoodWriter):
    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):
            super().__exit__(kind, error, trace)
        else:
            self.close()


class SwallowsExceptions(GoodWriter):
    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:  # type: ignore[override]  # the defect
        super().__exit__(kind, error, trace)
        return isinstance(error, RuntimeError)


class PublishesWhenDropped(GoodWriter):
    """As `io.IOBase` does if nobody minds."""

    def __del__(self) -> None:
        if self.owner == os.getpid():
            self.close()


class LeavesPartsWhenDropped(GoodWriter):
    def __del__(self) -> None:
        super(GoodWriter, self).close()


class PublishesInTheChild(GoodWriter):
    """What a child drops becomes visible; seen where the store is shared, and here by what the child returns."""

    def __del__(self) -> None:
        if self.owner != os.getpid():
            os._exit(9)
        self.abort()


class LeavesParts(GoodWriter):
    def discard(self) -> None:
        self.upload = None


class ForgetsAPart(GoodWriter):
    def publish(self) -> None:
        if self.upload is not None and self.parts:
            self.send(bytes(self.buffer))
            self.engine.complete_multipart(self.bucket, self.key, self.upload, self.parts[:-1], OPTIONS)
            self.upload = None
        else:
            super().publish()


class SwapsParts(GoodWriter):
    """Numbers the parts as they arrive, and two overtake each other."""

    def publish(self) -> None:
        if len(self.parts) > 1 and self.upload is not None:
            first, second = self.parts[:2]
            self.parts[:2] = [PartResult(1, second.etag), PartResult(2, first.etag)]
            self.swap(self.upload)
        super().publish()

    def swap(self, upload: str) -> None:
        store: Any = self.engine
        parts = store.store._upload(self.bucket, self.key, upload).parts
        parts[1], parts[2] = parts[2], parts[1]


class KeepsTheCallersMemory(GoodWriter):
    """Copies nothing until it must."""

    def __init__(self, client: S3Client, bucket: str, key: str) -> None:
        super().__init__(client, bucket, key)
        self.kept: list[Any] = []

    def take(self, data: Any) -> None:
        self.kept.append(data)

    def publish(self) -> None:
        for data in self.kept:
            super().take(data)
        super().publish()


class KeepsLargeMemory(GoodWriter):
    """Lends what makes a part from the caller's memory, and sends it with the next write."""

    lent: Any = b""

    def take(self, data: Any) -> None:
        super().take(self.lent)
        self.lent = b""
        if memoryview(data).nbytes >= self.part:
            self.lent = data
        else:
            super().take(data)

    def publish(self) -> None:
        super().take(self.lent)
        super().publish()


class LosesTheRest(GoodWriter):
    """Sends whole parts only, once there is an upload."""

    def publish(self) -> None:
        if self.upload is not None and len(self.buffer) < self.part:
            self.engine.complete_multipart(self.bucket, self.key, self.upload, self.parts, OPTIONS)
            self.upload = None
        else:
            super().publish()


class CountsItems(GoodWriter):
    def write(self, data: Any) -> int:
        super().write(data)
        return len(data)


class WritesTheFirstBytesOnly(GoodWriter):
    """As a raw file may, and torch does not look."""

    def write(self, data: Any) -> int:
        return super().write(memoryview(data).cast("B")[:100_000])


class TakesText(GoodWriter):
    def write(self, data: Any) -> int:
        return super().write(data.encode() if isinstance(data, str) else data)


class TakesGaps(GoodWriter):
    def write(self, data: Any) -> int:
        return super().write(memoryview(data).tobytes())


class BreaksWhenRefusing(GoodWriter):
    """Counts before it looks."""

    def write(self, data: Any) -> int:
        self.position += 1
        count = super().write(data)
        self.position -= 1
        return count


class PublishesTwice(GoodWriter):
    def close(self) -> None:
        if self.closed and self.upload is None and not self.parts:
            self.engine.start_put(self.bucket, self.key, [memoryview(bytes(self.buffer))], OPTIONS).result()
        super().close()


class PublishesOnFlush(GoodWriter):
    def flush(self) -> None:
        if self.upload is None and not self.closed:
            self.publish()


class PublishesEarly(GoodWriter):
    """Puts an empty object first, to see whether it may."""

    def __init__(self, client: S3Client, bucket: str, key: str) -> None:
        super().__init__(client, bucket, key)
        self.engine.start_put(bucket, key, [], OPTIONS).result()


class DeletesFirst(GoodWriter):
    def take(self, data: Any) -> None:
        self.engine.delete(self.bucket, self.key)
        super().take(data)


class WritesNothingForNothing(GoodWriter):
    def publish(self) -> None:
        if self.position:
            super().publish()


class WritesAfterClose(GoodWriter):
    def write(self, data: Any) -> int:
        return len(data) if self.closed else super().write(data)


class OpensAgain(GoodWriter):
    def __enter__(self) -> Any:
        return self


class StaysOpenAfterErrors(GoodWriter):
    def close(self) -> None:
        if self.error is not None:
            raise self.error
        super().close()


class SwallowsErrorsAtClose(GoodWriter):
    def close(self) -> None:
        try:
            super().close()
        except Exception:  # noqa: BLE001, S110  # the defect
            pass


class ForgetsErrors(GoodWriter):
    """Raises once, and publishes what did arrive."""

    def close(self) -> None:
        self.error = None
        super().close()


class DropsInterrupts(GoodWriter):
    """Leaves its parts when the user presses Ctrl-C."""

    def discard(self) -> None:
        if isinstance(self.error, Exception) or self.error is None:
            super().discard()


class ChangesErrors(GoodWriter):
    def send(self, data: bytes) -> None:
        try:
            super().send(data)
        except Exception as error:
            raise OSError("something went wrong") from error


class LetsTorchTell(GoodWriter):
    """Leaves a block with whatever a library made of the error."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.close()
        else:
            self.abort()


class SharesABuffer(GoodWriter):
    shared = bytearray()

    def __init__(self, client: S3Client, bucket: str, key: str) -> None:
        super().__init__(client, bucket, key)
        self.buffer = self.shared
        self.buffer.clear()


class ReadsBack(GoodWriter):
    """Takes an object that is there for its own beginning."""

    def publish(self) -> None:
        try:
            self.engine.start_get(GetRequest(self.bucket, self.key)).result()
        except FileNotFoundError:
            super().publish()


LAWS = WriterConformance()
BROKEN: list[tuple[type[GoodWriter], Callable[..., None], tuple[Any, ...]]] = [
    (PublishesOnError, LAWS.test_an_exception_in_the_block_publishes_nothing, (RuntimeError, 0)),
    (PublishesOnError, LAWS.test_an_exception_in_the_block_publishes_nothing, (RuntimeError, 1)),
    (PublishesOnInterrupt, LAWS.test_an_exception_in_the_block_publishes_nothing, (KeyboardInterrupt, 0)),
    (SwallowsExceptions, LAWS.test_an_exception_in_the_block_publishes_nothing, (RuntimeError, 0)),
    (PublishesWhenDropped, LAWS.test_a_dropped_writer_publishes_nothing, (0,)),
    (LeavesPartsWhenDropped, LAWS.test_a_dropped_writer_publishes_nothing, (1,)),
    (PublishesInTheChild, LAWS.test_a_forked_child_leaves_it_alone, ()),
    (LeavesParts, LAWS.test_an_exception_in_the_block_publishes_nothing, (RuntimeError, 1)),
    (LeavesParts, LAWS.test_every_request_may_fail, (PermissionError, False, 1)),
    (LeavesParts, LAWS.test_a_dropped_writer_publishes_nothing, (1,)),
    (ForgetsAPart, LAWS.test_an_object_may_need_several_requests, (3, 70_000)),
    (ForgetsAPart, LAWS.test_serves_torch_save, ()),
    (SwapsParts, LAWS.test_an_object_may_need_several_requests, (3, 70_000)),
    (KeepsTheCallersMemory, LAWS.test_the_callers_memory_is_his_again, ()),
    (KeepsLargeMemory, LAWS.test_the_callers_memory_is_his_again, ()),
    (LosesTheRest, LAWS.test_an_object_may_need_several_requests, (1, 1)),
    (CountsItems, LAWS.test_an_object_is_what_was_written, (20,)),
    (WritesTheFirstBytesOnly, LAWS.test_an_object_is_what_was_written, (40,)),
    (WritesTheFirstBytesOnly, LAWS.test_serves_torch_save, ()),
    (TakesText, LAWS.test_what_cannot_be_written_is_refused, ()),
    (TakesGaps, LAWS.test_what_cannot_be_written_is_refused, ()),
    (BreaksWhenRefusing, LAWS.test_what_cannot_be_written_is_refused, ()),
    (PublishesTwice, LAWS.test_close_publishes_once, (0,)),
    (PublishesOnFlush, LAWS.test_nothing_is_visible_before_close, (0,)),
    (PublishesEarly, LAWS.test_nothing_is_visible_before_close, (1,)),
    (PublishesEarly, LAWS.test_an_object_is_replaced_when_closed, (0,)),
    (DeletesFirst, LAWS.test_an_object_is_replaced_when_closed, (1,)),
    (DeletesFirst, LAWS.test_an_exception_in_the_block_publishes_nothing, (RuntimeError, 0)),
    (WritesNothingForNothing, LAWS.test_no_writes_are_an_empty_object, ()),
    (WritesAfterClose, LAWS.test_close_publishes_once, (0,)),
    (OpensAgain, LAWS.test_close_publishes_once, (0,)),
    (StaysOpenAfterErrors, LAWS.test_close_tells_of_every_failure, (1,)),
    (SwallowsErrorsAtClose, LAWS.test_close_tells_of_every_failure, (0,)),
    (SwallowsErrorsAtClose, LAWS.test_a_missing_bucket_has_its_error, (0,)),
    (SwallowsErrorsAtClose, LAWS.test_every_request_may_fail, (PermissionError, False, 0)),
    (ForgetsErrors, LAWS.test_close_tells_of_every_failure, (1,)),
    (DropsInterrupts, LAWS.test_every_request_may_fail, (KeyboardInterrupt, False, 1)),
    (ChangesErrors, LAWS.test_every_request_may_fail, (PermissionError, False, 1)),
    (ChangesErrors, LAWS.test_a_missing_bucket_has_its_error, (1,)),
    (LetsTorchTell, LAWS.test_errors_pass_through_torch_save, (PermissionError,)),
    (LetsTorchTell, LAWS.test_a_missing_bucket_has_its_error, (1,)),
    (SharesABuffer, LAWS.test_writers_do_not_disturb_each_other, ()),
    (ReadsBack, LAWS.test_writers_do_not_disturb_each_other, ()),
]


class Small(WriterConformance):
    part_size = 5 * MIB


def hold(law: Callable[..., None], writer: type[GoodWriter], arguments: tuple[Any, ...]) -> str | None:
    """Hold a writer to a law; return what it finds."""
    tap, endpoint = EngineTap("memory"), f"memory://{uuid.uuid4().hex}"
    store = MemoryStore.named(endpoint)
    arrangement = MemoryArrangement(store)
    bucket = arrangement.create_bucket()
    client = S3Client("us-east-1", endpoint=endpoint, s3client_config=S3ClientConfig(engine=tap))
    open_writer: OpenWriter = lambda bucket, key: writer(client, bucket, key)  # noqa: E731  # typed
    supplied = {"open_writer": open_writer, "arrangement": arrangement, "bucket": bucket, "tap": tap}
    code = law.__func__.__code__  # type: ignore[attr-defined]  # of a bound method
    names = code.co_varnames[1 : code.co_argcount]
    values = iter(arguments)
    try:
        getattr(Small(), law.__name__)(**{name: supplied[name] if name in supplied else next(values) for name in names})
    except BaseException as error:  # noqa: BLE001  # a failed assertion, pytest.raises, or whatever torch makes of it
        return repr(error)
    finally:
        store.clear()
    return None


@pytest.mark.parametrize(("defect", "law", "arguments"), BROKEN, ids=lambda item: getattr(item, "__name__", None))
def test_a_defect_is_found(defect: type[GoodWriter], law: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    assert hold(law, GoodWriter, arguments) is None
    assert hold(law, defect, arguments) is not None, f"{law.__name__} does not notice {defect.__name__}"
