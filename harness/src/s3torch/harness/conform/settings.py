"""What the command is asked to do, checked before anything starts, and what it makes of that: runs of pytest."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from s3torch.harness._options import ENGINES, SERVERS, check_endpoint, check_name, parse_size

__all__ = ["Run", "Settings", "check_settings", "law_name", "plan_runs"]

_LONGEST_TIMEOUT = 3600


@dataclass(frozen=True, slots=True)
class Settings:
    """The command's options, as given."""

    readers: tuple[str, ...] = ()
    """Reader constructors, ``module:name``."""
    writer: str | None = None
    """A function of client, bucket and key, ``module:name``."""
    engine: str | None = None
    """Engine of the client, or ``module:factory``."""
    server: str | None = None
    """The server to start."""
    endpoint: str | None = None
    """URL of the user's own store."""
    bucket: str | None = None
    """The only bucket to use there."""
    slack: str | None = None
    """What a small read of the readers may fetch beyond what it was asked for."""
    laws: tuple[str, ...] = ()
    """Only these laws, and with details."""
    exit_first: bool = False
    """Stop at the first law that is broken."""
    timeout: int = 120
    """Seconds until a law that does not end is broken."""

    def command(self, *, laws: Sequence[str] = ()) -> str:
        """Return the command line that does the same.

        Args:
            laws: Only these laws.
        """
        words = ["s3torch", "conform"]
        for reader in self.readers:
            words += ["--reader", reader]
        for name in ("writer", "engine", "server", "endpoint", "bucket", "slack"):
            if (value := getattr(self, name)) is not None:
                words += [f"--{name}", value]
        for law in laws:
            words += ["--law", law]
        return shlex.join(words)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the suites: of readers and writer on an engine, or of an engine itself."""

    engine: str
    """The engine."""
    store: str
    """The store, as shown: a server's name or a URL."""
    arguments: tuple[str, ...]
    """The options of the pytest plugin."""

    def __str__(self) -> str:
        return "engine memory" if self.engine == "memory" else f"engine {self.engine} on {self.store}"


def law_name(text: str) -> str:
    """Return a law's name as it is shown: that of its test, without ``test_``."""
    return text.strip().replace("-", "_").removeprefix("test_")


def check_settings(settings: Settings) -> None:
    """Check the options, together too; what they name is imported later, where it is tested.

    Args:
        settings: The options.

    Raises:
        ValueError: One is wrong; the message is one line that names it.
    """
    for reader in settings.readers:
        check_name("--reader", reader)
    if settings.writer is not None:
        check_name("--writer", settings.writer)
    _check_store(settings)
    if settings.slack is not None:
        if not settings.readers:
            raise ValueError("--slack is about readers: it needs --reader")
        parse_size("--slack", settings.slack)
    if not 1 <= settings.timeout <= _LONGEST_TIMEOUT:
        raise ValueError(f"--timeout must be 1 to {_LONGEST_TIMEOUT} seconds, got {settings.timeout}")
    if not any((settings.readers, settings.writer, settings.engine, settings.server, settings.endpoint)):
        raise ValueError("say what to test: --reader, --writer, --engine, --server or --endpoint; --help tells more")


def _check_store(settings: Settings) -> None:
    """Check engine and store."""
    if settings.engine is not None and settings.engine not in ENGINES:
        if ":" not in settings.engine:
            raise ValueError(f"--engine must be {', '.join(ENGINES)} or module:factory, got {settings.engine!r}")
        check_name("--engine", settings.engine)
    if settings.server is not None and settings.server not in SERVERS:
        raise ValueError(f"--server must be {' or '.join(SERVERS)}, got {settings.server!r}")
    if settings.endpoint is not None:
        check_endpoint("--endpoint", settings.endpoint)
        if settings.server is not None:
            raise ValueError("--endpoint names a store that runs already: it excludes --server")
    elif settings.bucket is not None:
        raise ValueError("--bucket needs --endpoint: a server started for the tests has buckets of its own")
    if settings.engine == "memory" and (settings.server or settings.endpoint):
        raise ValueError("--engine memory keeps objects in the process: it excludes --server and --endpoint")


def plan_runs(settings: Settings) -> list[Run]:
    """Plan the runs: a store that is itself to be tested is seen through both engines, which then agree or not.

    Args:
        settings: The options, checked.
    """
    is_about_store = not (settings.readers or settings.writer or settings.engine)
    engines = ("direct", "boto3") if is_about_store else (settings.engine or "direct",)
    store = settings.endpoint or settings.server or "moto"
    shared: list[str] = []
    for reader in settings.readers:
        shared += ["--s3-reader", reader]
    for name in ("writer", "server", "endpoint", "bucket", "slack"):
        if (value := getattr(settings, name)) is not None:
            shared += [f"--s3-{name}", value]
    return [Run(engine, store, (*shared, "--s3-engine", engine)) for engine in engines]
