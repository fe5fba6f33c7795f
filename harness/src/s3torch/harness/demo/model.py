"""The model: a small convolutional network, and what makes its training repeatable."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import nn

from s3torch.harness.demo.data import CLASSES, SIDE

__all__ = ["Network", "be_deterministic", "digest_of", "jitter"]


class Network(nn.Module):
    """Three convolutions and two linear layers, with batch normalization and dropout: 155,000 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * (SIDE // 8) ** 2, 128),
            nn.ReLU(),
            nn.Dropout(0.25),
            nn.Linear(128, len(CLASSES)),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the classes' logits.

        Args:
            images: ``float32`` of shape ``(N, 3, 32, 32)``, values about 0.
        """
        logits: torch.Tensor = self.layers(images)
        return logits


def jitter(images: torch.Tensor) -> torch.Tensor:
    """Scale images to about -1 to 1 and add noise from torch's global generator.

    Args:
        images: ``uint8``.

    Returns:
        ``float32`` of the same shape.
    """
    scaled = images.float().div_(127.5).sub_(1)
    return scaled + 0.05 * torch.randn(scaled.shape)


def be_deterministic(seed: int) -> None:
    """Make everything that follows in this process repeatable to the bit: one thread, one order of additions.

    Args:
        seed: Seeds torch's global generator.
    """
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)


def digest_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> str:
    """Return the SHA-256 of every tensor of a model and its optimizer, in order.

    Args:
        model: The model.
        optimizer: Its optimizer.
    """
    digest = hashlib.sha256()

    def add(name: str, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for key in value:
                add(f"{name}.{key}", value[key])

    add("model", dict(model.state_dict()))
    add("optimizer", optimizer.state_dict()["state"])
    return digest.hexdigest()
