"""`S3FileSystem`: what torch's checkpoint classes ask of a file system, on S3."""

from __future__ import annotations

import io
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import cast

from torch.distributed.checkpoint.filesystem import FileSystemBase

from s3torch.client import (
    BucketNotFoundError,
    S3Client,
    S3ClientConfig,
    S3Exception,
    S3NotFoundError,
    S3Uri,
    UserAgent,
    parse_s3_uri,
    restore_s3_uri,
)
from s3torch.dcp._folder import is_folder
from s3torch.readers import open_reader
from s3torch.readers.protocol import S3ReaderConstructorProtocol
from s3torch.writer import open_writer

__all__ = ["S3FileSystem"]


class S3FileSystem(FileSystemBase):
    """Objects as files. Paths are ``s3://bucket/key``; those that `pathlib` has made ``s3:/bucket/key`` are recognised.

    Args:
        region: Region of the buckets, such as ``us-east-1``; None takes the environment's or the profile's.
        s3_client: A client to use; None makes one from the other arguments.
        s3client_config: Options of the client; None gives the defaults.
        reader_constructor: How objects are read, from `S3ReaderConstructor`; None is sequential.
        endpoint: URL of an S3-compatible store; None takes the environment's, the profile's or Amazon's.
    """

    def __init__(
        self,
        region: str | None = None,
        s3_client: S3Client | None = None,
        s3client_config: S3ClientConfig | None = None,
        reader_constructor: S3ReaderConstructorProtocol | None = None,
        *,
        endpoint: str | None = None,
    ) -> None:
        self._client = s3_client or S3Client(
            region, endpoint=endpoint, user_agent=UserAgent(["md/dcp"]), s3client_config=s3client_config
        )
        self._reader_constructor = reader_constructor

    @property
    def client(self) -> S3Client:
        """Whose connections are used."""
        return self._client

    @contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Generator[io.IOBase, None, None]:
        """Open an object.

        Args:
            path: The object.
            mode: ``rb`` or ``wb``.

        Yields:
            A binary file. One that is written becomes visible when the block ends, and not at all if it raises.

        Raises:
            ValueError: Another mode, or not an object in S3.
            S3Exception: Reading or writing failed.
        """
        bucket, key = _object(path)
        if mode == "rb":
            with open_reader(self._client, bucket, key, reader_constructor=self._reader_constructor) as reader:
                yield cast("io.IOBase", reader)
        elif mode == "wb":
            with open_writer(self._client, bucket, key) as writer:
                yield writer
        else:
            raise ValueError(f"mode must be 'rb' or 'wb', got {mode!r}")

    def concat_path(self, path: str | os.PathLike[str], suffix: str) -> str:
        """Return the path of something in a folder.

        Args:
            path: The folder.
            suffix: Its name, relative to the folder.
        """
        return f"{restore_s3_uri(path).rstrip('/')}/{suffix.lstrip('/')}"

    def init_path(self, path: str | os.PathLike[str]) -> str:
        """Return a path as a string, intact.

        Args:
            path: ``s3://bucket/prefix``.

        Raises:
            ValueError: It is not on S3.
        """
        return str(parse_s3_uri(restore_s3_uri(path)))

    def rename(self, path: str | os.PathLike[str], new_path: str | os.PathLike[str]) -> None:
        """Copy an object and then delete it; the source is lost only once the copy is there, whole.

        Args:
            path: The object.
            new_path: What it is called then; an object of that name is replaced.

        Raises:
            S3Exception: Copying or deleting failed; the source is still there.
        """
        source, target = _object(path), _object(new_path)
        if source == target:
            return
        size = self._client.head_object(*source).size
        self._client.copy_object(*source, *target)
        copied = self._client.head_object(*target).size
        if copied != size:
            raise S3Exception(
                f"the copy has {copied} bytes rather than {size}",
                operation="CopyObject",
                bucket=target.bucket,
                key=target.key,
                remedy="The source was kept: somebody may be writing to either. Try again.",
            )
        self._client.delete_object(*source)

    def mkdir(self, path: str | os.PathLike[str]) -> None:
        """Do nothing: S3 has no folders to make.

        Args:
            path: The folder.
        """

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Tell whether something is a path in S3.

        Args:
            checkpoint_id: The path.
        """
        return is_folder(checkpoint_id)

    def exists(self, path: str | os.PathLike[str]) -> bool:
        """Tell whether there is an object.

        Args:
            path: The object.

        Raises:
            S3Exception: It cannot be told, such as without permission.
        """
        try:
            self._client.head_object(*_object(path))
        except BucketNotFoundError:
            raise
        except S3NotFoundError:
            return False
        return True

    def rm_file(self, path: str | os.PathLike[str]) -> None:
        """Delete an object; one that is not there is no error.

        Args:
            path: The object.

        Raises:
            S3Exception: It could not be deleted.
        """
        self._client.delete_object(*_object(path))

    def ls(self, path: str | os.PathLike[str]) -> list[str]:
        """List a folder.

        Args:
            path: The folder.

        Returns:
            The paths of the objects and folders right in it, in the order of their keys.

        Raises:
            S3Exception: Listing failed.
        """
        bucket, prefix = parse_s3_uri(restore_s3_uri(path))
        prefix = f"{prefix.rstrip('/')}/" if prefix.rstrip("/") else ""
        found: list[str] = []
        for page in self._client.list_objects(bucket, prefix, "/"):
            found += [info.key for info in page.object_info if info.key != prefix]
            found += [folder.rstrip("/") for folder in page.common_prefixes]
        return [str(S3Uri(bucket, key)) for key in sorted(found)]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._client!r})"


def _object(path: str | os.PathLike[str]) -> S3Uri:
    uri = parse_s3_uri(restore_s3_uri(path))
    if not uri.key:
        raise ValueError(f"not an object but a whole bucket: {os.fspath(path)!r}; expected s3://bucket/key")
    return uri
