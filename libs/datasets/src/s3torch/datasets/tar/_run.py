"""One consumer's way through an epoch."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from s3torch.client import Engine, S3BucketKeyData, S3Exception
from s3torch.datasets.tar._fetch import ShardFetch, ShardWindow
from s3torch.datasets.tar._plan import TarPlan
from s3torch.datasets.tar._reading import BlockRule, ShardReading
from s3torch.datasets.tar._samples import RawSample
from s3torch.datasets.tar._state import OpenShard, TarState

__all__ = ["Limits", "TarRun"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a consumer may hold."""

    part_size: int
    """Bytes in one part at most."""
    window: int
    """Parts in flight or not taken at most."""
    window_bytes: int
    """Bytes of them at most."""
    shards: int
    """Shards read at a time."""


class TarRun:
    """Gives a consumer's samples, and says at any time where to go on.

    Several shards are read at a time, and each sample comes from one of them drawn by lot. Which one is drawn depends
    on nothing but the epoch, the consumer and how many it was given, never on what arrives first.

    Args:
        engine: Where to read.
        items: All shards of the dataset.
        plan: Which of them to read, in which order.
        state: How far this consumer has come.
        rule: How samples are mixed.
        limits: What may be held.
        quota: How many samples to give in all, but for those that are skipped; None gives what there are.
        on_shard_error: Is given what failed in a shard, and raises it or leaves out the shard's rest.
    """

    def __init__(
        self,
        engine: Engine,
        items: Sequence[S3BucketKeyData],
        plan: TarPlan,
        state: TarState,
        rule: BlockRule,
        limits: Limits,
        *,
        quota: int | None = None,
        on_shard_error: Callable[[S3BucketKeyData, Exception], object],
    ) -> None:
        self._items = items
        self._plan = plan
        self._state = state
        self._rule = rule
        self._shards = limits.shards
        self._quota = quota
        self._on_shard_error = on_shard_error
        # Which of the shards being read gives the next sample: one draw for each sample given.
        self._draw = random.Random(f"{rule.seed}:{rule.epoch}:{plan.shard.index}:{plan.shard.count}").random
        for _ in range(state.samples):
            self._draw()
        self._lot = self._draw()
        self._started = state.started
        self._samples = state.samples
        self._skipped = state.skipped
        self._fruitless = 0  # shards that have ended since a sample was given that was not skipped
        self._fruitless_before = 0  # the same, before the last sample
        self._last_reading: ShardReading | None = None  # whose sample was returned last
        self._left_open = len(state.open)  # of those that were begun before
        self._ahead: deque[OpenShard] = deque()  # where the shards begin that the window has drawn and not opened
        self._reading: list[ShardReading] = []
        self._last: TarState | None = None  # once it is closed
        self.window = ShardWindow(
            engine,
            self._fetches(chain(state.open, plan.from_turn(state.started))),
            part_size=limits.part_size,
            window=limits.window,
            window_bytes=limits.window_bytes,
        )

    @property
    def epoch(self) -> int:
        """The epoch."""
        return self._state.epoch

    def next_sample(self) -> tuple[S3BucketKeyData, RawSample] | None:
        """Return the next sample and its shard; None after the last.

        Raises:
            TarError: A shard is damaged.
            S3Exception: A shard cannot be read.
        """
        self.window.keep_going()
        while self._quota is None or self._samples - self._skipped < self._quota:
            self._open_shards()
            if not self._reading:
                break
            slot = int(self._lot * len(self._reading))
            reading = self._reading[slot]
            sample = self._sample_of(reading)
            if sample is not None:
                self._lot = self._draw()
                self._samples += 1
                self._fruitless_before, self._fruitless = self._fruitless, 0
                self._last_reading = reading
                return reading.item, sample
            reading.close()
            del self._reading[slot]
            self._fruitless += 1
            if self._quota is not None and self._fruitless > 2 * len(self._items):
                raise ValueError(f"none of the {len(self._items)} tar shards has a sample that could be given")
        return None

    def skip(self) -> None:
        """Leave the sample that was returned last out of the count of those given."""
        self._skipped += 1
        self._fruitless = self._fruitless_before

    def take_back(self) -> None:
        """Count the sample that was returned last as not consumed: nobody has got it, and this run ends here."""
        if self._last_reading is not None:
            self._last_reading.take_back()
            self._samples -= 1
            self._last_reading = None

    def state(self) -> TarState:
        """Return how far this consumer has come: what was returned is consumed."""
        if self._last is not None:
            return self._last
        still_open = [reading.state() for reading in self._reading]
        # Begun before, and not opened again yet.
        still_open += list(self._state.open)[len(self._state.open) - self._left_open :]
        return replace(
            self._state,
            started=self._started,
            open=tuple(still_open),
            samples=self._samples,
            skipped=self._skipped,
        )

    def close(self) -> None:
        """End all that is in flight, and forget what was not given; nothing more can be read."""
        self._last = self.state()
        self.window.close()
        self._reading.clear()

    def _sample_of(self, reading: ShardReading) -> RawSample | None:
        try:
            return reading.next_sample()
        except S3Exception as error:
            self._on_shard_error(reading.item, error)
            return None

    def _open_shards(self) -> None:
        while self._left_open or len(self._reading) < self._shards:
            fetch = self.window.open_next()
            if fetch is None:
                return
            if self._left_open:
                self._left_open -= 1
            else:
                self._started += 1
            self._reading.append(ShardReading(self.window, fetch, self._ahead.popleft(), self._rule))

    def _fetches(self, shards: Iterable[OpenShard]) -> Iterator[ShardFetch]:
        for shard in shards:
            self._ahead.append(shard)
            yield ShardFetch(self._items[self._plan.item(shard.place)], shard.offset)
