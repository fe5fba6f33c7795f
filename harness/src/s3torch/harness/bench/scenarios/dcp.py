"""What is measured of distributed checkpoints, by one process without a process group."""

from __future__ import annotations

from dataclasses import replace

from s3torch.harness.bench.scenario import (
    MIB,
    Content,
    Entry,
    Figure,
    Requirement,
    Scenario,
    Server,
    also,
    floor,
    local,
    original,
    ours,
    peer,
)

_SAVE, _ASYNC_SAVE, _LOAD = (f"connector_dcp:{name}" for name in ("save", "async_save", "load"))
_MEMORY = Requirement(Figure.EXTRA, 128 * MIB)
_SMALL_TENSORS, _SMALL_TENSOR = 300, 64 * 1024
# Two that lie side by side and two that do not.
_CHOSEN = (7, 21, 22, 50)


def _loads(*floors: Entry) -> tuple[Entry, ...]:
    return (
        *floors,
        ours("s3torch, dcp.load", _LOAD, made_by="stock"),
        ours("s3torch, dcp.load of its own", _LOAD, made_by="ours"),
        original("s3torchconnector, dcp.load", _LOAD, made_by="stock"),
        peer("s3torchconnector, dcp.load of s3torch's", "original", _LOAD, made_by="ours"),
        local("torch, dcp.load, tmpfs", "stock_dcp:load"),
    )


_FLOOR_LOAD = "floor_torch:load_checkpoint"
_FAST_LOADS = _loads(floor("sockets into tensors, loop, 8 connections", _FLOOR_LOAD))
_LATENCY_LOADS = _loads(floor("sockets into tensors, loop, 64 connections", _FLOOR_LOAD, connections=64))

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "dcp-save",
        "dcp.save of 64 tensors, 1 GiB",
        Server.DISCARD,
        (
            floor("torch.save, sendall", "floor_torch:save"),
            ours("s3torch, dcp.save", _SAVE),
            also("s3torch, dcp.save, 4 threads", _SAVE, thread_count=4),
            original("s3torchconnector, dcp.save", _SAVE),
            peer("s3torchconnector, dcp.save, 4 threads", "original", _SAVE, thread_count=4),
            local("torch, dcp.save, tmpfs", "stock_dcp:save"),
        ),
        (Requirement(Figure.RATE, 2.5, "original"), _MEMORY),
        content=Content.UPLOAD,
        is_counted=True,
    ),
    Scenario(
        "dcp-load",
        "dcp.load of 64 tensors, 1 GiB",
        Server.PLAIN,
        _FAST_LOADS,
        (Requirement(Figure.RATE, 0.7, "floor"), Requirement(Figure.RATE, 3.0, "original"), _MEMORY),
        content=Content.CHECKPOINT,
    ),
    Scenario(
        "dcp-partial",
        "dcp.load of 4 of 64 tensors, 64 MiB of 1 GiB",
        Server.PLAIN,
        _FAST_LOADS,
        (Requirement(Figure.SENT, 1.05),),
        content=Content.CHECKPOINT,
        chosen=_CHOSEN,
        is_counted=True,
    ),
    Scenario(
        "dcp-latency",
        "dcp.load of 300 tensors of 64 KiB, a file for each, 30 ms first byte",
        Server.LATENCY,
        _LATENCY_LOADS,
        (Requirement(Figure.TIME, 0.2, "original"),),
        size=_SMALL_TENSORS * _SMALL_TENSOR,
        content=Content.CHECKPOINT,
        tensors=_SMALL_TENSORS,
        is_one_file=False,
        is_timed=True,
        is_counted=True,
    ),
    Scenario(
        "dcp-latency-file",
        "dcp.load of 300 tensors of 64 KiB, one file, 30 ms first byte",
        Server.LATENCY,
        _LATENCY_LOADS,
        size=_SMALL_TENSORS * _SMALL_TENSOR,
        content=Content.CHECKPOINT,
        tensors=_SMALL_TENSORS,
        is_timed=True,
        is_counted=True,
    ),
    Scenario(
        "dcp-async",
        "how long dcp.async_save of 64 tensors, 512 MiB, holds training up",
        Server.DISCARD,
        (
            # It stores nothing.
            replace(floor("copy in memory", "floor_torch:copy"), is_remote=False),
            also("s3torch, dcp.save", _SAVE),
            ours("s3torch, dcp.async_save", _ASYNC_SAVE),
            also("s3torch, dcp.async_save, a new writer each time", _ASYNC_SAVE, new_writers=True),
            peer("s3torchconnector, dcp.save", "original", _SAVE),
            original("s3torchconnector, dcp.async_save", _ASYNC_SAVE),
            local("torch, dcp.save, tmpfs", "stock_dcp:save"),
            local("torch, dcp.async_save, tmpfs", "stock_dcp:async_save"),
        ),
        (Requirement(Figure.TIME, 1 / 3, "s3torch, dcp.save"),),
        # Eight subjects at once, half of which hold a second copy of their state: of 1 GiB they filled 19.
        size=512 * MIB,
        content=Content.UPLOAD,
        is_timed=True,
    ),
)
