"""The model of a store, at length where it costs little: the engine in memory."""

from __future__ import annotations

import uuid

import pytest

from s3torch.client import S3Client, S3ClientConfig
from s3torch.client.memory import MemoryStore
from s3torch.harness.conformance import MemoryArrangement, check_store_against_dict

pytestmark = pytest.mark.conformance


@pytest.mark.parametrize("read_ahead", [0, 4])
def test_the_engine_in_memory_equals_a_dictionary_for_long(read_ahead: int) -> None:
    endpoint = f"memory://{uuid.uuid4().hex}"
    arrangement = MemoryArrangement(MemoryStore.named(endpoint))
    config = S3ClientConfig(engine="memory", part_size=5 * 1024 * 1024, read_ahead=read_ahead, max_connections=2)
    with S3Client(endpoint=endpoint, s3client_config=config) as client:
        bucket = arrangement.create_bucket()
        arrangement.put(bucket, "somebody else's", b"")
        check_store_against_dict(client, arrangement, bucket, max_examples=12, steps=80)
        assert arrangement.keys(bucket) == {"somebody else's"}


def test_verbs_that_a_store_lacks_are_left_out() -> None:
    endpoint = f"memory://{uuid.uuid4().hex}"
    arrangement = MemoryArrangement(MemoryStore.named(endpoint))
    with S3Client(endpoint=endpoint, s3client_config=S3ClientConfig(engine="memory")) as client:

        def refuse(*_: object) -> None:
            raise AssertionError("asked for what is left out")

        client.copy_object = client.delete_objects = refuse  # type: ignore[assignment,method-assign]  # seen if called
        everything = frozenset({"create_only", "copy", "delete_many"})
        bucket = arrangement.create_bucket()
        check_store_against_dict(client, arrangement, bucket, left_out=everything, max_examples=4)
        with pytest.raises(AssertionError, match="asked for what is left out"):
            check_store_against_dict(client, arrangement, bucket, max_examples=30)
