"""`broadcast_index`: what one rank has listed, on all of them."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3torch.datasets.index._collective import Collective
from s3torch.datasets.index._packing import pack, unpack
from s3torch.datasets.index._shared import Layout, SharedArrays
from s3torch.datasets.index.s3index import S3Index

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["broadcast_index"]


def broadcast_index(make_index: Callable[[], S3Index], *, group: ProcessGroup | None = None) -> S3Index:
    """Make an index on the first rank of a process group, and give it to all of them.

    All ranks of the group must call this, in the same order as their other collective operations; those that wait do so
    for the group's time-out at most. The columns go from memory to memory, and on each rank its ``DataLoader`` workers
    share them.

    Args:
        make_index: Makes the index, or returns one at hand; called on the group's first rank alone. ``lambda:
            load_manifest(uri, client=client)`` reads a manifest once for a job.
        group: The ranks, as `torch.distributed.new_group` gives them; None is all of the job. With the backend ``nccl``
            the current device of each rank must be its own.

    Returns:
        The index, the same on every rank, with its labels if it has any.

    Raises:
        Exception: Whatever ``make_index`` has raised, on every rank; as a RuntimeError with its text where it cannot
            be pickled.
        RuntimeError: There is no process group, or another rank could not take the index.
        TypeError: An argument has the wrong type, or ``make_index`` returns no index.
        ValueError: This process is not a member of the group.
    """
    return make_once(make_index, group)


def make_once(make_index: Callable[[], S3Index], group: ProcessGroup | None, request: str | None = None) -> S3Index:
    """Do as `broadcast_index` does.

    Args:
        make_index: As there.
        group: As there.
        request: What is asked for; if ranks ask for different things, they get errors.
    """
    ranks = Collective(group)
    return _give(ranks, make_index, request) if ranks.is_first else _take(ranks, request)


@dataclass(frozen=True, slots=True)
class _Letter:
    """What goes ahead of the columns."""

    request: str | None
    """What the first rank was asked for."""
    shell: bytes
    """The index without its arrays."""
    layouts: list[Layout]
    """Those of the arrays which follow."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """Goes in place of an index that could not be made."""

    pickled: bytes
    """The error; empty where it cannot be pickled."""
    text: str
    """Its type and message."""
    trace: str
    """Where it was raised."""

    @classmethod
    def of(cls, error: Exception) -> _Failure:
        """Describe an error."""
        try:
            pickled = pickle.dumps(error)
        except Exception:  # noqa: BLE001  # what a class of the user's raises when it is pickled
            pickled = b""
        return cls(pickled, f"{type(error).__qualname__}: {error}", "".join(traceback.format_exception(error)))

    def rebuild(self) -> Exception:
        """Return the error, or one that tells of it."""
        if self.pickled:
            try:
                error = pickle.loads(self.pickled)  # noqa: S301  # from a rank of the same job
            except Exception:  # noqa: BLE001  # what a class of the user's raises when it is made anew
                error = None
            if isinstance(error, Exception):
                return error
        return RuntimeError(self.text)


class _ElsewhereError(Exception):
    """Shows where on another rank an error comes from, as the cause of the one that is raised on this rank."""


def _give(ranks: Collective, make_index: Callable[[], S3Index], request: str | None) -> S3Index:
    """Make the index, and send it."""
    try:
        index = make_index()
        if not isinstance(index, S3Index):
            raise TypeError(f"make_index must return an S3Index, got {type(index).__name__}")
        shell, arrays = pack(index)
    except Exception as error:
        # Not for Ctrl-C: to tell the others would be to wait for them, and this process ends.
        ranks.send_bytes(pickle.dumps(_Failure.of(error)))
        raise
    ranks.send_bytes(pickle.dumps(_Letter(request, shell, [each.layout for each in arrays])))
    _agree(ranks, is_ready=True)
    for each in arrays:
        ranks.send(each.memory)
    return index


def _take(ranks: Collective, request: str | None) -> S3Index:
    """Receive the index."""
    letter: _Letter | _Failure = pickle.loads(ranks.send_bytes(b""))  # noqa: S301  # from a rank of the same job
    if isinstance(letter, _Failure):
        raise letter.rebuild() from _ElsewhereError(f"on rank {ranks.first} of the job:\n{letter.trace}")
    try:
        if letter.request != request:
            raise ValueError(
                f"rank {ranks.first} lists {letter.request} while this rank asks for {request}:"
                " all ranks of the group must ask for the same, in the same order"
            )
        arrays = [SharedArrays.blank(layout) for layout in letter.layouts]
    except BaseException:
        ranks.agree(is_ready=False)
        raise
    _agree(ranks, is_ready=True)
    for each in arrays:
        ranks.send(each.memory)
    return unpack(letter.shell, arrays)


def _agree(ranks: Collective, *, is_ready: bool) -> None:
    if not ranks.agree(is_ready=is_ready):
        raise RuntimeError("another rank of the group could not take the index: see its error")
