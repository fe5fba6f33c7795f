"""What the laws of all that talks to a store share: the way to it behind the subject's back, and what it cannot do."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from typing import ClassVar

import pytest

from s3torch.harness.conformance.arrangement import Arrangement

__all__ = ["START_METHODS", "Laws", "StartingLaws"]

START_METHODS = pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
"""Runs a law with each way to start a process; its first line is to ask `StartingLaws.startable`."""


class Laws:
    """A fixture to supply, and what to declare of the server."""

    broken_by_server: ClassVar[Mapping[str, str]] = {}
    """Laws that cannot hold whatever the subject does: name of the test to what the server gets wrong."""

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
    def bucket(self, arrangement: Arrangement) -> str:
        """An empty bucket."""
        return arrangement.create_bucket()


class StartingLaws(Laws):
    """Laws that hold in other processes, too."""

    is_seen_by_other_processes: ClassVar[bool] = True
    """Whether a spawned process finds the same objects."""
    start_methods: ClassVar[tuple[str, ...]] = ("fork", "spawn", "forkserver")
    """How processes are started that go on with the subject; each takes seconds, and one store is enough for all."""

    def startable(self, method: str) -> str:
        """Return the start method, or skip the law where it cannot be had."""
        if method not in multiprocessing.get_all_start_methods():
            pytest.skip(f"no {method} on this platform")
        if method != "fork" and not self.is_seen_by_other_processes:
            pytest.skip("the store lives in its process")
        if method not in self.start_methods:
            pytest.skip(f"{method} is tried on another store")
        return method
