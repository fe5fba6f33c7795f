"""The project's checks: `uv run nox` runs the default ones, `uv run nox -s NAME -- ARGS` one of them."""

from __future__ import annotations

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "uv"
nox.options.sessions = ["lint", "types", "tests", "conformance"]


def in_workspace(session: nox.Session, *command: str) -> None:
    """Run a command in the workspace's environment, which uv brings up to date first."""
    session.run("uv", "run", *command, external=True)


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Style, format and import contracts."""
    in_workspace(session, "ruff", "check", *session.posargs)
    in_workspace(session, "ruff", "format", "--check", *session.posargs)
    in_workspace(session, "lint-imports")


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """Strict type checking of every member and its tests."""
    in_workspace(session, "mypy", *session.posargs)


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Every test that is neither a conformance suite nor a benchmark."""
    in_workspace(session, "pytest", "-m", "not conformance and not bench", *session.posargs)


@nox.session(venv_backend="none")
def conformance(session: nox.Session) -> None:
    """Every reader type on every engine against the conformance suites."""
    in_workspace(session, "pytest", "-m", "conformance", *session.posargs)
