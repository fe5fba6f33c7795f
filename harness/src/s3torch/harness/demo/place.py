"""Where the demo works: on a server of its own, or under a fresh prefix of the user's bucket."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from s3torch.client import S3Client, S3ClientConfig, S3Exception, parse_s3_uri
from s3torch.harness.demo.process import DemoError
from s3torch.harness.demo.settings import Settings, StoreAddress

__all__ = ["Place", "own_server", "users_store"]

_BUCKET = "demo"


@dataclass(frozen=True, slots=True)
class Place:
    """A store that is ready, and how child processes reach it."""

    address: StoreAddress
    """Where."""
    env: Mapping[str, str]
    """The environment of the child processes."""
    description: str
    """For the reader."""


@contextlib.contextmanager
def own_server(settings: Settings) -> Iterator[Place]:
    """Start a moto server with a bucket; it is gone when the block ends.

    Args:
        settings: The demo's options.

    Yields:
        The place.
    """
    from s3torch.harness.servers import MotoServer
    from s3torch.harness.servers._address import own_environment

    with MotoServer() as server:
        server.create_bucket(_BUCKET)
        address = StoreAddress(f"s3://{_BUCKET}", server.region, server.endpoint, None, settings.engine)
        yield Place(address, {**own_environment(), **server.env()}, f"a moto server at {server.endpoint}")


@contextlib.contextmanager
def users_store(settings: Settings, say: Callable[[str], None]) -> Iterator[Place]:
    """Work under a fresh prefix of the user's bucket, and delete what was written when the block ends.

    Args:
        settings: The demo's options, with a URI.
        say: Is told what becomes of the objects.

    Yields:
        The place.
    """
    assert settings.uri is not None
    base = settings.uri.rstrip("/")
    uri = f"{base}/s3torch-demo-{uuid.uuid4().hex[:12]}"
    config = S3ClientConfig(profile=settings.profile, engine=settings.engine)
    region = S3Client(settings.region, endpoint=settings.endpoint, s3client_config=config).region
    address = StoreAddress(uri, region, settings.endpoint, settings.profile, settings.engine)
    try:
        yield Place(
            address, os.environ, f"{uri} in {region}" + (f" at {settings.endpoint}" if settings.endpoint else "")
        )
    finally:
        if settings.keep:
            say(f"Kept everything under {uri}")
        else:
            _remove(address, say)


def _remove(address: StoreAddress, say: Callable[[str], None]) -> None:
    removed = False
    try:
        count = _delete_all(address)
        removed = True
    except S3Exception as error:
        raise DemoError(f"could not clean up: {error}") from error
    finally:
        if not removed:
            say(f"What was written stays under {address.uri}/")
    say(f"Removed the {count} objects written under {address.uri}/")


def _delete_all(address: StoreAddress) -> int:
    where = parse_s3_uri(f"{address.uri}/")
    with S3Client(address.region, endpoint=address.endpoint, s3client_config=address.client_config()) as client:
        pages = client.list_objects(where.bucket, where.key)
        keys = [info.key for page in pages for info in page.object_info]
        errors = client.delete_objects(where.bucket, keys)
    if errors:
        raise DemoError(f"could not delete {len(errors)} objects: {errors[0].key}: {errors[0].message}")
    return len(keys)
