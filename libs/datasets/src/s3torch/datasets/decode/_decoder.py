"""What all decoders share: how one is called, and what it raises."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

from s3torch.client import S3Exception
from s3torch.datasets.decode._placing import Placing

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Decode", "DecodeError", "Decoder", "Readable", "name_of", "require"]

T_co = TypeVar("T_co", covariant=True)


class Readable(Protocol):
    """What a decoder needs of a reader; every `S3Reader` has it."""

    @property
    def bucket(self) -> str:
        """The object's bucket."""
        ...

    @property
    def key(self) -> str:
        """The object's key."""
        ...

    def read(self, size: int | None = None, /) -> bytes:
        """Return bytes, all that are left by default."""
        ...

    def readinto(self, buf: Buffer, /) -> int:
        """Fill a buffer."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move."""
        ...

    def tell(self) -> int:
        """Return the position."""
        ...


Decode: TypeAlias = Callable[[Any], Any]
"""A decoder, or any function of a reader."""


class DecodeError(ValueError):
    """An object's bytes are not what the decoder reads; the cause is kept."""


class Decoder(Placing, Generic[T_co]):
    """Makes a sample of a reader's bytes. Subclasses say how in `decode`."""

    what: str
    """What it reads, as its errors say: ``JSON``, ``an image``."""

    def __call__(self, reader: Readable, /) -> T_co:
        """Decode all that a reader holds.

        Args:
            reader: The object, at its start.

        Returns:
            The sample.

        Raises:
            DecodeError: The bytes are not of that form.
            S3Exception: They could not be read.
        """
        try:
            return self.decode(reader)
        except (S3Exception, DecodeError, ImportError, MemoryError):
            raise
        except Exception as error:
            raise DecodeError(f"{name_of(reader)} is not {self.what}: {_in_one_line(error)}") from error

    @abstractmethod
    def decode(self, reader: Readable) -> T_co:
        """Decode all that a reader holds; whatever is raised becomes a `DecodeError` that names the object."""


def name_of(reader: Readable) -> str:
    """Return an object's URI."""
    return f"s3://{reader.bucket}/{reader.key}"


def require(load: Callable[[], Any], package: str, purpose: str) -> Any:
    """Import what only some decoders need.

    Args:
        load: Imports it and returns it.
        package: What to install.
        purpose: What it is needed for.

    Raises:
        ImportError: It is not there; the message says how to get it.
    """
    try:
        return load()
    except ImportError as error:
        raise ImportError(f"{purpose} needs {package}: pip install {package}") from error


def _in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
