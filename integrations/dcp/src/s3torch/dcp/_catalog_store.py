"""The requests of a catalogue."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

from s3torch.client import (
    AccessDeniedError,
    DeleteError,
    ListObjectResult,
    ObjectInfo,
    S3Client,
    S3NotFoundError,
    UploadInfo,
)
from s3torch.client.error_mapping import error_for
from s3torch.dcp._catalog_leftovers import Manifest, is_data, is_manifest
from s3torch.dcp._catalog_requests import do_at_once
from s3torch.dcp._folder import METADATA, Folder
from s3torch.dcp.manifest import ManifestError, read_references

__all__ = ["CatalogStore"]

_log = logging.getLogger(__name__)

_BATCH = 1000  # keys in one DeleteObjects request, by its API page


class CatalogStore:
    """One folder in S3, as a catalogue looks at it and clears it.

    Args:
        client: What sends the requests.
        folder: The folder.
    """

    def __init__(self, client: S3Client, folder: Folder) -> None:
        self.client = client
        """What sends the requests."""
        self.folder = folder
        """The folder."""

    def committed(self) -> list[tuple[str, int]]:
        """Return the sub-folders with ``.metadata``: their names, and when it was written (seconds since the epoch)."""

        def look(prefix: str) -> tuple[str, int] | None:
            try:
                info = self.client.head_object(self.folder.bucket, prefix + METADATA)
            except S3NotFoundError:
                return None
            return prefix[len(self.folder.prefix) : -1], info.last_modified

        prefixes = [prefix for page in self._pages(self.folder.prefix, "/") for prefix in page.common_prefixes]
        # Two slashes in a row make a sub-folder without a name, which no path can point to.
        named = [prefix for prefix in prefixes if prefix != f"{self.folder.prefix}/"]
        return [found for found in do_at_once(self.client.engine, look, named) if found is not None]

    def objects(self) -> list[ObjectInfo]:
        """Return everything in the folder, in the order of the keys."""
        pages = list(self._pages(self.folder.prefix, "/"))
        prefixes = [prefix for page in pages for prefix in page.common_prefixes]
        below = do_at_once(self.client.engine, self.objects_below, prefixes)
        found = [item for page in pages for item in page.object_info]
        return sorted([*found, *(item for items in below for item in items)], key=lambda item: item.key)

    def objects_below(self, prefix: str) -> list[ObjectInfo]:
        """Return everything whose key begins so."""
        return [item for page in self._pages(prefix) for item in page.object_info]

    def uploads(self) -> list[UploadInfo]:
        """Return the unfinished uploads of data and manifests."""
        uploads = self.client.list_uploads(self.folder.bucket, self.folder.prefix)
        return [upload for upload in uploads if is_data(upload.key) or is_manifest(upload.key)]

    def read_manifests(self, manifests: Iterable[ObjectInfo]) -> list[Manifest]:
        """Read what manifests refer to; those that meanwhile are gone are left out."""
        read = do_at_once(self.client.engine, self._read_manifest, manifests)
        return [manifest for manifest in read if manifest is not None]

    def read_manifests_above(self) -> list[Manifest]:
        """Read the manifests of the folders that this one lies in: it may be a part of a checkpoint."""
        names = self.folder.prefix.split("/")[:-1]
        above = ["/".join([*names[:depth], METADATA]) for depth in range(len(names))]
        try:
            # As old as can be: their age protects nothing.
            return self.read_manifests(ObjectInfo(key, "", 0, 0) for key in above)
        except AccessDeniedError:  # who is let into this folder alone keeps no checkpoint around it
            return []

    def delete(self, keys: Sequence[str]) -> list[DeleteError]:
        """Delete objects; return those that could not be."""

        def delete(batch: Sequence[str]) -> list[DeleteError]:
            return self.client.delete_objects(self.folder.bucket, batch)

        batches = [keys[first : first + _BATCH] for first in range(0, len(keys), _BATCH)]
        return [error for errors in do_at_once(self.client.engine, delete, batches) for error in errors]

    def abort(self, uploads: Iterable[UploadInfo]) -> None:
        """Drop uploads."""
        do_at_once(
            self.client.engine,
            lambda upload: self.client.abort_upload(self.folder.bucket, upload.key, upload.upload_id),
            uploads,
        )

    def check(self, errors: Sequence[DeleteError]) -> None:
        """Raise the first of the errors that deleting has returned, if there is one."""
        if errors:
            raise error_for(
                operation="DeleteObjects",
                bucket=self.folder.bucket,
                key=errors[0].key,
                status=403 if errors[0].code == "AccessDenied" else 200,  # the request as a whole has succeeded
                code=errors[0].code,
                message=f"{len(errors)} objects could not be deleted, this one because: {errors[0].message}",
            )

    def _read_manifest(self, item: ObjectInfo) -> Manifest | None:
        folder = item.key[: item.key.rfind("/") + 1]
        try:
            references = read_references(self.client.read(self.folder.bucket, item.key))
        except S3NotFoundError:
            return None
        except ManifestError as error:
            _log.warning("s3://%s/%s cannot be read, all beside it is kept: %s", self.folder.bucket, item.key, error)
            return Manifest(folder, item.last_modified, None)
        return Manifest(folder, item.last_modified, references)

    def _pages(self, prefix: str, delimiter: str = "") -> Iterator[ListObjectResult]:
        return self.client.list_objects(self.folder.bucket, prefix, delimiter)
