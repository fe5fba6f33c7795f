"""What processes do that a subject starts. Imports little: spawned ones begin with nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s3torch.client import S3Client

__all__ = ["read_in_child"]


def read_in_child(client: S3Client, bucket: str, expected: dict[str, bytes], pipe: Any) -> None:
    """Read objects, compare them, and send what was wrong and the error.

    Args:
        client: The parent's client, used there before.
        bucket: The bucket.
        expected: The objects, by key.
        pipe: Where the answer goes.
    """
    from s3torch.client import GetRequest

    wrong: list[str] = []
    error: BaseException | None = None
    try:
        results = client.get_many(GetRequest(bucket, key) for key in expected)
        wrong += [each.request.key for each in results if each.data != expected[each.request.key]]
        wrong += [key for key, data in expected.items() if client.read(bucket, key) != data]
    except BaseException as caught:  # noqa: BLE001  # sent to who started this
        error = caught
    pipe.send((wrong, error))
    pipe.close()
