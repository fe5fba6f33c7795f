"""Which objects a checkpoint's ``.metadata`` refers to, read without running any code and whatever torch wrote it."""

from __future__ import annotations

import io
import pickle
from typing import Any

__all__ = ["ManifestError", "read_references"]


class ManifestError(ValueError):
    """The bytes are not metadata that tell where the data lies."""


def read_references(data: bytes) -> frozenset[str]:
    """Return what a checkpoint's metadata refers to.

    Every class and function that the pickle names becomes a stand-in that only keeps its attributes: nothing is
    imported, and a newer torch's metadata is as good as our own.

    Args:
        data: The bytes of ``.metadata``.

    Returns:
        The data objects' names, relative to the checkpoint's folder.

    Raises:
        ManifestError: They are no metadata, or truncated ones.
    """
    try:
        metadata = _InertUnpickler(io.BytesIO(data)).load()
    except Exception as error:  # damaged pickles raise nearly anything
        raise ManifestError(f"not a pickle of metadata: {error}") from error
    items = vars(metadata).get("storage_data") if isinstance(metadata, _Inert) else None
    if not isinstance(items, dict):
        raise ManifestError("the metadata do not tell where the data lies")
    names = [vars(item).get("relative_path") if isinstance(item, _Inert) else None for item in items.values()]
    if not all(isinstance(name, str) for name in names):
        raise ManifestError("the metadata have an item without a name of its object")
    return frozenset(str(name) for name in names)


class _Inert:
    """Stands for anything that a pickle makes: takes every construction and keeps what is set."""

    def __new__(cls, *_arguments: object, **_named: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_arguments: object, **_named: object) -> None:
        """Ignore what it is made from."""

    def __call__(self, *_arguments: object, **_named: object) -> _Inert:
        return _Inert()

    def __setstate__(self, state: object) -> None:
        # With __slots__, the state is a pair of which the second is the dictionary.
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                vars(self).update({name: value for name, value in part.items() if isinstance(name, str)})

    def __setitem__(self, _key: object, _value: object) -> None:
        """Ignore items of stand-ins for dictionaries."""

    def append(self, _item: object) -> None:
        """Ignore items of stand-ins for lists."""

    def extend(self, _items: object) -> None:
        """Ignore items of stand-ins for lists."""

    def add(self, _item: object) -> None:
        """Ignore items of stand-ins for sets."""


class _InertUnpickler(pickle.Unpickler):  # nothing that it reads is imported or called
    """Knows stand-ins only."""

    def find_class(self, _module: str, _name: str, /) -> Any:
        return _Inert

    def persistent_load(self, _pid: object, /) -> Any:
        return _Inert()
