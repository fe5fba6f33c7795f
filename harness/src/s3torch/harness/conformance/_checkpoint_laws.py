"""What all laws of a checkpoint storage share: the subject, what it declares of itself, and saving and loading."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pytest
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import StorageReader, StorageWriter

from s3torch.harness.conformance._checkpoint_states import State, blank, differences
from s3torch.harness.conformance._laws import Laws
from s3torch.harness.conformance.arrangement import Arrangement
from s3torch.harness.conformance.tapping import RequestTap

__all__ = ["METADATA", "CheckpointLaws", "CheckpointStorage", "Checkpoints", "Entry", "load_with", "save_with"]

METADATA = ".metadata"


class Entry(Protocol):
    """A committed checkpoint, as a catalogue lists it."""

    @property
    def name(self) -> str:
        """Name of its folder."""
        ...

    @property
    def uri(self) -> str:
        """Where it lies."""
        ...

    @property
    def committed(self) -> datetime:
        """When it was committed."""
        ...

    @property
    def step(self) -> int | None:
        """The step that its name tells."""
        ...


class Item(Protocol):
    """A leftover, as a catalogue lists it."""

    @property
    def uri(self) -> str:
        """Where it lies."""
        ...


class Catalog(Protocol):
    """A folder of checkpoints, see ``s3torch.dcp.S3CheckpointCatalog``."""

    def list(self) -> Sequence[Entry]:
        """Return the committed checkpoints, the oldest first."""
        ...

    def latest(self) -> Entry | None:
        """Return the newest."""
        ...

    def prune(self, keep_last: int | None = None, keep_every: int | None = None, dry_run: bool = False) -> Any:
        """Remove old ones."""
        ...

    def delete(self, name: str, *, allow_newest: bool = False) -> Any:
        """Remove one."""
        ...

    def leftovers(self, older_than: timedelta = ...) -> Sequence[Item]:
        """Return what no checkpoint refers to."""
        ...

    def remove_leftovers(self, older_than: timedelta = ...) -> Sequence[Item]:
        """Delete that."""
        ...


class CheckpointStorage(Protocol):
    """How a suite makes its subjects, each anew: one that has failed is not used again."""

    def writer(self, uri: str) -> StorageWriter:
        """Make a writer of a checkpoint."""
        ...

    def reader(self, uri: str) -> StorageReader:
        """Make a reader of a checkpoint."""
        ...

    def catalog(self, uri: str) -> Catalog:
        """Make a catalogue of a folder; never called where there is none (``has_catalog``)."""
        ...


class Checkpoints:
    """Saves and loads through the subject in one bucket, and looks at what is there behind its back."""

    def __init__(self, storage: CheckpointStorage, arrangement: Arrangement, tap: RequestTap) -> None:
        self.storage = storage
        self.arrangement = arrangement
        self.tap = tap
        self.bucket = arrangement.create_bucket()

    def uri(self, name: str) -> str:
        """Return the URI of a checkpoint or of a folder."""
        return f"s3://{self.bucket}/{name}"

    def save(self, name: str, state: State) -> None:
        """Save with a writer of its own."""
        save_with(self.storage.writer(self.uri(name)), state)

    def load(self, name: str, like: State) -> State:
        """Load into a new state of the same form."""
        target: State = blank(like)
        self.load_into(name, target)
        return target

    def load_into(self, name: str, target: State) -> None:
        """Load into a state."""
        load_with(self.storage.reader(self.uri(name)), target)

    def check(self, name: str, state: State) -> None:
        """Check that a checkpoint is a state, byte by byte."""
        assert list(differences(self.load(name, state), state)) == []

    def which(self, name: str, *states: State) -> State:
        """Return which of some states of one form a checkpoint is: never a mixture."""
        found = self.load(name, states[0])
        for state in states:
            if not list(differences(found, state)):
                return state
        raise AssertionError(f"what was loaded is none of the states that were saved: {found}")

    def exists(self, name: str) -> bool:
        """Tell whether a checkpoint is committed."""
        return self.arrangement.get(self.bucket, f"{name}/{METADATA}") is not None

    def keys(self, name: str) -> set[str]:
        """Return the names of a checkpoint's objects."""
        return {
            key.removeprefix(f"{name}/") for key in self.arrangement.keys(self.bucket) if key.startswith(f"{name}/")
        }

    def download(self, name: str, folder: Path) -> None:
        """Copy a checkpoint's objects into a local folder."""
        for key in self.keys(name):
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.arrangement.get(self.bucket, f"{name}/{key}") or b"")


class CheckpointLaws(Laws):
    """Fixtures to supply and capabilities to declare; see `CheckpointConformance`."""

    has_catalog: ClassVar[bool] = True
    """Whether there is a catalogue."""
    commits_once: ClassVar[bool] = True
    """Whether a save puts ``.metadata`` in one request, its last, without a copy or a temporary name."""

    @pytest.fixture
    def tap(self) -> RequestTap:
        """What sees the requests of all that ``storage`` makes."""
        raise NotImplementedError("supply the fixture 'tap'")

    @pytest.fixture
    def storage(self) -> CheckpointStorage:
        """What makes writers, readers and catalogues."""
        raise NotImplementedError("supply the fixture 'storage'")

    @pytest.fixture
    def checkpoints(self, storage: CheckpointStorage, arrangement: Arrangement, tap: RequestTap) -> Checkpoints:
        """The subject in an empty bucket."""
        tap.clear()
        return Checkpoints(storage, arrangement, tap)


def save_with(writer: StorageWriter, state: State, **options: Any) -> None:
    """Save with a writer."""
    with _quiet():
        dcp.save(state, storage_writer=writer, **options)


def load_with(reader: StorageReader, target: State) -> None:
    """Load into a state with a reader."""
    with _quiet():
        dcp.load(target, storage_reader=reader)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch says of saving without a process group."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
