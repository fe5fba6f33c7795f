"""The suites for what the options of the pytest plugin name: your reader, writer or engine, your server.

    pytest --pyargs s3torch.harness.conformance.given -o consider_namespace_packages=true --s3-reader my.module:MyReader

Only what was asked for is collected. ``s3torch conform`` runs the same, and sums it up. To have the laws among your own
tests, where you can declare what your subject cannot do, subclass the suites instead.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from s3torch.client import S3Client
from s3torch.harness._given_module import OPTIONS
from s3torch.harness._options import Options
from s3torch.harness.conformance._known_servers import MEMORY, ServerFacts, declare, facts_of
from s3torch.harness.conformance.arrangement import Arrangement, Connect
from s3torch.harness.conformance.reader import ReaderConformance, StoredObject, StoreObject
from s3torch.harness.conformance.recording import Recorder
from s3torch.harness.conformance.store import StoreConformance
from s3torch.harness.conformance.tapping import EngineTap, RequestTap
from s3torch.harness.conformance.writer import OpenWriter, WriterConformance
from s3torch.readers import open_reader

if TYPE_CHECKING:
    from s3torch.harness.servers.endpoint import S3Server

_MIB = 1024 * 1024
_PART_SIZE = 5 * _MIB


@dataclass(frozen=True)
class ReaderPlace:
    """A client whose requests are counted, shared by the laws: it costs more than most of them."""

    client: S3Client
    recorder: Recorder


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the laws of readers for each reader."""
    if "given_reader" in metafunc.fixturenames:
        readers = metafunc.config.stash[OPTIONS].readers
        metafunc.parametrize("given_reader", [reader for _, reader in readers], ids=[name for name, _ in readers])


@pytest.fixture(scope="session")
def given_options(request: pytest.FixtureRequest) -> Options:
    """The options of this run."""
    return request.config.stash[OPTIONS]


@pytest.fixture(scope="session")
def given_facts(request: pytest.FixtureRequest, given_options: Options) -> ServerFacts:
    """What the store at hand can do, or cannot."""
    if given_options.engine == "memory":
        return MEMORY
    server: S3Server = request.getfixturevalue("s3_server")
    return facts_of(server)


@pytest.fixture(scope="class", autouse=True)
def given_declaration(request: pytest.FixtureRequest, given_options: Options, given_facts: ServerFacts) -> None:
    """Let the suite declare what its subject and the store can do."""
    request.cls.declare(given_options, given_facts)


@pytest.fixture(scope="session")
def given_reader_places() -> Iterator[list[ReaderPlace]]:
    """What readers under test share, once it is made."""
    places: list[ReaderPlace] = []
    yield places
    for place in places:
        place.client.close()


@pytest.fixture
def given_reader_place(
    given_options: Options, given_reader_places: list[ReaderPlace], s3_connect: Connect
) -> ReaderPlace:
    """The readers' client, failing no requests."""
    if not given_reader_places:
        recorder = Recorder(given_options.engine)
        client = s3_connect(engine=recorder, part_size=_PART_SIZE, max_connections=4)
        given_reader_places.append(ReaderPlace(client, recorder))
    given_reader_places[0].recorder.clear()
    return given_reader_places[0]


@pytest.fixture(scope="session")
def given_tap(given_options: Options) -> Iterator[EngineTap]:
    """The engine of the writers under test, one for the whole run."""
    tap = EngineTap(given_options.engine, share=given_options.engine != "memory")
    yield tap
    tap.close()


class _Given:
    """What the suites below have in common, ahead of what they would do by themselves."""

    @pytest.fixture
    def examples(self, given_options: Options) -> int:
        """How many sequences are tried: fewer where each request goes over a socket."""
        return 25 if given_options.engine == "memory" else 6

    @pytest.fixture
    def arrangement(self, s3_arrangement: Arrangement) -> Arrangement:
        """The suite's own way to the store."""
        return s3_arrangement


class TestGivenReader(_Given, ReaderConformance):
    """The readers that ``--s3-reader`` names, as `s3torch.readers.open_reader` opens them."""

    subject: ClassVar[str] = "reader"

    @classmethod
    def declare(cls, options: Options, _facts: ServerFacts) -> None:
        """Set the attributes that the laws look at."""
        cls.slack = options.slack

    @pytest.fixture
    def store_object(
        self, given_reader: Callable[..., Any], given_reader_place: ReaderPlace, arrangement: Arrangement
    ) -> StoreObject:
        """Stores bytes under a key of their own, and opens them with the reader."""
        bucket = arrangement.create_bucket()
        client, recorder = given_reader_place.client, given_reader_place.recorder

        def store(data: bytes) -> StoredObject:
            key = uuid.uuid4().hex
            arrangement.put(bucket, key, data)
            stored = StoredObject(
                open=lambda: open_reader(client, bucket, key, reader_constructor=given_reader),
                replace=lambda other: arrangement.put(bucket, key, other),
                remove=lambda: arrangement.remove(bucket, key),
            )
            if not self._reads_through(recorder, stored, data):
                return stored
            return StoredObject(
                open=stored.open,
                replace=stored.replace,
                remove=stored.remove,
                fetched=lambda: recorder.fetched,
                fail=recorder.fail,
                heal=recorder.clear,
            )

        return store

    @staticmethod
    def _reads_through(recorder: Recorder, stored: StoredObject, data: bytes) -> bool:
        """Whether the reader fetches by what it was given: only then its requests can be counted, and made to fail."""
        if not data:
            return False
        try:
            with stored.open() as reader:
                got = reader.read(1)
        except Exception:  # noqa: BLE001  # a law will say so
            got = b""
        was_asked = bool(recorder.gets)
        recorder.clear()
        return was_asked or got != data[:1]


class TestGivenWriter(_Given, WriterConformance):
    """What the function that ``--s3-writer`` names makes of a client, a bucket and a key."""

    subject: ClassVar[str] = "writer"

    @classmethod
    def declare(cls, _options: Options, facts: ServerFacts) -> None:
        """Set the attributes that the laws look at."""
        cls.part_size = _PART_SIZE
        declare(cls, facts)

    @pytest.fixture
    def tap(self, given_tap: EngineTap) -> RequestTap:
        """Sees and breaks off what the writer asks of the client it was given."""
        given_tap.clear()
        return given_tap

    @pytest.fixture
    def open_writer(self, given_options: Options, s3_connect: Connect, tap: EngineTap) -> OpenWriter:
        """Opens the writer."""
        assert given_options.writer is not None
        factory = given_options.writer[1]
        client = s3_connect(engine=tap, part_size=_PART_SIZE)
        return lambda bucket, key: factory(client, bucket, key)


class TestGivenEngine(_Given, StoreConformance):
    """The engine that ``--s3-engine`` names, and with it the store that it talks to."""

    subject: ClassVar[str] = "engine"

    @classmethod
    def declare(cls, _options: Options, facts: ServerFacts) -> None:
        """Set the attributes that the laws look at."""
        declare(cls, facts)

    @pytest.fixture
    def connect(self, s3_connect: Connect) -> Connect:
        """Makes clients of the engine under test."""
        return s3_connect

    @pytest.fixture
    def client(self, s3_client: S3Client) -> S3Client:
        """One client for all laws."""
        return s3_client
