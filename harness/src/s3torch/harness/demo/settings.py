"""What the demo is asked to do, checked before anything starts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal
from urllib.parse import urlsplit

from s3torch.client import S3ClientConfig, parse_s3_uri
from s3torch.harness._options import check_endpoint

__all__ = ["BATCH_SIZE", "Job", "Settings", "StoreAddress", "check_settings"]

BATCH_SIZE = 32

# Below two epochs there is none to resume into; below four batches an epoch has no middle worth the name.
_LIMITS = {"epochs": (2, 100), "workers": (0, 32), "samples": (4 * BATCH_SIZE, 1_000_000)}
# The in-memory engine keeps its objects in one process, and the demo is several.
_ENGINES = ("direct", "boto3")


@dataclass(frozen=True, slots=True)
class Settings:
    """The demo's options, as given on the command line."""

    uri: str | None = None
    """Where on the user's own store to work, ``s3://bucket/prefix``; None starts a server."""
    endpoint: str | None = None
    """URL of the user's store; None is Amazon's or the environment's."""
    region: str | None = None
    """Its region; None is the environment's or the profile's."""
    profile: str | None = None
    """Profile of the shared AWS configuration."""
    engine: str = "direct"
    """The client's engine."""
    epochs: int = 3
    """Epochs of each run."""
    workers: int = 2
    """Worker processes of each DataLoader."""
    samples: int = 512
    """Images in the data set."""
    keep: bool = False
    """Leave on the user's store what was written."""


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """How a process reaches the demo's place in the store."""

    uri: str
    """``s3://bucket/prefix`` under which everything is written; no slash at its end."""
    region: str
    """The region."""
    endpoint: str | None
    """The endpoint; None is Amazon's or the environment's."""
    profile: str | None
    """The profile."""
    engine: str
    """The client's engine."""

    def client_config(self) -> S3ClientConfig:
        """Return the client's configuration."""
        host = urlsplit(self.endpoint).hostname if self.endpoint else None
        # A store outside Amazon seldom has a host name for each bucket.
        path_style = host is not None and not host.endswith(("amazonaws.com", "amazonaws.com.cn"))
        return S3ClientConfig(engine=self.engine, profile=self.profile, force_path_style=path_style)


@dataclass(frozen=True, slots=True)
class Job:
    """What one child process does; travels to it as JSON."""

    store: StoreAddress
    """Where it reads and writes."""
    task: Literal["write", "train"]
    """Write the data set, or train on it."""
    samples: int
    """Images in the data set."""
    run: str = ""
    """Names the run's checkpoints."""
    style: Literal["map", "iterable"] = "map"
    """The data set's style."""
    epochs: int = 0
    """Epochs to end at, those before a resume included."""
    workers: int = 0
    """Worker processes of the DataLoader."""
    seed: int = 7
    """Seeds the weights, the order of the images and what is random in training."""
    resume: bool = False
    """Begin at the latest checkpoint found in the store."""
    hold_at: tuple[int, int] | None = None
    """Epoch and step after which the process stands still, so that it is surely killed there and not later."""

    @property
    def steps(self) -> int:
        """Batches in one epoch."""
        return -(-self.samples // BATCH_SIZE)

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Return what `to_json` wrote."""
        fields = json.loads(text)
        fields["store"] = StoreAddress(**fields["store"])
        if fields["hold_at"] is not None:
            fields["hold_at"] = tuple(fields["hold_at"])
        return cls(**fields)


def check_settings(settings: Settings) -> None:
    """Check the options, together too.

    Args:
        settings: The options.

    Raises:
        ValueError: One is wrong; the message is one line that names it.
    """
    for name, (least, most) in _LIMITS.items():
        value = getattr(settings, name)
        if not least <= value <= most:
            raise ValueError(f"--{name} must be {least} to {most}, got {value}")
    if settings.engine not in _ENGINES:
        raise ValueError(f"--engine must be {' or '.join(_ENGINES)}, got {settings.engine!r}")
    if settings.uri is None:
        for name in ("endpoint", "region", "profile", "keep"):
            if getattr(settings, name):
                raise ValueError(f"--{name} needs --uri; without it the demo runs on a server of its own")
    else:
        try:
            parse_s3_uri(settings.uri)
        except ValueError as error:
            raise ValueError(f"--uri: {error}") from None
    if settings.endpoint is not None:
        check_endpoint("--endpoint", settings.endpoint)
