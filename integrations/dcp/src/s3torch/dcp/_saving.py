"""Writing a rank's files, in as many threads as asked for; all of them, or none."""

from __future__ import annotations

import io
import logging
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.distributed.checkpoint.planner import SavePlanner, WriteItem
from torch.distributed.checkpoint.storage import WriteResult

from s3torch.client import PutObjectStream, S3Client, S3Exception
from s3torch.dcp._elements import make_ready
from s3torch.dcp._folder import Folder
from s3torch.dcp._save_plan import FilePlan, is_bytes
from s3torch.dcp._stopping import Stop, StoppingEngine
from s3torch.dcp._write_item import ItemWriter
from s3torch.dcp._write_safetensors import write_safetensors

__all__ = ["remove_files", "save_files"]

_log = logging.getLogger(__name__)


def save_files(
    client: S3Client,
    folder: Folder,
    files: Sequence[FilePlan],
    planner: SavePlanner,
    writer: ItemWriter,
    *,
    thread_count: int = 1,
) -> list[WriteResult]:
    """Write files.

    Args:
        client: Where to write.
        folder: The checkpoint's folder.
        files: What to write.
        planner: Who has the items' content.
        writer: How items are written.
        thread_count: Threads, the caller's among them.

    Returns:
        Where each item lies.

    Raises:
        BaseException: The first error of all threads. None of the files is left then, as far as they could be removed.
    """
    return _Crew(client, folder, deque(files), planner, writer, min(thread_count, len(files))).run()


@dataclass(frozen=True, slots=True)
class _Written:
    name: str
    results: list[WriteResult]


class _Crew:
    """The threads that write: the caller's and its helpers, which end with the last file or the first error."""

    def __init__(
        self,
        client: S3Client,
        folder: Folder,
        files: deque[FilePlan],
        planner: SavePlanner,
        writer: ItemWriter,
        thread_count: int,
    ) -> None:
        self._client = client
        self._folder = folder
        self._files = files
        self._planner = planner
        self._writer = writer
        self._helpers = max(0, thread_count - 1)
        self._stop = Stop()
        self._engine = StoppingEngine(client.engine, self._stop)
        config = client.s3client_config
        # What the options allow one transfer is shared by the threads.
        self._config = replace(
            config,
            max_connections=max(2, -(-config.connections // (self._helpers + 1))),
            upload_buffers=max(2, config.upload_buffers // (self._helpers + 1)),
        )
        self._written: list[_Written] = []

    def run(self) -> list[WriteResult]:
        if self._helpers and torch.cuda.is_initialized():
            torch.cuda.synchronize()  # helpers do not wait for the stream that the caller has chosen
        threads = [threading.Thread(target=self._help, name="s3torch-save", daemon=True) for _ in range(self._helpers)]
        try:
            for thread in threads:
                thread.start()
            self._work()
            for thread in threads:
                thread.join()
        except BaseException as error:  # noqa: BLE001  # raised below, unless it came second
            self._stop.set(error)
        if self._stop.error is not None:
            self._clean_up(threads)
            raise self._stop.error
        return [result for written in self._written for result in written.results]

    def _help(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001  # raised by run() in the caller's thread
            self._stop.set(error)
        finally:
            self._client.engine.release_thread()

    def _work(self) -> None:
        while True:
            self._stop.check()
            try:
                file = self._files.popleft()
            except IndexError:
                return
            self._written.append(self._write(file))

    def _write(self, file: FilePlan) -> _Written:
        key = self._folder.key(file.name)

        def open_stream(size: int | None = None) -> PutObjectStream:
            return PutObjectStream(self._engine, self._config, self._folder.bucket, key, size=size)

        if file.is_safetensors:
            return _Written(file.name, write_safetensors(open_stream, file, self._resolve_tensor))
        with open_stream() as stream:
            results = [self._writer.write(stream, file.name, item, self._resolve(item)) for item in file.items]
        return _Written(file.name, results)

    def _resolve(self, item: WriteItem) -> torch.Tensor | io.BytesIO:
        self._stop.check()
        data = self._planner.resolve_data(item)
        wanted = io.BytesIO if is_bytes(item) else torch.Tensor
        if not isinstance(data, wanted):
            raise TypeError(
                f"the planner resolved {item.index.fqn!r} to a {type(data).__name__}, not a {wanted.__name__}"
            )
        return make_ready(data) if isinstance(data, torch.Tensor) else data

    def _resolve_tensor(self, item: WriteItem) -> torch.Tensor:
        data = self._resolve(item)
        assert isinstance(data, torch.Tensor)  # noqa: S101  # no objects of bytes in such a file
        return data

    def _clean_up(self, threads: Sequence[threading.Thread]) -> None:
        """Let the helpers end, and remove what is there."""
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        remove_files(self._client, self._folder, [written.name for written in self._written])


def remove_files(client: S3Client, folder: Folder, names: Sequence[str]) -> None:
    """Remove what a failed save has written, as far as that can be done; what is left is logged.

    Args:
        client: Where they are.
        folder: The checkpoint's folder.
        names: The files' names, relative to the folder.
    """
    if not names:
        return
    try:
        left = client.delete_objects(folder.bucket, [folder.key(name) for name in names])
    except S3Exception as error:
        _log.warning("%d objects of a failed save may remain in %s: %s", len(names), folder, error)
        return
    for failure in left:
        _log.warning("%s of a failed save remains in %s: %s", failure.key, folder, failure.message)
