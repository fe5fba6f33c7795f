"""Engines that are broken on purpose, to see that the matrix of faults finds it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from s3torch.client import EngineContext, GetInfo, GetRequest, GetResult, ObjectNotFoundError, S3Exception
from s3torch.client.engines import make_engine
from s3torch.client.transfers import DoneTransfer


class Broken:
    """Passes on to the direct engine, but for `start_get`."""

    def __init__(self, context: EngineContext) -> None:
        self.inner: Any = make_engine(replace(context, config=replace(context.config, engine="direct")))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class MixesAnswers(Broken):
    """Gives what was asked for before, where the length is the same."""

    def start_get(self, request: GetRequest, into: Any = None) -> DoneTransfer[GetResult]:
        found = self.inner.start_get(request).result()
        data = found.data
        return finish(request, into, found.info, data[1:] + data[:1])


class SwallowsCuts(Broken):
    """Takes a connection's end for the object's."""

    def start_get(self, request: GetRequest, into: Any = None) -> Any:
        try:
            found = self.inner.start_get(request).result()
        except ObjectNotFoundError as error:
            return DoneTransfer(error=error)
        except S3Exception:
            if request.end is None:
                raise
            length = request.end - (request.start or 0)
            return finish(request, into, GetInfo(request.start or 0, length, length, '"etag"'), bytes(length))
        return finish(request, into, found.info, found.data)


class Hangs(Broken):
    """Waits for ever for what does not come at once."""

    def start_get(self, request: GetRequest, into: Any = None) -> Any:
        try:
            found = self.inner.start_get(request).result()
        except S3Exception:
            time.sleep(3600)
            raise
        return finish(request, into, found.info, found.data)


class RaisesAnything(Broken):
    """Lets errors of the inside out."""

    def start_get(self, request: GetRequest, into: Any = None) -> Any:
        try:
            found = self.inner.start_get(request).result()
        except S3Exception as error:
            return DoneTransfer(error=KeyError(str(error)))
        return finish(request, into, found.info, found.data)


class GivesUp(Broken):
    """Tries once."""

    def __init__(self, context: EngineContext) -> None:
        super().__init__(replace(context, config=replace(context.config, max_attempts=1)))


class DoesNotWait(GivesUp):
    """Tries again at once, whatever the store says."""

    def start_get(self, request: GetRequest, into: Any = None) -> Any:
        while True:
            try:
                found = self.inner.start_get(request).result()
            except S3Exception:
                continue
            return finish(request, into, found.info, found.data)


class ForgetsParts(Broken):
    """Says that an upload is complete that is not."""

    def complete_multipart(self, *arguments: Any) -> Any:
        from s3torch.client import PutResult

        return PutResult('"etag"')


def finish(
    request: GetRequest, into: memoryview | Callable[[GetInfo], memoryview] | None, info: GetInfo, data: Any
) -> DoneTransfer[GetResult]:
    """Put data where it belongs."""
    if into is None:
        return DoneTransfer(GetResult(request, bytes(data), info))
    view = into if isinstance(into, memoryview) else into(info)
    view[: len(data)] = data
    return DoneTransfer(GetResult(request, view, info))
