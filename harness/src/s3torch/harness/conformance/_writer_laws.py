"""What all laws of a writer share: the subject, what it declares of itself, and what it left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import pytest

from s3torch.harness.conformance._laws import Laws
from s3torch.harness.conformance.arrangement import Arrangement
from s3torch.harness.conformance.tapping import RequestTap

__all__ = ["KEY", "MIB", "OpenWriter", "WriterLaws", "error_of", "write_all"]

KEY = "a b/model.pt"
MIB = 1024 * 1024


class OpenWriter(Protocol):
    """How a suite opens its subject."""

    def __call__(self, bucket: str, key: str) -> Any:
        """Open an object for writing.

        Args:
            bucket: The bucket; it may be one that does not exist.
            key: The key.

        Returns:
            A new writer: a binary file that is a context manager.
        """
        ...


class WriterLaws(Laws):
    """Fixtures to supply and capabilities to declare; see `WriterConformance`."""

    part_size: ClassVar[int] = 8 * MIB
    """Bytes that the writer at hand sends in one request; the laws write several times as many."""
    lists_uploads: ClassVar[bool] = True
    """Whether the arrangement can tell which multipart uploads were left unfinished."""

    @pytest.fixture
    def open_writer(self) -> OpenWriter:
        """A function that opens the subject."""
        raise NotImplementedError("supply the fixture 'open_writer'")

    @pytest.fixture
    def tap(self) -> RequestTap | None:
        """Sees and breaks off the subject's requests, such as an `EngineTap`; None skips the laws that need it."""
        return None

    @pytest.fixture
    def examples(self) -> int:
        """How many sequences of writes are tried."""
        return 20

    def needed(self, tap: RequestTap | None) -> RequestTap:
        """Return the tap, or skip the law where there is none."""
        if tap is None:
            pytest.skip("no request can be made to fail here")
        return tap

    def unfinished(self, arrangement: Arrangement, bucket: str) -> list[str]:
        """Return the uploads left behind, as far as the arrangement can tell."""
        return arrangement.uploads(bucket) if self.lists_uploads else []


def write_all(writer: Any, data: bytes, step: int) -> None:
    """Write bytes in pieces of one size."""
    view = memoryview(data)
    for first in range(0, len(data), step):
        writer.write(view[first : first + step])


def error_of(call: Callable[[], object]) -> BaseException | None:
    """Return what a call raises, Ctrl-C included; None if it returns."""
    try:
        call()
    except BaseException as error:  # noqa: BLE001  # looked at by whoever asks
        return error
    return None
