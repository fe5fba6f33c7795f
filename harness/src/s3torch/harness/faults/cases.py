"""The faults of the matrix: what happens, to whom, and what has to come of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from s3torch.harness.faults.engine import ENGINE_FAULTS
from s3torch.harness.faults.plan import Fault, FaultPlan

__all__ = ["ALL_CASES", "CacheFault", "Consumer", "FaultCase", "Names"]

Consumer = Literal["steady", "pauses", "abandons"]
"""How whoever reads behaves: without a pause, with one in the middle, or never to the end."""

Names = Literal["known", "unknown", "flaky"]
"""Whether the endpoint's name is found: always, never, or after failing twice."""

CacheFault = Literal["flip", "cut", "other", "lost", "unwritable", "full", "kill", "replace"]
"""What happens to a cache between two passes or in one, and to the objects behind it: see `_cache_faults`."""

_FEW = 3  # attempts, where none succeeds


@dataclass(frozen=True, slots=True)
class FaultCase:
    """One row of the matrix."""

    name: str
    """Its name, for ``--fault``."""
    title: str
    """What happens, in a line."""
    faults: tuple[Fault, ...] = ()
    """What goes wrong."""
    reads: bool = True
    """Whether subjects that read meet it."""
    writes: bool = False
    """Whether subjects that write meet it."""
    mends: bool = True
    """Whether the direct engine has to come through with right bytes."""
    boto3_mends: bool | None = None
    """The same of the boto3 engine, where it differs."""
    rate: float = 1.0
    """Part of the requests that are struck."""
    after: int = 0
    """Requests that pass first."""
    most: int | None = None
    """Requests that are struck at most."""
    tls: bool = False
    """Whether the client speaks TLS."""
    consumer: Consumer = "steady"
    """How whoever reads behaves."""
    names: Names = "known"
    """Whether the endpoint's name is found."""
    renews: bool = False
    """Whether the credentials' source gives others when asked anew."""
    checksummed: bool = False
    """Whether only reads that a checksum guards can meet it; nobody could find the fault without."""
    private: bool = False
    """Whether it changes objects, so that they must be the cell's own."""
    kills: bool = False
    """Whether the process is killed, after each of its requests in turn."""
    max_attempts: int = 10
    """Attempts of a request in all."""
    least_s: float = 0.0
    """Seconds that the server asks to wait."""
    cached: bool = False
    """Whether only subjects with a cache can meet it."""
    cache_fault: CacheFault | None = None
    """What happens to the cache itself; requests then fare well."""

    @property
    def is_certain(self) -> bool:
        """Whether the fault has to take effect: one that comes at random may miss a subject of few requests."""
        if self.names != "known" or self.cached:
            return True
        return bool(self.faults) and self.rate == 1.0 and not self.after and self.consumer != "abandons"

    @property
    def fits_memory(self) -> bool:
        """Whether an engine without sockets can meet it."""
        names = {fault.name for fault in self.faults}
        return bool(names) and names <= ENGINE_FAULTS and not (self.tls or self.renews or self.cached)

    def must_mend(self, engine: str) -> bool:
        """Whether an error is no pass on an engine."""
        if engine == "memory":
            return False  # it retries nothing, as nothing can go wrong there but by a wrapper around it
        return self.mends if engine != "boto3" or self.boto3_mends is None else self.boto3_mends

    def must_wait(self, engine: str) -> float:
        """Return the seconds that an engine has to wait: botocore knows ``x-amz-retry-after`` alone."""
        return 0.0 if engine == "boto3" else self.least_s

    def plan(self, seed: int) -> FaultPlan:
        """Return the plan for one cell."""
        return FaultPlan(self.faults, rate=self.rate, seed=seed, after=self.after, most=self.most)


def _status(status: int, code: str, retry_after: float | None = None) -> tuple[Fault, ...]:
    return (Fault("status", status=status, code=code, retry_after=retry_after),)


_UNAVAILABLE = _status(503, "SlowDown")
_EXPIRED = (Fault("expire", status=403, code="ExpiredToken"),)
_UPLOADS = ("PUT", "POST")

