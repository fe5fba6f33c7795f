"""An error is all that is left of a failed request: the frames it went through are free as soon as it is."""

from __future__ import annotations

import gc
import uuid
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from s3torch.client import GetRequest, S3Client, S3ClientConfig, S3Exception, S3NotFoundError
from s3torch.client.memory import MemoryStore
from s3torch.client.transfers import DoneTransfer

if TYPE_CHECKING:
    from s3torch.harness.servers import MotoServer

pytestmark = pytest.mark.usefixtures("dummy_aws_env")

CALLS: dict[str, Callable[[S3Client, str], Any]] = {
    "read": lambda client, bucket: client.read(bucket, "none"),
    "read a range": lambda client, bucket: client.read(bucket, "none", start=0, end=1),
    "read into": lambda client, bucket: client.read_into(bucket, "none", bytearray(10)),
    "get": lambda client, bucket: client.get(bucket, "none").read(),
    "get many": lambda client, bucket: list(client.get_many([GetRequest(bucket, "none")])),
    "head": lambda client, bucket: client.head_object(bucket, "none"),
    "list": lambda client, _: list(client.list_objects("no-such-bucket")),
    "put": lambda client, _: client.put("no-such-bucket", "key", b"x"),
    "copy": lambda client, bucket: client.copy_object(bucket, "none", bucket, "other"),
}


@pytest.fixture(params=["memory", "direct", "boto3"])
def place(request: pytest.FixtureRequest) -> tuple[S3Client, str]:
    config = S3ClientConfig(engine=request.param, force_path_style=True)
    if request.param == "memory":
        endpoint = f"memory://{uuid.uuid4()}"
        MemoryStore.named(endpoint).create_bucket("bucket")
        return S3Client("us-east-1", endpoint=endpoint, s3client_config=config), "bucket"
    server: MotoServer = request.getfixturevalue("moto_server")
    bucket: str = request.getfixturevalue("s3_bucket")
    return S3Client(server.region, endpoint=server.endpoint, s3client_config=config), bucket


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Large:
    """Stands for what a caller has in its hands while it asks."""


@pytest.mark.parametrize("name", CALLS)
def test_a_failed_request_holds_no_frames(place: tuple[S3Client, str], name: str, no_collection: None) -> None:
    def ask() -> weakref.ref[Large]:
        held = Large()
        with pytest.raises(S3NotFoundError):
            CALLS[name](*place)
        return weakref.ref(held)

    ask()  # what is made once, such as a client of boto3, is made
    gc.collect()
    assert ask()() is None


def test_whoever_asks_again_gets_an_equal_error(place: tuple[S3Client, str]) -> None:
    client, bucket = place
    transfer = client.engine.start_get(GetRequest(bucket, "none"))
    seen = []
    for _ in range(3):
        with pytest.raises(S3NotFoundError) as caught:
            transfer.result()
        seen.append(caught.value)
    assert len({id(error) for error in seen}) == 3
    assert len({str(error) for error in seen}) == 1
    assert {type(error) for error in seen} == {type(seen[0])}


def test_an_error_that_cannot_be_copied_is_named() -> None:
    class Odd(Exception):
        def __reduce__(self) -> Any:
            raise TypeError("not this one")

    transfer: DoneTransfer[None] = DoneTransfer(error=Odd("x"))
    with pytest.raises(Odd):
        transfer.result()
    with pytest.raises(S3Exception, match="Odd"):
        transfer.result()
