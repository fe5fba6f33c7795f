"""Laws of writing, copying and deleting."""

from __future__ import annotations

from itertools import pairwise

import pytest

from s3torch.client import (
    BucketNotFoundError,
    GetRequest,
    ObjectNotFoundError,
    PartResult,
    PreconditionFailedError,
    PutOptions,
    S3Client,
    S3Exception,
)
from s3torch.client.copying import copy_object
from s3torch.harness.conformance._bytes import holds
from s3torch.harness.conformance._store_laws import MIB, StoreLaws
from s3torch.harness.conformance.arrangement import Arrangement, Connect, make_bytes

__all__ = ["WriteLaws"]

_OPTIONS = PutOptions()


def _views(data: bytes, *cuts: int) -> list[memoryview]:
    """Cut bytes into pieces of memory."""
    edges = [0, *cuts, len(data)]
    return [memoryview(data)[first:end] for first, end in pairwise(edges)]


def _write_and_raise(client: S3Client, bucket: str, key: str, data: bytes) -> None:
    with client.put_stream(bucket, key) as stream:
        stream.write(data)
        raise RuntimeError("on purpose")


class WriteLaws(StoreLaws):
    """Put, multipart, copy, delete: all or nothing, and only what was asked."""

    @pytest.mark.parametrize("size", [0, 1, 70_000, 700_000])
    def test_put_writes_the_bytes(self, client: S3Client, arrangement: Arrangement, bucket: str, size: int) -> None:
        """What was put is there, whatever kind of memory it came from, and the ETag returned is the object's."""
        data = make_bytes(size)
        for kind in (bytes, bytearray, memoryview):
            result = client.put(bucket, kind.__name__, kind(data))
            assert holds(arrangement, bucket, kind.__name__, data)
            assert client.head_object(bucket, kind.__name__).etag == result.etag

    def test_put_replaces(self, client: S3Client, arrangement: Arrangement, bucket: str) -> None:
        """An object is replaced as a whole."""
        client.put(bucket, "k", make_bytes(1000))
        client.put(bucket, "k", b"short")
        assert arrangement.get(bucket, "k") == b"short"

    def test_a_body_may_come_in_pieces(self, client: S3Client, arrangement: Arrangement, bucket: str) -> None:
        """Pieces of memory are sent one after the other; empty ones are nothing."""
        data = make_bytes(100_000)
        client.engine.start_put(bucket, "k", _views(data, 0, 1, 1, 70_000), _OPTIONS).result()
        assert holds(arrangement, bucket, "k", data)

    def test_put_sends_large_data_in_parts(self, connect: Connect, arrangement: Arrangement, bucket: str) -> None:
        """Above ``part_size`` the parts make up the whole, and no upload is left over."""
        data = make_bytes(11 * MIB + 123)
        with connect(part_size=5 * MIB) as client:
            client.put(bucket, "k", data)
        assert holds(arrangement, bucket, "k", data)
        assert arrangement.uploads(bucket) == []

    def test_put_keeps_metadata(self, client: S3Client, bucket: str) -> None:
        """HEAD tells the metadata that was sent, names in lower case."""
        options = PutOptions(content_type="application/x-test", metadata={"step": "12", "Note": "a, b; c=d"})
        client.put(bucket, "k", b"data", options=options)
        assert dict(client.head_object(bucket, "k").metadata) == {"step": "12", "note": "a, b; c=d"}

    def test_put_keeps_the_storage_class(self, client: S3Client, bucket: str) -> None:
        """Listing and HEAD tell the storage class."""
        if not self.has_storage_classes:
            pytest.skip("this store has one storage class only")
        client.put(bucket, "k", b"data", options=PutOptions(storage_class="STANDARD_IA"))
        assert client.head_object(bucket, "k").storage_class == "STANDARD_IA"
        [info] = next(client.list_objects(bucket)).object_info
        assert info.storage_class == "STANDARD_IA"

    def test_put_takes_tags(self, client: S3Client, arrangement: Arrangement, bucket: str) -> None:
        """Tags of all characters that S3 allows are taken, beside all else that is said of an object."""
        if not self.has_tags:
            pytest.skip("this store has no tags")
        options = PutOptions(metadata={"step": "12"}, tags={"team": "a b", "a/b": "y=z+1.2:3@4_-"})
        client.put(bucket, "k", b"data", options=options)
        assert arrangement.get(bucket, "k") == b"data"
        assert dict(client.head_object(bucket, "k").metadata) == {"step": "12"}

    def test_create_only(self, client: S3Client, arrangement: Arrangement, bucket: str) -> None:
        """With ``if_none_match`` an object is created, and one that is there stays: `PreconditionFailedError`."""
        options = PutOptions(if_none_match=True)
        client.put(bucket, "k", b"first", options=options)
        with pytest.raises(PreconditionFailedError) as caught:
            client.put(bucket, "k", b"second", options=options)
        assert caught.value.key == "k"
        assert arrangement.get(bucket, "k") == b"first"

    def test_a_missing_bucket_has_its_error(self, client: S3Client, bucket: str) -> None:
        """Writing into what is not there is `BucketNotFoundError`."""
        absent = f"{bucket}-absent"
        for write in (
            lambda: client.put(absent, "k", b"data"),
            lambda: client.engine.create_multipart(absent, "k", _OPTIONS),
            lambda: client.delete_objects(absent, ["k"]),
            lambda: client.delete_object(absent, "k"),
        ):
            with pytest.raises(BucketNotFoundError):
                write()

    def test_an_upload_is_its_parts_in_order(self, client: S3Client, arrangement: Arrangement, bucket: str) -> None:
        """Parts may arrive in any order and be sent again; the object appears when the upload is completed."""
        engine, data = client.engine, make_bytes(10 * MIB + 1000)
        upload = engine.create_multipart(bucket, "k", PutOptions(metadata={"a": "b"}))
        last = engine.start_part(bucket, "k", upload, 7, _views(data[10 * MIB :], 10)).result()
        second = engine.start_part(bucket, "k", upload, 2, _views(data[5 * MIB : 10 * MIB])).result()
        engine.start_part(bucket, "k", upload, 1, _views(b"replaced")).result()
        first = engine.start_part(bucket, "k", upload, 1, _views(data[: 5 * MIB])).result()
        assert arrangement.get(bucket, "k") is None
        assert arrangement.uploads(bucket) == ["k"]
        result = engine.complete_multipart(bucket, "k", upload, [first, second, last], _OPTIONS)
        assert holds(arrangement, bucket, "k", data)
        assert arrangement.uploads(bucket) == []
        head = client.head_object(bucket, "k")
        assert (head.etag, dict(head.metadata)) == (result.etag, {"a": "b"})

    def test_an_aborted_upload_leaves_nothing(self, client: S3Client, arrangement: Arrangement, bucket: str) -> None:
        """Neither an object nor parts remain; aborting again is no error."""
        engine = client.engine
        upload = engine.create_multipart(bucket, "k", _OPTIONS)
        engine.start_part(bucket, "k", upload, 1, _views(b"data")).result()
        engine.abort_multipart(bucket, "k", upload)
        engine.abort_multipart(bucket, "k", upload)
        assert arrangement.uploads(bucket) == []
        assert arrangement.get(bucket, "k") is None

    def test_unfinished_uploads_are_listed(self, client: S3Client, bucket: str) -> None:
        """Uploads are listed by key prefix, several of one key too, until they are completed or aborted."""
        engine = client.engine
        begun = {(key, engine.create_multipart(bucket, key, _OPTIONS)) for key in ("a b/x", "a b/x", "a b/ü&", "c")}
        for prefix, keys in (("", 4), ("a b/", 3), ("a b/x", 2), ("b", 0)):
            found = list(client.list_uploads(bucket, prefix))
            assert {(item.key, item.upload_id) for item in found} == {
                (key, upload_id) for key, upload_id in begun if key.startswith(prefix)
            }
            assert len(found) == keys
        assert [item.initiated > 0 for item in client.list_uploads(bucket)] == [True] * 4
        for key, upload_id in begun - {(key, upload_id) for key, upload_id in begun if key == "c"}:
            client.abort_upload(bucket, key, upload_id)
        [(key, upload_id)] = [item for item in begun if item[0] == "c"]
        assert [(item.key, item.upload_id) for item in client.list_uploads(bucket)] == [(key, upload_id)]
        part = engine.start_part(bucket, key, upload_id, 1, _views(b"data")).result()
        engine.complete_multipart(bucket, key, upload_id, [part], _OPTIONS)
        assert list(client.list_uploads(bucket)) == []

    def test_listing_uploads_of_a_missing_bucket_is_an_error(self, client: S3Client) -> None:
        """A bucket that does not exist has no empty list of uploads: it is `BucketNotFoundError`."""
        with pytest.raises(BucketNotFoundError):
            list(client.list_uploads("no-such-bucket-of-uploads"))

    def test_an_aborted_upload_cannot_go_on(self, client: S3Client, arrangement: Arrangement, bucket: str) -> None:
        """Adding to an upload that is gone, or completing it, is `ObjectNotFoundError`, and no object appears."""
        upload = client.engine.create_multipart(bucket, "k", _OPTIONS)
        part = client.engine.start_part(bucket, "k", upload, 1, _views(b"data")).result()
        client.engine.abort_multipart(bucket, "k", upload)
        with pytest.raises(ObjectNotFoundError):
            client.engine.start_part(bucket, "k", upload, 2, _views(b"data")).result()
        with pytest.raises(ObjectNotFoundError):
            client.engine.complete_multipart(bucket, "k", upload, [part], _OPTIONS)
        assert arrangement.get(bucket, "k") is None

    def test_an_upload_with_a_wrong_part_fails(self, client: S3Client, arrangement: Arrangement, bucket: str) -> None:
        """A part that was never sent, or another one than named, is an error, and no object appears."""
        engine = client.engine
        upload = engine.create_multipart(bucket, "k", _OPTIONS)
        part = engine.start_part(bucket, "k", upload, 1, _views(b"data")).result()
        for parts in ([part, PartResult(2, part.etag)], [PartResult(1, '"00000000000000000000000000000000"')]):
            with pytest.raises(S3Exception) as caught:
                engine.complete_multipart(bucket, "k", upload, parts, _OPTIONS)
            assert caught.value.remedy
        engine.abort_multipart(bucket, "k", upload)
        assert arrangement.get(bucket, "k") is None

    @pytest.mark.parametrize("size", [0, 1000, 6 * MIB])
    def test_an_upload_stream_publishes_when_closed(
        self, connect: Connect, arrangement: Arrangement, bucket: str, size: int
    ) -> None:
        """Writes of any size become one object when the stream is closed, and not before."""
        data = make_bytes(size)
        with connect(part_size=5 * MIB) as client:
            stream = client.put_stream(bucket, "k")
            for first in range(0, size, 500_001):
                stream.write(data[first : first + 500_001])
            assert arrangement.get(bucket, "k") is None
            stream.close()
        assert holds(arrangement, bucket, "k", data)
        assert arrangement.uploads(bucket) == []

    @pytest.mark.parametrize("size", [1000, 6 * MIB])
    def test_an_upload_stream_that_fails_leaves_nothing(
        self, connect: Connect, arrangement: Arrangement, bucket: str, size: int
    ) -> None:
        """An exception within the ``with`` block aborts: no object, no parts, an old object stays."""
        arrangement.put(bucket, "old", b"old")
        with connect(part_size=5 * MIB) as client:
            for key in ("new", "old"):
                with pytest.raises(RuntimeError, match="on purpose"):
                    _write_and_raise(client, bucket, key, make_bytes(size))
        assert arrangement.keys(bucket) == {"old"}
        assert arrangement.get(bucket, "old") == b"old"
        assert arrangement.uploads(bucket) == []

    def test_deletes_one(self, client: S3Client, arrangement: Arrangement, bucket: str) -> None:
        """Deleting deletes that object only; what is not there is no error."""
        for key in ("a", "a/b", "b"):
            arrangement.put(bucket, key, b"x")
        client.delete_object(bucket, "a")
        client.delete_object(bucket, "a")
        assert arrangement.keys(bucket) == {"a/b", "b"}

    def test_deletes_many(self, client: S3Client, arrangement: Arrangement, bucket: str) -> None:
        """More than the 1,000 keys of one request are deleted in several."""
        for key in ("keep", "k0", "k999", "k1000", "k1002"):
            arrangement.put(bucket, key, b"x")
        assert client.delete_objects(bucket, (f"k{number}" for number in range(1003))) == []
        assert arrangement.keys(bucket) == {"keep"}
        assert client.delete_objects(bucket, []) == []

    def test_copies(self, client: S3Client, arrangement: Arrangement, bucket: str) -> None:
        """A copy has the source's bytes and metadata, also in another bucket; the source stays."""
        other, data = arrangement.create_bucket(), make_bytes(70_000)
        client.put(bucket, "k", data, options=PutOptions(metadata={"a": "b"}))
        for target, key in ((bucket, "copy"), (other, "k")):
            result = client.copy_object(bucket, "k", target, key)
            assert holds(arrangement, target, key, data)
            head = client.head_object(target, key)
            assert (head.etag, dict(head.metadata)) == (result.etag, {"a": "b"})
        assert holds(arrangement, bucket, "k", data)

    def test_copies_large_objects_in_parts(self, client: S3Client, arrangement: Arrangement, bucket: str) -> None:
        """Above the limit of one request a copy is made of parts within the store, with the source's metadata."""
        data = make_bytes(11 * MIB + 123)
        client.put(bucket, "k", data, options=PutOptions(metadata={"a": "b"}))
        source = GetRequest(bucket, "k")
        copy_object(client.engine, source, bucket, "copy", _OPTIONS, largest_copy=MIB, part_size=5 * MIB)
        assert holds(arrangement, bucket, "copy", data)
        assert dict(client.head_object(bucket, "copy").metadata) == {"a": "b"}
        assert arrangement.uploads(bucket) == []

    def test_a_copy_of_what_is_not_there_fails(self, client: S3Client, arrangement: Arrangement, bucket: str) -> None:
        """A missing or replaced source is an error, and no copy appears."""
        with pytest.raises(ObjectNotFoundError):
            client.copy_object(bucket, "absent", bucket, "copy")
        with pytest.raises(ObjectNotFoundError):
            client.engine.copy(GetRequest(bucket, "absent"), bucket, "copy", _OPTIONS)
        assert arrangement.keys(bucket) == set()

    def test_a_copy_is_bound_to_its_source(self, client: S3Client, arrangement: Arrangement, bucket: str) -> None:
        """A source with another ETag than named is `PreconditionFailedError`, and no copy appears."""
        arrangement.put(bucket, "k", b"data")
        source = GetRequest(bucket, "k", etag='"00000000000000000000000000000000"')
        with pytest.raises(PreconditionFailedError):
            client.engine.copy(source, bucket, "copy", _OPTIONS)
        assert arrangement.keys(bucket) == {"k"}
