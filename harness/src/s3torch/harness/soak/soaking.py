"""One soak from the start of its server to its verdict."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from s3torch.harness.faults import Fault, FaultPlan, FaultProxy
from s3torch.harness.servers import MotoServer, Origin
from s3torch.harness.servers._address import own_environment, server_environment
from s3torch.harness.soak.events import Broken, Done, Ended, Rounded
from s3torch.harness.soak.process import HangError, LoadError, LoadProcess
from s3torch.harness.soak.settings import Job, Settings
from s3torch.harness.soak.trend import MEASURES, Growth, judge_growth
from s3torch.harness.soak.watching import Sample

__all__ = ["FAULTS", "Report", "run_soak"]

FAULTS = (
    Fault("reset", at=-1),
    Fault("reset", at=20_000),
    Fault("cut", at=10_000),
    Fault("reset", at=100_000, side="request"),
    Fault("stall", at=5_000, seconds=0.3),
    Fault("stall", at=30_000, seconds=6.0),
    Fault("drip", at=30_000, pace=2_000_000),
    Fault("flip", at=1_000, side="request"),
    Fault("refuse", seconds=0.2),
    Fault("status", status=500, code="InternalError"),
    Fault("status", status=503, code="SlowDown", retry_after=0.0),
    Fault("status", status=429, code="TooManyRequests"),
)
"""What may strike a request. All can be told by any client that counts bytes, or by a store that compares checksums."""
_BUCKET = "soak"
_ERRORS_KEPT = 20


@dataclass(slots=True)
class Report:
    """What a soak has seen so far."""

    settings: Settings
    """Its options."""
    seconds: float = 0.0
    """How long it has run."""
    rounds: int = 0
    """Rounds that have ended."""
    size: int = 0
    """Bytes that were compared."""
    done: Counter[str] = field(default_factory=Counter)
    """How often each activity has ended well."""
    longest: dict[str, float] = field(default_factory=dict)
    """Most seconds that each activity has taken, faults and all."""
    errors: Counter[str] = field(default_factory=Counter)
    """The client's errors, by activity and text: what faults may lead to."""
    injected: dict[str, int] = field(default_factory=dict)
    """How often each fault has taken effect."""
    broken: list[str] = field(default_factory=list)
    """What must not happen: wrong bytes, errors of another kind, a hang, an early end."""
    samples: list[Sample] = field(default_factory=list)
    """One of each round."""
    is_interrupted: bool = False
    """Whether Ctrl-C ended it."""

    def growths(self) -> list[Growth]:
        """Judge what is watched."""
        return [judge_growth(self.samples, measure) for measure in MEASURES]

    @property
    def is_good(self) -> bool:
        """Whether nothing broke, something was done, and nothing grows."""
        if self.broken or not self.done or any(growth.grows for growth in self.growths()):
            return False
        # Faults are part of the promise: where none took effect, nothing was shown.
        return self.is_interrupted or not self.settings.rate or bool(self.injected)


def run_soak(settings: Settings, show: Callable[[Report], None] = lambda _: None) -> Report:
    """Run a soak.

    Args:
        settings: Its options.
        show: Called with the report some times a second.

    Returns:
        The report. Ctrl-C ends the load, not this call: the report then holds what was seen until then.

    Raises:
        ServerError: The server or the proxy did not start.
    """
    report = Report(settings)
    plan = FaultPlan(FAULTS, rate=settings.rate, seed=settings.seed)
    with contextlib.ExitStack() as stack:
        try:
            server: MotoServer | Origin = MotoServer() if settings.server == "moto" else Origin()
            stack.enter_context(server)
            server.create_bucket(_BUCKET)
            proxy = stack.enter_context(FaultProxy(server.endpoint, plan))
            env = {**own_environment(), **server_environment(server, endpoint=proxy.endpoint)}
            job = _job(settings, server.region, proxy.endpoint)
            load = stack.enter_context(LoadProcess(job, env, settings.silence))
            for _ in _follow(load, report):
                report.injected = proxy.injected()
                show(report)
        except KeyboardInterrupt:
            report.is_interrupted = True
        except HangError as error:
            report.broken.append(f"a hang: {error}")
        except LoadError as error:
            report.broken.append(str(error))
    return report


def _follow(load: LoadProcess, report: Report) -> Iterator[None]:
    """Write what the load tells into the report; yield at each new round, and once a second."""
    started = shown = time.monotonic()
    for event in load.events():
        now = time.monotonic()
        report.seconds = now - started
        if isinstance(event, Done):
            report.size += event.size
            report.longest[event.activity] = max(event.seconds, report.longest.get(event.activity, 0.0))
            if event.error:
                key = f"{event.activity}: {event.error}"
                report.errors[key if len(report.errors) < _ERRORS_KEPT else "others"] += 1
            else:
                report.done[event.activity] += 1
        elif isinstance(event, Broken):
            report.broken.append(f"{event.activity}: {event.message}")
        elif isinstance(event, Rounded):
            report.rounds = event.number
            report.samples.append(event.sample)
        if isinstance(event, (Rounded, Ended)) or now - shown >= 1.0:
            shown = now
            yield


def _job(settings: Settings, region: str, endpoint: str) -> Job:
    return Job(
        endpoint=endpoint,
        region=region,
        bucket=_BUCKET,
        seconds=settings.minutes * 60,
        rounds=settings.rounds,
        seed=settings.seed,
        workers=settings.workers,
        only=settings.only,
        also=settings.also,
    )
