"""An environment of its own for each peer, made on demand and kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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

_INSTALL_SECONDS = 1800
_MARKER = ".complete"


class PeerEnvironmentError(RuntimeError):
    """A peer's environment could not be made; the message ends with what the installer printed."""


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
    wanted = requirements(name)
    key = hashlib.sha256("\n".join([sys.version, *wanted]).encode()).hexdigest()[:12]
    folder = cache_folder() / f"{name}-{key}"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not (folder / _MARKER).exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        uv = shutil.which("uv")
        if uv:
            _call([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
            _call([uv, "pip", "install", "--quiet", "--python", str(python), *wanted])
        else:
            _call([sys.executable, "-m", "venv", str(folder)])
            _call([str(python), "-m", "pip", "install", "--quiet", *wanted])
        (folder / _MARKER).touch()
    return str(python)


def cache_folder() -> Path:
    """Return where environments are kept: ``S3TORCH_BENCH_CACHE``, else a folder of the user's cache."""
    chosen = os.environ.get("S3TORCH_BENCH_CACHE")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "s3torch-bench"


def _same(distribution: str) -> str:
    try:
        return f"{distribution}=={version(distribution).partition('+')[0]}"
    except PackageNotFoundError:
        return distribution


def _call(command: list[str]) -> None:
    # An active environment would draw the installer to itself.
    env = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    try:
        subprocess.run(
            command,
            check=True,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_INSTALL_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        raise PeerEnvironmentError(f"{' '.join(command[:4])} ... failed:\n{error.output[-2000:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerEnvironmentError(f"{' '.join(command[:4])} ... failed: {error}") from error
