"""pytest options and fixtures, registered for every test run by the distribution's ``pytest11`` entry point.

The options choose the store and the engine that the fixtures whose names begin with ``s3_`` stand for; without any it
is moto, started when first asked for, and the engine that clients have by default. Imports nothing heavy: a run that
uses no fixture pays nothing.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from s3torch.harness._given_module import GIVEN_PATH, OPTIONS, GivenModule, check_use_of_given
from s3torch.harness._options import load_options

if TYPE_CHECKING:
    from s3torch.client import S3Client
    from s3torch.harness.conformance import Arrangement, Connect
    from s3torch.harness.servers import MotoServer, Origin, Sink, SwiftServer
    from s3torch.harness.servers.endpoint import S3Server

_MEMORY_ENDPOINT = "memory://s3torch-harness"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that choose a store, an engine, and what is put to the test."""
    group = parser.getgroup("s3torch", "stores and conformance (s3torch)")
    group.addoption(
        "--s3-endpoint",
        metavar="URL",
        help="use the S3 that answers there, with the credentials, region and profile that boto3 finds",
    )
    group.addoption(
        "--s3-bucket",
        metavar="NAME",
        help="use this empty bucket of it only, and leave it empty; else buckets are made and removed",
    )
    group.addoption("--s3-server", metavar="NAME", help="start this server: moto (default) or swift")
    group.addoption(
        "--s3-engine",
        metavar="ENGINE",
        help="use this engine: direct (default), boto3, memory, or module:factory; tested if nothing else is",
    )
    group.addoption(
        "--s3-reader",
        metavar="MODULE:NAME",
        action="append",
        default=[],
        help="test this reader constructor, in s3torch.harness.conformance.given; may be repeated",
    )
    group.addoption(
        "--s3-writer",
        metavar="MODULE:NAME",
        help="test what this function of client, bucket and key makes, in s3torch.harness.conformance.given",
    )
    group.addoption(
        "--s3-slack",
        metavar="BYTES",
        help="what a small read of the readers may fetch beyond what it was asked for (1MiB)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Check the options."""
    option = config.option
    try:
        options = load_options(
            endpoint=option.s3_endpoint,
            bucket=option.s3_bucket,
            server=option.s3_server,
            engine=option.s3_engine,
            readers=tuple(option.s3_reader),
            writer=option.s3_writer,
            slack=option.s3_slack,
        )
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    check_use_of_given(config, options)
    config.stash[OPTIONS] = options


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Collect of the given suites only those that are asked for."""
    return GivenModule.from_parent(parent, path=module_path) if module_path == GIVEN_PATH else None


@pytest.fixture(scope="session")
def s3_server(request: pytest.FixtureRequest) -> Iterator[S3Server]:
    """The S3 server that the options choose, one for the whole run; by default it is ``moto_server``."""
    from s3torch.harness.servers import ServerError
    from s3torch.harness.servers.endpoint import EndpointServer

    options = request.config.stash[OPTIONS]
    if options.engine == "memory":
        pytest.skip("the memory engine has no server")
    if options.endpoint is None:
        try:
            yield request.getfixturevalue(f"{options.server}_server")
        except pytest.skip.Exception as error:
            # It was asked for: a run that tests nothing is not what the user wants.
            pytest.exit(f"--s3-server {options.server}: {error}", pytest.ExitCode.USAGE_ERROR)
        return
    server = EndpointServer(options.endpoint, options.bucket)
    try:
        server.start()
    except ServerError as error:
        pytest.exit(f"--s3-endpoint: {error}", pytest.ExitCode.USAGE_ERROR)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def s3_environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment in which any AWS client finds ``s3_server`` and gets in, and nothing of the user's own."""
    variables: dict[str, str] = {}
    if request.config.stash[OPTIONS].engine != "memory":
        variables = request.getfixturevalue("s3_server").env()
    request.getfixturevalue("dummy_aws_env")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def _s3_boto3_client(s3_server: S3Server) -> Iterator[Any]:
    """What arrangements share: a client takes longer to make than most tests."""
    client = s3_server.boto3_client()
    yield client
    client.close()


@pytest.fixture
def s3_arrangement(request: pytest.FixtureRequest) -> Iterator[Arrangement]:
    """The tests' own way to the store, past what they test; what it makes on a user's own store it removes."""
    from s3torch.harness.conformance import MemoryArrangement
    from s3torch.harness.conformance.lending import ServerArrangement

    arrangement: Arrangement
    if request.config.stash[OPTIONS].engine == "memory":
        from s3torch.client.memory import MemoryStore

        arrangement = MemoryArrangement(MemoryStore.named(_MEMORY_ENDPOINT))
    else:
        client = request.getfixturevalue("_s3_boto3_client")
        arrangement = ServerArrangement(request.getfixturevalue("s3_server"), client)
    yield arrangement
    arrangement.close()


@pytest.fixture
def s3_connect(
    request: pytest.FixtureRequest,
    s3_environment: None,  # noqa: ARG001  # asked for its effect
) -> Iterator[Connect]:
    """A function that makes clients of the chosen engine on the chosen store; they are closed after the test."""
    from s3torch.client import S3Client, S3ClientConfig

    options = request.config.stash[OPTIONS]
    region, address, path_style = "us-east-1", _MEMORY_ENDPOINT, True
    if options.engine != "memory":
        from s3torch.harness.servers.endpoint import is_amazon

        server: S3Server = request.getfixturevalue("s3_server")
        region, address, path_style = server.region, server.endpoint, not is_amazon(server.endpoint)
    made: list[S3Client] = []

    def connect(*, endpoint: str | None = None, **others: Any) -> S3Client:
        fields: dict[str, Any] = {"engine": options.engine, "force_path_style": path_style, **others}
        client = S3Client(region, endpoint=endpoint or address, s3client_config=S3ClientConfig(**fields))
        made.append(client)
        return client

    yield connect
    for client in made:
        client.close()


@pytest.fixture(scope="session")
def _s3_shared_clients() -> Iterator[list[S3Client]]:
    """The client that tests share, once there is one."""
    made: list[S3Client] = []
    yield made
    for client in made:
        client.close()


@pytest.fixture
def s3_client(s3_connect: Connect, _s3_shared_clients: list[S3Client]) -> S3Client:
    """A client of the chosen engine on the chosen store with the default options, one for the whole run."""
    if not _s3_shared_clients:
        _s3_shared_clients.append(s3_connect())
    return _s3_shared_clients[0]


@pytest.fixture(scope="session")
def moto_server() -> Iterator[MotoServer]:
    """A moto server, one for the whole run; buckets keep its users apart."""
    from s3torch.harness.servers import MotoServer

    with MotoServer() as server:
        yield server


@pytest.fixture
def s3_bucket(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a fresh, empty bucket on the chosen store, by default on ``moto_server``."""
    name = f"test-{uuid.uuid4().hex}"
    if request.config.stash[OPTIONS].engine == "memory":
        from s3torch.client.memory import MemoryStore

        yield MemoryStore.named(_MEMORY_ENDPOINT).create_bucket(name)
        return
    from s3torch.harness.servers.endpoint import EndpointServer

    server: S3Server = request.getfixturevalue("s3_server")
    bucket = server.create_bucket(name)
    yield bucket
    if isinstance(server, EndpointServer):
        server.release(bucket)


@pytest.fixture(scope="session")
def swift_server() -> Iterator[SwiftServer]:
    """OpenStack Swift, one for the whole run; skips the test where it cannot run, saying what to do."""
    from s3torch.harness.servers import SwiftServer, SwiftUnavailableError

    server = SwiftServer()
    try:
        server.start()
    except SwiftUnavailableError as error:
        pytest.skip(str(error))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def origin() -> Iterator[Origin]:
    """The nginx origin, one for the whole run; skips the test where nginx is missing, naming the packages."""
    from s3torch.harness.servers import Origin, OriginUnavailableError

    server = Origin()
    try:
        server.start()
    except OriginUnavailableError as error:
        pytest.skip(str(error))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def sink() -> Iterator[Sink]:
    """A server that takes uploads and keeps nothing, one for the whole run."""
    from s3torch.harness.servers import Sink

    with Sink() as server:
        yield server


@pytest.fixture
def dummy_aws_env(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dummy credentials and nothing of the user's own: no profile, config file, endpoint or proxy.

    Use it for a whole module with ``pytestmark = pytest.mark.usefixtures("dummy_aws_env")``.
    """
    from s3torch.harness.servers._address import dummy_environment, foreign_variables

    if request.config.stash[OPTIONS].endpoint is not None:
        # Before they are hidden: whoever asks for it later finds no other credentials.
        request.getfixturevalue("s3_server")
    for name in foreign_variables(os.environ):
        monkeypatch.delenv(name)
    for name, value in dummy_environment().items():
        monkeypatch.setenv(name, value)
