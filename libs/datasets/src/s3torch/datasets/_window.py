"""What is in flight ahead of the consumer: the next small objects, in order, bounded in count and bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable

from s3torch.client import GetRequest, GetResult, S3BucketKeyData, Transfer
from s3torch.client.protocols import Gets

__all__ = ["plan_request", "run_ahead"]

# What is fetched ahead of an object nothing is known of: all of a small one; little of a large one.
_UNKNOWN_SIZE_HEAD = 1024 * 1024


def plan_request(item: S3BucketKeyData, part_size: int) -> GetRequest | None:
    """Decide what to fetch of an object before its turn.

    Args:
        item: The object.
        part_size: Bytes up to which an object is fetched whole.

    Returns:
        The request; None leaves the object to its reader: it is large, and then its stream reads in parallel and
        straight into the destination, or empty, and then there is nothing to fetch.
    """
    info = item.object_info
    if info is None:
        return GetRequest(item.bucket, item.key, 0, _UNKNOWN_SIZE_HEAD)
    if 0 < info.size <= part_size:
        return GetRequest(item.bucket, item.key, etag=info.etag or None, size=info.size)
    return None


def run_ahead(
    engine: Gets, items: Iterable[S3BucketKeyData], *, part_size: int, window: int, window_bytes: int
) -> Generator[tuple[S3BucketKeyData, Transfer[GetResult] | None], None, None]:
    """Give the objects in order, while those that follow are being fetched.

    Nothing runs but while somebody waits, here or for any other transfer of the thread.

    Args:
        engine: Where to read.
        items: The objects; drawn as the window moves.
        part_size: Bytes up to which an object is fetched whole.
        window: Objects drawn but not given at most.
        window_bytes: Bytes in flight or not given at most; one object is always allowed.

    Yields:
        Each object and its fetch, which has ended with a result or an error; None where nothing is fetched ahead.
    """
    source = iter(items)
    ahead: deque[tuple[S3BucketKeyData, Transfer[GetResult] | None, int]] = deque()
    held = 0
    waiting: tuple[S3BucketKeyData, GetRequest] | None = None  # drawn, but too large for what is left of the window
    exhausted = False
    try:
        while True:
            while not exhausted and len(ahead) < window:
                if waiting is None:
                    item = next(source, None)
                    if item is None:
                        exhausted = True
                        break
                    request = plan_request(item, part_size)
                    if request is None:
                        ahead.append((item, None, 0))
                        continue
                    waiting = item, request
                item, request = waiting
                size = request.size or _UNKNOWN_SIZE_HEAD
                if ahead and held + size > window_bytes:
                    break
                ahead.append((item, engine.start_get(request), size))
                held += size
                waiting = None
            if not ahead:
                return
            item, transfer, size = ahead.popleft()
            held -= size
            if transfer is not None:
                _finish(transfer)
            yield item, transfer
    finally:
        for _, transfer, _ in ahead:
            if transfer is not None:
                transfer.cancel()


def _finish(transfer: Transfer[GetResult]) -> None:
    try:
        if transfer.done():
            # A consumer that computes long between objects comes by here only now and then: move the others, too.
            transfer.advance()
        else:
            transfer.wait()
    except BaseException:
        transfer.cancel()
        raise
