from __future__ import annotations

import pickle
from pathlib import PurePosixPath
from typing import Any

import pytest
from integrations.dcp.tests.saving import BUCKET, Place

from s3torch.client import AccessDeniedError, BucketNotFoundError, PutOptions, S3Client, S3Exception, S3NotFoundError
from s3torch.client.memory import MemoryEngine
from s3torch.client.protocols import EngineContext
from s3torch.client.values import CopyResult, GetRequest, HeadObjectResult
from s3torch.dcp import S3FileSystem
from s3torch.readers import S3ReaderConstructor

OBJECT = f"s3://{BUCKET}/a folder/x y"


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.fixture
def fs(place: Place) -> S3FileSystem:
    return S3FileSystem("us-east-1", s3client_config=place.config(), endpoint=place.endpoint)


def put(place: Place, key: str, data: bytes = b"data") -> None:
    place.store.write(BUCKET, key, data, PutOptions())


def keys(place: Place) -> dict[str, bytes]:
    return {key: found.data for key, found in place.store.objects(BUCKET).items()}


@pytest.mark.parametrize("path", [OBJECT, PurePosixPath(OBJECT), "s3:/bucket/a folder/x y"])
def test_streams_write_and_read(fs: S3FileSystem, place: Place, path: Any) -> None:
    with fs.create_stream(path, "wb") as stream:
        stream.write(b"0123456789")
        assert keys(place) == {}
    assert keys(place) == {"a folder/x y": b"0123456789"}
    with fs.create_stream(path, "rb") as stream:
        assert stream.seekable()
        stream.seek(4)
        assert stream.read(3) == b"456"
    assert stream.closed


def test_a_block_that_raises_publishes_nothing(fs: S3FileSystem, place: Place) -> None:
    def write_and_fail() -> None:
        with fs.create_stream(OBJECT, "wb") as stream:
            stream.write(bytes(12 << 20))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    assert keys(place) == {}
    assert not place.store.uploads(BUCKET)


def test_reading_uses_the_constructor_given(place: Place) -> None:
    put(place, "k", b"abc")
    client = S3Client("us-east-1", endpoint=place.endpoint, s3client_config=place.config())
    fs = S3FileSystem(s3_client=client, reader_constructor=S3ReaderConstructor.range_based())
    assert fs.client is client
    with fs.create_stream(f"s3://{BUCKET}/k", "rb") as stream:
        assert type(stream).__name__ == "RangedS3Reader"


@pytest.mark.parametrize("mode", ["r", "w", "ab", "r+b"])
def test_other_modes_are_refused(fs: S3FileSystem, mode: str) -> None:
    with pytest.raises(ValueError, match="'rb' or 'wb'"), fs.create_stream(OBJECT, mode):
        pass


@pytest.mark.parametrize("path", ["/srv/x", "x", "s3://bucket", "s3://bucket/", "gs://bucket/x"])
def test_what_is_no_object_in_s3_is_refused(fs: S3FileSystem, path: str) -> None:
    with pytest.raises(ValueError, match="s3://bucket/key"), fs.create_stream(path, "rb"):
        pass


def test_paths_are_joined_and_restored(fs: S3FileSystem) -> None:
    assert fs.concat_path("s3://bucket/run/", "x/y") == "s3://bucket/run/x/y"
    assert fs.concat_path(PurePosixPath("s3://bucket/run"), "x") == "s3://bucket/run/x"
    assert fs.concat_path("s3://bucket", ".metadata") == "s3://bucket/.metadata"
    assert fs.init_path(PurePosixPath("s3://bucket/run")) == "s3://bucket/run"
    with pytest.raises(ValueError):
        fs.init_path("/srv/run")


@pytest.mark.parametrize(
    ("path", "is_valid"),
    [
        ("s3://bucket/run", True),
        ("s3://bucket", True),
        (PurePosixPath("s3://bucket/run"), True),
        ("s3:/bucket/run", True),
        ("/srv/run", False),
        ("s3://", False),
        (PurePosixPath("run"), False),
        (7, False),
    ],
)
def test_only_paths_in_s3_are_valid(path: Any, is_valid: bool) -> None:
    assert S3FileSystem.validate_checkpoint_id(path) is is_valid


def test_exists_tells_a_missing_object_from_a_failure(fs: S3FileSystem, place: Place) -> None:
    put(place, "a folder/x y")
    assert fs.exists(OBJECT)
    assert not fs.exists(OBJECT + "z")
    assert not fs.exists(f"s3://{BUCKET}/a folder")

    class Denying(MemoryEngine):
        def head(self, bucket: str, key: str) -> HeadObjectResult:
            raise AccessDeniedError("no", operation="HeadObject", bucket=bucket, key=key)

    denied = S3FileSystem("us-east-1", s3client_config=place.config(engine=Denying))
    with pytest.raises(PermissionError):
        denied.exists(OBJECT)


def test_removing(fs: S3FileSystem, place: Place) -> None:
    put(place, "a folder/x y")
    fs.rm_file(OBJECT)
    assert keys(place) == {}
    fs.rm_file(OBJECT)
    with pytest.raises(BucketNotFoundError):
        fs.rm_file("s3://no-such-bucket/x")


def test_listing_names_what_lies_right_in_the_folder(fs: S3FileSystem, place: Place) -> None:
    for key in ("run/b", "run/a", "run/sub/c", "run/sub/d", "run/", "runs/e", "f"):
        put(place, key)
    assert fs.ls("s3://bucket/run") == fs.ls("s3://bucket/run/") == [f"s3://bucket/run/{n}" for n in ("a", "b", "sub")]
    assert fs.ls("s3://bucket") == ["s3://bucket/f", "s3://bucket/run", "s3://bucket/runs"]
    assert fs.ls("s3://bucket/nothing") == []


def test_making_folders_does_nothing(fs: S3FileSystem, place: Place) -> None:
    fs.mkdir("s3://bucket/run")
    assert keys(place) == {}


def test_renaming_moves_the_bytes(fs: S3FileSystem, place: Place) -> None:
    put(place, "a", b"new")
    put(place, "b", b"old")
    fs.rename("s3://bucket/a", "s3://bucket/b")
    assert keys(place) == {"b": b"new"}
    fs.rename("s3://bucket/b", "s3://bucket/b")
    assert keys(place) == {"b": b"new"}
    with pytest.raises(S3NotFoundError):
        fs.rename("s3://bucket/a", "s3://bucket/c")


@pytest.mark.parametrize("failing", ["copy", "short copy"])
def test_a_copy_that_fails_leaves_the_source(place: Place, failing: str) -> None:
    put(place, "a", b"precious")

    class Failing(MemoryEngine):
        def __init__(self, context: EngineContext) -> None:
            super().__init__(context)

        def copy(self, source: GetRequest, bucket: str, key: str, options: PutOptions) -> CopyResult:
            if failing == "copy":
                raise S3Exception("the store failed", operation="CopyObject", bucket=bucket, key=key)
            return CopyResult(self.start_put(bucket, key, [memoryview(b"prec")], options).result().etag)

    fs = S3FileSystem("us-east-1", s3client_config=place.config(engine=Failing), endpoint=place.endpoint)
    with pytest.raises(S3Exception):
        fs.rename("s3://bucket/a", "s3://bucket/b")
    assert keys(place)["a"] == b"precious"


def test_it_pickles(fs: S3FileSystem, place: Place) -> None:
    put(place, "a")
    copy = pickle.loads(pickle.dumps(fs))
    assert copy.exists("s3://bucket/a")
    assert "S3FileSystem" in repr(copy)
