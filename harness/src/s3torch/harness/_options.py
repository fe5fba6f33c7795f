"""What the options of the pytest plugin choose: server, engine, and what is put to the test.

Imported by every test run, so it imports nothing heavy.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from operator import attrgetter
from typing import Any
from urllib.parse import urlsplit

__all__ = [
    "ENGINES",
    "SERVERS",
    "Options",
    "check_endpoint",
    "check_name",
    "check_store",
    "load_engine",
    "load_name",
    "load_options",
    "parse_size",
]

SERVERS = ("moto", "swift")
ENGINES = ("direct", "boto3", "memory")

_DEFAULT_SLACK = 1024 * 1024
_UNITS = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30,
}  # fmt: skip
_READER_ARGUMENTS = ("bucket", "key", "get_object_info", "get_stream")


@dataclass(frozen=True)
class Options:
    """The options of a run, checked, and with what they name imported."""

    endpoint: str | None = None
    """URL of the user's own store; None starts a server."""
    bucket: str | None = None
    """The only bucket to use there; None makes and removes buckets."""
    server: str = "moto"
    """The server to start."""
    engine: str | Callable[[Any], Any] = "direct"
    """Name of the client's engine, or a function that makes one."""
    readers: tuple[tuple[str, Callable[..., Any]], ...] = ()
    """Reader constructors under test, each with its name."""
    writer: tuple[str, Callable[..., Any]] | None = None
    """The function under test that makes writers, with its name."""
    slack: int = _DEFAULT_SLACK
    """Bytes beyond those asked for that a small read of the readers may fetch."""
    subjects: frozenset[str] = frozenset()
    """What the suites of `s3torch.harness.conformance.given` test: ``reader``, ``writer``, ``engine``."""


def load_options(  # each is one option
    *,
    endpoint: str | None = None,
    bucket: str | None = None,
    server: str | None = None,
    engine: str | None = None,
    readers: tuple[str, ...] = (),
    writer: str | None = None,
    slack: str | None = None,
) -> Options:
    """Check the options and import what they name.

    Args:
        endpoint: As given to ``--s3-endpoint``.
        bucket: As given to ``--s3-bucket``.
        server: As given to ``--s3-server``.
        engine: As given to ``--s3-engine``.
        readers: As given to ``--s3-reader``, in order.
        writer: As given to ``--s3-writer``.
        slack: As given to ``--s3-slack``.

    Returns:
        What they mean.

    Raises:
        ValueError: One is wrong; the message is one line that names the option and what to do.
    """
    check_store("--s3-", endpoint=endpoint, bucket=bucket, server=server, engine=engine)
    loaded_readers = []
    for name in readers:
        constructor = load_name("--s3-reader", name)
        _check_reader(name, constructor)
        loaded_readers.append((name, constructor))
    loaded_writer = None
    if writer is not None:
        factory = load_name("--s3-writer", writer)
        _check_call("--s3-writer", writer, factory, ("a client", "a bucket", "a key"))
        loaded_writer = (writer, factory)
    return Options(
        endpoint=endpoint,
        bucket=bucket,
        server=server or "moto",
        engine=load_engine("--s3-engine", engine or "direct"),
        readers=tuple(loaded_readers),
        writer=loaded_writer,
        slack=_DEFAULT_SLACK if slack is None else parse_size("--s3-slack", slack),
        subjects=_subjects(bool(readers), writer is not None, bool(engine or endpoint or server)),
    )


def check_store(
    prefix: str, *, endpoint: str | None, bucket: str | None, server: str | None, engine: str | None
) -> None:
    """Check the options that choose store and engine, together too, without importing anything.

    Args:
        prefix: Opens the names of the options in the error: ``--`` or ``--s3-``.
        endpoint: URL of a store that runs already.
        bucket: The only bucket to use there.
        server: The server to start.
        engine: Name of the client's engine, or ``module:factory``.

    Raises:
        ValueError: One is wrong; the message is one line that names the option.
    """
    if engine is not None and engine not in ENGINES:
        if ":" not in engine:
            raise ValueError(f"{prefix}engine must be {', '.join(ENGINES)} or module:factory, got {engine!r}")
        check_name(f"{prefix}engine", engine)
    if server is not None and server not in SERVERS:
        raise ValueError(f"{prefix}server must be {' or '.join(SERVERS)}, got {server!r}")
    if endpoint is not None:
        check_endpoint(f"{prefix}endpoint", endpoint)
        if server is not None:
            raise ValueError(f"{prefix}endpoint names a store that runs already: it excludes {prefix}server")
    elif bucket is not None:
        raise ValueError(
            f"{prefix}bucket needs {prefix}endpoint: a server started for the tests has buckets of its own"
        )
    if engine == "memory" and (server or endpoint):
        raise ValueError(
            f"{prefix}engine memory keeps objects in the process: it excludes {prefix}server and {prefix}endpoint"
        )


