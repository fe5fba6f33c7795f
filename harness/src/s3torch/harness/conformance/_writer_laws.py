"""What all laws of a writer share: the subject, what it declares of itself, and what it left behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

import pytest

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


class WriterLaws:
    """Fixtures to supply and capabilities to declare; see `WriterConformance`."""

    part_size: ClassVar[int] = 8 * MIB
    """Bytes that the writer at hand sends in one request; the laws write several times as many."""
    lists_uploads: ClassVar[bool] = True
    """Whether the arrangement can tell which multipart uploads were left unfinished."""
    broken_by_server: ClassVar[Mapping[str, str]] = {}
    """Laws that cannot hold whatever the writer does: name of the test to what the server gets wrong."""

    @pytest.fixture(autouse=True)
    def _skip_what_the_server_breaks(self, request: pytest.FixtureRequest) -> None:
        reason = self.broken_by_server.get(request.function.__name__)
        if reason is not None:
            pytest.skip(f"the server at hand breaks this law: {reason}")

    @pytest.fixture
    def arrangement(self) -> Arrangement:
        """The suite's own way to the store, independent of the subject."""
        raise NotImplementedError("supply the fixture 'arrangement'")

    @pytest.fixture
    def open_writer(self) -> OpenWriter:
        """A function that opens the subject."""
        raise NotImplementedError("supply the fixture 'open_writer'")

    @pytest.fixture
    def tap(self) -> RequestTap | None:
        """Sees and breaks off the subject's requests, such as an `EngineTap`; None skips the laws that need it."""
        return None

    @pytest.fixture
    def bucket(self, arrangement: Arrangement) -> str:
        """An empty bucket."""
        return arrangement.create_bucket()

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
