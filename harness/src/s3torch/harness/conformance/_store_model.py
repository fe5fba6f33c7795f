"""Sequences of verbs, beside a dictionary: the law that a store stands or falls with."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from s3torch.client import (
    GetObjectStream,
    GetRequest,
    GetResult,
    HeadObjectResult,
    InvalidRangeError,
    ObjectChangedError,
    ObjectInfo,
    ObjectNotFoundError,
    PreconditionFailedError,
    PutObjectStream,
    PutOptions,
    S3Client,
    S3Exception,
)
from s3torch.harness.conformance._bytes import holds, same
from s3torch.harness.conformance._sequences import law_settings
from s3torch.harness.conformance._store_laws import MIB, StoreLaws
from s3torch.harness.conformance.arrangement import Arrangement, Connect, make_bytes

__all__ = ["ModelLaws", "check_store_against_dict"]

_PART = 5 * MIB  # the least that S3 takes
_KEYS = ("a", "a/b", "a/c", "a b", "a+b", "b/%61", "ü/日本")
_SMALL = (0, 1, 100, 5000, 70_000)
_LARGE = (_PART, _PART + 1)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the model has under a key."""

    data: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a HEAD or a listing told of an object once."""

    key: str
    info: HeadObjectResult | ObjectInfo


@dataclass
class _Reading:
    """A stream that was opened some steps ago."""

    key: str
    stream: GetObjectStream
    kept: _Kept | None = None
    """What it reads, as soon as it has read."""
    position: int = 0


@dataclass
class _Writing:
    """An upload that was begun some steps ago."""

    key: str
    stream: PutObjectStream
    data: bytes = b""


class _World:
    """A part of a bucket that starts with one prefix, and the dictionary that it must equal."""

    def __init__(self, client: S3Client, arrangement: Arrangement, bucket: str) -> None:
        self.client = client
        self.bucket = bucket
        self.prefix = f"{uuid.uuid4().hex}/"
        self.model: dict[str, _Kept] = {}
        self.written: str | None = None
        """The key that the last step wrote, if it did."""
        self.readings: list[_Reading] = []
        self.writings: list[_Writing] = []
        self._arrangement = arrangement

    def name(self, key: str) -> str:
        """Return the key in the bucket."""
        return self.prefix + key

    def keep(self, key: str, data: bytes, etag: str) -> None:
        """Note what was written."""
        self.model[key] = _Kept(data, etag)
        self.written = key

    def expect(self, key: str) -> _Kept:
        """Return what is under a key; raises what a store raises where there is nothing."""
        if key not in self.model:
            raise ObjectNotFoundError("not in the model")
        return self.model[key]

    def replace(self, key: str, data: bytes) -> None:
        """Put an object by the suite's own way."""
        self._arrangement.put(self.bucket, self.name(key), data)
        self.keep(key, data, self.client.head_object(self.bucket, self.name(key)).etag)

    def remove(self, key: str) -> None:
        """Delete an object by the suite's own way."""
        self._arrangement.remove(self.bucket, self.name(key))
        self.model.pop(key, None)

    def check_all(self) -> None:
        """End what is under way, and look at every object by the suite's own way."""
        for reading in self.readings:
            reading.stream.close()
        for writing in self.writings:
            writing.stream.abort()
        for key in _KEYS:
            kept = self.model.get(key)
            if kept is None:
                assert self._arrangement.get(self.bucket, self.name(key)) is None, f"{key!r} is there"
            else:
                is_kept = holds(self._arrangement, self.bucket, self.name(key), kept.data)
                assert is_kept, f"{key!r} has other bytes than it was given"
        ours = [key for key in self._arrangement.uploads(self.bucket) if key.startswith(self.prefix)]
        assert ours == [], "uploads were left unfinished"

    def clean_up(self) -> None:
        """Leave the bucket as it was."""
        for key in list(self.model):
            self.remove(key)


def _compare(expected: Callable[[], bytes], found: Callable[[], bytes]) -> None:
    """Compare bytes, or the types of errors."""
    try:
        value = expected()
    except S3Exception as error:
        with pytest.raises(type(error)):
            found()
        return
    assert same(found(), value)


