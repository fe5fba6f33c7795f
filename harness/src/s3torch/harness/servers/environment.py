"""Python environments for programs that must not share ours: made on first use, kept in the user's cache.

With uv where it is installed, else with `venv` and pip, and always of the running Python's version.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["EnvironmentSetupError", "cache_folder", "make_environment"]

_INSTALL_SECONDS = 1800
_COMPLETE = ".complete"


class EnvironmentSetupError(RuntimeError):
    """An environment could not be made; the message ends with what the installer printed."""


def make_environment(name: str, requirements: Sequence[str], *, folder: Path | None = None) -> str:
    """Return the Python of an environment that holds some distributions, after making it where it is missing.

    Several processes may ask at once: one makes it, the others wait. What was left half made is made anew.

    Args:
        name: Names its folder, for whoever looks there.
        requirements: What pip is to install; other requirements make another environment.
        folder: Where environments are kept; ``cache_folder()`` by default.

    Returns:
        The path of its Python.

    Raises:
        EnvironmentSetupError: It cannot be made.
    """
    key = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:12]
    target = (folder or cache_folder()) / f"{name}-{key}"
    python = target / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if _is_complete(target, python):
        return str(python)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock", timeout=_INSTALL_SECONDS):
            if not _is_complete(target, python):
                shutil.rmtree(target, ignore_errors=True)
                _install(target, python, requirements)
                (target / _COMPLETE).touch()
    except Timeout as error:
        raise EnvironmentSetupError(f"another process has been making {target} for too long") from error
    except OSError as error:
        raise EnvironmentSetupError(f"{target} cannot be made: {error}") from error
    return str(python)


def cache_folder(name: str = "s3torch-harness", variable: str = "S3TORCH_HARNESS_CACHE") -> Path:
    """Return a folder of the user's cache.

    Args:
        name: The folder's name.
        variable: An environment variable that names another folder.
    """
    chosen = os.environ.get(variable)
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / name


def _is_complete(target: Path, python: Path) -> bool:
    # The Python is a link to one that may have been removed since.
    return (target / _COMPLETE).exists() and python.exists()


def _install(target: Path, python: Path, requirements: Sequence[str]) -> None:
    uv = shutil.which("uv")
    if uv:
        _call([uv, "venv", "--quiet", "--python", sys.executable, str(target)])
        _call([uv, "pip", "install", "--quiet", "--python", str(python), *requirements])
    else:
        _call([sys.executable, "-m", "venv", str(target)])
        _call([str(python), "-m", "pip", "install", "--quiet", *requirements])


def _call(command: list[str]) -> None:
    # An active environment would draw the installer to itself.
    env = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    try:
        subprocess.run(
            command,
            check=True,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_INSTALL_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        raise EnvironmentSetupError(f"{' '.join(command[:4])} ... failed:\n{error.output[-2000:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentSetupError(f"{' '.join(command[:4])} ... failed: {error}") from error
