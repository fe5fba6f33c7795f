"""Subjects that read: each goes through what it promises, and compares every byte."""

from __future__ import annotations

import itertools
import multiprocessing
import warnings
from collections.abc import Callable
from typing import Any

import torch.distributed.checkpoint as dcp
from torch.utils.data import DataLoader

from s3torch.checkpoint import S3Checkpoint
from s3torch.client import GetRequest, S3BucketKeyData
from s3torch.datasets import S3IterableDataset, S3MapDataset, S3TarDataset
from s3torch.dcp import S3StorageReader
from s3torch.harness.faults._children import read_in_child
from s3torch.harness.faults.contents import LARGE, MIB, SMALL, blank_state, is_state, objects_to_read, shard_samples
from s3torch.harness.faults.place import AbandonedError, Place
from s3torch.readers import DCPOptimizedConstructor, ItemRange, S3Reader, S3ReaderConstructor, open_reader

_STEP = 300_000
_ITEMS = ((100, 2 * MIB), (2 * MIB + 5, 5 * MIB + 17), (7 * MIB, 10 * MIB))
_CHILD_S = 60.0


def read(place: Place) -> None:
    """One object in parallel parts, nothing known of it."""
    with place.client() as client:
        place.check(LARGE, client.read(place.bucket, place.key(LARGE)))


def read_into(place: Place) -> None:
    """The same into a buffer, size and ETag known."""
    with place.client() as client:
        info = client.head_object(place.bucket, place.key(LARGE))
        buffer = bytearray(info.size)
        client.read_into(place.bucket, place.key(LARGE), buffer, object_info=info)
        place.check(LARGE, buffer)


def sequential(place: Place) -> None:
    """A sequential reader, in small steps."""
    with place.client() as client:
        try:
            with (
                place.reading(LARGE) as seen,
                open_reader(client, place.bucket, place.key(LARGE)) as reader,
            ):
                is_halfway = False
                while data := reader.read(_STEP):
                    seen.extend(data)
                    if not is_halfway and len(seen) > 4 * MIB:
                        is_halfway = True
                        place.halfway()
        except AbandonedError:
            _read_another(place, client)


def ranged(place: Place) -> None:
    """A reader of ranges, back and forth."""
    size = len(objects_to_read()[LARGE])
    spots = ((0, 1000), (size - 4096, 4096), (6 * MIB, 3 * MIB), (5, 100_000), (4 * MIB, 6 * MIB))
    with (
        place.client() as client,
        open_reader(
            client, place.bucket, place.key(LARGE), reader_constructor=S3ReaderConstructor.range_based()
        ) as reader,
    ):
        for start, count in spots:
            reader.seek(start)
            buffer = bytearray(count)
            if reader.readinto(buffer) != count:
                place.wrong.append(f"a short readinto at {start}")
            place.check(LARGE, buffer, start, whole=False)


def by_items(place: Place) -> None:
    """The reader of distributed checkpoints, item by item."""
    constructor = DCPOptimizedConstructor()
    constructor.set_item_ranges_by_file({place.key(LARGE): [ItemRange(start, end) for start, end in _ITEMS]})
    with (
        place.client() as client,
        open_reader(client, place.bucket, place.key(LARGE), reader_constructor=constructor) as reader,
    ):
        for start, end in _ITEMS:
            reader.seek(start)
            data = reader.read(end - start)
            if len(data) != end - start:
                place.wrong.append(f"{len(data)} bytes for an item of {end - start}")
            place.check(LARGE, data, start, whole=False)


def get_many(place: Place) -> None:
    """Many small objects within a window."""
    with place.client() as client:
        results = client.get_many(GetRequest(place.bucket, place.key(name)) for name in SMALL)
        try:
            count = 0
            for name, result in zip(SMALL, results, strict=False):
                place.check(name, result.data)
                count += 1
                if count == len(SMALL) // 2:
                    place.halfway()
            if count != len(SMALL):
                place.wrong.append(f"{count} objects came of {len(SMALL)}")
        except AbandonedError:
            del results
            _read_another(place, client)


def map_dataset(place: Place) -> None:
    """A map-style dataset, batches and single samples."""
    dataset = S3MapDataset.from_prefix(place.uri("small/"), transform=_sample, **place.options)
    if len(dataset) != len(SMALL):
        place.wrong.append(f"{len(dataset)} objects were listed of {len(SMALL)}")
    batch = dataset.__getitems__(list(range(8)))
    samples = [*batch, *(dataset[number] for number in range(8, len(SMALL)))]
    for name, (key, data) in zip(SMALL, samples, strict=True):
        _check_sample(place, name, key, data)


def iterable_dataset(place: Place) -> None:
    """An iterable dataset that fetches ahead."""
    dataset = S3IterableDataset.from_prefix(place.uri("small/"), transform=_sample, **place.options)
    try:
        samples = 0
        for name, (key, data) in zip(SMALL, dataset, strict=False):
            _check_sample(place, name, key, data)
            samples += 1
            if samples == len(SMALL) // 2:
                place.halfway()
        if samples != len(SMALL):
            place.wrong.append(f"{samples} samples came of {len(SMALL)}")
    except AbandonedError:
        with place.client() as client:
            _read_another(place, client)


