"""Memory that becomes `bytes`."""

from __future__ import annotations

import gc
import sys

import pytest

from s3torch.client._memory_pages import BytesBuffer


def test_the_bytes_are_those_filled_in() -> None:
    buffer = BytesBuffer(5)
    buffer.view[:] = b"hello"
    assert buffer.take() == b"hello"


def test_what_an_error_left_behind_is_collected_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    complaints: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    for _ in range(20):
        buffer = BytesBuffer(1000)
        # What the frames of a traceback amount to: a cycle that holds the memory and parts of its view.
        cycle: list[object] = [buffer, buffer.view[10:20]]
        cycle.append(cycle)
        del buffer, cycle
    gc.collect()
    assert complaints == []
