"""What requests call themselves."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence

__all__ = ["UserAgent", "version"]

version = "0.1.0"
# The version of the API that is implemented, by which servers recognise its clients.
_CONNECTOR_VERSION = "1.5.0"


class UserAgent:
    """A user agent string: the product, then what runs it, then the caller's comments.

    Args:
        comments: Short remarks such as ``md/dataset#map``; each goes into the parenthesis at the end.

    Raises:
        ValueError: ``comments`` is a string or None rather than a list of strings.
    """

    def __init__(self, comments: Sequence[str] | None = None) -> None:
        if comments is not None and (isinstance(comments, str) or not all(isinstance(c, str) for c in comments)):
            raise ValueError("comments must be a list of strings")
        self._comments = tuple(comments or ())

    @property
    def prefix(self) -> str:
        """The string without the comments."""
        system = platform.system().lower() or "unknown"
        python = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
        parts = [
            f"s3torch/{version}",
            f"s3torchconnector/{_CONNECTOR_VERSION}",
            "ua/2.1",
            f"os/{system}#{platform.release() or 'unknown'}",
            f"lang/python#{python}",
            f"md/arch#{platform.machine().lower() or 'unknown'}",
        ]
        torch = sys.modules.get("torch")  # named where it is in use, never imported for it
        if torch is not None and hasattr(torch, "__version__"):
            parts.append(f"md/pytorch#{torch.__version__}")
        return " ".join(parts)

    def __str__(self) -> str:
        return f"{self.prefix} ({' '.join(self._comments)})" if self._comments else self.prefix
