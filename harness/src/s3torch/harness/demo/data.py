"""The data set: small colour images of discs, squares and crosses on noise, one object each, raw bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from s3torch.readers import S3Reader

__all__ = ["CLASSES", "SIDE", "decode_image", "make_image", "make_images"]

SIDE = 32
CLASSES = ("disc", "square", "cross")


def make_images(count: int, *, seed: int) -> Iterator[tuple[str, bytes]]:
    """Draw images, the classes in turn.

    Args:
        count: How many.
        seed: Decides all of them.

    Yields:
        The image's name, such as ``00017-cross.rgb``, and its bytes: 3 x 32 x 32, channels first.
    """
    random = np.random.default_rng(seed)
    for index in range(count):
        label = index % len(CLASSES)
        yield f"{index:06d}-{CLASSES[label]}.rgb", make_image(label, random)


def make_image(label: int, random: np.random.Generator) -> bytes:
    """Draw one image: a shape of random place, size and colour over noise.

    Args:
        label: Index in `CLASSES`.
        random: Decides the rest.

    Returns:
        Its bytes.
    """
    radius = random.uniform(5, 10)
    center = random.uniform(radius, SIDE - radius, size=2)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    dy, dx = np.abs(rows - center[0]), np.abs(columns - center[1])
    name = CLASSES[label]
    if name == "disc":
        inside = dy**2 + dx**2 <= radius**2
    elif name == "square":
        inside = np.maximum(dy, dx) <= radius * 0.85
    else:
        inside = (np.minimum(dy, dx) <= radius * 0.3) & (np.maximum(dy, dx) <= radius)
    image = random.normal(80, 24, size=(3, SIDE, SIDE))
    colour = random.uniform(192, 255, size=(3, 1))
    image[:, inside] = 0.3 * image[:, inside] + 0.7 * colour
    return image.clip(0, 255).astype(np.uint8).tobytes()


def decode_image(reader: S3Reader) -> tuple[torch.Tensor, int]:
    """Turn an object into a sample; the data sets' ``transform``.

    Args:
        reader: The object.

    Returns:
        The image, ``uint8`` of shape ``(3, 32, 32)``, and the index of its class.
    """
    import torch

    label = CLASSES.index(reader.key.rsplit("-", 1)[1].removesuffix(".rgb"))
    image = torch.empty(3, SIDE, SIDE, dtype=torch.uint8)
    # Straight into the tensor's memory.
    reader.readinto(image.numpy().data.cast("B"))
    return image, label
