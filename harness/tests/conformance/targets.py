"""The servers and engines that the suites run on: a test class is one of these, and a suite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import pytest

from s3torch.harness.conformance import Arrangement
from s3torch.harness.conformance._known_servers import MEMORY, MOTO, SWIFT, declare

__all__ = [
    "LONG_LAWS",
    "MIB",
    "Boto3OnMoto",
    "Boto3OnSwift",
    "DirectOnMoto",
    "DirectOnSwift",
    "GoTo",
    "InMemory",
    "OnEveryTarget",
    "OnTarget",
    "Target",
]

MIB = 1024 * 1024


# Each takes seconds on Swift: this engine shows them on moto, and another one on Swift.
_ENOUGH_WITHOUT = ("swift", "boto3")
LONG_LAWS = frozenset(
    {
        "test_an_interrupted_first_save_does_not_exist",
        "test_deletes_many",
        "test_every_request_of_pruning_may_fail",
        "test_every_request_of_torch_load_may_fail",
        "test_ranks_and_their_workers_share_out_the_objects",
    }
)


@dataclass(frozen=True)
class Target:
    """A running server, an engine to reach it with, and the suites' own way to it."""

    server: str
    endpoint: str
    region: str
    engine: str
    arrangement: Arrangement
    examples: int
    """How many sequences are tried: fewer where each request goes over a socket to a slow server."""


GoTo: TypeAlias = Callable[[str, str], Target]
"""Starts what is needed, by the names of a server and of an engine; the fixture ``go_to``."""


class OnTarget:
    """Fixtures of suites, ahead of the suites' own."""

    server: ClassVar[str] = ""
    engine: ClassVar[str] = ""

    @pytest.fixture
    def target(self, go_to: GoTo) -> Target:
        return go_to(self.server, self.engine)

    @pytest.fixture(autouse=True)
    def _skip_what_takes_long_and_shows_no_more(self, request: pytest.FixtureRequest, target: Target) -> None:
        if (target.server, target.engine) == _ENOUGH_WITHOUT and request.function.__name__ in LONG_LAWS:
            pytest.skip("tried with this engine on moto, and on this server with another engine")

    @pytest.fixture
    def arrangement(self, target: Target) -> Arrangement:
        return target.arrangement

    @pytest.fixture
    def examples(self, target: Target) -> int:
        return target.examples


class OnEveryTarget(OnTarget):
    """For suites that ask nothing of the server: one class, and every law as often as there are targets."""

    @pytest.fixture(
        params=[
            ("memory", "memory"),
            ("moto", "boto3"),
            ("moto", "direct"),
            ("swift", "boto3"),
            ("swift", "direct"),
        ],
        ids="-".join,
    )
    def target(self, request: pytest.FixtureRequest, go_to: GoTo) -> Target:
        return go_to(*request.param)


class InMemory(OnTarget):
    server = "memory"
    engine = "memory"


declare(InMemory, MEMORY)


class _OnMoto(OnTarget):
    server = "moto"


declare(_OnMoto, MOTO)


class Boto3OnMoto(_OnMoto):
    engine = "boto3"


class DirectOnMoto(_OnMoto):
    engine = "direct"


class _OnSwift(OnTarget):
    server = "swift"
    start_methods: ClassVar[tuple[str, ...]] = ("fork",)  # each takes seconds, and moto has seen them all


declare(_OnSwift, SWIFT)


class Boto3OnSwift(_OnSwift):
    engine = "boto3"


class DirectOnSwift(_OnSwift):
    engine = "direct"
