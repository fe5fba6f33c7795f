"""A tensor's elements, from wherever they are into the file that is being written."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from s3torch.client import PutObjectStream
from s3torch.dcp._tensor_memory import byte_view, is_plain

__all__ = ["LEAST_LENT", "copy_in_pieces", "is_dense", "make_ready", "put_bytes", "put_elements"]

LEAST_LENT = 64 * 1024
"""Bytes below which a copy costs less than sending a piece of memory by itself."""
# What is copied from a device at once; as many pieces are held as parts are on their way.
_PIECE = 8 * 1024 * 1024


def make_ready(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor that can be written: on the CPU, or one that `put_elements` copies from its device in pieces.

    Args:
        tensor: The tensor as the planner has resolved it.
    """
    tensor = tensor.detach()
    if tensor.device.type == "cpu" or is_dense(tensor):
        return tensor
    return tensor.cpu()


def is_dense(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor's elements are its memory, in the order of its indices, on the CPU or on a CUDA device.

    Args:
        tensor: Any tensor.
    """
    if tensor.device.type != "cuda":
        return is_plain(tensor)
    return (
        type(tensor) is torch.Tensor
        and tensor.layout is torch.strided
        and not tensor.is_quantized
        and not tensor.is_conj()
        and not tensor.is_neg()
        and tensor.is_contiguous()
    )


def put_elements(stream: PutObjectStream, tensor: torch.Tensor) -> None:
    """Write a dense tensor's elements, without a copy if they are on the CPU.

    Args:
        stream: The file.
        tensor: The tensor; its memory must stay as it is until the stream is closed.
    """
    if tensor.device.type == "cpu":
        put_bytes(stream, byte_view(tensor))
    else:
        for piece in copy_in_pieces(tensor, _PIECE):
            put_bytes(stream, byte_view(piece))


def put_bytes(stream: PutObjectStream, view: memoryview) -> None:
    """Write bytes that stay as they are until the stream is closed.

    Args:
        stream: The file.
        view: The bytes.
    """
    if view.nbytes < LEAST_LENT:
        stream.write(view)
    else:
        stream.lend(view)


def copy_in_pieces(tensor: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    """Copy a dense tensor's elements to the CPU, some at a time.

    Args:
        tensor: The tensor.
        size: Bytes in a piece, but at least one element.

    Yields:
        The pieces, in order, each in memory of its own.
    """
    flat = tensor.view(-1)
    count = max(1, size // tensor.itemsize)
    for start in range(0, flat.numel(), count):
        part = flat[start : start + count]
        # Devices write several times as fast into memory that the system does not move.
        piece = torch.empty(part.shape, dtype=part.dtype, device="cpu", pin_memory=part.is_cuda)
        piece.copy_(part)  # waits for the device
        yield piece
