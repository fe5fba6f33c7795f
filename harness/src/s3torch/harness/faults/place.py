"""Where a subject of the matrix does its work, and how it says what it has seen."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s3torch.client import S3Client, S3ClientConfig
from s3torch.harness.faults.cases import CacheFault, Consumer
from s3torch.harness.faults.contents import objects_to_read
from s3torch.harness.faults.plan import FaultPlan, make_replacement
from s3torch.harness.faults.proxy import FaultProxy

__all__ = ["AbandonedError", "Controls", "Place"]

_PAUSE_S = 1.2


class AbandonedError(Exception):
    """The reader goes away here, as it was told to."""


@dataclass(frozen=True, slots=True)
class Controls:
    """By what a subject of several passes has the fault strike one and not the other."""

    proxy: FaultProxy
    """Between it and the store."""
    plan: FaultPlan
    """The fault."""
    folder: Path
    """For files; removed at the end."""
    put: Callable[[str, bytes], None]
    """Writes an object by its key, by other means than those under test."""
    cache_fault: CacheFault | None
    """What happens to the cache itself."""
    seed: int
    """Where randomness begins."""

    def follow(self, plan: FaultPlan) -> dict[str, int]:
        """Go by a plan from now on; return how often each fault has taken effect since the last one."""
        injected = self.proxy.injected()
        self.proxy.follow(plan)
        return injected


@dataclass(slots=True)
class Place:
    """What a subject is given.

    Args:
        endpoint: Where the store seems to be.
        region: Its region.
        bucket: The bucket.
        prefix: What the keys begin with.
        config: Options of every client.
        fetch: Returns an object's bytes by its key, by other means than those under test.
        consumer: How whoever reads behaves.
        may_be_replaced: Whether objects may be what the fault ``replace`` makes of them.
        wrong: What was not as it should be.
        possible: Of which versions the pieces that were read of an object may be, by name, where it may be replaced.
        controls: For subjects of several passes.
        injected: How often each fault has taken effect, as far as the subject knows.
    """

    endpoint: str
    region: str
    bucket: str
    prefix: str
    config: S3ClientConfig
    fetch: Callable[[str], bytes]
    consumer: Consumer = "steady"
    may_be_replaced: bool = False
    wrong: list[str] = field(default_factory=list)
    possible: dict[str, list[bytes]] = field(default_factory=dict)
    controls: Controls | None = None
    injected: dict[str, int] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, Any]:
        """How everything above the client is told of the store."""
        return {"region": self.region, "endpoint": self.endpoint, "s3client_config": self.config}

    def client(self) -> S3Client:
        """Return a new client."""
        return S3Client(self.region, endpoint=self.endpoint, s3client_config=self.config)

    def key(self, name: str) -> str:
        """Return the key of one of the contents."""
        return self.prefix + name

    def uri(self, name: str = "") -> str:
        """Return the URI of one of the contents."""
        return f"s3://{self.bucket}/{self.prefix}{name}"

    def halfway(self) -> None:
        """Do what the reader does in the middle: go on, pause, or go away."""
        if self.consumer == "pauses":
            time.sleep(_PAUSE_S)
        elif self.consumer == "abandons":
            raise AbandonedError

    def check(self, name: str, data: bytes | bytearray | memoryview, start: int = 0, *, whole: bool = True) -> None:
        """Compare what was read with what is there; all pieces of an object have to be of the same version.

        Args:
            name: Which of the contents it is said to be.
            data: What was read.
            start: Where it began.
            whole: Whether it is all from there on; else it may be anything that begins there.
        """
        expected = objects_to_read()[name]
        versions = self.possible.get(name)
        if versions is None:
            versions = [expected, make_replacement(len(expected))] if self.may_be_replaced else [expected]
        found = memoryview(data)
        end = len(expected) if whole else start + len(found)
        if same := [version for version in versions if found == memoryview(version)[start:end]]:
            self.possible[name] = same
            return
        told = f"all {len(expected) - start} bytes" if whole else f"{len(found)} bytes"
        self.wrong.append(f"{name}: {told} from {start} are not those that were read ({len(found)})")

    @contextlib.contextmanager
    def reading(self, name: str, start: int = 0) -> Iterator[bytearray]:
        """Gather what is read of an object from ``start`` on, and compare it, also what came before an error."""
        seen = bytearray()
        try:
            yield seen
        except BaseException:
            self.check(name, seen, start, whole=False)
            raise
        self.check(name, seen, start)
