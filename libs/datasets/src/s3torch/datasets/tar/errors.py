"""What can be wrong with a shard."""

from __future__ import annotations

from s3torch.client import S3BucketKeyData, S3Exception
from s3torch.datasets.tar._header import TarFormatError

__all__ = ["TarError"]


class TarError(S3Exception, ValueError):
    """A shard is no tar archive, or a damaged one, or one whose members make up no samples."""

    offset: int | None = None
    """Byte of the shard at which that was found."""


def tar_error(item: S3BucketKeyData, error: TarFormatError) -> TarError:
    """Name the shard in an error of its bytes."""
    named = TarError(
        str(error),
        operation="ReadTar",
        bucket=item.bucket,
        key=item.key,
        remedy="Write the shard again, or skip such shards with on_error='skip'.",
    )
    named.offset = error.offset
    return named
