"""Stores whose listings are scripted, most of them without an end."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any, Protocol
from xml.sax.saxutils import escape

from s3torch.client import EngineContext, ListObjectResult, ListPage, ObjectInfo, S3Client, S3ClientConfig, S3Exception
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torch.client.transfers import DoneTransfer
from s3torch.harness.servers.scripted import Request, ScriptedServer, Wire

Page = tuple[list[str], bool, "str | None"]
"""Keys, whether the list goes on, and what is said to ask for the next page."""
Script = Callable[["str | None"], Page]
"""Gives a page for the token that it is asked for with."""


def repeat_everything() -> Script:
    return lambda token: (["p/a", "p/b"], True, "same")


def repeat_the_token() -> Script:
    """Goes on for three pages, and then stays."""
    return lambda token: ([f"p/{token}"], True, {None: "1", "1": "2", "2": "3"}.get(token, "3"))


def repeat_empty_pages() -> Script:
    return lambda token: ([], True, "same")


def drop_the_token() -> Script:
    """Gives the first page whatever it is asked, with a token that looks new each time."""
    tokens = itertools.count()
    return lambda token: (["p/a", "p/b"], True, f"token {next(tokens)}")


def go_in_a_circle() -> Script:
    """Comes back to where it was after some pages without keys."""
    return lambda token: ([], True, f"{(int(token or 0) + 1) % 5 + 1}")


def turn_back_later() -> Script:
    """Comes back to keys that it has listed, with new tokens, and some pages after the first ones."""
    count = itertools.count()

    def answer(token: str | None) -> Page:
        number = next(count)
        return [f"p/{number if number < 3 else 3 + number % 4}"], True, f"token {number}"

    return answer


ENDLESS = [
    repeat_everything,
    repeat_the_token,
    repeat_empty_pages,
    drop_the_token,
    go_in_a_circle,
    turn_back_later,
]


def say_no_token(token: str | None) -> Page:
    return (["p/a"], True, "1") if token is None else (["p/b"], True, None)


def say_an_empty_token(token: str | None) -> Page:
    return (["p/a"], True, "1") if token is None else (["p/b"], True, "")


def list_with_gaps(token: str | None) -> Page:
    """Ten pages, most of them without keys, each with another token."""
    number = int(token or 0)
    return [f"p/{number}"] if number % 4 == 3 else [], number < 9, f"{number + 1}" if number < 9 else None


def listing(page: Page) -> bytes:
    keys, is_truncated, token = page
    return (
        "<ListBucketResult><Name>bucket</Name><Prefix>p/</Prefix>"
        f"<IsTruncated>{str(is_truncated).lower()}</IsTruncated>"
        + "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2024-01-02T03:04:05.000Z</LastModified>"
            f"<ETag>&quot;e&quot;</ETag><Size>1</Size></Contents>"
            for key in keys
        )
        + (f"<NextContinuationToken>{token}</NextContinuationToken>" if token is not None else "")
        + "</ListBucketResult>"
    ).encode()


class ScriptedEngine(MemoryEngine):
    """An engine in memory whose pages are a script's."""

    def __init__(self, context: EngineContext, script: Script) -> None:
        super().__init__(context, MemoryStore())
        self.script = script

    def list_page(self, bucket: str, prefix: str, **options: Any) -> tuple[ListObjectResult, str | None]:
        keys, is_truncated, token = self.script(options["token"])
        infos = [ObjectInfo(key, '"e"', 1, 0) for key in keys]
        return ListObjectResult(infos, []), (token or "") if is_truncated else None


@contextlib.contextmanager
def listed_by(engine: str, script: Script) -> Iterator[S3Client]:
    """Give a client whose store lists by a script."""
    options: dict[str, Any] = {"force_path_style": True, "read_timeout": 5.0, "operation_timeout": 20.0}
    if engine == "memory":
        yield S3Client("us-east-1", s3client_config=S3ClientConfig(engine=lambda c: ScriptedEngine(c, script)))
        return

    def answer(request: Request, wire: Wire) -> None:
        wire.respond(200, listing(script(request.query.get("continuation-token"))))

    with (
        ScriptedServer(answer) as server,
        S3Client(
            "us-east-1", endpoint=server.endpoint, s3client_config=S3ClientConfig(engine=engine, **options)
        ) as client,
    ):
        yield client


class BringsPages(Protocol):
    """An engine whose pages come one by one, while somebody waits."""

    flying: list[LatePage]
    """Those under way."""
    cancelled: int
    """Those that were given up before they had come."""

    def step(self) -> None:
        """Let one of them come: its ``answer`` is what its ``ask`` returns."""


class LatePage:
    """A page that comes when somebody waits for it, or for another."""

    def __init__(self, engine: BringsPages, ask: Callable[[], DoneTransfer[ListPage]]) -> None:
        self.engine = engine
        self.ask = ask
        self.answer: DoneTransfer[ListPage] | None = None
        engine.flying.append(self)

    def done(self) -> bool:
        return self.answer is not None

    def wait(self, until: Callable[[], bool] | None = None) -> None:
        while not self.done() and not (until is not None and until()):
            self.engine.step()

    def advance(self, seconds: float = 0.0) -> None:
        self.engine.step()

    def result(self) -> ListPage:
        self.wait()
        assert self.answer is not None
        return self.answer.result()

    def cancel(self) -> None:
        if self in self.engine.flying:
            self.engine.cancelled += 1
            self.engine.flying.remove(self)
            self.answer = DoneTransfer(error=S3Exception("cancelled"))

    def rebase(self, body: object) -> None:
        raise AssertionError("not for downloads")