ALL_CASES: tuple[FaultCase, ...] = (
    FaultCase("restart", "refuses connections for 0.4 s", (Fault("refuse", seconds=0.4),), writes=True, most=1),
    FaultCase(
        "refuse", "refuses connections for good", (Fault("refuse"),), writes=True, most=1, mends=False,
        max_attempts=_FEW,
    ),
    FaultCase("reset-early", "reset before the answer, twice", (Fault("reset", at=-1),), writes=True, most=2),
    FaultCase("reset", "reset at byte 1000 of the answer, twice", (Fault("reset", at=1000),), most=2),
    FaultCase(
        "reset-some", "reset or cut in 20 % of the requests", writes=True, rate=0.2,
        faults=(Fault("reset", at=-1), Fault("reset", at=20_000), Fault("cut", at=100_000), Fault("cut", at=-1)),
    ),
    FaultCase(
        "reset-always", "reset at byte 1000 of every answer", (Fault("reset", at=1000),), writes=True, mends=False,
        max_attempts=_FEW,
    ),
    FaultCase("cut", "ends before the announced length, twice", (Fault("cut", at=1000),), most=2),
    FaultCase(
        "cut-always", "ends before the announced length, always", (Fault("cut", at=-1),), writes=True, mends=False,
        max_attempts=_FEW,
    ),
    FaultCase(
        "unframed", "tells no length and ends early, twice", (Fault("unframed", at=1000),), most=2, boto3_mends=False
    ),
    FaultCase("unframed-always", "tells no length and ends early, always", (Fault("unframed", at=1000),), mends=False),
    FaultCase("stall", "nothing more comes after byte 1000, once", (Fault("stall", at=1000),), writes=True, most=1),
    FaultCase(
        "stall-always", "nothing more comes after byte 1000, ever", (Fault("stall", at=1000),), writes=True,
        mends=False, max_attempts=_FEW,
    ),
    FaultCase("drip", "1 KiB a second", (Fault("drip", at=1000),), mends=False, max_attempts=_FEW),
    FaultCase("duplicate", "the last bytes of every answer come twice", (Fault("duplicate"),), mends=False),
    FaultCase("echo", "every answer comes twice", (Fault("echo"),), mends=False),
    FaultCase("flip", "a bit of the answer flips, once", (Fault("flip", at=777),), most=1, checksummed=True),
    FaultCase(
        "flip-always", "a bit of every answer flips", (Fault("flip", at=777),), checksummed=True, mends=False,
        max_attempts=_FEW,
    ),
    FaultCase("swap", "the answer is that to another range, twice", (Fault("swap"),), most=2, boto3_mends=False),
    FaultCase("swap-always", "the answer is always that to another range", (Fault("swap"),), mends=False),
    FaultCase("500", "500 InternalError, twice", _status(500, "InternalError"), writes=True, most=2),
    FaultCase("503", "503 SlowDown, twice", _UNAVAILABLE, writes=True, most=2),
    FaultCase("503-some", "503 SlowDown for 20 % of the requests", _UNAVAILABLE, writes=True, rate=0.2),
    FaultCase("503-always", "503 SlowDown, always", _UNAVAILABLE, writes=True, mends=False, max_attempts=_FEW),
    FaultCase(
        "503-wait", "503 with Retry-After: 3, once", _status(503, "SlowDown", 3.0), writes=True, most=1, least_s=3.0
    ),
    FaultCase("429", "429, twice", _status(429, "TooManyRequests"), writes=True, most=2),
    FaultCase(
        "429-wait", "429 with Retry-After: 1, once", _status(429, "TooManyRequests", 1.0), most=1, least_s=1.0
    ),
    FaultCase(
        "expire", "403: the credentials expire, their source has others", _EXPIRED, writes=True, after=1, most=1,
        renews=True, boto3_mends=False,
    ),
    FaultCase(
        "expire-for-good", "403: the credentials expire, and there are no others", _EXPIRED, writes=True, after=0,
        most=1, mends=False,
    ),
    FaultCase(
        "region-301", "301: the bucket is in another region", (Fault("region", status=301),), writes=True,
        boto3_mends=False,
    ),
    FaultCase(
        "region-400", "400: the bucket is in another region", (Fault("region", status=400),), writes=True,
        boto3_mends=False,
    ),
    FaultCase("replace", "the object is replaced after the first answer", (Fault("replace"),), mends=False,
              private=True),
    FaultCase(
        "403-midway", "403 AccessDenied for the third request", (Fault("status", status=403, code="AccessDenied"),),
        after=2, most=1, mends=False, cached=True,
    ),
    FaultCase(
        "flip-unseen", "a bit of the first answer flips, which no checksum guards", (Fault("flip", at=777),), most=1,
        cached=True,
    ),
    FaultCase("cache-flip", "a bit of each file flips", cached=True, cache_fault="flip"),
    FaultCase("cache-cut", "each file loses its end, or all", cached=True, cache_fault="cut"),
    FaultCase(
        "cache-other", "each file holds what another held; strange ones beside", cached=True, cache_fault="other"
    ),
    FaultCase("cache-lost", "files are removed just before they are opened", cached=True, cache_fault="lost"),
    FaultCase("cache-unwritable", "nothing can be written any more", cached=True, cache_fault="unwritable"),
    FaultCase("cache-full", "files cannot grow beyond some bytes", cached=True, cache_fault="full"),
    FaultCase("cache-kill", "processes are killed while they write", cached=True, cache_fault="kill"),
    FaultCase(
        "cache-replace", "the objects are replaced between two passes", cached=True, cache_fault="replace",
        private=True,
    ),
    FaultCase("dns", "the endpoint's name is unknown", names="unknown", writes=True, mends=False, max_attempts=_FEW),
    FaultCase("dns-flaky", "the endpoint's name is found the third time", names="flaky", writes=True),
    FaultCase("tls-cut", "TLS ends without notice before the length, twice", (Fault("cut", at=1000),), most=2,
              tls=True),
    FaultCase(
        "tls-unframed", "TLS ends without notice, no length told, twice", (Fault("unframed", at=1000),), most=2,
        tls=True, boto3_mends=False,
    ),
    FaultCase(
        "idle", "the reader pauses for longer than the server waits", (Fault("idle", seconds=0.5),), writes=True,
        consumer="pauses",
    ),
    FaultCase(
        "abandon", "the reader goes away in the middle; 20 % resets", (Fault("reset", at=1000),), rate=0.2,
        consumer="abandons",
    ),
    FaultCase(
        "upload-reset", "reset in the middle of an upload, twice", (Fault("reset", at=10_000, side="request"),),
        reads=False, writes=True, most=2,
    ),
    FaultCase(
        "upload-stall", "an upload is no longer taken, once", (Fault("stall", at=10_000, side="request"),),
        reads=False, writes=True, most=1,
    ),
    FaultCase(
        "upload-flip", "a bit of an upload flips, once", (Fault("flip", at=10, side="request"),), reads=False,
        writes=True, most=1, boto3_mends=False,
    ),
    FaultCase(
        "upload-lost", "carried out, but the answers of 30 % get lost", (Fault("reset", at=-1, methods=_UPLOADS),),
        reads=False, writes=True, rate=0.3,
    ),
    FaultCase("kill", "the process is killed after each of its requests", reads=False, writes=True, kills=True,
              private=True),
)  # fmt: skip
"""Every case of the matrix, in the order in which it is shown."""
