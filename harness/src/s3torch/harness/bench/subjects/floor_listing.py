"""The floor of a listing: ``http.client`` and a pattern, page after page, or the folders of a bucket side by side."""

from __future__ import annotations

import http.client
import re
from concurrent.futures import ThreadPoolExecutor
from threading import local
from urllib.parse import urlencode

from s3torch.harness.bench.subjects.sockets import address_of
from s3torch.harness.bench.subjects.task import Sink, Subject, Task, listed

_KEY = re.compile(rb"<Key>([^<]*)</Key>")
_FOLDER = re.compile(rb"<CommonPrefixes><Prefix>([^<]*)</Prefix>")
_TOKEN = re.compile(rb"<NextContinuationToken>([^<]*)</NextContinuationToken>")


class Lister:
    """Lists on one connection for each thread."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._own = local()

    def find(self, pattern: re.Pattern[bytes], prefix: str, *, pages: int | None = None, **more: str) -> list[str]:
        """Return what matches in the pages under a prefix.

        Args:
            pattern: Its first group is kept.
            prefix: The prefix.
            pages: How many pages at most; all by default.
            more: Further arguments of the query.
        """
        found: list[str] = []
        token = ""
        while pages is None or pages > 0:
            body = self._page({"list-type": "2", "prefix": prefix, "continuation-token": token, **more})
            found += [name.decode() for name in pattern.findall(body)]
            following = _TOKEN.search(body)
            if not following:
                break
            token = following[1].decode()
            pages = None if pages is None else pages - 1
        return found

    def keys(self, prefix: str, *, pages: int | None = None) -> list[str]:
        """Return the keys under a prefix, or those of its first pages."""
        return self.find(_KEY, prefix, pages=pages)

    def folders(self, prefix: str) -> list[str]:
        """Return what lies under a prefix up to the next slash."""
        return self.find(_FOLDER, prefix, delimiter="/")

    def _page(self, query: dict[str, str]) -> bytes:
        if not hasattr(self._own, "connection"):
            self._own.connection = http.client.HTTPConnection(*address_of(self._task.endpoint))
        connection: http.client.HTTPConnection = self._own.connection
        text = urlencode({name: value for name, value in query.items() if value})
        connection.request("GET", f"/{self._task.bucket}?{text}")
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise ConnectionError(f"{answer.status}: {body[:200].decode(errors='replace')}")
        return body


def serial(task: Task) -> Subject:
    """Page after page."""
    lister = Lister(task)
    return Subject(lambda _: lister.keys(task.keys[0]), parts=listed)


def parallel(task: Task) -> Subject:
    """The folders under the prefix first, then each of them, on as many threads as the window."""
    lister, pool = Lister(task), ThreadPoolExecutor(task.window)

    def run(_: Sink) -> list[str]:
        return [key for keys in pool.map(lister.keys, lister.folders(task.keys[0])) for key in keys]

    return Subject(run, parts=listed)
