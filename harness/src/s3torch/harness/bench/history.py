"""What is kept of a benchmark's run: one JSON file for each, read back for comparison and for the report."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from s3torch.harness.bench.machine import Machine
from s3torch.harness.bench.results import LEFT_OUT
from s3torch.harness.bench.scenario import GIB, Role

_T = TypeVar("_T")

FORMAT = 1
METHOD = 5
"""How it is measured: raised whenever servers or subjects change such that the ratios do."""
LOCAL = "local"
"""The store of runs on servers that the benchmark starts."""


class RecordError(ValueError):
    """A file is no benchmark record; the message is one line that names it."""


@dataclass(frozen=True, slots=True)
class SubjectRecord:
    """One subject's figures."""

    name: str
    """As the table shows it."""
    role: Role
    """What it is to the others."""
    environment: str = ""
    """Where it ran."""
    failure: str | None = None
    """Why there are no figures."""
    absence: str | None = None
    """Why it cannot take part, where it cannot."""
    seconds: tuple[float, ...] = ()
    """Wall time of each run."""
    cpu_seconds: tuple[float, ...] = ()
    """Processor time of each run."""
    extra_memory: int = 0
    """Peak resident memory above that before the first run, in bytes."""
    objects: int = 1
    """Objects in each run."""
    bytes: int = 0
    """Bytes in each run."""
    requests: int | None = None
    """Requests of one run, where counted."""
    sent: int | None = None
    """Bytes that the server sent in one run, where counted."""
    first: float | None = None
    """Seconds to the first delivery."""
    p50: float | None = None
    """Median wait for a delivery, in seconds."""
    p99: float | None = None
    """The wait that 1 % of deliveries exceed, in seconds."""

    @property
    def is_left_out(self) -> bool:
        """Whether nobody wanted its figures."""
        return self.failure == LEFT_OUT

    @property
    def time(self) -> float:
        """Median wall time of one object."""
        return median(self.seconds) / self.objects

    @property
    def cpu(self) -> float:
        """Median processor time of one object."""
        return median(self.cpu_seconds) / self.objects

    @property
    def spread(self) -> float:
        """Largest less smallest time, as a part of the median."""
        return (max(self.seconds) - min(self.seconds)) / median(self.seconds)


@dataclass(frozen=True, slots=True)
class VerdictRecord:
    """One requirement, and what one of our subjects reached."""

    subject: str
    """Of whom it is required."""
    figure: str
    """What is compared."""
    limit: float
    """The factor or the figure."""
    against: str | None = None
    """Of what it is a factor."""
    reached: float | None = None
    """The factor or figure reached."""
    met: bool | None = None
    """Whether that is enough; None where it cannot be said."""


@dataclass(frozen=True, slots=True)
class ScenarioRecord:
    """One scenario's figures."""

    scenario: str
    """Its name."""
    title: str
    """What it is about."""
    size: int = 0
    """Bytes of each object."""
    count: int = 1
    """Objects; above one, rates are in objects/s."""
    timed: bool = False
    """Whether times are read and not rates."""
    skipped: str | None = None
    """Why it was not run."""
    subjects: tuple[SubjectRecord, ...] = ()
    """Its subjects, in order."""
    verdicts: tuple[VerdictRecord, ...] = ()
    """Each requirement for each of our subjects."""

    @property
    def kind(self) -> tuple[str, int, int]:
        """What two records must share to be comparable."""
        return self.scenario, self.size, self.count

    def best(self, role: Role) -> SubjectRecord | None:
        """Return the fastest subject of a role that has figures."""
        found = [each for each in self.subjects if each.role is role and each.seconds]
        return min(found, key=lambda each: each.time, default=None)

    def find(self, name: str) -> SubjectRecord | None:
        """Return a subject by its name."""
        return next((each for each in self.subjects if each.name == name), None)

    def rate(self, subject: SubjectRecord) -> float:
        """Return objects per second where there are many, bytes per second otherwise."""
        return (subject.objects if self.count > 1 else subject.bytes) / median(subject.seconds)

    def cpu(self, subject: SubjectRecord) -> float:
        """Return processor seconds per object where there are many, per GiB otherwise; NaN where there are no bytes."""
        if self.count > 1:
            return subject.cpu
        return median(subject.cpu_seconds) / (subject.bytes / GIB) if subject.bytes else math.nan