def skipping_dataset(place: Place) -> None:
    """An iterable dataset with transforms in threads, which leaves out what it cannot read and counts it."""
    errors: dict[str, Exception] = {}

    def skip(item: S3BucketKeyData, error: Exception) -> str:
        errors[item.key] = error
        return "skip"

    dataset = S3IterableDataset.from_prefix(
        place.uri("small/"), transform=_sample, transform_workers=2, on_error=skip, **place.options
    )
    samples = list(dataset)
    expected = [name for name in SMALL if place.key(name) not in errors]
    if len(samples) != len(expected):
        place.wrong.append(f"{len(samples)} samples came of {len(SMALL)}, {len(errors)} were skipped")
    for name, (key, data) in zip(expected, samples, strict=False):
        _check_sample(place, name, key, data)
    counted = dataset.stats().skipped
    if counted != len(errors):
        place.wrong.append(f"{counted} objects are said to have been skipped, {len(errors)} were")
    for error in errors.values():
        raise error


def tar_dataset(place: Place) -> None:
    """A dataset of tar shards, read in parts."""
    expected = shard_samples()
    dataset = S3TarDataset.from_prefix(place.uri("shards/"), views=True, **place.options)
    samples = iter(dataset)
    try:
        seen = 0
        for (key, data), sample in zip(expected.items(), samples, strict=False):
            if (sample["__key__"], sample["bin"]) != (key, data):
                place.wrong.append(
                    f"{sample['__key__']} came with {len(sample['bin'])} bytes, which are not those of {key}"
                )
            seen += 1
            if seen == len(expected) // 2:
                place.halfway()
        if seen != len(expected) or next(samples, None) is not None:
            place.wrong.append(f"not the {len(expected)} samples that there are")
    except AbandonedError:
        del samples
        with place.client() as client:
            _read_another(place, client)


def workers(place: Place) -> None:
    """A map-style dataset in two forked workers, used here before."""
    dataset = S3MapDataset.from_prefix(place.uri("small/"), transform=_sample, **place.options)
    _check_sample(place, SMALL[0], *dataset[0])
    loader: Any = DataLoader(
        dataset, batch_size=3, num_workers=2, collate_fn=list, multiprocessing_context="fork", timeout=_CHILD_S
    )
    for name, (key, data) in zip(SMALL, itertools.chain.from_iterable(loader), strict=True):
        _check_sample(place, name, key, data)


def checkpoint_load(place: Place) -> None:
    """S3Checkpoint.load, straight into the tensors."""
    state = S3Checkpoint(**place.options).load(place.uri("saved"))
    if not is_state(state):
        place.wrong.append("the state that was loaded is not the one that was saved")


def dcp_load(place: Place) -> None:
    """torch.distributed.checkpoint.load, straight into the tensors."""
    state = blank_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this is a job of one process
        dcp.load(state, storage_reader=S3StorageReader(path=place.uri("folder"), **place.options))
    if not is_state(state):
        place.wrong.append("the state that was loaded is not the one that was saved")


def processes(method: str) -> Callable[[Place], None]:
    """Return the subject of two processes started by a method, whose client was used before in the one that starts."""

    def read_in_processes(place: Place) -> None:
        client = place.client()
        place.check(SMALL[0], client.read(place.bucket, place.key(SMALL[0])))
        context: Any = multiprocessing.get_context(method)
        expected = {place.key(name): objects_to_read()[name] for name in SMALL}
        pairs = [context.Pipe(duplex=False) for _ in range(2)]
        children = [
            context.Process(target=read_in_child, args=(client, place.bucket, expected, pair[1])) for pair in pairs
        ]
        for child in children:
            child.start()
        for (receiving, sending), child in zip(pairs, children, strict=True):
            sending.close()
            error: BaseException | None = None
            if receiving.poll(_CHILD_S):
                wrong, error = receiving.recv()
                place.wrong += wrong
            child.join(_CHILD_S)
            if error is not None:
                raise error
            if child.exitcode != 0:
                raise RuntimeError(f"a process ended with status {child.exitcode}")
        place.check(SMALL[1], client.read(place.bucket, place.key(SMALL[1])))

    read_in_processes.__doc__ = f"Two processes by {method}, whose client was used here before."
    return read_in_processes


def _sample(reader: S3Reader) -> tuple[str, bytes]:
    return reader.key, reader.read()


def _check_sample(place: Place, name: str, key: str, data: bytes) -> None:
    if key != place.key(name):
        place.wrong.append(f"{key} came in the place of {name}")
    place.check(name, data)


def _read_another(place: Place, client: Any) -> None:
    """After a reader was left in the middle, the next must find everything in order."""
    for name in SMALL:
        place.check(name, client.read(place.bucket, place.key(name)))
