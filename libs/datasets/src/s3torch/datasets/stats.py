"""What a dataset has done so far: numbers of each process, and of all together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from weakref import ref

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation

__all__ = ["DatasetStats", "ProcessStats", "SkippedObject", "instrument"]


@dataclass(frozen=True, slots=True)
class SkippedObject:
    """An object of which no sample was made."""

    bucket: str
    key: str
    error: str
    """Why: the beginning of the error's text."""


@dataclass(frozen=True, slots=True)
class ProcessStats:
    """What a dataset has done in one process; workers that follow each other may share one."""

    number: int
    """0 for the process that made the dataset; the others count from 1."""
    pid: int
    """The process; of several, the last."""
    objects: int
    """Samples made."""
    bytes: int
    """Bytes of objects received from the store."""
    requests: int
    """Requests sent, each attempt for one."""
    retries: int
    """Those of them that repeat one that failed."""
    waited_s: float
    """Seconds for which the process waited for objects that were being fetched ahead."""
    window_mean: float
    """Requests in flight on average, whenever an object was handed out; 0 where nothing is fetched ahead."""
    window_peak: int
    """Requests in flight at most."""
    skipped: int
    """Objects of which no sample was made, by ``on_error``."""


@dataclass(frozen=True, slots=True)
class DatasetStats:
    """What a dataset has done so far, in this process and in its ``DataLoader`` workers, over all epochs."""

    objects: int
    """Samples made."""
    bytes: int
    """Bytes of objects received from the store."""
    requests: int
    """Requests sent, each attempt for one."""
    retries: int
    """Those of them that repeat one that failed."""
    waited_s: float
    """Seconds for which processes waited for objects that were being fetched ahead, summed."""
    window_mean: float
    """Requests in flight in one process on average, whenever an object was handed out."""
    window_peak: int
    """Requests in flight in one process at most."""
    skipped: int
    """Objects of which no sample was made, by ``on_error``."""
    skipped_objects: tuple[SkippedObject, ...]
    """The first some dozens of those of each process."""
    processes: tuple[ProcessStats, ...]
    """The same numbers of each process that has done anything, the one that made the dataset first."""


class _HasStats(Protocol):
    """A dataset that counts."""

    def stats(self) -> DatasetStats:
        """What it has done so far."""
        ...


_COUNTERS: tuple[tuple[str, str, str, Callable[[ProcessStats], float]], ...] = (
    ("objects", "{object}", "Samples made", lambda each: each.objects),
    ("received", "By", "Bytes of objects received", lambda each: each.bytes),
    ("requests", "{request}", "Requests sent", lambda each: each.requests),
    ("retries", "{request}", "Requests that repeat one that failed", lambda each: each.retries),
    ("waited", "s", "Time spent waiting for objects", lambda each: each.waited_s),
    ("skipped", "{object}", "Objects of which no sample was made", lambda each: each.skipped),
)


def instrument(dataset: _HasStats, meter: Meter | None = None) -> None:
    """Let OpenTelemetry observe a dataset: counters ``s3torch.dataset.*``, one series for each of its processes.

    They are read when the meter's reader collects, in the process that calls this; the dataset's work costs no more
    for it. The workers of a ``DataLoader`` are among them.

    Args:
        dataset: The dataset. It is not kept alive.
        meter: Where the counters are made; None takes the global provider's meter ``s3torch.datasets``.

    Raises:
        ImportError: OpenTelemetry's API is not installed.
    """
    try:
        from opentelemetry import metrics
    except ImportError as error:
        raise ImportError(
            "instrument() needs OpenTelemetry's API: pip install 's3torch-datasets[otel]'", name="opentelemetry"
        ) from error
    if meter is None:
        meter = metrics.get_meter("s3torch.datasets")
    found = ref(dataset)
    for name, unit, description, read in _COUNTERS:
        meter.create_observable_counter(
            f"s3torch.dataset.{name}", [_observer(found, read)], unit=unit, description=description
        )


def _observer(
    found: Callable[[], Any], read: Callable[[ProcessStats], float]
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    from opentelemetry.metrics import Observation

    def observe(_: CallbackOptions) -> list[Observation]:
        dataset: _HasStats | None = found()
        if dataset is None:
            return []
        return [Observation(read(each), {"s3torch.process": each.number}) for each in dataset.stats().processes]

    return observe
