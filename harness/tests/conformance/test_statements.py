"""Every law is stated, in one sentence: it is all that a report shows of a law."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable

import pytest

from s3torch.harness import conformance
from s3torch.harness.conform.settings import law_sentence

SUITES = sorted(name for name in conformance.__all__ if name.endswith("Conformance"))
# A full stop within a sentence stands in a name or a number, and is followed by no space.
ANOTHER_SENTENCE = re.compile(r"[.!?]\s+\S")


def laws_of(suite: type) -> list[tuple[str, Callable[..., object]]]:
    return inspect.getmembers(suite, lambda item: inspect.isfunction(item) and item.__name__.startswith("test_"))


def problem_of(statement: str) -> str | None:
    if not statement:
        return "is not stated"
    if not statement.endswith(".") or ANOTHER_SENTENCE.search(statement):
        return f"is not one sentence: {statement}"
    return None


def test_all_suites_are_looked_at() -> None:
    assert {"ReaderConformance", "StoreConformance", "WriterConformance", "CheckpointConformance"} <= set(SUITES)


@pytest.mark.parametrize("name", SUITES)
def test_every_law_is_one_sentence(name: str) -> None:
    laws = laws_of(getattr(conformance, name))
    assert len(laws) > 5
    problems = [f"{law_name} {problem}" for law_name, law in laws if (problem := problem_of(law_sentence(law)))]
    assert problems == []


@pytest.mark.parametrize("name", SUITES)
def test_no_two_laws_say_the_same(name: str) -> None:
    said = Counter(law_sentence(law) for _, law in laws_of(getattr(conformance, name)))
    assert [statement for statement, count in said.items() if count > 1] == []


@pytest.mark.parametrize("statement", ["", "Reads", "Reads. And writes."])
def test_what_is_no_statement_is_found(statement: str) -> None:
    """Guards the tests above."""
    assert problem_of(statement) is not None
    assert problem_of("Reads 1.5 MiB of `torch.load`.") is None
