"""What the command is asked to do, checked before anything starts, and what it makes of that: runs of pytest."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from s3torch.harness._options import check_name, check_store, parse_size

__all__ = ["Run", "Settings", "check_settings", "law_name", "law_sentence", "plan_runs"]

_TIMEOUT = 120
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
    timeout: int = _TIMEOUT
    """Seconds until a law that does not end is broken."""

    def command(self, *, laws: Sequence[str] = ()) -> str:
        """Return the command line that puts the same subjects to the test, in the same way and place.

        Args:
            laws: Only these laws.
        """
        words = ["s3torch", "conform"]
        for reader in self.readers:
            words += ["--reader", reader]
        for name in ("writer", "engine", "server", "endpoint", "bucket", "slack"):
            if (value := getattr(self, name)) is not None:
                words += [f"--{name}", value]
        if self.timeout != _TIMEOUT:
            words += ["--timeout", str(self.timeout)]
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


def law_sentence(law: object) -> str:
    """Return what a law says, as it is shown: the first paragraph of its docstring, in one line."""
    return " ".join((inspect.getdoc(law) or "").split("\n\n")[0].split())


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
    check_store(
        "--",
        endpoint=settings.endpoint,
        bucket=settings.bucket,
        server=settings.server,
        engine=settings.engine,
    )
    if settings.slack is not None:
        if not settings.readers:
            raise ValueError("--slack is about readers: it needs --reader")
        parse_size("--slack", settings.slack)
    if not 1 <= settings.timeout <= _LONGEST_TIMEOUT:
        raise ValueError(f"--timeout must be 1 to {_LONGEST_TIMEOUT} seconds, got {settings.timeout}")
    if not any((settings.readers, settings.writer, settings.engine, settings.server, settings.endpoint)):
        raise ValueError("say what to test: --reader, --writer, --engine, --server or --endpoint; --help tells more")


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
