import io
import pickle
import subprocess
import sys
from functools import partial
from typing import Any, cast

import pytest

import s3torch.readers
from s3torch.readers import (
    DCPOptimizedS3Reader,
    ItemRange,
    RangedS3Reader,
    S3Reader,
    S3ReaderConstructor,
    SequentialS3Reader,
    open_reader,
)


def test_kinds_are_named() -> None:
    name = S3ReaderConstructor.get_reader_type_string
    assert name(None) == name(S3ReaderConstructor.default()) == name(S3ReaderConstructor.sequential()) == "sequential"
    assert name(S3ReaderConstructor.range_based(5)) == name(RangedS3Reader) == "range_based"
    assert (
        name(S3ReaderConstructor.dcp_optimized())
        == name(partial(DCPOptimizedS3Reader, item_ranges=[]))
        == "dcp_optimized"
    )
    assert name(SequentialS3Reader) == "sequential"
    unknown: Any = lambda **_: None  # noqa: E731  # typed as what strangers pass
    assert name(unknown) == "unknown"
    unhashable: Any = []
    assert name(unhashable) == "unknown"


def test_constructors_pickle_and_make_the_same_reader(store: Any) -> None:
    store.put(bytes(range(100)))
    planned = S3ReaderConstructor.dcp_optimized(max_gap_size=7)
    planned.set_item_ranges_by_file({"key": [ItemRange(10, 20)]})
    cases: list[tuple[Any, type[S3Reader]]] = [
        (S3ReaderConstructor.default(), SequentialS3Reader),
        (S3ReaderConstructor.sequential(), SequentialS3Reader),
        (S3ReaderConstructor.range_based(buffer_size=16), RangedS3Reader),
        (planned, DCPOptimizedS3Reader),
        (S3ReaderConstructor.dcp_optimized(float("inf")), SequentialS3Reader),
    ]
    for constructor, kind in cases:
        copy = pickle.loads(pickle.dumps(constructor))
        with store.client.get_object("bucket", "key", reader_constructor=copy) as reader:
            assert type(reader) is kind
            reader.seek(10)
            assert reader.read(10) == bytes(range(10, 20))
    assert pickle.loads(pickle.dumps(planned)).max_gap_size == 7


def test_a_strangers_constructor_gets_its_arguments_by_name(store: Any) -> None:
    seen: dict[str, object] = {}

    def construct(get_stream: Any, get_object_info: Any, key: str, bucket: str) -> S3Reader:
        seen.update(bucket=bucket, key=key, size=get_object_info().size)
        return RangedS3Reader(bucket, key, get_object_info, get_stream)

    store.put(b"12345")
    assert open_reader(store.client, "bucket", "key", reader_constructor=cast(Any, construct)).read() == b"12345"
    assert seen == {"bucket": "bucket", "key": "key", "size": 5}
    assert (len(store.log.gets), store.log.heads) == (1, 1)


def test_what_is_no_constructor_is_refused(store: Any) -> None:
    with pytest.raises(TypeError):
        store.client.get_object("bucket", "key", reader_constructor="sequential")
    for bucket, key, error in [
        ("", "k", ValueError),
        ("b", "", ValueError),
        (None, "k", TypeError),
        ("b", 5, TypeError),
    ]:
        with pytest.raises(error):
            store.client.get_object(bucket, key)
    assert store.log.requests == 0


def test_a_known_etag_is_held_to(store: Any) -> None:
    store.put(b"12345")
    info = store.client.head_object("bucket", "key")
    store.put(b"54321")
    for constructor in (None, S3ReaderConstructor.range_based()):
        with pytest.raises(s3torch.client.ObjectChangedError):
            store.client.get_object("bucket", "key", object_info=info, reader_constructor=constructor).read()


def test_readers_pickle_with_their_position(make_source: Any) -> None:
    from s3torch.client import S3ClientConfig
    from s3torch.client.memory import MemoryStore
    from s3torch.readers import ReaderClient

    MemoryStore.named("memory://pickled").create_bucket("bucket")
    client = ReaderClient("us-east-1", endpoint="memory://pickled", s3client_config=S3ClientConfig(engine="memory"))
    client.put("bucket", "key", bytes(range(100)))
    planned = S3ReaderConstructor.dcp_optimized()
    planned.set_item_ranges_by_file({"key": [ItemRange(0, 20)]})
    for constructor in (None, S3ReaderConstructor.range_based(7), planned):
        reader = client.get_object("bucket", "key", reader_constructor=constructor)
        assert pickle.loads(pickle.dumps(reader)).read(5) == bytes(range(5))
        reader.read(10)
        copy = pickle.loads(pickle.dumps(reader))
        assert type(copy) is type(reader)
        assert copy.tell() == 10
        assert copy.read(5) == bytes(range(10, 15))
        reader.close()
        with pytest.raises(ValueError):
            pickle.dumps(reader)


def test_public_names_are_sorted_and_there() -> None:
    names = s3torch.readers.__all__
    assert list(names) == sorted(names, key=lambda name: (not name.isupper(), name[0].islower(), name))
    assert all(hasattr(s3torch.readers, name) for name in names)
    assert issubclass(S3Reader, io.BufferedIOBase)


def test_importing_needs_no_torch() -> None:
    code = "import sys, s3torch.readers; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "False"]