def check_store_against_dict(
    client: S3Client,
    arrangement: Arrangement,
    bucket: str,
    *,
    left_out: frozenset[str] = frozenset(),
    max_examples: int = 20,
    steps: int = 30,
) -> None:
    """Drive a client by rules, and compare every answer with a dictionary's.

    Args:
        client: The subject; its parts should be small, so that large objects are cheap.
        arrangement: The suite's own way to the store.
        bucket: Where; other keys in it do no harm.
        left_out: Verbs that the store at hand does not have: ``create_only``, ``copy``, ``delete_many``.
        max_examples: How many runs.
        steps: Operations in a run at most.
    """
    machine = _make_machine(lambda: _World(client, arrangement, bucket), left_out)
    run_state_machine_as_test(machine, settings=law_settings(max_examples, stateful_step_count=steps))


def _make_machine(  # noqa: C901  # a rule for each verb
    make_world: Callable[[], _World], left_out: frozenset[str]
) -> type[RuleBasedStateMachine]:
    # Often the same few, as what one step leaves behind must meet the others.
    keys = st.sampled_from(("a/b", "a", "a/b", *_KEYS))
    small = st.builds(make_bytes, st.sampled_from(_SMALL), st.integers(0, 3))
    large = st.builds(make_bytes, st.sampled_from(_LARGE), st.integers(0, 1))
    places = st.one_of(st.integers(0, 120), st.sampled_from([4999, 5000, 5001, 70_000]))

    class Machine(RuleBasedStateMachine):
        seen = Bundle("seen")
        readings = Bundle("readings")
        writings = Bundle("writings")
        world: _World

        @initialize()
        def begin(self) -> None:
            self.world = make_world()

        # Writing.

        @rule(key=keys, data=small)
        def put(self, key: str, data: bytes) -> None:
            self._put(key, data, None)

        @rule(key=keys, data=large)
        def put_in_parts(self, key: str, data: bytes) -> None:
            self._put(key, data, None)

        @precondition(lambda _: "create_only" not in left_out)
        @rule(key=keys, data=small)
        def create(self, key: str, data: bytes) -> None:
            only = PutOptions(if_none_match=True)
            if key in self.world.model:
                with pytest.raises(PreconditionFailedError):
                    self._put(key, data, only)
            else:
                self._put(key, data, only)

        def _put(self, key: str, data: bytes, options: PutOptions | None) -> None:
            world = self.world
            result = world.client.put(world.bucket, world.name(key), data, options=options)
            world.keep(key, data, result.etag)

        @rule(key=keys, data=small)
        def replace_behind_its_back(self, key: str, data: bytes) -> None:
            self.world.replace(key, data)

        @rule(key=keys)
        def delete_behind_its_back(self, key: str) -> None:
            self.world.remove(key)

        @rule(target=writings, key=keys)
        def begin_writing(self, key: str) -> _Writing:
            world = self.world
            world.writings.append(_Writing(key, world.client.put_stream(world.bucket, world.name(key))))
            return world.writings[-1]

        @rule(writing=writings, data=st.one_of(small, small, small, large))
        def write(self, writing: _Writing, data: bytes) -> None:
            assert writing.stream.write(data) == len(data)
            writing.data += data

        @rule(writing=consumes(writings))
        def close_writing(self, writing: _Writing) -> None:
            writing.stream.close()
            assert writing.stream.result is not None
            self.world.keep(writing.key, writing.data, writing.stream.result.etag)

        @rule(writing=consumes(writings))
        def abort_writing(self, writing: _Writing) -> None:
            writing.stream.abort()

        # Reading.

        @rule(key=keys)
        def read(self, key: str) -> None:
            world = self.world
            _compare(lambda: world.expect(key).data, lambda: world.client.read(world.bucket, world.name(key)))

        @rule(key=keys, start=places, length=st.one_of(st.none(), st.integers(1, 6000)))
        def read_a_range(self, key: str, start: int, length: int | None) -> None:
            world, end = self.world, None if length is None else start + length

            def expected() -> bytes:
                data = world.expect(key).data
                if start >= len(data):
                    raise InvalidRangeError("behind the end")
                return data[start:end]

            if start == 0 and length is None:
                return  # the whole object, which may be empty
            _compare(expected, lambda: world.client.read(world.bucket, world.name(key), start=start, end=end))

        @rule(key=keys, start=places, share=st.floats(0.01, 1))
        def read_into(self, key: str, start: int, share: float) -> None:
            world = self.world
            kept = world.model.get(key)
            left = 0 if kept is None else len(kept.data) - start
            if kept is None or left <= 0:
                return
            guard = b"\xee" * 8
            size = max(1, int(left * share))
            memory = bytearray(guard + bytes(size) + guard)
            world.client.read_into(world.bucket, world.name(key), memoryview(memory)[8:-8], start=start)
            assert same(memory, guard + kept.data[start : start + size] + guard)

        @rule(wanted=st.lists(st.tuples(keys, st.sampled_from([None, 0, 3, -5])), max_size=8))
        def get_many(self, wanted: list[tuple[str, int | None]]) -> None:
            world = self.world
            requests = [GetRequest(world.bucket, world.name(key), start) for key, start in wanted]
            results = list(world.client.get_many(requests, window=3, return_errors=True))
            assert len(results) == len(requests)
            for (key, start), request, result in zip(wanted, requests, results, strict=True):
                kept = world.model.get(key)
                if kept is None:
                    assert isinstance(result, ObjectNotFoundError), f"{result!r} for {request}"
                elif not kept.data and start is not None and start < 0 and isinstance(result, GetResult):
                    assert bytes(result.data) == b""  # RFC 9110 calls the end of nothing satisfiable, S3 does not
                elif start is not None and len(kept.data) <= max(0, start):
                    assert isinstance(result, InvalidRangeError), f"{result!r} for {request}"
                else:
                    assert isinstance(result, GetResult), f"{result!r} for {request}"
                    assert same(result.data, kept.data[start:]), f"other bytes for {request}"
                    assert (result.info.etag, result.info.size) == (kept.etag, len(kept.data))

        @rule(target=seen, key=keys)
        def head(self, key: str) -> Any:
            world = self.world
            kept = world.model.get(key)
            if kept is None:
                with pytest.raises(ObjectNotFoundError):
                    world.client.head_object(world.bucket, world.name(key))
                return multiple()
            head = world.client.head_object(world.bucket, world.name(key))
            assert (head.etag, head.size) == (kept.etag, len(kept.data))
            return _Seen(key, head)

        @rule(known=seen)
        def read_what_was_seen(self, known: _Seen) -> None:
            """What is known of an object binds the read to that object."""
            world = self.world

            def expected() -> bytes:
                kept = world.expect(known.key)
                if kept.etag != known.info.etag:
                    raise ObjectChangedError("replaced since")
                return kept.data

            name = world.name(known.key)
            _compare(expected, lambda: world.client.read(world.bucket, name, object_info=known.info))

        @rule(target=readings, key=keys)
        def open(self, key: str) -> _Reading:
            world = self.world
            world.readings.append(_Reading(key, world.client.get(world.bucket, world.name(key))))
            return world.readings[-1]

        @rule(reading=readings, size=st.sampled_from([0, 1, 3000, 200_000]))
        def read_on(self, reading: _Reading, size: int) -> None:
            """A stream goes on with the object it began with, or says that it cannot."""
            kept = self.world.model.get(reading.key) if reading.kept is None else reading.kept
            try:
                data = reading.stream.read(size)
            except ObjectNotFoundError:
                assert reading.key not in self.world.model
                return
            except ObjectChangedError:
                assert reading.kept is not None
                assert self.world.model.get(reading.key) != reading.kept
                return
            if not size:
                return
            assert kept is not None, "a stream read what is not there"
            reading.kept = kept
            assert same(data, kept.data[reading.position : reading.position + size])
            reading.position += len(data)

        # Listing.

        @rule(
            prefix=st.sampled_from(["", "a", "a/", "a/b", "ü", "c"]),
            delimiter=st.sampled_from(["", "", "/"]),
            after=st.one_of(st.none(), keys),
            max_keys=st.sampled_from([1, 2, 5, 1000]),
        )
        def list_objects(self, prefix: str, delimiter: str, after: str | None, max_keys: int) -> None:
            world = self.world
            after = None if delimiter else after  # how both go together S3 leaves open
            pages = list(
                world.client.list_objects(
                    world.bucket,
                    world.name(prefix),
                    delimiter,
                    max_keys,
                    start_after=None if after is None else world.name(after),
                )
            )
            assert all(len(page.object_info) + len(page.common_prefixes) <= max_keys for page in pages)
            found = {key: kept for key, kept in world.model.items() if key.startswith(prefix)}
            if after is not None:
                found = {key: kept for key, kept in found.items() if key.encode() > after.encode()}
            cuts = {key: key.find("/", len(prefix)) if delimiter else -1 for key in found}
            plain = sorted((key for key in found if cuts[key] < 0), key=str.encode)
            folded = sorted({key[: cuts[key] + 1] for key in found if cuts[key] >= 0}, key=str.encode)
            listed = [(item.key, item.etag, item.size) for page in pages for item in page.object_info]
            assert listed == [(world.name(key), found[key].etag, len(found[key].data)) for key in plain]
            assert [name for page in pages for name in page.common_prefixes] == [world.name(key) for key in folded]

        # Deleting and copying.

        @rule(key=keys)
        def delete(self, key: str) -> None:
            self.world.client.delete_object(self.world.bucket, self.world.name(key))
            self.world.model.pop(key, None)

        @precondition(lambda _: "delete_many" not in left_out)
        @rule(some=st.lists(keys, unique=True, max_size=5))
        def delete_many(self, some: list[str]) -> None:
            names = [self.world.name(key) for key in some]
            assert self.world.client.delete_objects(self.world.bucket, names) == []
            for key in some:
                self.world.model.pop(key, None)

        @precondition(lambda _: "copy" not in left_out)
        @rule(source=keys, to=keys)
        def copy(self, source: str, to: str) -> None:
            if source == to:
                return  # S3 refuses to copy an object onto itself
            world = self.world
            names = world.bucket, world.name(source), world.bucket, world.name(to)
            kept = world.model.get(source)
            if kept is None:
                with pytest.raises(ObjectNotFoundError):
                    world.client.copy_object(*names)
            else:
                world.keep(to, kept.data, world.client.copy_object(*names).etag)

        @rule()
        def reconnect(self) -> None:
            self.world.client.close()

        @invariant()
        def the_last_write_is_read(self) -> None:
            world = getattr(self, "world", None)
            if world is None or world.written is None:
                return
            key, world.written = world.written, None
            kept = world.model[key]
            head = world.client.head_object(world.bucket, world.name(key))
            assert (head.etag, head.size) == (kept.etag, len(kept.data))
            assert same(world.client.read(world.bucket, world.name(key)), kept.data)

        def teardown(self) -> None:
            if not hasattr(self, "world"):
                return
            try:
                self.world.check_all()
            finally:
                self.world.clean_up()

    return Machine


class ModelLaws(StoreLaws):
    """A store is a dictionary."""

    left_out_of_the_model: ClassVar[frozenset[str]] = frozenset()
    """Verbs that the store at hand does not have, of ``create_only``, ``copy`` and ``delete_many``."""

    @pytest.fixture
    def examples(self) -> int:
        """How many sequences of verbs are tried."""
        return 6

    def test_any_sequence_of_verbs_equals_a_dictionary(
        self, connect: Connect, arrangement: Arrangement, bucket: str, examples: int
    ) -> None:
        """After any puts, uploads, copies and deletes, in whatever order and by whomever, every verb tells the truth.

        Streams stay open over many steps meanwhile, and go on with the object they began with, or say that they cannot.
        """
        with connect(part_size=_PART, max_connections=3, read_ahead=1) as client:
            check_store_against_dict(
                client, arrangement, bucket, left_out=self.left_out_of_the_model, max_examples=examples
            )
