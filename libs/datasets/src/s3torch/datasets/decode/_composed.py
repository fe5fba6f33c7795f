"""Decoders made of others: by the name's extension, followed by a function, with a label."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from s3torch.client import parse_s3_uri
from s3torch.datasets.decode._data import Json, Numpy, Raw, Safetensors, Text, TorchLoad
from s3torch.datasets.decode._decoder import Decode, DecodeError, Readable, name_of
from s3torch.datasets.decode._image import Image
from s3torch.datasets.decode._placing import Allocate, Placing, allocate_for

__all__ = ["ByExtension", "Compose", "FolderLabel", "WithLabel"]

_USUAL: Mapping[str, Decode] = MappingProxyType(
    {
        **dict.fromkeys(("jpg", "jpeg", "png", "gif", "webp", "bmp", "tif", "tiff", "ppm"), Image()),
        **dict.fromkeys(("txt", "text", "transcript"), Text()),
        **dict.fromkeys(("json", "cls", "index"), Json()),
        **dict.fromkeys(("npy", "npz"), Numpy()),
        **dict.fromkeys(("pt", "pth"), TorchLoad()),
        "safetensors": Safetensors(),
    }
)


class ByExtension(Placing):
    """Decodes by what the name ends in, an object's key or each field of a tar sample.

    Extensions are compared in lower case, the longest first: of ``a.seg.png`` it tries ``seg.png``, then ``png``. What
    none is for stays bytes.

    Args:
        decoders: Extension, without its dot, to decoder; these come before the usual ones: images to tensors, ``txt``
            to `str`, ``json`` and ``cls`` to what they hold, ``npy``, ``npz``, ``pt``, ``pth``, ``safetensors``.
        usual: Whether the usual ones are there at all.
    """

    def __init__(self, decoders: Mapping[str, Decode] | None = None, *, usual: bool = True) -> None:
        given = {} if decoders is None else {name.lower().removeprefix("."): each for name, each in decoders.items()}
        for name, each in given.items():
            if not callable(each):
                raise TypeError(f"the decoder of {name!r} must be callable, got {type(each).__name__}")
        self._decoders: dict[str, Decode] = {**(_USUAL if usual else {}), **given}

    def __call__(self, sample: Readable | dict[str, Any], /) -> Any:
        """Decode an object's reader, or the fields of a tar sample.

        Args:
            sample: The reader; or a dict of bytes, in which names with a leading underscore are kept as they are.

        Returns:
            What the decoder of the object makes; or such a dict.

        Raises:
            DecodeError: The bytes are not what the name says.
        """
        if not isinstance(sample, dict):
            return self._decoder_of_object(sample.key)(sample)
        where, key = sample.get("__url__", ""), sample.get("__key__", "")
        return {
            name: value if name.startswith("_") else self._decoder_of(name)(_Field(value, where, f"{key}.{name}"))
            for name, value in sample.items()
        }

    def allocate_for(self, key: str) -> Allocate | None:
        """Ask the decoder of such a name."""
        return allocate_for(self._decoder_of_object(key), key)

    def _decoder_of_object(self, key: str) -> Decode:
        return self._decoder_of(key.rpartition("/")[2].partition(".")[2])

    def _decoder_of(self, extensions: str) -> Decode:
        rest = extensions.lower()
        while rest:
            if (found := self._decoders.get(rest)) is not None:
                return found
            rest = rest.partition(".")[2]
        return Raw()


class _Field(io.BytesIO):
    """A field of a tar sample as a reader."""

    def __init__(self, data: bytes | memoryview, url: str, member: str) -> None:
        super().__init__(data)
        self.bucket, shard = parse_s3_uri(url) if url else ("", "")
        self.key = f"{shard}/{member}"


@dataclass(frozen=True, slots=True)
class Compose(Placing):
    """A decoder, and functions that its sample goes through, one after the other.

    Args:
        decoder: Called with the reader.
        functions: Each called with what the one before returned.
    """

    decoder: Decode
    functions: tuple[Callable[[Any], Any], ...]

    def __init__(self, decoder: Decode, *functions: Callable[[Any], Any]) -> None:
        for each in (decoder, *functions):
            if not callable(each):
                raise TypeError(f"decode.Compose takes functions, got {type(each).__name__}")
        object.__setattr__(self, "decoder", decoder)
        object.__setattr__(self, "functions", functions)

    def allocate_for(self, key: str) -> Allocate | None:
        """Ask the decoder."""
        return allocate_for(self.decoder, key)

    def __call__(self, reader: Any, /) -> Any:
        """Return what the last function returns."""
        sample = self.decoder(reader)
        for function in self.functions:
            sample = function(sample)
        return sample


@dataclass(frozen=True, slots=True)
class WithLabel(Placing):
    """Pairs of a sample and its label, which is made of the object's key.

    Args:
        decoder: Makes the sample of the reader.
        label: Makes the label of the key, such as `FolderLabel`.
    """

    decoder: Decode
    label: Callable[[str], Any]

    def allocate_for(self, key: str) -> Allocate | None:
        """Ask the decoder."""
        return allocate_for(self.decoder, key)

    def __call__(self, reader: Readable, /) -> tuple[Any, Any]:
        """Return sample and label."""
        try:
            label = self.label(reader.key)
        except Exception as error:
            raise DecodeError(f"{name_of(reader)} has no label: {error}") from error
        return self.decoder(reader), label


class FolderLabel:
    """The number of the class that an object's folder names, as in ``train/cat/1.jpg``.

    Args:
        classes: Names of the folders; a class is numbered by its place in their order.

    Raises:
        ValueError: There is none, or one is there twice.
    """

    def __init__(self, classes: Iterable[str]) -> None:
        names = [classes] if isinstance(classes, str) else list(classes)
        self._numbers = {name: number for number, name in enumerate(names)}
        if not names or len(self._numbers) != len(names):
            raise ValueError(f"classes must be different names of folders, got {names!r}")

    def __call__(self, key: str) -> int:
        """Return the class of a key.

        Raises:
            KeyError: Its folder is none of the classes.
        """
        folder = key.rpartition("/")[0].rpartition("/")[2]
        if (number := self._numbers.get(folder)) is None:
            raise LookupError(f"the folder {folder!r} is none of the {len(self._numbers)} classes")
        return number
