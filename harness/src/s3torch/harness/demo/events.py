"""What a child process tells its parent: one line of JSON for each event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from s3torch.harness._events import EventLines

__all__ = [
    "Ended",
    "EpochEnded",
    "Event",
    "Failed",
    "Held",
    "Loaded",
    "Saved",
    "Started",
    "Step",
    "Written",
    "decode",
    "encode",
]


@dataclass(frozen=True, slots=True)
class Written:
    """Images are in the store."""

    images: int
    """How many so far."""
    seconds: float
    """Since the first."""


@dataclass(frozen=True, slots=True)
class Started:
    """Training begins."""

    epoch: int
    """The first epoch this process trains, from 1."""
    steps: int
    """Steps in one epoch."""


@dataclass(frozen=True, slots=True)
class Step:
    """One batch was trained on."""

    epoch: int
    """The epoch, from 1."""
    step: int
    """The step in the epoch, from 1."""
    loss: float
    """The batch's loss; JSON keeps every bit of it."""
    samples_per_second: float
    """Over the epoch so far."""


@dataclass(frozen=True, slots=True)
class EpochEnded:
    """All batches of an epoch were trained on."""

    epoch: int
    """The epoch, from 1."""
    loss: float
    """Mean of the batches' losses."""
    accuracy: float
    """Fraction of the images that were classified right while training."""
    samples_per_second: float
    """Over the epoch."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint is in the store."""

    epoch: int
    """After which epoch."""
    uri: str
    """Where."""
    size: int
    """Bytes."""
    seconds: float
    """How long saving took."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checkpoint was loaded."""

    epoch: int
    """After which epoch it was saved."""
    uri: str
    """Where it lies."""
    seconds: float
    """How long loading took."""


@dataclass(frozen=True, slots=True)
class Held:
    """The process stands still where it was told to."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Training came to its end."""

    loss: float
    """Mean loss of the last epoch."""
    digest: str
    """SHA-256 over every parameter, buffer and optimizer state."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Something the user can mend went wrong; the process ends."""

    message: str
    """What, in one line."""


Event: TypeAlias = Written | Started | Step | EpochEnded | Saved | Loaded | Held | Ended | Failed

_LINES = EventLines[Event](Written, Started, Step, EpochEnded, Saved, Loaded, Held, Ended, Failed)
encode = _LINES.encode
decode = _LINES.decode
