"""Collects of `s3torch.harness.conformance.given` what the options ask for, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from s3torch.harness._options import Options

__all__ = ["GIVEN", "GIVEN_PATH", "OPTIONS", "GivenModule", "check_use_of_given"]

GIVEN = "s3torch.harness.conformance.given"
GIVEN_PATH = Path(__file__).parent / "conformance" / "given.py"
OPTIONS: pytest.StashKey[Options] = pytest.StashKey()


class GivenModule(pytest.Module):
    """The module of suites that options feed."""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """Yield the suites of the subjects under test."""
        subjects = self.config.stash[OPTIONS].subjects
        for node in super().collect():
            if isinstance(node, pytest.Class) and getattr(node.obj, "subject", None) in subjects:
                yield node


def check_use_of_given(config: pytest.Config, options: Options) -> None:
    """Raise UsageError where the suites are asked for in a way that cannot work."""
    if not any(str(argument).partition("::")[0] == GIVEN for argument in config.args):
        return
    if not options.subjects:
        raise pytest.UsageError(
            f"{GIVEN} needs something to test: --s3-reader, --s3-writer, --s3-engine, --s3-server or --s3-endpoint"
        )
    if not config.getini("consider_namespace_packages"):
        raise pytest.UsageError(
            f"{GIVEN} lies in a namespace package: add -o consider_namespace_packages=true, or set it in your ini file"
        )