def check_endpoint(option: str, endpoint: str) -> None:
    """Check the URL of a store.

    Args:
        option: Names the option in the error.
        endpoint: What was given to it.

    Raises:
        ValueError: It is none, or has a password in it, which the message does not repeat.
    """
    if "@" in re.split("[/?#]", endpoint.partition("//")[2])[0]:
        raise ValueError(f"{option} must not contain credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    try:
        parts = urlsplit(endpoint)
        _ = parts.port  # raises ValueError where it is no number
    except ValueError as error:
        raise ValueError(f"{option} {endpoint!r} is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{option} must be a URL such as http://localhost:9000, got {endpoint!r}")


def check_name(option: str, name: str) -> tuple[str, str]:
    """Split ``module:name``, without importing anything.

    Args:
        option: Names the option in the error.
        name: What was given to it.

    Returns:
        The module's name and the name within it.

    Raises:
        ValueError: It is not of that form.
    """
    module, colon, attribute = name.partition(":")
    parts = [*module.split("."), *attribute.split(".")]
    if not colon or not all(part.isidentifier() for part in parts):
        raise ValueError(f"{option} must be module:name, such as my_package.my_module:MyClass, got {name!r}")
    return module, attribute


def load_name(option: str, name: str) -> Callable[..., Any]:
    """Import what ``module:name`` names.

    Args:
        option: Names the option in the error.
        name: What was given to it.

    Returns:
        What it names, which can be called.

    Raises:
        ValueError: It cannot be imported, is not there, or cannot be called.
    """
    module_name, attribute = check_name(option, name)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the module's own code raises
        said = " ".join(str(error).split())
        raise ValueError(f"{option} {name}: cannot import {module_name!r}: {type(error).__name__}: {said}") from error
    try:
        found = attrgetter(attribute)(module)
    except AttributeError:
        near = difflib.get_close_matches(attribute, dir(module), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{option} {name}: the module {module_name!r} has no {attribute!r}{hint}") from None
    if not callable(found):
        raise ValueError(f"{option} {name}: a {type(found).__name__} cannot be called")  # noqa: TRY004  # as all here
    return found  # type: ignore[no-any-return]  # what a name stands for is known at run time only


def load_engine(option: str, engine: str) -> str | Callable[[Any], Any]:
    """Return an engine as ``S3ClientConfig`` takes it.

    Args:
        option: Names the option in the error.
        engine: One of `ENGINES`, or ``module:factory`` of what makes one of an ``EngineContext``.

    Raises:
        ValueError: There is no such engine.
    """
    if engine in ENGINES:
        return engine
    factory = load_name(option, engine)
    _check_call(option, engine, factory, ("an EngineContext",))
    return factory


def parse_size(option: str, text: str) -> int:
    """Return a count of bytes such as ``65536``, ``64KiB``, ``8 MiB`` or ``1.5 GB``.

    Args:
        option: Names the option in the error.
        text: What was given to it.

    Raises:
        ValueError: It is none.
    """
    found = re.fullmatch(r"(\d+)(\.\d+)?\s*([a-z]*)", text.strip().lower(), re.ASCII)
    unit = _UNITS.get(found[3]) if found else None
    if found is None or unit is None or (found[2] and unit == 1):
        raise ValueError(f"{option} must be a count of bytes, such as 65536, 64KiB or 8MiB, got {text!r}")
    return int(Fraction(found[1] + (found[2] or "")) * unit)


def _subjects(has_readers: bool, has_writer: bool, has_store: bool) -> frozenset[str]:
    """Say what is tested: readers and writer where given, on the engine; else engine and store themselves."""
    subjects = {name for name, is_given in (("reader", has_readers), ("writer", has_writer)) if is_given}
    return frozenset(subjects or ({"engine"} if has_store else ()))


def _check_call(option: str, name: str, function: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    problem = _problem_of_call(function, *arguments)
    if problem is not None:
        raise ValueError(f"{option} {name}: it is called with {' and '.join(arguments)}: {problem}")


def _check_reader(name: str, constructor: Callable[..., Any]) -> None:
    problem = _problem_of_call(constructor, **dict.fromkeys(_READER_ARGUMENTS))
    if problem is None:
        return
    if _problem_of_call(constructor) is None:
        raise ValueError(
            f"--s3-reader {name}: called without arguments it may make a reader constructor, but it is none itself; "
            f"put `constructor = {name.partition(':')[2]}()` into a module of yours and name that"
        )
    wanted = ", ".join(f"{argument}=..." for argument in _READER_ARGUMENTS)
    raise ValueError(f"--s3-reader {name}: a reader constructor is called with ({wanted}): {problem}")


def _problem_of_call(function: Callable[..., Any], *arguments: object, **named: object) -> str | None:
    """Why a function cannot be called so; None where it can, or where nobody can tell."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # C code need not tell
        return None
    try:
        signature.bind(*arguments, **named)
    except TypeError as error:
        return str(error)
    return None
