"""The objects under a prefix, page by page, each page asked for while the one before it is still being used."""

from __future__ import annotations

from collections.abc import Generator

from s3torch.client import ObjectInfo, S3BucketKeyData, S3Client, Transfer
from s3torch.client.listing import ListPage
from s3torch.client.paging import Paging

__all__ = ["list_ahead"]

_PAGE = 1000  # keys at most, by ListObjectsV2's API page


def list_ahead(client: S3Client, bucket: str, prefix: str) -> Generator[S3BucketKeyData, None, None]:
    """List the objects under a prefix, in key order.

    A window that is full of small objects would run dry while it waits for the next page.

    Args:
        client: Where to list.
        bucket: The bucket.
        prefix: Only keys that begin so.

    Yields:
        The objects; the next page is asked for once half of a page is used.

    Raises:
        ProtocolError: The store gives a page again, or does not say how the list goes on.
        S3Exception: A page cannot be had.
    """
    engine = client.engine
    paging: Paging[str] = Paging("ListObjectsV2", bucket, prefix)

    def ask(token: str | None) -> Transfer[ListPage]:
        return engine.start_list_page(bucket, prefix, delimiter="", max_keys=_PAGE, token=token, start_after=None)

    asked: Transfer[ListPage] | None = ask(None)
    try:
        while asked is not None:
            page = asked.result()
            asked = None
            token = paging.turn(page.token, page.keys[0] if page.keys else None)
            half, status = len(page.keys) // 2, page.restore_statuses.get
            columns = zip(page.keys, page.etags, page.sizes, page.last_modified, page.storage_classes, strict=True)
            for place, (key, etag, size, time, storage_class) in enumerate(columns):
                if place == half and token is not None:
                    asked = ask(token)
                name = key.decode()
                info = ObjectInfo(name, etag, size, time, storage_class, status(place))
                yield S3BucketKeyData(bucket, name, info)
            if not page.keys and token is not None:
                asked = ask(token)
    finally:
        if asked is not None:
            asked.cancel()
