"""A server that only lists: many keys that lie nowhere, at the pace of S3.

Run as ``python -m s3torch.harness.bench.lister PORT_FILE COUNT SECONDS`` it is the server's own process.
"""

from __future__ import annotations

import sys
import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import overload
from urllib.parse import parse_qs, urlsplit

from s3torch.harness.servers._http import QuietHandler, QuietServer, serve
from s3torch.harness.servers._serving import ProcessServer

PREFIX = "keys/"
"""What all keys begin with."""
PAGE_SECONDS = 0.050
"""How long a page takes."""
FOLDER = 1000
"""How many keys lie in a folder."""
_MAX_KEYS = 1000
_LAST = "\U0010ffff"
_START_SECONDS = 30.0


def key_name(number: int) -> str:
    """Return the name of a key; all are equally long, and 1,000 lie in a folder."""
    return f"{PREFIX}{number // FOLDER:05d}/{number:08d}"


def first_keys(count: int) -> str:
    """Return the prefix that only the first keys have.

    Args:
        count: How many: 1,000, 10,000, 100,000 ...

    Raises:
        ValueError: No prefix has just so many.
    """
    folders = count // FOLDER
    if count % FOLDER or folders != 10 ** (len(str(folders)) - 1):
        raise ValueError(f"no prefix has just the first {count:,} keys")
    return key_name(0)[: len(PREFIX) + 5 - (len(str(folders)) - 1)]


class _Keys(Sequence[str]):
    """The names of keys, made when they are asked for: millions cost nothing."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [key_name(number) for number in range(*index.indices(self._count))]
        return key_name(index)


class Catalog:
    """The keys, and how they are listed.

    Args:
        count: How many there are.
    """

    def __init__(self, count: int) -> None:
        self._keys = _Keys(count)

    def page(self, bucket: str, arguments: dict[str, str]) -> str:
        """Return the answer to ListObjectsV2.

        Args:
            bucket: Its name.
            arguments: The query's.
        """
        prefix, delimiter = arguments.get("prefix", ""), arguments.get("delimiter", "")
        limit = min(int(arguments.get("max-keys", _MAX_KEYS)), _MAX_KEYS)
        after = arguments.get("continuation-token") or arguments.get("start-after", "")
        if delimiter and after.endswith(delimiter):
            after += _LAST  # the page before ended with this common prefix
        at = max(bisect_right(self._keys, after) if after else 0, bisect_left(self._keys, prefix))
        stop = bisect_left(self._keys, prefix + _LAST)
        parts: list[str] = []
        last = ""
        while at < stop and len(parts) < limit:
            key = self._keys[at]
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                parts.append(
                    f"<Contents><Key>{key}</Key><LastModified>2020-01-01T00:00:00.000Z</LastModified>"
                    f"<ETag>&quot;{at:032x}&quot;</ETag><Size>1</Size><StorageClass>STANDARD</StorageClass></Contents>"
                )
                last = key
                at += 1
            else:
                last = key[: cut + len(delimiter)]
                parts.append(f"<CommonPrefixes><Prefix>{last}</Prefix></CommonPrefixes>")
                at = bisect_left(self._keys, last + _LAST)
        token = f"<NextContinuationToken>{last}</NextContinuationToken>" if at < stop else ""
        encoding = "<EncodingType>url</EncodingType>" if arguments.get("encoding-type") == "url" else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{bucket}</Name><Prefix>{prefix}</Prefix><Delimiter>{delimiter}</Delimiter>{encoding}"
            f"<MaxKeys>{limit}</MaxKeys><KeyCount>{len(parts)}</KeyCount>"
            f"<IsTruncated>{'true' if token else 'false'}</IsTruncated>{token}{''.join(parts)}</ListBucketResult>"
        )


class ListingServer(ProcessServer):
    """The server, in a process of its own; a context manager.

    Args:
        count: How many keys it has.
        seconds: How long a page takes.
    """

    _title = "the listing server"

    def __init__(self, count: int, *, seconds: float = PAGE_SECONDS) -> None:
        super().__init__(start_timeout=_START_SECONDS)
        self._count = count
        self._seconds = seconds

    @property
    def endpoint(self) -> str:
        """The server's URL."""
        self._running()
        return f"http://127.0.0.1:{self._port}"

    def _launch(self) -> None:
        self._run_module(__name__, str(self._count), str(self._seconds))


class _Server(QuietServer):
    def __init__(self, catalog: Catalog, seconds: float) -> None:
        super().__init__(_Handler)
        self.catalog = catalog
        self.seconds = seconds


class _Handler(QuietHandler, BaseHTTPRequestHandler):
    # One write for head and body.
    wbufsize = -1
    server: _Server

    def do_GET(self) -> None:
        """Answer a list request, late."""
        parts = urlsplit(self.path)
        bucket, _, key = parts.path.strip("/").partition("/")
        arguments = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if key or arguments.get("list-type") != "2":
            self.send_error(501, "this server only lists, by ListObjectsV2")
            return
        due = time.monotonic() + self.server.seconds
        body = self.server.catalog.page(bucket, arguments).encode()
        time.sleep(max(0.0, due - time.monotonic()))
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        """Say that the bucket is there."""
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


if __name__ == "__main__":
    serve(_Server(Catalog(int(sys.argv[2])), float(sys.argv[3])), Path(sys.argv[1]))
