"""Removes what lies in a bucket, or below a prefix, of whichever store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Emptied", "empty"]


@dataclass(frozen=True, slots=True)
class Emptied:
    """What has been removed."""

    objects: int
    """How many objects there were."""
    doubt: str | None = None
    """Why unfinished uploads may be left; None where there are none."""


def empty(client: Any, bucket: str, prefix: str = "") -> Emptied:
    """Remove every object, and then every unfinished upload, as far as store and user can.

    Not every store knows how to delete many objects at once, nor how to list uploads, and not every user may: then
    objects are removed one by one, and uploads are left.

    Args:
        client: A boto3 S3 client.
        bucket: The bucket.
        prefix: Only what begins so.

    Raises:
        ClientError: An object could not be removed; all others are gone.
        BotoCoreError: The store does not answer.
    """
    from botocore.exceptions import ClientError

    count, first_error = 0, None
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        keys = [entry["Key"] for entry in page.get("Contents", ())]
        count += len(keys)
        for key in _delete_many(client, bucket, keys):
            try:
                client.delete_object(Bucket=bucket, Key=key)
            except ClientError as error:
                first_error = first_error or error
    doubt = None
    try:
        for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
            for upload in page.get("Uploads", ()):
                client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    except ClientError as error:
        doubt = str(error)
    if first_error is not None:
        raise first_error
    return Emptied(count, doubt)


def _delete_many(client: Any, bucket: str, keys: list[str]) -> list[str]:
    """Delete the keys of a page by one request; return those that are left."""
    from botocore.exceptions import ClientError

    if not keys:
        return []
    wanted = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
    try:
        return [each["Key"] for each in client.delete_objects(Bucket=bucket, Delete=wanted).get("Errors", ())]
    except ClientError:
        return keys
