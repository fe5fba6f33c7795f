"""An environment of its own for each peer, made on demand and kept."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from s3torch.harness.servers import environment
from s3torch.harness.servers.environment import EnvironmentSetupError, make_environment

__all__ = ["PEERS", "WORKSPACE", "PeerEnvironmentError", "cache_folder", "interpreter", "requirements"]

PeerEnvironmentError = EnvironmentSetupError

WORKSPACE = "workspace"
"""The environment that runs this: it has the project itself."""

PEERS: Mapping[str, Callable[[], list[str]]] = {
    "original": lambda: ["s3torchconnector[dcp]==1.5.0"],
    "boto3": lambda: [_same("boto3")],
    "s3fs": lambda: ["s3fs"],
    "obstore": lambda: ["obstore>=0.12"],
    "litdata": lambda: ["litdata>=0.2.76"],
}
"""What each peer's environment holds beside torch, by its name."""


def requirements(name: str) -> list[str]:
    """Return what a peer's environment holds.

    Args:
        name: One of ``PEERS``.
    """
    # The same torch as ours: its share of the time must be the same.
    return [*PEERS[name](), "numpy", _same("torch")]


def interpreter(name: str) -> str:
    """Return the Python of an environment, after making it where it is missing.

    Args:
        name: A peer's name, or ``WORKSPACE``.

    Raises:
        PeerEnvironmentError: If it cannot be made.
    """
    if name == WORKSPACE:
        return sys.executable
    return make_environment(name, requirements(name), folder=cache_folder())


def cache_folder() -> Path:
    """Return where environments are kept: ``S3TORCH_BENCH_CACHE``, else a folder of the user's cache."""
    return environment.cache_folder("s3torch-bench", "S3TORCH_BENCH_CACHE")


def _same(distribution: str) -> str:
    try:
        return f"{distribution}=={version(distribution).partition('+')[0]}"
    except PackageNotFoundError:
        return distribution
