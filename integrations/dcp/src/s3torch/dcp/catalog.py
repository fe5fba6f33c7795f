"""`S3CheckpointCatalog`: the checkpoints of a folder, and what is left of those that never were or no longer are."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import TypeAlias

from s3torch.client import S3Client, S3ClientConfig, S3Uri, UploadInfo, UserAgent
from s3torch.dcp._catalog_leftovers import choose_contents, find_leftovers, find_manifests, is_data, is_manifest
from s3torch.dcp._catalog_names import find_step, natural_order
from s3torch.dcp._catalog_requests import do_at_once
from s3torch.dcp._catalog_store import CatalogStore
from s3torch.dcp._catalog_values import CheckpointEntry, Leftover, check_retention, choose_outdated
from s3torch.dcp._folder import parse_folder
from s3torch.dcp.errors import CheckpointError, CheckpointNotFoundError

__all__ = ["CheckpointEntry", "Leftover", "S3CheckpointCatalog"]

_A_DAY = timedelta(days=1)

# Inside the class, `list` is a method.
_Entries: TypeAlias = "list[CheckpointEntry]"
_Leftovers: TypeAlias = "list[Leftover]"


class S3CheckpointCatalog:
    """The checkpoints in a folder, each a sub-folder of it.

    A checkpoint exists once its ``.metadata`` does, which a save writes last. What a save is writing, and what an
    interrupted one has left, is none.

    Args:
        uri: The folder that the checkpoints' folders lie in: ``s3://bucket/prefix``.
        region: Region of the bucket, such as ``us-east-1``; None takes the environment's or the profile's.
        endpoint: URL of an S3-compatible store; None takes the environment's, the profile's or Amazon's.
        s3client_config: Options of the client; None gives the defaults.

    Raises:
        TypeError: ``uri`` is neither a string nor a path.
        ValueError: It is not on S3, or names no bucket.
    """

    def __init__(
        self,
        uri: str | os.PathLike[str],
        region: str | None = None,
        *,
        endpoint: str | None = None,
        s3client_config: S3ClientConfig | None = None,
    ) -> None:
        client = S3Client(region, endpoint=endpoint, user_agent=UserAgent(["md/dcp"]), s3client_config=s3client_config)
        self._store = CatalogStore(client, parse_folder(uri))
        self._clock: Callable[[], float] = time.time

    @property
    def uri(self) -> str:
        """The folder."""
        return str(self._store.folder)

    def list(self) -> _Entries:
        """Return the committed checkpoints.

        Returns:
            The oldest first, by the time of their commit; those of one second in the natural order of their names.
            Empty where nothing is stored.

        Raises:
            S3Exception: The store refused.
        """
        entries = [
            CheckpointEntry(name, self._uri(name), _to_time(seconds), find_step(name))
            for name, seconds in self._store.committed()
        ]
        return sorted(entries, key=lambda entry: (entry.committed, natural_order(entry.name)))

    def latest(self) -> CheckpointEntry | None:
        """Return the checkpoint that was committed last, or None where there is none.

        Raises:
            S3Exception: The store refused.
        """
        return next(reversed(self.list()), None)

    def prune(self, keep_last: int | None = None, keep_every: int | None = None, dry_run: bool = False) -> _Entries:
        """Remove old checkpoints; the newest always stays.

        Of each, ``.metadata`` is deleted before anything else: an interruption leaves no checkpoint that exists and
        lacks data, only `leftovers`.

        Args:
            keep_last: How many of the newest to keep; None keeps the newest alone.
            keep_every: Keep those whose step is a multiple of it, too. A name that tells no step is subject to
                ``keep_last`` only: without that, it stays.
            dry_run: Remove nothing.

        Returns:
            What was removed, or would be, the oldest first. One that is saved anew meanwhile stays.

        Raises:
            TypeError: A number is not an int.
            ValueError: A number is below 1, or none is given.
            S3Exception: The store refused, or could not delete everything.
        """
        check_retention(keep_last, keep_every)
        outdated = choose_outdated(self.list(), keep_last, keep_every)
        return outdated if dry_run else self._remove(outdated)

    def delete(self, name: str, *, allow_newest: bool = False) -> CheckpointEntry:
        """Remove one checkpoint with everything in its folder, but for the data of a save that is under way.

        Args:
            name: Its name.
            allow_newest: Remove it even if no other was committed later.

        Returns:
            What was removed.

        Raises:
            CheckpointNotFoundError: There is no such committed checkpoint.
            ValueError: It is the newest, and that is not allowed.
            CheckpointError: It was saved anew meanwhile, and stays.
            S3Exception: The store refused, or could not delete everything.
        """
        entries = self.list()
        entry = next((entry for entry in entries if entry.name == name), None)
        if entry is None:
            raise CheckpointNotFoundError(
                f"there is no committed checkpoint {name!r} in {self.uri}: list() tells which there are, and what is"
                " left of interrupted saves is removed by remove_leftovers()"
            )
        if entry is entries[-1] and not allow_newest:
            raise ValueError(
                f"{name!r} is the newest checkpoint in {self.uri}: without it there is nothing, or only something"
                " older, to resume from. Pass allow_newest=True to delete it all the same"
            )
        if not self._remove([entry]):
            raise CheckpointError(f"{entry.uri} was saved anew while it was to be deleted: nothing was deleted")
        return entry

    def leftovers(self, older_than: timedelta = _A_DAY) -> _Leftovers:
        """Return what no committed checkpoint refers to.

        These are the data of saves that were interrupted, of checkpoints that were replaced or half deleted, and
        unfinished multipart uploads of such data. Files that no save writes are never among them, whoever keeps them
        here; nor is anything beside metadata that cannot be read.

        Args:
            older_than: What was written more recently is left out, for a save may be under way; and so is what a
                commit has replaced more recently, for somebody may be reading it. Zero leaves out nothing: only when
                nobody saves or loads here.

        Returns:
            Objects first, in the order of their keys, then uploads.

        Raises:
            TypeError: ``older_than`` is no `timedelta`.
            ValueError: It is negative.
            S3Exception: The store refused.
        """
        since = _limit(older_than, self._clock())
        objects = self._store.objects()
        manifests = [*self._store.read_manifests(find_manifests(objects, since)), *self._store.read_manifests_above()]
        left = find_leftovers(objects, manifests, since)
        uploads = [upload for upload in self._store.uploads() if since is None or upload.initiated <= since]
        return [
            *(Leftover(self._uri_of(item.key), item.size, _to_time(item.last_modified)) for item in left),
            *(Leftover(self._uri_of(item.key), None, _to_time(item.initiated), item.upload_id) for item in uploads),
        ]

    def remove_leftovers(self, older_than: timedelta = _A_DAY) -> _Leftovers:
        """Delete what `leftovers` returns.

        Args:
            older_than: As for `leftovers`.

        Returns:
            What was deleted.

        Raises:
            TypeError: ``older_than`` is no `timedelta`.
            ValueError: It is negative.
            S3Exception: The store refused, or could not delete everything.
        """
        found = self.leftovers(older_than)
        keys = [item.uri[len(self._uri_of("")) :] for item in found]
        errors = self._store.delete([key for key, item in zip(keys, found, strict=True) if item.upload_id is None])
        self._store.abort(
            UploadInfo(key, item.upload_id, 0)
            for key, item in zip(keys, found, strict=True)
            if item.upload_id is not None
        )
        self._store.check(errors)
        return found

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"

    def _uri_of(self, key: str) -> str:
        return str(S3Uri(self._store.folder.bucket, key))

    def _uri(self, name: str) -> str:
        return self._uri_of(self._store.folder.key(name))

    def _remove(self, entries: Sequence[CheckpointEntry]) -> _Entries:
        """Delete checkpoints, what makes them exist first; return which."""
        # Listed before anything is deleted: what a new save of the same name writes from now on is not ours to delete.
        contents = do_at_once(self._store.client.engine, self._contents, entries)
        found = [(entry, keys) for entry, keys in zip(entries, contents, strict=True) if keys is not None]
        errors = self._store.delete([key for _, keys in found for key in keys if is_manifest(key)])
        standing = {error.key.rpartition("/")[0] for error in errors}
        doomed = [
            key
            for entry, keys in found
            if self._store.folder.key(entry.name) not in standing
            # Data files last: if this is interrupted, it is they that show as leftovers.
            for key in sorted(keys, key=is_data)
            if not is_manifest(key)
        ]
        self._store.check([*errors, *self._store.delete(doomed)])
        return [entry for entry, _ in found]

    def _contents(self, entry: CheckpointEntry) -> Sequence[str] | None:
        """Return the keys of a checkpoint; None if it is another one by now."""
        folder = f"{self._store.folder.key(entry.name)}/"
        return choose_contents(self._store.objects_below(folder), folder, int(entry.committed.timestamp()))


def _limit(older_than: timedelta, now: float) -> float | None:
    """Return the time up to which things count as old, in seconds since the epoch; None for all times."""
    if not isinstance(older_than, timedelta):
        raise TypeError(f"older_than must be a datetime.timedelta, got {type(older_than).__name__}")
    if older_than < timedelta(0):
        raise ValueError(f"older_than must not be negative, got {older_than}")
    return now - older_than.total_seconds() if older_than else None


def _to_time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, tz=timezone.utc)
