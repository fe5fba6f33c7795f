"""Bytes from the first rank of a process group to all others, whatever device its backend sends from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["Collective"]

# Sent at a time: a backend that sends from an accelerator takes as much of its memory, and some count in 32 bits.
_PIECE = 64 * 1024 * 1024


class Collective:
    """A process group, as this rank sees it. All ranks of the group must do the same with it, in the same order.

    Args:
        group: The group; None is the default one.
        stage: Bytes of a buffer through which all is sent, on the group's device; None takes what that device needs.

    Raises:
        RuntimeError: There is no process group.
        TypeError: It is none.
        ValueError: This process is not a member of it.
    """

    def __init__(self, group: ProcessGroup | None, *, stage: int | None = None) -> None:
        if not dist.is_available() or not dist.is_initialized():
            raise RuntimeError(
                "there is no process group whose ranks could share an index:"
                " call torch.distributed.init_process_group first"
            )
        given: Any = group
        if given == dist.GroupMember.NON_GROUP_MEMBER:  # no group at all: `new_group` gives it to those left out
            raise ValueError(
                f"rank {dist.get_rank()} is not a member of the group: only its members may ask for an index together"
            )
        if group is not None and not isinstance(group, dist.ProcessGroup):
            raise TypeError(f"group must be a torch.distributed.ProcessGroup, got {type(group).__name__}")
        self._group = dist.group.WORLD if group is None else group
        self.rank = dist.get_rank(self._group)
        self.size = dist.get_world_size(self._group)
        self.first = dist.get_global_rank(self._group, 0)  # type: ignore[arg-type]  # there is a default group
        self._device = _device_of(self._group)
        self._stage: torch.Tensor | None = None
        if stage is None and self._device.type != "cpu":
            stage = _PIECE
        self._stage_size = stage

    @property
    def is_first(self) -> bool:
        """Whether this rank is the one that sends."""
        return self.rank == 0

    def send(self, memory: torch.Tensor) -> None:
        """Send bytes in place: they are the first rank's, and the others' are overwritten.

        Args:
            memory: As many bytes on every rank, in this machine's memory.

        Raises:
            RuntimeError: The backend says so, as when a rank has died.
        """
        for piece in memory.split(self._stage_size or _PIECE):
            if not self._stage_size:
                self._broadcast(piece)
                continue
            if self._stage is None:
                self._stage = torch.empty(self._stage_size, dtype=torch.uint8, device=self._device)
            staged = self._stage[: len(piece)]
            if self.is_first:
                staged.copy_(piece)
            self._broadcast(staged)
            if not self.is_first:
                piece.copy_(staged)

    def send_bytes(self, data: bytes) -> bytes:
        """Return the bytes of the first rank on all of them.

        Args:
            data: Few; those of the other ranks do not count.
        """
        size = torch.tensor([len(data)], dtype=torch.int64, device=self._device)
        self._broadcast(size)
        if not int(size):
            return b""
        memory = torch.frombuffer(bytearray(data), dtype=torch.uint8) if self.is_first else _empty(int(size))
        self.send(memory)
        return memory.numpy().tobytes()

    def agree(self, *, is_ready: bool) -> bool:
        """Return whether all ranks are ready; call it once on each.

        Args:
            is_ready: Whether this one is.
        """
        ready = torch.tensor([int(is_ready)], dtype=torch.int64, device=self._device)
        dist.all_reduce(ready, op=dist.ReduceOp.MIN, group=self._group)
        return bool(int(ready))

    def _broadcast(self, tensor: torch.Tensor) -> None:
        dist.broadcast(tensor, src=self.first, group=self._group)


def _empty(size: int) -> torch.Tensor:
    return torch.empty(size, dtype=torch.uint8)


def _device_of(group: ProcessGroup | None) -> torch.device:
    """Return where tensors must be to be sent: here if the group can, else on the current accelerator."""
    kinds = [pair.partition(":")[0] for pair in dist.get_backend_config(group).split(",")]
    return torch.device("cpu" if "cpu" in kinds else kinds[0])
