"""Tests of properties neither hang on chance nor on how fast the machine is."""

from __future__ import annotations

from hypothesis import settings


def test_examples_are_the_same_in_every_run_and_take_as_long_as_they_take() -> None:
    assert settings.get_current_profile_name() in ("s3torch", "explore")
    assert settings().deadline is None
    assert settings.get_profile("s3torch").derandomize
    assert settings.get_profile("s3torch").deadline is None
