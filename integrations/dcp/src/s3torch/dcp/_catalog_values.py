"""What a catalogue tells of checkpoints and of what is left of dead ones, and which checkpoints to keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

__all__ = ["CheckpointEntry", "Leftover", "check_retention", "choose_outdated"]


@dataclass(frozen=True, slots=True)
class CheckpointEntry:
    """One committed checkpoint."""

    name: str
    """Name of its folder."""
    uri: str
    """Where it lies: what readers and writers take as ``path``."""
    committed: datetime
    """When its last save was committed, to the second (UTC)."""
    step: int | None
    """The training step that the name tells, if any."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """An object, or an unfinished multipart upload, that belongs to no committed checkpoint."""

    uri: str
    """The object; for an upload, what it was to become."""
    size: int | None
    """Size in bytes; None for an upload, whose parts are not counted."""
    modified: datetime
    """When it was written or begun (UTC)."""
    upload_id: str | None = None
    """The upload's id; None for an object."""


def check_retention(keep_last: int | None, keep_every: int | None) -> None:
    """Check what `choose_outdated` is given.

    Raises:
        TypeError: One is no integer.
        ValueError: Both are None, or one is below 1.
    """
    if keep_last is None and keep_every is None:
        raise ValueError("pruning needs keep_last or keep_every: nothing says which checkpoints to keep")
    for name, value in (("keep_last", keep_last), ("keep_every", keep_every)):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be an int or None, got {type(value).__name__}")
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def choose_outdated(
    entries: Sequence[CheckpointEntry], keep_last: int | None, keep_every: int | None
) -> list[CheckpointEntry]:
    """Return which checkpoints a retention rule gives up.

    Args:
        entries: All checkpoints, oldest first.
        keep_last: How many of the newest stay; None for the newest alone.
        keep_every: Those whose step is a multiple of it stay, too. A name without a step says nothing here: where this
            is the only rule, it stays.

    Returns:
        Those to remove, oldest first; never the newest.
    """
    recent = 1 if keep_last is None else keep_last

    def is_kept(entry: CheckpointEntry) -> bool:
        if keep_every is None:
            return False
        return keep_last is None if entry.step is None else entry.step % keep_every == 0

    return [entry for entry in entries[: max(0, len(entries) - recent)] if not is_kept(entry)]
