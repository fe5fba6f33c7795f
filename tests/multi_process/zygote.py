"""A process that has imported everything, and forks the ranks of one save after the other; they may kill themselves.

Run as ``python -m tests.multi_process.zygote FOLDER``. Each line on standard input is a save as JSON, each line on
standard output what became of it. It has no threads and no connections, so that its forks are clean.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from s3torch.client import S3ClientConfig
from s3torch.dcp import S3StorageWriter
from s3torch.harness.conformance.tapping import Asked, EngineTap

T = TypeVar("T")

MIB = 1024 * 1024
# Longer than any save takes; a rank that hangs for so long is ended, and the test fails.
_SECONDS = 90.0


@dataclass(frozen=True)
class Save:
    """One save by some ranks."""

    uri: str
    """Where."""
    seed: int
    """Which state."""
    ranks: int = 2
    """How many processes."""
    victim: int | None = None
    """The rank that kills itself."""
    after: int = 0
    """How many of its requests are carried out before it does."""
    is_async: bool = False
    """Whether it saves in the background."""


@dataclass(frozen=True)
class Outcome:
    """What became of it."""

    statuses: list[int]
    """Exit status of each rank; negative for a signal."""
    requests: list[list[str]]
    """The operations that each rank has asked for, as far as it lived to tell."""
    errors: list[str]
    """What went wrong, as each rank tells."""


def make_state(seed: int) -> dict[str, Any]:
    """Return a state of some MiB, enough for an upload in parts of each rank."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "large": torch.randint(0, 1 << 30, (2, 1_500_000), generator=generator, dtype=torch.int32),
        "small": torch.randn(7, 3, generator=generator),
        "step": seed,
    }


class KillingTap(EngineTap):
    """Kills its own process when so many requests have been carried out."""

    def __init__(self, after: int | None) -> None:
        super().__init__("direct")
        self._after = after
        self._done = 0

    def ask(self, asked: Asked, call: Callable[[], T]) -> T:
        if self._after is not None and self._done >= self._after:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = super().ask(asked, call)
        if self._after is not None:
            wait = getattr(answer, "wait", None)
            if wait is not None:  # a transfer that has only begun
                wait()
            self._done += 1
            if self._done >= self._after:
                os.kill(os.getpid(), signal.SIGKILL)
        return answer


def run_rank(save: Save, rank: int, folder: Path) -> None:
    """Do one rank's part."""
    tap = KillingTap(save.after if rank == save.victim else None)
    report = folder / f"rank-{rank}"
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{folder}/store",
            rank=rank,
            world_size=save.ranks,
            timeout=timedelta(seconds=_SECONDS / 2),
        )
        state = make_state(save.seed)
        mesh = init_device_mesh("cpu", (save.ranks,))
        state["large"] = distribute_tensor(state["large"], mesh, [Shard(0)])
        config = S3ClientConfig(engine=tap, part_size=5 * MIB, operation_timeout=_SECONDS / 2)
        writer = S3StorageWriter(os.environ["AWS_REGION"], save.uri, s3client_config=config)
        if save.is_async:
            dcp.async_save(state, storage_writer=writer).result(_SECONDS)  # type: ignore[union-attr]  # a future
        else:
            dcp.save(state, storage_writer=writer)
        error = ""
    except BaseException:  # noqa: BLE001  # told to the test
        error = traceback.format_exc()
    report.write_text(json.dumps([[asked.operation for asked in tap.requests()], error]))
    Path(folder, "modules").write_text("\n".join(sys.modules))
    # Without the interpreter's end: what a fork has inherited must not be cleaned up here.
    os._exit(1 if error else 0)


def run_save(save: Save, folder: Path) -> Outcome:
    """Fork the ranks, and wait until all have ended."""
    folder.mkdir(parents=True)
    pids = []
    for rank in range(save.ranks):
        pid = os.fork()
        if pid == 0:
            try:
                run_rank(save, rank, folder)
            finally:
                os._exit(70)
        pids.append(pid)
    statuses = wait_for(pids)
    reports = [folder / f"rank-{rank}" for rank in range(save.ranks)]
    told: list[tuple[list[str], str]] = [
        json.loads(report.read_text()) if report.exists() else ([], "killed") for report in reports
    ]
    return Outcome(statuses, [requests for requests, _ in told], [error for _, error in told])


def wait_for(pids: list[int]) -> list[int]:
    """Wait for processes, and end those that take too long."""
    statuses: dict[int, int] = {}
    deadline = time.monotonic() + _SECONDS
    while len(statuses) < len(pids):
        for pid in pids:
            if pid in statuses:
                continue
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                statuses[pid] = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    return [statuses[pid] for pid in pids]


def import_all(names: list[str]) -> None:
    """Import what a save has imported on its way, so that those that follow find it."""
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:  # made by another module under a name of its own
            continue


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    for number, line in enumerate(sys.stdin):
        outcome = run_save(Save(**json.loads(line)), folder / str(number))
        if number == 0:
            import_all(Path(folder, "0", "modules").read_text().split("\n"))
        print(json.dumps(asdict(outcome)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
