"""The project's checks: `uv run nox` runs the default ones, `uv run nox -s NAME -- ARGS` one of them."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "uv"
nox.options.sessions = ["lint", "types", "tests", "conformance", "wheels"]

PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
# Distributions that train nothing: each must install and import where torch is not. The order keeps torch out until
# the first distribution that needs it.
WITHOUT_TORCH = ["s3torch-client", "s3torch-readers", "s3torch-writer"]
WITH_TORCH = [
    "s3torch-datasets",
    "s3torch-checkpoint",
    "s3torch-dcp",
    "s3torch-lightning",
    "s3torch",
    "s3torch-harness",
]


# What runs where. The harness forks and sends signals on Windows only where it has looked whether it can.
ELSEWHERE = {"darwin": ["libs/*", "integrations/*", "harness"], "win32": ["libs/*", "integrations/*"]}
# Two at a time, as tests start processes of their own; what shares fixtures, and so servers, stays together.
IN_PARALLEL = ("--numprocesses=2", "--dist=loadscope")


def in_workspace(session: nox.Session, *command: str, env: dict[str, str] | None = None) -> None:
    """Run a command in the workspace's environment, which uv brings up to date first."""
    session.run("uv", "run", *command, external=True, env=env)


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Style, format and import contracts."""
    in_workspace(session, "ruff", "check", *session.posargs)
    in_workspace(session, "ruff", "format", "--check", *session.posargs)
    in_workspace(session, "lint-imports")


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """Strict types of every member and its tests, and that no member asks a system for what it does not have."""
    in_workspace(session, "mypy", *session.posargs)
    for platform, folders in ELSEWHERE.items():
        sources = [str(source) for folder in folders for source in sorted(Path().glob(f"{folder}/src"))]
        # What is for another system is not reached, and a cache of its own lets none of them undo the others'.
        options = [f"--platform={platform}", "--no-warn-unreachable", f"--cache-dir=.mypy_cache/{platform}"]
        in_workspace(session, "mypy", *options, *sources)


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Every test that is neither a conformance suite nor a benchmark."""
    in_workspace(session, "pytest", *IN_PARALLEL, "-m", "not conformance and not bench", *session.posargs)


@nox.session(python=PYTHONS)
def tests_all(session: nox.Session) -> None:
    """The same on every supported Python, each in an environment of its own."""
    environment = {"UV_PROJECT_ENVIRONMENT": session.virtualenv.location}
    in_workspace(session, "pytest", "-m", "not bench", *session.posargs, env=environment)


@nox.session(venv_backend="none")
def conformance(session: nox.Session) -> None:
    """Readers, writers, datasets and checkpoints on every engine, on moto and Swift; `-- -k swift` is one of them."""
    # Beforehand, so that it takes no test's time, and that no test is skipped for want of it.
    if sys.platform == "linux":
        in_workspace(session, "python", "-c", "from s3torch.harness.servers import SwiftServer; SwiftServer.install()")
    in_workspace(session, "pytest", *IN_PARALLEL, "-m", "conformance", *session.posargs)


@nox.session(venv_backend="none")
def bench(session: nox.Session) -> None:
    """Speed and memory beside the floor and the peers; needs nginx for the throughput half."""
    in_workspace(session, "python", "-m", "s3torch.harness.bench", *session.posargs)


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """Run what the documentation shows, and follow its links."""
    in_workspace(session, "pytest", "tests/docs", *session.posargs)


@nox.session(venv_backend="none")
def demo(session: nox.Session) -> None:
    """Train, save and resume on a server of its own."""
    in_workspace(session, "s3torch", "demo", *session.posargs)


@nox.session(venv_backend="none")
def scale(session: nox.Session) -> None:
    """What one host needs to fill its network card: measured costs, a model, and a simulation of it."""
    in_workspace(session, "python", "-m", "s3torch.harness.scale", *session.posargs)


@nox.session(venv_backend="none")
def faults(session: nox.Session) -> None:
    """Every fault against everything that reads and writes: `-- --fault stall --engine direct`."""
    in_workspace(session, "python", "-m", "s3torch.harness.faults", *session.posargs)


@nox.session(venv_backend="none")
def soak(session: nox.Session) -> None:
    """Mixed load under faults, watched for growth, wrong bytes and hangs: `-- --minutes 10`."""
    in_workspace(session, "python", "-m", "s3torch.harness.soak", *session.posargs)


@nox.session
def wheels(session: nox.Session) -> None:
    """Build every distribution, install each alone in an empty environment, and import it.

    One environment serves all: an exact install removes whatever the distribution at hand does not need, so that each
    finds only itself and its dependencies, and torch is unpacked once.
    """
    dist = Path(session.create_tmp()).resolve() / "dist"
    session.run("uv", "build", "--all-packages", "--clear", "--out-dir", str(dist), external=True)
    built = {wheel.name.split("-")[0].replace("_", "-"): wheel for wheel in dist.glob("*.whl")}
    if set(built) != {*WITHOUT_TORCH, *WITH_TORCH}:
        session.error(f"built {sorted(built)}, expected {sorted([*WITHOUT_TORCH, *WITH_TORCH])}")

    # Siblings come from the wheels just built, never from an index.
    constraints = dist / "constraints.txt"
    constraints.write_text("".join(f"{name} @ {wheel.as_uri()}\n" for name, wheel in built.items()))
    for name in [*WITHOUT_TORCH, *WITH_TORCH]:
        wheel = built[name]
        packages = check_contents(session, wheel)
        session.run("uv", "pip", "install", "--exact", "--constraints", str(constraints), str(wheel), external=True)
        torch = "without" if name in WITHOUT_TORCH else "with"
        version = wheel.name.split("-")[1]
        # Isolated, so that the checkout cannot stand in for what is missing from the wheel.
        session.run("python", "-I", ".ci/import_alone.py", name, version, torch, *packages)
        if name == "s3torch":
            session.run("s3torch", "--help")


def check_contents(session: nox.Session, wheel: Path) -> list[str]:
    """Check which files a wheel has, and return the import packages among them."""
    with zipfile.ZipFile(wheel) as archive:
        files = archive.namelist()
    folders = [file.removesuffix("py.typed") for file in files if file.endswith("/py.typed")]
    if not folders:
        session.error(f"{wheel.name} has no py.typed")
    for folder in folders:
        if f"{folder}__init__.py" not in files:
            session.error(f"{wheel.name} has {folder}py.typed, but no {folder}__init__.py")
    # This finds s3torch/__init__.py too, which would hide the other distributions.
    metadata = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info/"
    if stray := [file for file in files if not file.startswith((metadata, *folders))]:
        session.error(f"{wheel.name} has files outside its packages: {', '.join(stray)}")
    if f"{metadata}licenses/LICENSE" not in files:
        session.error(f"{wheel.name} has no LICENSE")
    return [folder.rstrip("/").replace("/", ".") for folder in folders]
