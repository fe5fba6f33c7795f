"""`S3AsyncLightningCheckpoint`: Lightning's checkpoints in S3, saved while training goes on."""

from __future__ import annotations

import sys
import threading
from functools import partial
from typing import Any

from s3torch.client import S3ClientConfig, S3Uri
from s3torch.lightning import _objects
from s3torch.lightning._background import BackgroundQueue, CancelledSaveError, Job
from s3torch.lightning._paths import parse_checkpoint_path
from s3torch.lightning._snapshot import Snapshot
from s3torch.lightning.s3_lightning_checkpoint import S3LightningCheckpoint

__all__ = ["S3AsyncLightningCheckpoint"]


class S3AsyncLightningCheckpoint(S3LightningCheckpoint):
    """An `S3LightningCheckpoint` that uploads while training goes on.

    `save_checkpoint` copies the checkpoint in memory and returns; training may change the tensors from then on. Saves,
    copies and removals happen in the order they were asked for, and what was asked for after a save that failed is not
    removed, so that the last good checkpoint survives. An error is raised, as what it is, by the next call of any
    method, at the latest by `teardown`, which Lightning calls at the end and on Ctrl-C and which waits for what is
    pending. Interrupting that wait gives up what is pending, and leaves nothing half written.

    Args:
        region: Region of the buckets, such as ``us-east-1``; None takes the environment's or the profile's.
        s3client_config: Options of the client; None gives the defaults.
        endpoint: URL of an S3-compatible store; None takes the environment's, the profile's or Amazon's.
        max_pending: Saves, each a copy of the checkpoint in memory, under way at most; the next one waits.

    Raises:
        ValueError: ``max_pending`` is less than 1.
    """

    def __init__(
        self,
        region: str | None = None,
        s3client_config: S3ClientConfig | None = None,
        endpoint: str | None = None,
        *,
        max_pending: int = 1,
    ) -> None:
        super().__init__(region, s3client_config, endpoint)
        if max_pending < 1:
            raise ValueError(f"max_pending must be at least 1, got {max_pending}")
        self.max_pending = max_pending
        self._queue = BackgroundQueue(self._release_thread)

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str, storage_options: Any | None = None) -> None:  # type: ignore[override]  # the contract takes no other paths
        """Copy a checkpoint and upload it in the background; it appears at the end, at once.

        Waits while ``max_pending`` saves are under way.

        Args:
            checkpoint: What to save.
            path: ``s3://bucket/key``.
            storage_options: Must be None: what uploads ask for is in ``s3client_config``.

        Raises:
            S3Exception: An earlier save or removal has failed.
            TypeError: The path is not a string, or there are ``storage_options``.
            ValueError: The path is not on S3.
        """
        self._check_save(path, storage_options)
        place = parse_checkpoint_path(path)
        self._queue.wait(lambda jobs: sum(job.is_save for job in jobs) < self.max_pending)
        self._raise_error()
        snapshot = Snapshot(checkpoint, archive_crc=self._client.s3client_config.checksum == "none")
        self._queue.submit(Job("save", place, partial(self._upload, snapshot, place), is_save=True, adds=True))

    def load_checkpoint(  # type: ignore[override]  # the contract takes no other paths
        self, path: str, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load a checkpoint; waits for what is pending there.

        Args:
            path: ``s3://bucket/key``.
            map_location: As for `S3LightningCheckpoint`.
            weights_only: As for `S3LightningCheckpoint`.

        Returns:
            The checkpoint.

        Raises:
            S3Exception: Reading failed, or an earlier save or removal.
            TypeError: The path is not a string.
            ValueError: The path is not on S3.
        """
        place = parse_checkpoint_path(path)
        self._queue.wait(lambda jobs: all(job.place != place for job in jobs))
        self._raise_error()
        return super().load_checkpoint(path, map_location, weights_only)

    def remove_checkpoint(self, path: str) -> None:  # type: ignore[override]  # the contract takes no other paths
        """Remove a checkpoint once the saves asked for before have succeeded; one that is not there is no error.

        Args:
            path: ``s3://bucket/key``.

        Raises:
            S3Exception: An earlier save or removal has failed.
            TypeError: The path is not a string.
            ValueError: The path is not on S3.
        """
        place = parse_checkpoint_path(path)
        self._raise_error()
        self._queue.submit(Job("remove", place, lambda _: _objects.remove(self._client, place)))

    def copy_checkpoint(self, source: str, target: str) -> None:
        """Copy a checkpoint within the store once the saves asked for before have succeeded.

        Args:
            source: ``s3://bucket/key`` of the checkpoint, a single object or a folder.
            target: ``s3://bucket/key`` of the copy; a checkpoint that was there before is replaced at the end.

        Raises:
            S3Exception: An earlier save or removal has failed.
            TypeError: A path is not a string.
            ValueError: A path is not on S3.
        """
        from_place, place = parse_checkpoint_path(source), parse_checkpoint_path(target)
        self._raise_error()
        self._queue.submit(Job("copy to", place, lambda _: _objects.copy(self._client, from_place, place), adds=True))

    def exists(self, path: str) -> bool:
        """Tell whether there will be a checkpoint once what is pending is done.

        Args:
            path: ``s3://bucket/key``.

        Raises:
            S3Exception: The store did not say.
            TypeError: The path is not a string.
            ValueError: The path is not on S3.
        """
        job = self._queue.last_change(parse_checkpoint_path(path))
        return super().exists(path) if job is None else job.adds

    def wait(self) -> None:
        """Wait for everything that is pending.

        Raises:
            S3Exception: Some of it has failed.
        """
        self._queue.wait(lambda jobs: not jobs)
        self._raise_error()

    def teardown(self) -> None:
        """Wait for everything that is pending; Lightning calls this in the end. The plugin can be used again.

        Raises:
            S3Exception: Some of it has failed. While another exception is on its way, which should be the one that is
                seen, the error is only logged.
        """
        is_failing = sys.exc_info()[0] is not None
        self._queue.wait(lambda jobs: not jobs)
        if not is_failing:
            self._raise_error()

    def _upload(self, snapshot: Snapshot, place: S3Uri, cancel: threading.Event) -> None:
        with self._client.put_stream(place.bucket, place.key) as stream:
            for piece in snapshot.take():
                if cancel.is_set():
                    raise CancelledSaveError(f"the save of {place} was interrupted")
                stream.write(piece)

    def _raise_error(self) -> None:
        error = self._queue.take_error()
        if error is not None:
            raise error

    def _release_thread(self) -> None:
        self._client.engine.release_thread()

    def __getstate__(self) -> dict[str, Any]:
        """Pickle as configuration: what is pending stays with its process."""
        return {name: value for name, value in self.__dict__.items() if name != "_queue"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._queue = BackgroundQueue(self._release_thread)
