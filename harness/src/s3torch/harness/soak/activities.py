"""The load: what training programs do with a store, each checked to the byte.

An activity is given the place and its randomness, and returns how many bytes it has compared. Those of `IN_THREADS`
run beside each other; those of `ALONE` start processes or own the program's threads, and run one after the other.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch.utils.data import DataLoader, Dataset

from s3torch.checkpoint import S3Checkpoint
from s3torch.client import GetRequest, S3Client
from s3torch.datasets import S3IterableDataset, S3MapDataset
from s3torch.harness.soak.place import LARGE, SMALL_COUNT, UPLOAD, UPLOAD_COUNT, Place, WrongBytesError, check_bytes
from s3torch.readers import S3Reader, S3ReaderConstructor

__all__ = ["ALL", "ALONE", "IN_THREADS", "Activity"]

Activity = Callable[[Place, random.Random], int]
_WORKER_SECONDS = 60.0


def read_in_order(place: Place, chance: random.Random) -> int:
    """Read the large object through a sequential reader, in steps of any size."""
    expected, at = memoryview(place.content(place.large_key)), 0
    with place.reader_client.get_object(
        place.bucket, place.large_key, reader_constructor=S3ReaderConstructor.sequential()
    ) as reader:
        while data := reader.read(chance.choice([1, 4096, 100_000, 1_000_000, 6_000_000])):
            check_bytes(f"sequential reader at {at}", data, expected[at : at + len(data)])
            at += len(data)
    if at != len(expected):
        raise WrongBytesError(f"sequential reader: {at} bytes for {len(expected)}")
    return at


def read_ranges(place: Place, chance: random.Random) -> int:
    """Read a few stretches of the large object through a ranged reader, with and without a buffer."""
    expected, done = memoryview(place.content(place.large_key)), 0
    for buffer_size in (0, 256 * 1024):
        constructor = S3ReaderConstructor.range_based(buffer_size=buffer_size)
        reader = place.reader_client.get_object(place.bucket, place.large_key, reader_constructor=constructor)
        with reader:
            for _ in range(6):
                start, size = chance.randrange(LARGE), chance.choice([10, 5_000, 300_000])
                reader.seek(start)
                buffer = bytearray(size)
                got = reader.readinto(buffer)
                wanted = expected[start : start + size]
                done += check_bytes(f"ranged reader at {start}", memoryview(buffer)[:got], wanted)
    return done


def read_parts(place: Place, chance: random.Random) -> int:
    """Read the large object at once, in parallel parts."""
    if chance.random() < 0.5:
        data: bytes | bytearray = place.client.read(place.bucket, place.large_key)
    else:
        data = bytearray(LARGE)
        place.client.read_into(place.bucket, place.large_key, data)
    return check_bytes("parallel parts", data, place.content(place.large_key))


def fetch_many(place: Place, chance: random.Random) -> int:
    """Fetch small objects in a window; now and then leave in the middle."""
    keys = chance.choices(place.small_keys, k=60)
    stop = chance.randrange(60) if chance.random() < 0.3 else len(keys)
    results = place.client.get_many([GetRequest(place.bucket, key) for key in keys])
    return sum(check_bytes(f"get_many {key}", next(results).data, place.content(key)) for key in keys[:stop])


def use_own_client(place: Place, chance: random.Random) -> int:
    """Make a client, use it from here, and close it or forget to."""
    client = S3Client(place.region, endpoint=place.endpoint, s3client_config=place.config)
    key = chance.choice(place.small_keys)
    done = check_bytes(f"own client {key}", client.read(place.bucket, key), place.content(key))
    names = [info.key for page in client.list_objects(place.bucket, "small/") for info in page.object_info]
    if names != list(place.small_keys):
        raise WrongBytesError(f"a listing of {len(names)} keys for {len(place.small_keys)}")
    if chance.random() < 0.7:
        client.close()
    return done


def write_stream(place: Place, chance: random.Random) -> int:
    """Write an object in parts, from writes of any size, and read it back; now and then abort instead."""
    key = "written/stream"
    content = memoryview(place.upload(chance.randrange(UPLOAD_COUNT)))
    stream = place.client.put_stream(place.bucket, key)
    at = 0
    while at < len(content):
        size = chance.choice([1000, 50_000, 700_000, 6_000_000])
        stream.write(content[at : at + size])
        at += size
        if at > UPLOAD // 2 and chance.random() < 0.05:
            stream.abort()
            return 0
    stream.close()
    return check_bytes(key, place.client.read(place.bucket, key), content)


def keep_checkpoint(place: Place, chance: random.Random) -> int:
    """Save a state with `S3Checkpoint`, load it and compare."""
    checkpoints = S3Checkpoint(place.region, endpoint=place.endpoint, s3client_config=place.config)
    uri = f"s3://{place.bucket}/written/checkpoint.pt"
    state = _make_state(chance)
    checkpoints.save(state, uri)
    return _compare_states("S3Checkpoint", checkpoints.load(uri), state)


def keep_distributed_checkpoint(place: Place, chance: random.Random) -> int:
    """Save a state with `torch.distributed.checkpoint`, load it, compare, and delete it."""
    import warnings

    from torch.distributed import checkpoint as dcp

    from s3torch.dcp import S3StorageReader, S3StorageWriter

    path = f"s3://{place.bucket}/written/dcp"
    state = _make_state(chance)
    empty = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    writer = S3StorageWriter(place.region, path, place.config, thread_count=2, endpoint=place.endpoint)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is one process only
            dcp.save(state, storage_writer=writer)
            reader = S3StorageReader(place.region, path, place.config, endpoint=place.endpoint)
            dcp.load(empty, storage_reader=reader)
        return _compare_states("distributed checkpoint", empty, state)
    finally:
        writer.close()
        _delete_below(place, "written/dcp/")


def load_by_index(place: Place, chance: random.Random) -> int:
    """Go through the map data set once, shuffled, in worker processes."""
    dataset = S3MapDataset.from_prefix(
        f"s3://{place.bucket}/small/",
        region=place.region,
        endpoint=place.endpoint,
        transform=_read_sample,
        s3client_config=place.config,
    )
    generator = torch.Generator().manual_seed(chance.randrange(2**31))
    return _go_through(place, dataset, "map data set", shuffle=True, generator=generator)


def load_as_stream(place: Place, chance: random.Random) -> int:  # noqa: ARG001 - an activity
    """Go through the iterable data set once, shared out among worker processes."""
    dataset = S3IterableDataset.from_prefix(
        f"s3://{place.bucket}/small/",
        region=place.region,
        endpoint=place.endpoint,
        transform=_read_sample,
        s3client_config=place.config,
        enable_sharding=True,
    )
    return _go_through(place, dataset, "iterable data set")


def _go_through(
    place: Place,
    dataset: Dataset[object],
    what: str,
    *,
    shuffle: bool | None = None,
    generator: torch.Generator | None = None,
) -> int:
    loader = DataLoader(
        dataset,
        batch_size=8,
        num_workers=place.workers,
        collate_fn=list,
        shuffle=shuffle,
        generator=generator,
        timeout=_WORKER_SECONDS if place.workers else 0,
    )
    seen, done = [], 0
    for batch in loader:
        for key, data in batch:
            seen.append(key)
            done += check_bytes(f"{what} {key}", data.numpy().data, place.content(key))
    if sorted(seen) != list(place.small_keys):
        raise WrongBytesError(f"{what}: {len(seen)} objects, {len(set(seen))} different ones, for {SMALL_COUNT}")
    return done


def _read_sample(reader: S3Reader) -> tuple[str, torch.Tensor]:
    data = torch.frombuffer(bytearray(reader.read()), dtype=torch.uint8)
    return reader.key, data


def _make_state(chance: random.Random) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(chance.randrange(2**31))
    sizes = [3_000_000, 100_000, 1000, 1]
    return {f"layer{number}": torch.randn(size // 4 + 1, generator=generator) for number, size in enumerate(sizes)}


def _compare_states(what: str, found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> int:
    if found.keys() != expected.keys():
        raise WrongBytesError(f"{what}: {sorted(found)} for {sorted(expected)}")
    for name, tensor in expected.items():
        if not torch.equal(found[name], tensor):
            raise WrongBytesError(f"{what}: {name} is not what was saved")
    return sum(tensor.nbytes for tensor in expected.values())


def _delete_below(place: Place, prefix: str) -> None:
    """Delete what is below a prefix: a server in memory must not fill up."""
    pages = place.client.list_objects(place.bucket, prefix)
    place.client.delete_objects(place.bucket, [info.key for page in pages for info in page.object_info])


def drop_unfinished_uploads(place: Place) -> None:
    """Drop uploads whose end a fault has prevented.

    Args:
        place: Where.
    """
    for upload in list(place.client.list_uploads(place.bucket)):
        place.client.abort_upload(place.bucket, upload.key, upload.upload_id)


IN_THREADS: tuple[Activity, ...] = (
    read_in_order,
    read_ranges,
    read_parts,
    fetch_many,
    use_own_client,
    write_stream,
    keep_checkpoint,
)
ALONE: tuple[Activity, ...] = (load_by_index, load_as_stream, keep_distributed_checkpoint)
ALL: dict[str, Activity] = {activity.__name__: activity for activity in (*IN_THREADS, *ALONE)}
