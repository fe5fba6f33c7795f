"""Shards on their way: each in parts, several at once, bounded in bytes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from s3torch.client import Engine, GetInfo, GetRequest, GetResult, InvalidRangeError, S3BucketKeyData, Transfer
from s3torch.client.answers import object_changed

__all__ = ["ShardFetch", "ShardWindow"]

_KIB = 1024
# A stream's first part is about what one round trip carries, so that the first sample comes soon; each next is larger.
_FIRST_PART = 512 * _KIB
_GROWTH = 4
# While a consumer computes, what is in flight is looked after no more often than this: each look is a system call.
_LEAST_PAUSE_S = 0.002


class ShardFetch:
    """One shard from some byte on: the parts that are in flight or have not been taken.

    Args:
        item: The shard, and what a listing told of it.
        offset: First byte to fetch.
    """

    __slots__ = ("_etag", "_first_length", "_next", "item", "parts", "size", "waiting_bytes")

    def __init__(self, item: S3BucketKeyData, offset: int = 0) -> None:
        info = item.object_info
        self.item = item
        self.size = None if info is None else info.size
        self.parts: deque[tuple[Transfer[GetResult], int]] = deque()
        self.waiting_bytes = 0
        self._etag = None if info is None else info.etag or None
        self._next = offset
        self._first_length = _FIRST_PART

    def next_length(self, part_size: int) -> int:
        """Return how many bytes the next part has; 0 if there is none, or none can be asked for yet."""
        if self.size is None:  # the first part tells the size, and pins the ETag
            return 0 if self.parts else min(part_size, self._first_length)
        return max(0, min(part_size, self._first_length, self.size - self._next))

    def start_next(self, engine: Engine, length: int) -> None:
        """Start to fetch the next part."""
        bucket, key, _ = self.item
        request = GetRequest(bucket, key, self._next, self._next + length, etag=self._etag, size=self.size)
        into = self._lay_out if self.size is None else None
        self.parts.append((engine.start_get(request, into), length))
        self.waiting_bytes += length
        self._next += length
        self._first_length *= _GROWTH

    def check(self, info: GetInfo) -> None:
        """Hold the shard to what the head of the first response said: an answer may have come in several attempts.

        Raises:
            ObjectChangedError: The shard was replaced.
        """
        if self._etag and info.etag != self._etag:
            raise object_changed(self.item.bucket, self.item.key)

    def _lay_out(self, info: GetInfo) -> memoryview:
        """Learn from the head of the first response, while its bytes are on their way."""
        if self.size is None:
            self.size = info.size
            self._etag = info.etag or None
        return memoryview(bytearray(info.length))

    def cancel(self) -> None:
        """End all that is in flight."""
        for transfer, _ in self.parts:
            transfer.cancel()
        self.parts.clear()
        self.waiting_bytes = 0


class ShardWindow:
    """Fetches the shards that are being read, and those that come next, ahead of their consumer.

    Those being read are kept equally far ahead. What is left of the window goes to the next ones, in their order.
    Nothing runs but while somebody waits, here or for any other transfer of the thread.

    Args:
        engine: Where to read.
        shards: What to fetch, in order; drawn as the window moves.
        part_size: Bytes in one part at most.
        window: Parts in flight or not taken at most.
        window_bytes: Bytes in flight or not taken at most; one part is always allowed.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        engine: Engine,
        shards: Iterable[ShardFetch],
        *,
        part_size: int,
        window: int,
        window_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._source: Iterator[ShardFetch] = iter(shards)
        self._part_size = part_size
        self._most = window
        self._limit = window_bytes
        self._clock = clock
        self._driven_at = clock()
        self._open: list[ShardFetch] = []
        self._next: deque[ShardFetch] = deque()  # drawn, and not being read yet
        self.waited_s = 0.0
        """Seconds for which somebody waited for a part."""
        self.delivered = 0
        """Parts handed out."""
        self.in_flight_sum = 0
        """Parts in flight or not taken, summed over those times."""
        self.in_flight_peak = 0
        """The most of them."""

    @property
    def waiting_bytes(self) -> int:
        """Bytes in flight or not taken."""
        return sum(shard.waiting_bytes for shard in self._open) + sum(shard.waiting_bytes for shard in self._next)

    def open_next(self) -> ShardFetch | None:
        """Begin to read the next shard; None after the last."""
        shard = self._next.popleft() if self._next else next(self._source, None)
        if shard is not None:
            self._open.append(shard)
        return shard

    def close_shard(self, shard: ShardFetch) -> None:
        """End reading a shard, at its end or before."""
        shard.cancel()
        self._open.remove(shard)

    def next_part(self, shard: ShardFetch) -> memoryview | None:
        """Wait for the next part of a shard that is being read.

        Args:
            shard: Which.

        Returns:
            Its bytes; None after the last.

        Raises:
            S3Exception: It cannot be read.
        """
        if not shard.parts:
            length = shard.next_length(self._part_size)
            if not length:
                return None
            shard.start_next(self._engine, length)  # whatever the window holds: others wait for this one's consumer
        self._fill()
        transfer, length = shard.parts[0]
        if not transfer.done():
            began = self._clock()
            transfer.wait()
            self._driven_at = self._clock()
            self.waited_s += self._driven_at - began
        self._count()
        shard.parts.popleft()
        shard.waiting_bytes -= length
        try:
            result = transfer.result()
        except InvalidRangeError:
            if shard.size is None and not self._engine.head(shard.item.bucket, shard.item.key).size:
                shard.size = 0  # an object without bytes has no range to give
                return None
            raise
        shard.check(result.info)
        self._fill()
        self.keep_going()
        return memoryview(result.data)

    def keep_going(self) -> None:
        """Look after what is in flight, if that was long ago: for consumers that compute between parts."""
        if self._clock() - self._driven_at >= _LEAST_PAUSE_S:
            self.advance()

    def advance(self, seconds: float = 0.0) -> None:
        """Do what can be done now for what is in flight; wait for that at most so many seconds."""
        for shard in (*self._open, *self._next):
            for transfer, _ in shard.parts:
                if not transfer.done():
                    transfer.advance(seconds)
                    self._driven_at = self._clock()
                    return
        self._driven_at = self._clock()

    def close(self) -> None:
        """End all that is in flight."""
        for shard in (*self._open, *self._next):
            shard.cancel()
        self._open.clear()
        self._next.clear()

    def _count(self) -> None:
        parts = self._parts
        self.delivered += 1
        self.in_flight_sum += parts
        self.in_flight_peak = max(self.in_flight_peak, parts)

    @property
    def _parts(self) -> int:
        return sum(len(shard.parts) for shard in self._open) + sum(len(shard.parts) for shard in self._next)

    def _fill(self) -> None:
        room = self._limit - self.waiting_bytes
        places = self._most - self._parts
        while places > 0 and (chosen := self._choose()) is not None:
            length = chosen.next_length(self._part_size)
            if length > room:
                return
            chosen.start_next(self._engine, length)
            room -= length
            places -= 1

    def _choose(self) -> ShardFetch | None:
        """Find which shard to fetch more of; None when all there is has been asked for."""
        candidates = [shard for shard in self._open if shard.next_length(self._part_size)]
        if candidates:
            return min(candidates, key=lambda shard: shard.waiting_bytes)
        for shard in self._next:
            if shard.next_length(self._part_size):
                return shard
        # An open shard of unknown size that waits for its first response does not hold up those behind it.
        while len(self._next) < self._most and (drawn := next(self._source, None)) is not None:
            self._next.append(drawn)
            if drawn.next_length(self._part_size):
                return drawn
        return None
