"""`s3torch` is a PEP 420 namespace that several distributions share."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.architecture.conftest import Member

# What an __init__.py of nothing but a docstring defines.
EMPTY_PACKAGE = {*vars(ModuleType("empty")), "__builtins__", "__cached__", "__file__", "__path__"}


def test_no_member_claims_the_namespace_for_itself(member: Member) -> None:
    assert not (member.source / "s3torch" / "__init__.py").exists()


def test_the_namespace_spans_the_members(members: list[Member]) -> None:
    spec = importlib.util.find_spec("s3torch")
    assert spec is not None
    assert spec.origin is None
    assert {Path(path) for path in spec.submodule_search_locations or ()} >= {
        leaf.parent for member in members for leaf in member.leaves if leaf.parent.name == "s3torch"
    }


def test_every_leaf_is_marked_as_typed_and_nothing_else_is(member: Member) -> None:
    assert member.leaves
    assert {path.parent for path in member.source.rglob("py.typed")} == set(member.leaves)


def test_code_lies_in_leaves_only(member: Member) -> None:
    stray = [path for path in member.source.rglob("*.py") if not any(leaf in path.parents for leaf in member.leaves)]
    assert stray == []


def is_public(module: str) -> bool:
    return not any(part.startswith("_") for part in module.split("."))


def test_what_a_package_offers_is_there(any_package: str) -> None:
    leaf = importlib.import_module(any_package)
    below = pkgutil.walk_packages(leaf.__path__, f"{any_package}.")
    for name in [any_package, *(found.name for found in below if found.ispkg and is_public(found.name))]:
        module: Any = importlib.import_module(name)
        own = {attribute for attribute, value in vars(module).items() if not isinstance(value, ModuleType)}
        if own <= EMPTY_PACKAGE:
            continue
        offered: list[str] = module.__all__
        assert offered, name
        assert len(offered) == len(set(offered)), name
        assert [entry for entry in offered if not hasattr(module, entry)] == [], name
        assert [entry for entry in offered if entry.startswith("_") and entry != "__version__"] == [], name
