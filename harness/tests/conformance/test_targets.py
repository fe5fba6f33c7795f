"""What the targets say reaches the suites."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest
from harness.tests.conformance import test_checkpoints, test_datasets, test_readers, test_stores, test_writers
from harness.tests.conformance.targets import LONG_LAWS, OnTarget

MODULES = (test_checkpoints, test_datasets, test_readers, test_stores, test_writers)


def classes_of(module: ModuleType) -> list[type]:
    return [item for name, item in inspect.getmembers(module, inspect.isclass) if name.startswith("Test")]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_they_come_before_the_suites_own(module: ModuleType) -> None:
    """A fixture of the class wins over one of the same name elsewhere, so that it has to be the target's."""
    classes = classes_of(module)
    assert len(classes) >= 5
    for suite in classes:
        assert issubclass(suite, OnTarget)
        for name in ("examples", "arrangement"):
            assert inspect.getattr_static(suite, name) is inspect.getattr_static(OnTarget, name), (suite, name)


def test_what_is_left_out_is_a_law() -> None:
    laws = {name for module in MODULES for suite in classes_of(module) for name in dir(suite)}
    assert laws >= LONG_LAWS
