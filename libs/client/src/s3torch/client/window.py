"""Many objects or ranges, in order, within a window."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from s3torch.client.errors import S3Exception
from s3torch.client.protocols import Gets, Transfer
from s3torch.client.values import GetRequest, GetResult

__all__ = ["get_many"]

# What an object of unknown size counts for in the window, until its response tells.
_ASSUMED_SIZE = 1024 * 1024


def get_many(
    engine: Gets,
    requests: Iterable[GetRequest],
    *,
    window: int,
    window_bytes: int,
    return_errors: bool = False,
) -> Iterator[GetResult | S3Exception]:
    """Fetch many objects or ranges, several at once, and yield them in the order asked.

    Nothing runs but while the caller waits in ``next()``; in between, the kernel's socket buffers go on receiving.

    Args:
        engine: Where to read.
        requests: What to read; pulled as the window moves.
        window: Requests in flight or undelivered at most.
        window_bytes: Bytes in flight or undelivered at most; one request is always allowed.
        return_errors: Yield a request's error at its place and go on, rather than raise it.

    Yields:
        The results, one for each request.

    Raises:
        S3Exception: At the place of the request that failed, unless ``return_errors``; what follows is cancelled.
    """
    source = iter(requests)
    flying: deque[tuple[Transfer[GetResult], int]] = deque()
    held = 0
    waiting: GetRequest | None = None  # drawn from the source, but too large for what is left of the window
    exhausted = False
    try:
        while True:
            while not exhausted and len(flying) < window:
                if waiting is None:
                    waiting = next(source, None)
                    if waiting is None:
                        exhausted = True
                        break
                size = _size(waiting)
                if flying and held + size > window_bytes:
                    break
                flying.append((engine.start_get(waiting), size))
                held += size
                waiting = None
            if not flying:
                return
            transfer, size = flying.popleft()
            held -= size
            if transfer.done():
                # Keep the others going: a caller that computes long between items comes by here only now and then.
                transfer.advance()
            try:
                result: GetResult | S3Exception = transfer.result()
            except S3Exception as error:
                if not return_errors:
                    raise
                result = error
            except BaseException:
                transfer.cancel()
                raise
            yield result
    finally:
        for transfer, _ in flying:
            transfer.cancel()


def _size(request: GetRequest) -> int:
    if request.start is not None and request.start < 0:
        return -request.start
    start = request.start or 0
    if request.end is not None:
        return request.end - start
    return _ASSUMED_SIZE if request.size is None else max(0, request.size - start)
