"""Laws of reading."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from s3torch.client import (
    GetInfo,
    GetRequest,
    GetResult,
    InvalidRangeError,
    ObjectChangedError,
    ObjectNotFoundError,
    S3Client,
    S3Exception,
    S3NotFoundError,
)
from s3torch.harness.conformance._bytes import all_same, same
from s3torch.harness.conformance._sequences import check_against_bytesio
from s3torch.harness.conformance._store_laws import MIB, StoreLaws
from s3torch.harness.conformance.arrangement import Arrangement, Connect, make_bytes

__all__ = ["ReadLaws"]

_ABSENT_ETAG = '"00000000000000000000000000000000"'


class ReadLaws(StoreLaws):
    """Get: whole, ranges, streams, many."""

    @pytest.mark.parametrize("size", [0, 1, 70_000, 700_000])
    def test_reads_a_whole_object(self, client: S3Client, arrangement: Arrangement, bucket: str, size: int) -> None:
        """`read` returns exactly the object's bytes, also those of an empty one, known beforehand or not."""
        data = make_bytes(size)
        arrangement.put(bucket, "k", data)
        assert same(client.read(bucket, "k"), data)
        assert same(client.read(bucket, "k", object_info=client.head_object(bucket, "k")), data)

    def test_reads_a_large_object_in_parts(self, connect: Connect, arrangement: Arrangement, bucket: str) -> None:
        """Parts of a large object land where they belong, whether or not its size is known."""
        data = make_bytes(11 * MIB + 123)
        arrangement.put(bucket, "k", data)
        with connect(part_size=5 * MIB, max_connections=3) as client:
            assert same(client.read(bucket, "k"), data)
            assert same(client.read(bucket, "k", object_info=client.head_object(bucket, "k")), data)
            assert same(client.read(bucket, "k", start=MIB, end=11 * MIB), data[MIB : 11 * MIB])
            buffer = bytearray(10 * MIB)
            client.read_into(bucket, "k", buffer, start=17)
            assert same(buffer, data[17 : 17 + 10 * MIB])

    @pytest.mark.parametrize(("start", "end"), [(0, 1), (3, 10), (99, 100), (5, None), (90, 500), (None, 7)])
    def test_reads_a_range(
        self, client: S3Client, arrangement: Arrangement, bucket: str, start: int | None, end: int | None
    ) -> None:
        """A range is half open, and ends with the object."""
        data = make_bytes(100)
        arrangement.put(bucket, "k", data)
        assert client.read(bucket, "k", start=start, end=end) == data[start:end]

    @pytest.mark.parametrize("length", [1, 10, 99, 100])
    def test_reads_a_suffix(self, client: S3Client, arrangement: Arrangement, bucket: str, length: int) -> None:
        """A negative start counts from the end, and the answer tells where that was."""
        data = make_bytes(100)
        arrangement.put(bucket, "k", data)
        result = client.engine.start_get(GetRequest(bucket, "k", -length)).result()
        assert bytes(result.data) == data[-length:]
        assert (result.info.start, result.info.length, result.info.size) == (100 - length, length, 100)

    @pytest.mark.parametrize("start", [100, 5000])
    def test_a_range_behind_the_end_is_an_error(
        self, client: S3Client, arrangement: Arrangement, bucket: str, start: int
    ) -> None:
        """No byte of the range exists: `InvalidRangeError`."""
        arrangement.put(bucket, "k", make_bytes(100))
        with pytest.raises(InvalidRangeError):
            client.read(bucket, "k", start=start, end=start + 10)

    def test_an_etag_pins_the_object(self, client: S3Client, arrangement: Arrangement, bucket: str) -> None:
        """A request with an ETag reads that object, or raises `ObjectChangedError`."""
        arrangement.put(bucket, "k", b"first")
        etag = client.head_object(bucket, "k").etag
        pinned = GetRequest(bucket, "k", 0, 3, etag=etag)
        assert bytes(client.engine.start_get(pinned).result().data) == b"fir"
        arrangement.put(bucket, "k", b"other")
        for request, first in ((pinned, b"fir"), (GetRequest(bucket, "k", etag=etag), b"first")):
            try:
                data = client.engine.start_get(request).result().data
            except ObjectChangedError:
                continue
            assert bytes(data) == first  # a cache still has it

    def test_fills_the_buffer_given_and_nothing_else(
        self, client: S3Client, arrangement: Arrangement, bucket: str
    ) -> None:
        """Bytes go into the caller's memory: all of it, and not one byte beside it."""
        data = make_bytes(1000)
        arrangement.put(bucket, "k", data)
        memory = bytearray(b"\xee" * 300)
        result = client.engine.start_get(GetRequest(bucket, "k", 50, 150), into=memoryview(memory)[100:200]).result()
        assert bytes(memory) == b"\xee" * 100 + data[50:150] + b"\xee" * 100
        assert bytes(result.data) == data[50:150]

    def test_asks_for_memory_when_the_head_is_there(
        self, client: S3Client, arrangement: Arrangement, bucket: str
    ) -> None:
        """A function given as destination is called once, with what the response's head says."""
        data = make_bytes(1000)
        arrangement.put(bucket, "k", data)
        heads: list[GetInfo] = []
        memory = bytearray(100)

        def allocate(info: GetInfo) -> memoryview:
            heads.append(info)
            return memoryview(memory)

        client.engine.start_get(GetRequest(bucket, "k", 900, 2000), into=allocate).result()
        assert bytes(memory) == data[900:]
        [info] = heads
        assert (info.start, info.length, info.size) == (900, 100, 1000)
        assert info.etag == client.head_object(bucket, "k").etag

    def test_a_buffer_longer_than_the_object_is_an_error(
        self, client: S3Client, arrangement: Arrangement, bucket: str
    ) -> None:
        """A buffer is filled completely, or an error is raised: fewer bytes are never passed off as all."""
        arrangement.put(bucket, "k", make_bytes(100))
        with pytest.raises(S3Exception):
            client.read_into(bucket, "k", bytearray(101))

    def test_missing_objects_and_buckets_have_their_errors(self, client: S3Client, bucket: str) -> None:
        """What is not there is `ObjectNotFoundError` or its parent, and `FileNotFoundError` for all others."""
        for read in (client.read, client.head_object, lambda b, k: client.get(b, k).read()):
            with pytest.raises(ObjectNotFoundError) as caught:
                read(bucket, "absent")
            assert isinstance(caught.value, FileNotFoundError)
            assert (caught.value.bucket, caught.value.key, caught.value.status) == (bucket, "absent", 404)
            assert caught.value.remedy
            with pytest.raises(S3NotFoundError):
                read(f"{bucket}-absent", "k")

    def test_head_tells_what_a_response_tells(self, client: S3Client, arrangement: Arrangement, bucket: str) -> None:
        """HEAD, GET and listing agree on ETag, size and time."""
        arrangement.put(bucket, "k", make_bytes(100))
        head = client.head_object(bucket, "k")
        info = client.engine.start_get(GetRequest(bucket, "k")).result().info
        [listed] = next(client.list_objects(bucket)).object_info
        assert (head.etag, head.size) == (info.etag, info.size) == (listed.etag, listed.size)
        assert head.etag.startswith('"')
        assert head.etag.endswith('"')
        # Listings have fractions of a second, headers have not.
        assert abs(head.last_modified - listed.last_modified) <= 1

    @pytest.mark.parametrize("size", [0, 1, 5000, 700_000])
    def test_a_stream_equals_bytesio(self, client: S3Client, arrangement: Arrangement, bucket: str, size: int) -> None:
        """Any sequence of seek, read, readinto and tell on a stream gives what it gives on `io.BytesIO`."""
        data = make_bytes(size)
        arrangement.put(bucket, "k", data)
        check_against_bytesio(lambda: client.get(bucket, "k"), data, max_examples=15)

    def test_a_stream_iterates_over_all_bytes(self, connect: Connect, arrangement: Arrangement, bucket: str) -> None:
        """Iteration gives every byte once, in order, from wherever the stream stands, in parts at most."""
        data = make_bytes(11 * MIB + 123)
        arrangement.put(bucket, "k", data)
        with connect(part_size=5 * MIB, read_ahead=1) as client:
            pieces = list(client.get(bucket, "k"))
            assert same(b"".join(pieces), data)
            assert max(map(len, pieces)) <= 5 * MIB
            with client.get(bucket, "k", start=1000, end=6 * MIB) as stream:
                stream.seek(2000)
                assert same(b"".join(stream), data[2000 : 6 * MIB])

    def test_a_stream_never_mixes_two_objects(self, connect: Connect, arrangement: Arrangement, bucket: str) -> None:
        """An object that is replaced between two reads is `ObjectChangedError`, never bytes of both."""
        arrangement.put(bucket, "k", make_bytes(3 * MIB))
        with connect(read_ahead=0) as client, client.get(bucket, "k") as stream:
            assert stream.read(10) == make_bytes(3 * MIB)[:10]
            arrangement.put(bucket, "k", make_bytes(3 * MIB, seed=1))
            with pytest.raises(ObjectChangedError):
                stream.read()

    def test_get_many_keeps_the_order(self, client: S3Client, arrangement: Arrangement, bucket: str) -> None:
        """Results come one for each request, in the order asked, whatever their sizes."""
        sizes = [70_000, 1, 0, 300_000, 5, 40_000, 2]
        for number, size in enumerate(sizes):
            arrangement.put(bucket, f"k{number}", make_bytes(size))
        requests = [GetRequest(bucket, f"k{number % 7}") for number in range(20)]
        for window, window_bytes in ((1, 1), (3, 100_000), (64, 256 * MIB)):
            results = list(client.get_many(requests, window=window, window_bytes=window_bytes))
            assert [result.request for result in results] == requests
            assert all_same([result.data for result in results], [make_bytes(sizes[n % 7]) for n in range(20)])

    def test_get_many_reads_ranges(self, client: S3Client, arrangement: Arrangement, bucket: str) -> None:
        """Each request is a whole object, a range, or a suffix."""
        data = make_bytes(1000)
        arrangement.put(bucket, "k", data)
        requests = [GetRequest(bucket, "k", 10, 20), GetRequest(bucket, "k", -5), GetRequest(bucket, "k", 990)]
        assert [bytes(result.data) for result in client.get_many(requests)] == [data[10:20], data[-5:], data[990:]]

    def test_get_many_draws_requests_as_its_window_moves(
        self, client: S3Client, arrangement: Arrangement, bucket: str
    ) -> None:
        """An endless source is fine: the window bounds what is in flight, and twice the window what is undelivered."""
        arrangement.put(bucket, "k", b"data")
        drawn = itertools.count()

        def source() -> Iterator[GetRequest]:
            for _ in drawn:
                yield GetRequest(bucket, "k")

        results = client.get_many(source(), window=4)
        assert [bytes(next(results).data) for _ in range(3)] == [b"data"] * 3
        assert next(drawn) <= 3 + 2 * 4

    def test_get_many_raises_at_the_place_of_the_failure(
        self, client: S3Client, arrangement: Arrangement, bucket: str
    ) -> None:
        """What comes before a failed request is delivered; then its own error is raised."""
        arrangement.put(bucket, "k", b"data")
        results = client.get_many([GetRequest(bucket, key) for key in ("k", "k", "absent", "k")])
        assert [bytes(next(results).data) for _ in range(2)] == [b"data"] * 2
        with pytest.raises(ObjectNotFoundError) as caught:
            next(results)
        assert caught.value.key == "absent"

    def test_get_many_can_go_on_after_a_failure(self, client: S3Client, arrangement: Arrangement, bucket: str) -> None:
        """With ``return_errors`` an error stands at its place, and the rest follows."""
        arrangement.put(bucket, "k", b"data")
        requests = [GetRequest(bucket, key) for key in ("absent", "k", "absent", "k")]
        results = list(client.get_many(requests, return_errors=True))
        assert [isinstance(result, ObjectNotFoundError) for result in results] == [True, False, True, False]
        assert [bytes(result.data) for result in results if isinstance(result, GetResult)] == [b"data"] * 2

    def test_an_abandoned_get_many_leaves_the_client_usable(
        self, client: S3Client, arrangement: Arrangement, bucket: str
    ) -> None:
        """Whoever stops early loses nothing but what he did not take."""
        data = make_bytes(300_000)
        arrangement.put(bucket, "k", data)
        for _ in range(3):
            results = client.get_many([GetRequest(bucket, "k")] * 8, window=8)
            assert same(next(results).data, data)
            del results
        assert same(client.read(bucket, "k"), data)
