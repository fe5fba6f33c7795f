"""What reading and writing cost the host: measured once, kept as JSON, fed to the model."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

__all__ = ["Costs", "CostsError", "PathCosts"]

GIB = 1024**3


class CostsError(ValueError):
    """A file does not hold costs; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class PathCosts:
    """Costs over plain HTTP, or over TLS."""

    request: float
    """Processor seconds for a request, whatever its size: signing, sending, parsing, handing over."""
    object_byte: float
    """Processor seconds for a byte of a small object."""
    read_byte: float
    """Processor seconds for a byte of a large read into fresh memory."""
    write_byte: float
    """Processor seconds for a byte of a large upload, its checksum included."""
    connection: int
    """Bytes of the process's memory that an open connection takes."""

    def __post_init__(self) -> None:
        """Check that these can be costs."""
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise CostsError(f"{each.name} must be a number, got {value!r}")
            if not 0 <= value < math.inf:
                raise CostsError(f"{each.name} must not be negative, got {value}")


@dataclass(frozen=True, slots=True)
class Costs:
    """All that the model has to know of a machine."""

    machine: str
    """Where it was measured, in words."""
    plain: PathCosts
    """Over plain HTTP."""
    tls: PathCosts
    """Over TLS."""

    def save(self, path: Path) -> None:
        """Write them as JSON.

        Args:
            path: The file.
        """
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Costs:
        """Read what `save` wrote.

        Args:
            path: The file.

        Raises:
            CostsError: The file is missing or holds something else.
        """
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise CostsError(f"cannot read costs from {path}: {error.strerror}") from error
        except ValueError as error:
            raise CostsError(f"{path} holds no costs: {error}") from error

    @classmethod
    def from_json(cls, found: Any) -> Costs:
        """Build them from plain values.

        Args:
            found: What `save` writes, parsed.

        Raises:
            CostsError: Something is missing or of the wrong kind.
        """
        try:
            return cls(machine=str(found["machine"]), plain=PathCosts(**found["plain"]), tls=PathCosts(**found["tls"]))
        except (KeyError, TypeError) as error:
            raise CostsError(f"not the costs of plain HTTP and TLS: {error}") from error
