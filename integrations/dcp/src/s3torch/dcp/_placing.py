"""How the bytes of stored elements get into a tensor: straight into its memory, or through a copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from s3torch.client.scatter import Piece
from s3torch.dcp._load_plan import Box, cut_box, cut_dense
from s3torch.dcp._tensor_memory import byte_view, is_plain

__all__ = ["place"]


def place(box: Box, dtype: torch.dtype, target: torch.Tensor, longest: int) -> Iterator[Piece]:
    """Say which bytes of a file go where in a tensor.

    Args:
        box: The stored elements.
        dtype: Their type.
        target: Takes them; of the box's shape, and any type, layout and device. It must outlive the pieces.
        longest: Bytes that a piece may hold which does not go straight into the tensor's memory.

    Yields:
        The pieces.
    """
    for part in cut_box(box, longest):
        if part.is_dense:
            order = part.order
            inside = _narrow(target, part).permute(order)
            if target.dtype == dtype and is_plain(inside):
                yield Piece(part.start, part.end, byte_view(inside))
                continue
            for short in cut_dense(part, longest):
                yield Piece(short.start, short.end, _copier(short, dtype, target))
        else:
            yield Piece(part.start, part.end, _copier(part, dtype, target))


def _narrow(target: torch.Tensor, part: Box) -> torch.Tensor:
    for dimension, (offset, size) in enumerate(zip(part.offsets, part.shape, strict=True)):
        if size != target.shape[dimension]:
            target = target.narrow(dimension, offset, size)
    return target


def _copier(part: Box, dtype: torch.dtype, target: torch.Tensor) -> Callable[[memoryview], None]:
    """Return what copies a part's bytes into its place, in whatever thread it is called."""
    is_inference = torch.is_inference_mode_enabled()
    stride = [step // part.itemsize for step in part.stride]

    def copy(view: memoryview) -> None:
        with torch.inference_mode(is_inference):
            raw = torch.frombuffer(view, dtype=torch.uint8)
            if raw.data_ptr() % part.itemsize:  # it lay between others of another type
                raw = raw.clone()
            _narrow(target, part).copy_(raw.view(dtype).as_strided(part.shape, stride))

    return copy
