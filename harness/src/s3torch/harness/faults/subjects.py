"""The subjects of the matrix: everything by which a user reads or writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from s3torch.harness.faults import _reading, _writing
from s3torch.harness.faults.cases import Consumer
from s3torch.harness.faults.place import Place

__all__ = ["ALL_SUBJECTS", "Subject"]

_EVERY: frozenset[Consumer] = frozenset({"steady", "pauses", "abandons"})
_PATIENT: frozenset[Consumer] = frozenset({"steady", "pauses"})
_STEADY: frozenset[Consumer] = frozenset({"steady"})


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
    is_costly: bool = False
    """Whether it takes so long that it meets only the few cases that concern it."""

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
    Subject("workers", _reading.workers, checksummed=True, in_memory=False, is_costly=True),
    Subject("checkpoint-load", _reading.checkpoint_load),
    Subject("dcp-load", _reading.dcp_load),
    Subject("fork", _reading.processes("fork"), in_memory=False, is_costly=True),
    Subject("spawn", _reading.processes("spawn"), in_memory=False, is_costly=True),
    Subject("forkserver", _reading.processes("forkserver"), in_memory=False, is_costly=True),
    Subject("put", _writing.put, _writing.see_put),
    Subject("put-stream", _writing.put_stream, _writing.see_put_stream, consumers=_PATIENT),
    Subject("writer", _writing.writer, _writing.see_writer),
    Subject("checkpoint-save", _writing.checkpoint_save, _writing.see_checkpoint),
    Subject("dcp-save", _writing.dcp_save, _writing.see_dcp),
)
"""Every subject of the matrix, in the order in which it is shown."""
