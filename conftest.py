"""What holds for every test run, however it was started."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from s3torch.harness.servers._address import foreign_variables

# Every run tries the same examples, so that a change is never refused for what an earlier one brought; how long an
# example takes says more of the machine than of the code, and hangs end by the test's own time limit.
settings.register_profile("s3torch", derandomize=True, deadline=None, print_blob=True)
# For who looks for more: `pytest --hypothesis-profile=explore` tries others each time.
settings.register_profile("explore", derandomize=False, deadline=None, print_blob=True)
settings.load_profile("s3torch")


def pytest_configure() -> None:
    """Let SIGINT arrive where a shell has started the run in the background.

    Such a run ignores SIGINT, its subprocesses inherit that, and those that tests interrupt would never notice.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def _environment_left_as_found() -> Iterator[None]:
    """Fail where tests leave another account, store or proxy to those after them: the order would then decide."""
    before = _leading_variables()
    yield
    after = _leading_variables()
    names = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    if names:
        pytest.fail(f"these tests change the environment for those after them: {', '.join(sorted(names))}")


def _leading_variables() -> dict[str, str]:
    """Return what leads a client somewhere; other variables are set by libraries when they are imported."""
    return {name: os.environ[name] for name in foreign_variables(os.environ)}
