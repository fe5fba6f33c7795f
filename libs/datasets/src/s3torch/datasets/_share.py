"""How many of the places that are left each consumer gets, and which."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from s3torch.datasets._progress import Consumed
from s3torch.datasets._sharding import Shard

__all__ = ["Uneven", "check_uneven", "share_of", "share_places", "taken_after"]

Uneven: TypeAlias = Literal["keep", "drop", "pad"]
"""What to do with samples that cannot be shared out evenly: give some consumers one more, leave them out, or give the
others some of the epoch's first ones again."""

# The first sample needs one place; a long run is computed many at a time.
_FIRST_BLOCK, _BLOCK = 64, 4096


def check_uneven(uneven: object) -> None:
    """Raise ValueError unless it is one of the policies."""
    if uneven not in get_args(Uneven):
        raise ValueError(f"uneven must be 'keep', 'drop' or 'pad', got {uneven!r}")


def share_of(left: int, shard: Shard, uneven: Uneven) -> int:
    """Return how many samples a shard gets.

    Args:
        left: Places that are not consumed.
        shard: Which shard.
        uneven: With ``"drop"`` and ``"pad"`` all shards get as many.

    Returns:
        The number; 0 where there is nothing left, and, with ``"drop"``, fewer than shards.
    """
    if uneven == "drop":
        return left // shard.count
    if uneven == "pad":
        return -(-left // shard.count)
    return (left + shard.count - 1 - shard.index) // shard.count


def share_places(
    consumed: Consumed, length: int, shard: Shard, uneven: Uneven, taken: int = 0
) -> Iterator[npt.NDArray[np.int64]]:
    """Compute which places a shard visits.

    Args:
        consumed: What is consumed; the ``j``-th place that is left goes to shard ``j % count``.
        length: Number of places.
        shard: Which shard.
        uneven: With ``"pad"``, ordinals beyond the last are the epoch's first places again.
        taken: How many of its places the shard has visited before.

    Yields:
        Its places, some at a time.
    """
    left = consumed.left(length)
    share = share_of(left, shard, uneven)
    block = _FIRST_BLOCK
    while taken < share:
        stop = min(share, taken + block)
        ordinals = np.arange(taken, stop, dtype=np.int64) * shard.count + shard.index
        places = consumed.places(np.minimum(ordinals, left - 1))
        again = ordinals >= left
        if again.any():
            places[again] = (ordinals[again] - left) % length
        yield places
        taken, block = stop, min(2 * block, _BLOCK)


def taken_after(batches: int, batch_size: int, shares: Sequence[int], *, drop_last: bool = False) -> tuple[int, ...]:
    """Count what each worker of a `DataLoader` has given after so many batches.

    Batches come from the workers in turn; those that have nothing left are passed over.

    Args:
        batches: Batches that the loader has given.
        batch_size: Samples in a batch.
        shares: How many samples each worker has.
        drop_last: Whether a worker leaves out a last batch that is not full.

    Returns:
        The number of samples that each has given.

    Raises:
        ValueError: There are not so many batches.
    """
    able = [share // batch_size if drop_last else -(-share // batch_size) for share in shares]
    if not 0 <= batches <= sum(able):
        raise ValueError(f"the loader gives {sum(able)} batches, so it cannot have given {batches}")
    low, high = 0, max(able)  # full rounds: the most of which no more than the batches are made
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(each, middle) for each in able) <= batches:
            low = middle
        else:
            high = middle - 1
    given = [min(each, low) for each in able]
    extra = batches - sum(given)
    for worker, each in enumerate(able):
        if extra and each > low:
            given[worker] += 1
            extra -= 1
    return tuple(min(count * batch_size, share) for count, share in zip(given, shares, strict=True))
