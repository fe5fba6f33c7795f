"""Where the load works: clients, the objects that are there, and what each must hold."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass

from s3torch.client import S3Client, S3ClientConfig, S3Exception
from s3torch.readers import ReaderClient

__all__ = [
    "LARGE",
    "SMALL_COUNT",
    "UPLOAD",
    "UPLOAD_COUNT",
    "Place",
    "WrongBytesError",
    "check_bytes",
    "make_content",
]

SMALL, SMALL_COUNT = 40_000, 48
LARGE = 12_000_000
UPLOAD, UPLOAD_COUNT = 11_000_000, 4
_SETUP_TRIES = 5


class WrongBytesError(AssertionError):
    """What was read is not what was stored; the message says where it differs."""


@functools.lru_cache(maxsize=SMALL_COUNT + UPLOAD_COUNT + 4)
def make_content(key: str, size: int) -> bytes:
    """Return what an object holds: bytes that depend on its key.

    Args:
        key: The key.
        size: How many.
    """
    return random.Random(key).randbytes(size)


def check_bytes(what: str, found: bytes | bytearray | memoryview, expected: bytes | memoryview) -> int:
    """Compare what was read with what was stored.

    Args:
        what: Names it in the error.
        found: What was read.
        expected: What was stored.

    Returns:
        How many bytes were compared.

    Raises:
        WrongBytesError: They differ.
    """
    if bytes(found) == bytes(expected):
        return len(expected)
    at = next(
        (n for n, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), min(len(found), len(expected))
    )
    raise WrongBytesError(f"{what}: {len(found)} bytes for {len(expected)}, different from byte {at} on")


@dataclass(frozen=True, slots=True)
class Place:
    """What every activity works with."""

    region: str
    """The store's region."""
    endpoint: str
    """The proxy's URL."""
    bucket: str
    """The bucket."""
    workers: int
    """Processes of each DataLoader."""
    config: S3ClientConfig
    """Deadlines short enough that a stall passes within the soak."""
    client: S3Client
    """Lives as long as the soak, and is shared by all threads."""
    reader_client: ReaderClient
    """The same, for readers."""

    @classmethod
    def open(cls, region: str, endpoint: str, bucket: str, workers: int) -> Place:
        """Make the clients.

        Args:
            region: The store's region.
            endpoint: The proxy's URL.
            bucket: The bucket.
            workers: Processes of each DataLoader.
        """
        config = S3ClientConfig(
            force_path_style=True,
            part_size=5 * 1024**2,
            connect_timeout=3.0,
            read_timeout=2.0,
            operation_timeout=30.0,
            max_connections=4,
            window=16,
        )
        client = S3Client(region, endpoint=endpoint, s3client_config=config)
        reader_client = ReaderClient(region, endpoint=endpoint, s3client_config=config)
        return cls(region, endpoint, bucket, workers, config, client, reader_client)

    @property
    def small_keys(self) -> Sequence[str]:
        """Keys of the small objects, in order."""
        return [f"small/{number:04d}" for number in range(SMALL_COUNT)]

    @property
    def large_key(self) -> str:
        """Key of the large object."""
        return "large"

    def content(self, key: str) -> bytes:
        """Return what one of the objects that are there holds."""
        return make_content(key, LARGE if key == self.large_key else SMALL)

    def upload(self, number: int) -> bytes:
        """Return one of the contents that are written, below `UPLOAD_COUNT`."""
        return make_content(f"upload-{number}", UPLOAD)

    def fill(self) -> None:
        """Store the objects that are read; tries again where the faults of the place win."""
        for number in range(UPLOAD_COUNT):
            self.upload(number)  # made now, as what is made later would look like growth
        for key in [*self.small_keys, self.large_key]:
            for tries_left in reversed(range(_SETUP_TRIES)):
                try:
                    self.client.put(self.bucket, key, self.content(key))
                    break
                except S3Exception:
                    if not tries_left:
                        raise

    def close(self) -> None:
        """Close the clients."""
        self.client.close()
        self.reader_client.close()
