"""The subjects of the matrix: everything by which a user reads or writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from s3torch.harness.faults import _caching, _reading, _writing
from s3torch.harness.faults.cases import ALL_CASES, Consumer
from s3torch.harness.faults.place import Place

__all__ = ["ALL_SUBJECTS", "Subject"]

_EVERY: frozenset[Consumer] = frozenset({"steady", "pauses", "abandons"})
_PATIENT: frozenset[Consumer] = frozenset({"steady", "pauses"})
_STEADY: frozenset[Consumer] = frozenset({"steady"})
# What a process more or less could change.
_FOR_PROCESSES = frozenset({"reset-some", "503-some", "stall", "cut-always", "expire"})
_CACHE_FAULTS = frozenset(case.name for case in ALL_CASES if case.cache_fault is not None)
# Whatever leaves wrong bytes, or some of the right ones, and an error of each kind.
_FOR_CACHES = _CACHE_FAULTS | {
    "reset", "reset-some", "cut", "cut-always", "unframed", "stall", "flip", "flip-always", "swap", "echo", "duplicate",
    "500", "503-some", "503-always", "expire", "expire-for-good", "403-midway", "replace",
}  # fmt: skip
_FOR_CACHES_OF_PROCESSES = frozenset({"reset-some", "cut-always", "stall", "cache-flip", "cache-lost", "cache-kill"})


@dataclass(frozen=True, slots=True)
class Subject:
    """One column of the matrix."""

    name: str
    """Its name, for ``--subject``."""
    run: Callable[[Place], None]
    """Does the work; its docstring says which."""
    see: Callable[[Place], str] | None = None
    """For those that write: says what is there afterwards, ``old``, ``new``, or what is wrong with it."""
    consumers: frozenset[Consumer] = _STEADY
    """How whoever uses it can behave."""
    checksummed: bool = False
    """Whether all that it reads are whole objects, with their checksums."""
    in_memory: bool = True
    """Whether it works on a store within its process."""
    only: frozenset[str] | None = None
    """The names of the cases that it meets: those that concern it, where each takes long; None for all."""
    has_cache: bool = False
    """Whether it reads through a cache, in several passes."""

    @property
    def writes(self) -> bool:
        """Whether it writes."""
        return self.see is not None


ALL_SUBJECTS: tuple[Subject, ...] = (
    Subject("read", _reading.read),
    Subject("read-into", _reading.read_into),
    Subject("sequential", _reading.sequential, consumers=_EVERY),
    Subject("ranged", _reading.ranged),
    Subject("by-items", _reading.by_items),
    Subject("get-many", _reading.get_many, consumers=_EVERY, checksummed=True),
    Subject("map", _reading.map_dataset, checksummed=True),
    Subject("iterable", _reading.iterable_dataset, consumers=_EVERY, checksummed=True),
    Subject("skipping", _reading.skipping_dataset, checksummed=True),
    Subject("tar", _reading.tar_dataset, consumers=_EVERY),
    Subject("workers", _reading.workers, checksummed=True, in_memory=False, only=_FOR_PROCESSES),
    Subject("checkpoint-load", _reading.checkpoint_load),
    Subject("dcp-load", _reading.dcp_load),
    Subject("fork", _reading.processes("fork"), in_memory=False, only=_FOR_PROCESSES),
    Subject("spawn", _reading.processes("spawn"), in_memory=False, only=_FOR_PROCESSES),
    Subject("forkserver", _reading.processes("forkserver"), in_memory=False, only=_FOR_PROCESSES),
    Subject("cached-read", _caching.read, in_memory=False, has_cache=True, only=_FOR_CACHES | {"flip-unseen"}),
    Subject("cached-data", _caching.datasets, checksummed=True, in_memory=False, has_cache=True, only=_FOR_CACHES),
    Subject("cached-processes", _caching.processes, in_memory=False, has_cache=True, only=_FOR_CACHES_OF_PROCESSES),
    Subject("put", _writing.put, _writing.see_put),
    Subject("put-stream", _writing.put_stream, _writing.see_put_stream, consumers=_PATIENT),
    Subject("writer", _writing.writer, _writing.see_writer),
    Subject("checkpoint-save", _writing.checkpoint_save, _writing.see_checkpoint),
    Subject("dcp-save", _writing.dcp_save, _writing.see_dcp),
)
"""Every subject of the matrix, in the order in which it is shown."""
