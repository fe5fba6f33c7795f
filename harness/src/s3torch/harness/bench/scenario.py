"""What a scenario says: what is measured, against what, and what must be reached. Pure values; ``runner`` runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

MIB = 1024 * 1024
GIB = 1024 * MIB


class Server(str, Enum):
    """Which endpoint a scenario runs against."""

    PLAIN = "plain"
    """nginx, plain HTTP."""
    LATENCY = "latency"
    """nginx, 30 ms to the first byte and 90 MB/s per connection."""
    TLS = "tls"
    """nginx, HTTPS."""
    DISCARD = "discard"
    """Uploads are taken and dropped."""
    MOTO = "moto"
    """moto, which is slow but needs nothing installed and counts requests."""
    LISTING = "listing"
    """Nothing but ListObjectsV2, 50 ms for each page, as S3 takes."""
    NONE = "none"
    """No server."""


class Role(str, Enum):
    """What a subject is to the others."""

    FLOOR = "floor"
    OURS = "ours"
    ORIGINAL = "original"
    PEER = "peer"


class Content(str, Enum):
    """What the objects hold."""

    BYTES = "bytes"
    """Reproducible bytes."""
    STATE = "state"
    """A file of ``torch.save``."""
    UPLOAD = "upload"
    """Nothing: the subject writes a file of ``torch.save`` or a distributed checkpoint."""
    UPLOAD_BYTES = "upload bytes"
    """Nothing: the subject writes zeros."""
    KEYS = "keys"
    """Nothing: the server only names them."""
    CHECKPOINT = "checkpoint"
    """The same distributed checkpoint twice: as torch writes it, and as this project does."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One subject's part in a scenario."""

    name: str
    """As the table shows it."""
    role: Role
    """What it is to the others."""
    environment: str
    """Where it runs: ``workspace``, or a peer's name."""
    subject: str
    """``module:function`` within the subjects."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What only this subject is told."""
    objects: int | None = None
    """Fewer objects than the scenario's, for a subject that would take minutes; rates are compared."""
    is_judged: bool = True
    """Whether the scenario's requirements hold for it, if it is one of ours."""
    is_remote: bool = True
    """Whether it uses the scenario's server."""
    absence: str | None = None
    """Why it cannot take part, where it cannot; it is shown all the same."""


class Figure(str, Enum):
    """What a requirement looks at."""

    RATE = "rate"
    """GB/s, or objects/s: more is better."""
    CPU = "cpu"
    """Processor seconds per byte or object: less is better."""
    MEMORY = "memory"
    """Peak resident memory above that before the first run, in multiples of the data: less is better."""
    EXTRA = "extra memory"
    """The same in bytes."""
    TIME = "time"
    """Seconds: less is better."""
    SENT = "sent"
    """Bytes that the server sends, in multiples of the data: less is better."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition that each of our subjects must meet."""

    figure: Figure
    """What is compared."""
    limit: float
    """A factor where ``against`` says of what, otherwise a figure in base units."""
    against: str | None = None
    """``floor`` (the best of them), ``original``, or an entry's name; None for a limit that stands alone."""

    @property
    def is_minimum(self) -> bool:
        """Whether more is better."""
        return self.figure is Figure.RATE


@dataclass(frozen=True, slots=True)
class Scenario:
    """One line of what must be shown."""

    name: str
    """For the command line."""
    title: str
    """For the table."""
    server: Server
    """The endpoint."""
    entries: tuple[Entry, ...]
    """The subjects, in the order in which they take turns."""
    requirements: tuple[Requirement, ...] = ()
    """What ours must reach."""
    size: int = GIB
    """Bytes of each object; of all tensors where they are what is stored."""
    count: int = 1
    """Objects; above one, the rate is in objects/s."""
    window: int = 16
    """Requests in flight at most."""
    spend: float = 0.0
    """Seconds of pure Python that the consumer spends on each object."""
    content: Content = Content.BYTES
    """What the objects hold."""
    tensors: int = 64
    """Tensors of a state, of equal size."""
    chosen: tuple[int, ...] | None = None
    """Numbers of those that are loaded; all by default."""
    is_one_file: bool = True
    """Whether a distributed checkpoint has one file, or one for each tensor."""
    quick_count: int = 100
    """Objects in a quick run at most."""
    is_timed: bool = False
    """Whether the table shows times and not rates."""
    is_counted: bool = False
    """Whether each subject runs once more to count its requests and the bytes that the server sends."""

    @property
    def layout(self) -> tuple[object, ...]:
        """What scenarios must share to share their objects."""
        return self.content, self.size, self.count, self.tensors, self.is_one_file

    def objects_of(self, entry: Entry) -> int:
        """Return how many objects a subject has in each run."""
        return min(entry.objects or self.count, self.count)


def ours(name: str, subject: str, **options: Any) -> Entry:
    """Return an entry of this project's, held against the requirements."""
    return Entry(name, Role.OURS, "workspace", subject, options)


def also(name: str, subject: str, **options: Any) -> Entry:
    """Return an entry of this project's that no requirement holds for."""
    return Entry(name, Role.OURS, "workspace", subject, options, is_judged=False)


def floor(name: str, subject: str, **options: Any) -> Entry:
    """Return an entry of the floor."""
    return Entry(name, Role.FLOOR, "workspace", subject, options)


def original(name: str, subject: str, *, objects: int | None = None, **options: Any) -> Entry:
    """Return an entry of the original's."""
    return Entry(name, Role.ORIGINAL, "original", subject, options, objects)


def peer(name: str, environment: str, subject: str, *, objects: int | None = None, **options: Any) -> Entry:
    """Return an entry that is shown beside the others."""
    return Entry(name, Role.PEER, environment, subject, options, objects)


def local(name: str, subject: str) -> Entry:
    """Return an entry that is shown beside the others and uses no server."""
    return Entry(name, Role.PEER, "workspace", subject, is_remote=False)


def absent(name: str, why: str) -> Entry:
    """Return an entry of a peer that cannot do what the scenario measures.

    Args:
        name: The peer's.
        why: A sentence without its full stop.
    """
    return Entry(name, Role.PEER, "none", "", absence=why)
