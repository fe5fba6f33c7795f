"""From page to page of a listing: each is another one than those before, or a store's mistake would go on for ever."""

from __future__ import annotations

from typing import Generic, TypeVar

from s3torch.client.errors import ProtocolError

__all__ = ["Paging", "next_mark"]

Mark = TypeVar("Mark")

_REMEDY = (
    "Look at what lies between here and the store: a proxy or a cache that drops or answers by itself what asks for"
    " the next page. If nothing does, it is the store's own mistake."
)


def next_mark(
    is_truncated: bool, mark: Mark | None, *, operation: str, prefix: str, bucket: str | None = None
) -> Mark | None:
    """Return what asks for the next page, by what an answer says of it.

    Args:
        is_truncated: Whether the answer says that the list goes on.
        mark: What the answer says that the next page is asked for with; None or empty if it does not.
        operation: The S3 operation, such as ``ListObjectsV2``.
        prefix: The prefix that is listed.
        bucket: The bucket, where it is known here.

    Returns:
        The mark; None where the list ends.

    Raises:
        ProtocolError: The list goes on, but nothing asks for the rest of it.
    """
    if not is_truncated:
        return None
    if not mark:
        raise ProtocolError(
            f"the list of prefix {prefix!r} goes on but does not say where",
            operation=operation,
            bucket=bucket,
            remedy=_REMEDY,
        )
    return mark


class Paging(Generic[Mark]):
    """The pages of one listing, seen one after the other: none of them may have been there before.

    S3 lists each key once, and says with each page what asks for the next. Pages without entries are as good as others:
    a store that skips much gives them. A page that is asked for with the same mark as one before, or that begins with
    the same entry, is that page again. It is compared with the page before, and with one that is kept until the number
    of pages has doubled: so circles of any length are found (R. P. Brent, "An improved Monte Carlo factorization
    algorithm", 1980).

    Args:
        operation: The S3 operation, such as ``ListObjectsV2``.
        bucket: The bucket that is listed.
        prefix: The prefix that is listed.
    """

    __slots__ = ("_bucket", "_count", "_kept", "_last", "_operation", "_prefix")

    def __init__(self, operation: str, bucket: str, prefix: str) -> None:
        self._operation = operation
        self._bucket = bucket
        self._prefix = prefix
        self._count = 0
        self._last: tuple[Mark | None, object] = (None, None)
        self._kept: tuple[Mark | None, object] = (None, None)

    def turn(self, mark: Mark | None, first: object) -> Mark | None:
        """Take the page that has come for another one than those before, if it is.

        Args:
            mark: What asks for the page after it; None if it is the last.
            first: What names its first entry; None if it has none.

        Returns:
            The mark.

        Raises:
            ProtocolError: The listing has been here before, or does not say how it goes on.
        """
        mark = next_mark(mark is not None, mark, operation=self._operation, bucket=self._bucket, prefix=self._prefix)
        for earlier_mark, earlier_first in (self._last, self._kept):
            if (mark is not None and mark == earlier_mark) or (first is not None and first == earlier_first):
                raise ProtocolError(
                    f"the list of prefix {self._prefix!r} goes on where it has been",
                    operation=self._operation,
                    bucket=self._bucket,
                    remedy=_REMEDY,
                )
        self._last = mark, first
        self._count += 1
        if self._count & (self._count - 1) == 0:
            self._kept = self._last
        return mark
