"""What all laws of a store share: the subject, and what it declares of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest

from s3torch.client import S3Client
from s3torch.harness.conformance.arrangement import Arrangement, Connect

__all__ = ["MIB", "StoreLaws"]

MIB = 1024 * 1024


class StoreLaws:
    """Fixtures to supply and capabilities to declare; see `StoreConformance`."""

    is_networked: ClassVar[bool] = True
    """Whether requests leave the process, so that an endpoint can be unreachable."""
    is_seen_by_other_processes: ClassVar[bool] = True
    """Whether a spawned process finds the same objects."""
    checks_credentials: ClassVar[bool] = False
    """Whether the store refuses wrong credentials; many test servers take any."""
    has_storage_classes: ClassVar[bool] = True
    """Whether the store has other storage classes than ``STANDARD``."""
    has_tags: ClassVar[bool] = True
    """Whether objects can be given tags."""
    start_methods: ClassVar[tuple[str, ...]] = ("fork", "spawn", "forkserver")
    """How processes are started that go on with a client; each takes seconds, and one store is enough for all."""
    refused_keys: ClassVar[frozenset[str]] = frozenset()
    """Valid keys that this store cannot keep (not the engine: each one here is a defect of the server)."""

    broken_by_server: ClassVar[Mapping[str, str]] = {}
    """Laws that cannot hold whatever the engine does: name of the test to what the server gets wrong."""

    @pytest.fixture(autouse=True)
    def _skip_what_the_server_breaks(self, request: pytest.FixtureRequest) -> None:
        reason = self.broken_by_server.get(request.function.__name__)
        if reason is not None:
            pytest.skip(f"the server at hand breaks this law: {reason}")

    @pytest.fixture
    def arrangement(self) -> Arrangement:
        """The suite's own way to the store, independent of the subject."""
        raise NotImplementedError("supply the fixture 'arrangement'")

    @pytest.fixture
    def connect(self) -> Connect:
        """A function that makes clients of the subject; credentials come from the environment."""
        raise NotImplementedError("supply the fixture 'connect'")

    @pytest.fixture
    def client(self, connect: Connect) -> S3Client:
        """A client of the subject with its defaults; override it to share one among the laws."""
        return connect()

    @pytest.fixture
    def bucket(self, arrangement: Arrangement) -> str:
        """An empty bucket."""
        return arrangement.create_bucket()
