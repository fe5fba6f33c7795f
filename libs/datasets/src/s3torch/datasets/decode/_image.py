"""The decoder of images."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch

from s3torch.datasets.decode._decoder import Decoder, Readable, require

__all__ = ["Image"]

_Mode: TypeAlias = Literal["RGB", "L", "RGBA"]


@dataclass(frozen=True, slots=True)
class Image(Decoder[torch.Tensor]):
    """An image as a tensor of uint8, ``channels x height x width``, turned the way its EXIF orientation says.

    Needs Pillow (``pip install pillow``).

    Args:
        mode: The channels to convert to: ``RGB``, ``RGBA`` or ``L`` (grey, one channel).
    """

    mode: _Mode = "RGB"

    what = "an image"

    def __post_init__(self) -> None:
        """Hold the mode to its values."""
        if self.mode not in get_args(_Mode):
            raise ValueError(f"mode must be one of {', '.join(get_args(_Mode))}, got {self.mode!r}")

    def decode(self, reader: Readable) -> torch.Tensor:
        """Return the image."""
        pillow = _pillow()
        with pillow.Image.open(io.BytesIO(reader.read())) as image:
            pixels = np.array(pillow.ImageOps.exif_transpose(image).convert(self.mode))
        # The shape of what is grey has no channels.
        return torch.from_numpy(np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1)))


@cache
def _pillow() -> Any:
    def load() -> Any:
        import PIL.Image
        import PIL.ImageOps

        return PIL

    return require(load, "pillow", "decode.Image")
