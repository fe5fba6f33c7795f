"""What is fetched of an object before its turn."""

from __future__ import annotations

from s3torch.client import GetRequest, S3BucketKeyData

__all__ = ["FetchPlan"]

_MIB = 1024 * 1024


class FetchPlan:
    """Decides what to fetch of each object, in the light of those before it.

    Args:
        part_size: Bytes up to which an object is fetched whole.
    """

    __slots__ = ("_count", "_part_size", "_total")

    def __init__(self, part_size: int) -> None:
        self._part_size = part_size
        self._count = self._total = 0

    def __call__(self, item: S3BucketKeyData) -> tuple[GetRequest | None, int]:
        """Plan one object.

        Args:
            item: The object.

        Returns:
            The request, and how many bytes it is taken to bring. None leaves the object to its reader: it is large, and
            then its stream reads in parallel and straight into the destination, or empty, and then there is nothing to
            fetch. Of an object nothing is known of the first bytes are fetched: all of a small one.
        """
        info = item.object_info
        if info is None:
            if not self._count:
                return GetRequest(item.bucket, item.key, 0, _MIB), _MIB
            mean = self._total // self._count
            # Twice the mean, so that most of them are whole, and no less than costs nothing.
            first = min(self._part_size, max(_MIB, 2 * mean))
            return GetRequest(item.bucket, item.key, 0, first), min(first, mean)
        size = info.size
        if 0 < size <= self._part_size:
            return GetRequest(item.bucket, item.key, etag=info.etag or None, size=size), size
        return None, 0

    def learn(self, size: int) -> None:
        """Take the size of an object of which nothing was known."""
        self._count += 1
        self._total += size