@dataclass(frozen=True, slots=True)
class Record:
    """One run of the benchmark."""

    made: str
    """When, in UTC, as ``2026-01-31T12:00:00Z``."""
    machine: Machine
    """Where."""
    repeat: int
    """Measured runs of each subject."""
    scenarios: tuple[ScenarioRecord, ...]
    """What was measured."""
    store: str = LOCAL
    """``local``, or what stands for the user's bucket without naming it."""
    quick: bool = False
    """Whether the figures mean nothing."""
    method: int = 1
    """How it was measured, as ``METHOD`` was then."""

    def find(self, name: str) -> ScenarioRecord | None:
        """Return a scenario by its name."""
        return next((each for each in self.scenarios if each.scenario == name), None)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, values: Any) -> Record:
        """Read it back; what a later version has added is passed over.

        Raises:
            RecordError: They are not a record's.
        """
        try:
            if values["format"] > FORMAT:
                raise RecordError(f"is of a later format, {values['format']}; this version reads {FORMAT}")
            if not isinstance(values["made"], str):
                raise TypeError("'made' is no text")
            return _build(
                cls,
                values,
                machine=_build(Machine, values["machine"]),
                scenarios=tuple(_scenario(each) for each in values["scenarios"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, RecordError):
                raise
            raise RecordError(f"is no benchmark record ({type(error).__name__}: {error})") from error


def _scenario(values: Mapping[str, Any]) -> ScenarioRecord:
    return _build(
        ScenarioRecord,
        values,
        subjects=tuple(_subject(each) for each in values["subjects"]),
        verdicts=tuple(_build(VerdictRecord, each) for each in values["verdicts"]),
    )


def _subject(values: Mapping[str, Any]) -> SubjectRecord:
    times = {name: tuple(float(each) for each in values.get(name, ())) for name in ("seconds", "cpu_seconds")}
    if len(times["seconds"]) != len(times["cpu_seconds"]) or not all(each > 0 for each in times["seconds"]):
        raise ValueError("times that cannot be")
    return _build(SubjectRecord, values, role=Role(values["role"]), **times)


def _build(kind: type[_T], values: Mapping[str, Any], **read: Any) -> _T:
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]  # all of them are dataclasses
    return kind(**{**{name: value for name, value in values.items() if name in known}, **read})


def read_record(path: Path) -> Record:
    """Read one file.

    Args:
        path: What ``--json`` or the history has written.

    Raises:
        RecordError: It cannot be read, or is something else.
    """
    try:
        return Record.from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        said = str(error) if isinstance(error, RecordError) else "is no JSON"
        raise RecordError(f"{path} {said}") from error


def write_whole(path: Path, text: str) -> None:
    """Write one file, whole or not at all; where the path is a link, what it leads to.

    Args:
        path: The file; its folder is made where it is missing.
        text: What it will hold.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_record(path: Path, record: Record) -> None:
    """Write one file, whole or not at all."""
    write_whole(path, json.dumps(record.to_json(), indent=1) + "\n")


def append(folder: Path, record: Record) -> Path:
    """Add a run to a history.

    Args:
        folder: The history; made where it is missing.
        record: The run.

    Returns:
        Its file, named by when it was made.
    """
    text = json.dumps(record.to_json(), sort_keys=True)
    name = f"{record.made.replace('-', '').replace(':', '')}-{hashlib.sha256(text.encode()).hexdigest()[:6]}.json"
    write_record(folder / name, record)
    return folder / name


def load(folder: Path) -> tuple[list[Record], list[str]]:
    """Read a history.

    Args:
        folder: Where it is; one that is missing is empty.

    Returns:
        The runs, the oldest first, and a line on each file that could not be read.
    """
    records, problems = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            records.append(read_record(path))
        except RecordError as error:
            problems.append(str(error))
    return sorted(records, key=lambda each: each.made), problems
