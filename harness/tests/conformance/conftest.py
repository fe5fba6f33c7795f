"""What the suites run on, made once: a server, and a client of boto3, cost more than most laws."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from harness.tests.conformance.targets import GoTo, Target

from s3torch.client.memory import MemoryStore
from s3torch.harness.conformance import Arrangement, Boto3Arrangement, EngineTap, MemoryArrangement
from s3torch.harness.servers._address import REGION

_EXAMPLES = {"memory": 25, "moto": 6, "swift": 2}


@pytest.fixture
def in_continuous_integration(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest takes this for a run that describes in full how values differ: laws must be broken quickly there, too."""
    monkeypatch.setenv("CI", "true")


@pytest.fixture(scope="session")
def memory_endpoint() -> str:
    """The endpoint of one store in memory."""
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def arrangements() -> Iterator[dict[str, Arrangement]]:
    """The suites' own ways to the servers, by name, as far as they were made."""
    made: dict[str, Arrangement] = {}
    yield made
    for arrangement in made.values():
        arrangement.close()


@pytest.fixture(scope="module")
def taps() -> Iterator[dict[tuple[str, str], EngineTap]]:
    """Taps by endpoint and engine; each module configures its clients in one way."""
    made: dict[tuple[str, str], EngineTap] = {}
    yield made
    for tap in made.values():
        tap.close()


@pytest.fixture
def tap(target: Target, taps: dict[tuple[str, str], EngineTap]) -> EngineTap:
    """Sees the requests of whatever has it as its engine; all share one."""
    tap = taps.setdefault((target.endpoint, target.engine), EngineTap(target.engine, share=True))
    tap.clear()
    return tap


@pytest.fixture
def go_to(
    request: pytest.FixtureRequest,
    memory_endpoint: str,
    arrangements: dict[str, Arrangement],
    dummy_aws_env: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[GoTo]:
    """A function that starts what is needed, and lets clients find the credentials that the server accepts."""

    def go(name: str, engine: str) -> Target:
        if name == "memory":
            arrangements.setdefault(name, MemoryArrangement(MemoryStore.named(memory_endpoint)))
            return Target(name, memory_endpoint, REGION, engine, arrangements[name], _EXAMPLES[name])
        server = request.getfixturevalue(f"{name}_server")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
        if name not in arrangements:
            arrangements[name] = Boto3Arrangement(server.boto3_client())
        return Target(name, server.endpoint, server.region, engine, arrangements[name], _EXAMPLES[name])

    yield go
    MemoryStore.named(memory_endpoint).clear()
