"""One shard being read: its samples block by block, each block in an order of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from s3torch.client import S3BucketKeyData
from s3torch.datasets.tar._fetch import ShardFetch, ShardWindow
from s3torch.datasets.tar._header import TarFormatError
from s3torch.datasets.tar._parts import Parts
from s3torch.datasets.tar._plan import order_of_block
from s3torch.datasets.tar._samples import RawSample, read_samples
from s3torch.datasets.tar._state import OpenShard
from s3torch.datasets.tar.errors import tar_error

__all__ = ["BlockRule", "ShardReading"]


@dataclass(frozen=True, slots=True)
class BlockRule:
    """How samples are mixed."""

    seed: int | None
    """None gives them as they lie."""
    epoch: int
    """The epoch."""
    samples: int
    """Samples in a block at most."""
    nbytes: int
    """A block is full when it has so many bytes."""


class ShardReading:
    """Gives the samples of one shard.

    Args:
        window: Fetches its parts.
        fetch: The shard as the window has it.
        where: Where to begin.
        rule: How samples are mixed.
    """

    def __init__(self, window: ShardWindow, fetch: ShardFetch, where: OpenShard, rule: BlockRule) -> None:
        self._window = window
        self._fetch = fetch
        self._where = where  # as of the block's beginning
        self._rule = rule
        parts = Parts(lambda: window.next_part(fetch), where.offset, lambda: fetch.size or 0)
        self._samples: Iterator[RawSample] = read_samples(parts)
        self._offsets: list[int] = []  # of the block's samples, by number
        self._block: list[RawSample | None] = []  # those that have not been given
        self._order: list[int] = []
        self._given = 0
        self._end = where.offset

    @property
    def item(self) -> S3BucketKeyData:
        """The shard."""
        return self._fetch.item

    @property
    def turn(self) -> int:
        """The shard's number among those that were shared out."""
        return self._where.turn

    def next_sample(self) -> RawSample | None:
        """Return the next sample; None after the last.

        Raises:
            TarError: The shard is damaged.
            S3Exception: It cannot be read.
        """
        if self._given == len(self._order):
            try:
                self._read_block()
            except TarFormatError as error:
                raise tar_error(self.item, error) from None
            if not self._order:
                return None
        number = self._order[self._given]
        sample, self._block[number] = self._block[number], None  # with the sample goes its memory
        self._given += 1
        return sample

    def take_back(self) -> None:
        """Count the sample that was returned last as not given; for `state` alone."""
        self._given -= 1

    def state(self) -> OpenShard:
        """Return where to go on after the last sample given."""
        left = self._order[self._given :]
        if left:
            first = min(left)
            return replace(
                self._where, offset=self._offsets[first], at=first, length=len(self._order), given=self._given
            )
        if not self._order:
            return self._where
        return OpenShard(self._where.place, self._where.turn, self._where.ordinal + len(self._order), self._end)

    def close(self) -> None:
        """End what is in flight."""
        self._window.close_shard(self._fetch)

    def _read_block(self) -> None:
        where = self.state()
        first, length = where.at, where.length or self._rule.samples
        samples: list[RawSample] = []
        nbytes = 0
        # A block that was begun before has the length that it had, whatever the rule is now.
        while first + len(samples) < length and (where.length or nbytes < self._rule.nbytes):
            sample = next(self._samples, None)
            if sample is None:
                break
            samples.append(sample)
            nbytes += sample.nbytes
        if where.length and first + len(samples) < length:
            raise TarFormatError(
                where.offset,
                f"the shard was replaced: {length - first} samples were read before, {len(samples)} follow",
            )
        self._where = where
        self._block = [None] * first + samples
        self._offsets = [0] * first + [sample.offset for sample in samples]
        self._order = order_of_block(len(self._block), self._rule.seed, self._rule.epoch, where)
        self._given = where.given
        if samples:
            self._end = samples[-1].end
