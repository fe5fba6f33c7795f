"""pytest fixtures, registered for every test run by the distribution's ``pytest11`` entry point.

Imports nothing heavy: a run that uses no fixture pays nothing.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from s3torch.harness.servers import MotoServer, Origin, SwiftServer


@pytest.fixture(scope="session")
def moto_server() -> Iterator[MotoServer]:
    """A moto server, one for the whole run; buckets keep its users apart."""
    from s3torch.harness.servers import MotoServer

    with MotoServer() as server:
        yield server


@pytest.fixture
def s3_bucket(moto_server: MotoServer) -> str:
    """The name of a fresh, empty bucket on ``moto_server``."""
    return moto_server.create_bucket(f"test-{uuid.uuid4().hex}")


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


@pytest.fixture
def dummy_aws_env(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Dummy credentials and nothing of the user's own: no profile, config file, endpoint or proxy.

    Use it for a whole module with ``pytestmark = pytest.mark.usefixtures("dummy_aws_env")``.
    """
    from s3torch.harness.servers._address import dummy_environment, foreign_variables

    for name in foreign_variables(list(os.environ)):
        monkeypatch.delenv(name)
    for name, value in dummy_environment().items():
        monkeypatch.setenv(name, value)
    # Set, not only removed: unset they mean the files in the home folder.
    nowhere = tmp_path_factory.getbasetemp() / "no-such-aws-folder"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(nowhere / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere / "credentials"))
