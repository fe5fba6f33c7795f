"""One page of a listing in columns: what an engine gives to those who list by the million."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from s3torch.client.values import ListObjectResult, ObjectInfo, RestoreStatus

__all__ = ["ListPage"]


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a listing; the columns have an entry for each object, in the order the store gave."""

    keys: Sequence[bytes]
    """The keys, in UTF-8."""
    sizes: Sequence[int]
    """Sizes in bytes."""
    etags: Sequence[str]
    """Entity tags, with their quotes, as the store sent them."""
    last_modified: Sequence[int]
    """Times of the last change, in seconds since the epoch."""
    storage_classes: Sequence[str | None]
    """Storage classes, where the store tells them."""
    restore_statuses: Mapping[int, RestoreStatus] = field(default_factory=dict)
    """States of restores from archive, by the object's place in the columns, where the store tells them."""
    common_prefixes: Sequence[str] = ()
    """The key prefixes up to the delimiter that stand for more than one object."""
    token: str | None = None
    """What asks for the next page; None on the last."""

    @classmethod
    def of(cls, result: ListObjectResult, token: str | None) -> ListPage:
        """Put a page of objects into columns.

        Args:
            result: The page.
            token: What asks for the next.
        """
        infos = result.object_info
        return cls(
            [info.key.encode() for info in infos],
            [info.size for info in infos],
            [info.etag for info in infos],
            [info.last_modified for info in infos],
            [info.storage_class for info in infos],
            {place: info.restore_status for place, info in enumerate(infos) if info.restore_status is not None},
            result.common_prefixes,
            token,
        )

    def result(self) -> ListObjectResult:
        """Return the page with an object for each entry."""
        columns = zip(self.keys, self.etags, self.sizes, self.last_modified, self.storage_classes, strict=True)
        status = self.restore_statuses.get
        infos = [
            ObjectInfo(key.decode(), etag, size, time, storage_class, status(place))
            for place, (key, etag, size, time, storage_class) in enumerate(columns)
        ]
        return ListObjectResult(infos, list(self.common_prefixes))
