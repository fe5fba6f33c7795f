"""Tensors out of safetensors files in S3, whole and in slices."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from types import EllipsisType, TracebackType
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeAlias

import torch

from s3torch.client import S3Client
from s3torch.client.scatter import Piece
from s3torch.dcp._load_plan import StoredTensor, select
from s3torch.dcp._model_files import ModelFiles, unknown_tensor
from s3torch.dcp._placing import place as place_box
from s3torch.dcp._safetensors_files import (
    SAVE_FILES,
    SAVE_ID,
    ModelFile,
    TensorPlace,
    fetch,
    place_tensors,
    read_headers,
)
from s3torch.dcp._tensor_memory import byte_view

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Index", "S3Safetensors", "S3SafetensorsSlice", "check_names", "open_model"]

Index: TypeAlias = "SupportsIndex | slice | EllipsisType"
"""What stands for one dimension in a slice."""

# Tensors for another device pass through so much of the CPU's memory at a time.
_ON_THE_WAY = 256 * 1024 * 1024
# Bytes of a range that holds more than what is wanted.
_LONGEST_GAPPED = 4 * 1024 * 1024


class S3Safetensors:
    """A safetensors model in S3, whose tensors are fetched when asked for.

    `s3torch.dcp.open_safetensors` makes it. It holds to the version of each file whose header was read: one that is
    replaced meanwhile is an error, never data. It pickles, without its connections, and survives a fork.

    Args:
        client: Where to read; closed with this.
        name: What the user has named.
        files: The files.
        device: Where tensors go; None is the CPU.
    """

    def __init__(
        self,
        client: S3Client,
        name: str,
        files: Iterable[ModelFile],
        device: torch.device | str | int | None = None,
    ) -> None:
        self._client = client
        self._name = name
        self._files = list(files)
        self._places = place_tensors(self._files)
        self._device = torch.device("cpu" if device is None else device)
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def keys(self) -> list[str]:
        """Return the tensors' names, in the order of the files and of the bytes in them."""
        return list(self._places)

    def metadata(self) -> dict[str, str]:
        """Return the notes beside the tensors; of several files, those on which all agree."""
        first, *others = [file.header.metadata for file in self._files] or [{}]
        return {
            name: note
            for name, note in first.items()
            if name not in (SAVE_ID, SAVE_FILES) and all(other.get(name) == note for other in others)
        }

    def get_tensor(self, name: str) -> torch.Tensor:
        """Load a tensor.

        Args:
            name: Its name.

        Returns:
            The tensor, in memory of its own.

        Raises:
            ObjectChangedError: The file was replaced since it was opened.
            S3Exception: Reading failed.
            UnknownTensorError: There is none of that name.
        """
        return self.get_tensors([name])[name]

    def get_tensors(self, names: Iterable[str] | None = None) -> dict[str, torch.Tensor]:
        """Load tensors, all at once.

        Args:
            names: Their names; None for all.

        Returns:
            The tensors by name, in the order asked.

        Raises:
            ObjectChangedError: A file was replaced since it was opened.
            S3Exception: Reading failed.
            UnknownTensorError: There is none of one of the names.
        """
        names = self.keys() if names is None else check_names(names)
        places = {name: self._place(name) for name in names}
        loaded: dict[str, torch.Tensor] = {}
        for group in self._groups(places):
            tensors = {
                name: torch.empty(place.entry.shape, dtype=place.entry.dtype, device=_target_device(self._device))
                for name, place in group.items()
            }
            if self._device.type != "meta":
                fetch(
                    self._client,
                    [
                        (place.file, [Piece(place.entry.start, place.entry.end, byte_view(tensors[name]))])
                        for name, place in group.items()
                    ],
                )
            while tensors:
                name = next(iter(tensors))
                loaded[name] = tensors.pop(name).to(self._device)
        return loaded

    def get_slice(self, name: str) -> S3SafetensorsSlice:
        """Return a tensor to be sliced, of which only the slices asked for are fetched.

        Args:
            name: Its name.

        Raises:
            UnknownTensorError: There is none of that name.
        """
        return S3SafetensorsSlice(self, self._place(name))

    def close(self) -> None:
        """End all connections."""
        self._closed = True
        self._client.close()

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Pickle as names and headers."""
        files = [file.forget_start() for file in self._files]
        return {**self.__dict__, "_files": files, "_places": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the names and headers."""
        self.__dict__.update(state)
        self._places = place_tensors(self._files)

    def __repr__(self) -> str:
        state = "closed " if self._closed else ""
        return f"<{type(self).__name__} {self._name} {state}with {len(self._places)} tensors>"

    def _place(self, name: str) -> TensorPlace:
        if self._closed:
            raise ValueError(f"{self._name} is closed")
        place = self._places.get(name)
        if place is None:
            raise unknown_tensor(name, self._places, self._name)
        return place

    def _groups(self, places: Mapping[str, TensorPlace]) -> Iterator[dict[str, TensorPlace]]:
        """Divide what cannot be read straight into its place."""
        if self._device.type in ("cpu", "meta"):
            yield dict(places)
            return
        group: dict[str, TensorPlace] = {}
        size = 0
        for name, place in places.items():
            if group and size + place.entry.nbytes > _ON_THE_WAY:
                yield group
                group, size = {}, 0
            group[name] = place
            size += place.entry.nbytes
        yield group

    def _load_box(self, place: TensorPlace, offsets: list[int], steps: list[int], lengths: list[int]) -> torch.Tensor:
        if self._closed:
            raise ValueError(f"{self._name} is closed")
        entry = place.entry
        target = torch.empty(lengths, dtype=entry.dtype, device=_target_device(self._device))
        if self._device.type != "meta" and target.numel():
            strides = torch.empty(entry.shape, device="meta").stride()
            start = entry.start + sum(o * s for o, s in zip(offsets, strides, strict=True)) * entry.dtype.itemsize
            spread = tuple(stride * step for stride, step in zip(strides, steps, strict=True))
            stored = StoredTensor(start, entry.dtype, tuple(lengths), spread)
            box = select(stored, [0] * len(lengths), lengths)
            fetch(self._client, [(place.file, list(place_box(box, entry.dtype, target, _LONGEST_GAPPED)))])
        return target.to(self._device)


class S3SafetensorsSlice:
    """A tensor of a model: ``[...]`` fetches the elements asked for.

    Args:
        model: The model.
        place: Where the tensor is.
    """

    def __init__(self, model: S3Safetensors, place: TensorPlace) -> None:
        self._model = model
        self._place = place

    @property
    def shape(self) -> torch.Size:
        """The tensor's shape."""
        return self._place.entry.shape

    @property
    def dtype(self) -> torch.dtype:
        """Type of its elements."""
        return self._place.entry.dtype

    def get_shape(self) -> list[int]:
        """Return the tensor's shape, as the safetensors package does."""
        return list(self.shape)

    def get_dtype(self) -> str:
        """Return the type of its elements by its name in the format, such as ``BF16``."""
        return self._place.entry.type_name

    def __getitem__(self, index: Index | tuple[Index, ...]) -> torch.Tensor:
        """Fetch a part.

        What lies together in the file is one range. Columns are read together with what is between them, as long as a
        request for each would cost more.

        Args:
            index: Integers, slices with positive steps, and an ellipsis, as for a tensor.

        Returns:
            The part, in memory of its own.

        Raises:
            IndexError: It is outside the tensor.
            TypeError: It is something else, such as a mask or a list.
            ValueError: A step is not positive.
        """
        parts = _complete(index, self.shape)
        offsets, steps, lengths, kept = [], [], [], []
        for dimension, (part, size) in enumerate(zip(parts, self.shape, strict=True)):
            if isinstance(part, slice):
                start, stop, step = part.indices(size)
                if step < 0:
                    raise ValueError("the steps of a slice must be positive, as for a tensor")
                count = len(range(start, stop, step))
                kept.append(count)
            else:
                start, step, count = _at(part, size, dimension), 1, 1
            offsets.append(start)
            steps.append(step)
            lengths.append(count)
        return self._model._load_box(self._place, offsets, steps, lengths).reshape(kept)  # noqa: SLF001  # its own

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor without dimensions has no length")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._place.entry.name!r} {self.get_dtype()} {self.get_shape()}>"


def open_model(
    client: S3Client, files: ModelFiles, names: Iterable[str] | None, device: torch.device | str | int | None
) -> S3Safetensors:
    """Read the headers of a model.

    Args:
        client: Where to read.
        files: Its files.
        names: Only what these tensors need; None for all.
        device: Where tensors go.
    """
    return S3Safetensors(client, files.name, read_headers(client, files, names), device)


def check_names(names: Iterable[str]) -> list[str]:
    """Return names as a list, each once.

    Raises:
        TypeError: They are one string, or not strings.
    """
    if isinstance(names, str):
        raise TypeError(f"names must be several names, got the string {names!r}; for one name pass [{names!r}]")
    found = list(dict.fromkeys(names))
    for name in found:
        if not isinstance(name, str):
            raise TypeError(f"a tensor's name must be a str, got {name!r}")
    return found


def _complete(index: Index | tuple[Index, ...], shape: torch.Size) -> list[SupportsIndex | slice]:
    """Return an index for each dimension."""
    parts = index if isinstance(index, tuple) else (index,)
    for part in parts:
        is_integer = hasattr(part, "__index__") and not isinstance(part, (bool, torch.Tensor))
        if not is_integer and not isinstance(part, (slice, EllipsisType)):
            raise TypeError(f"a stored tensor is indexed by integers, slices and an ellipsis, got {part!r}")
    gaps = [number for number, part in enumerate(parts) if isinstance(part, EllipsisType)]
    missing = len(shape) - len(parts) + len(gaps)
    if len(gaps) > 1 or missing < 0:
        raise IndexError(f"too many indices for a tensor of shape {tuple(shape)}: {index!r}")
    at = gaps[0] if gaps else len(parts)
    filled = [*parts[:at], *[slice(None)] * missing, *parts[at + len(gaps) :]]
    return [part for part in filled if not isinstance(part, EllipsisType)]


def _at(part: SupportsIndex, size: int, dimension: int) -> int:
    number = operator.index(part)
    if not -size <= number < size:
        raise IndexError(f"index {number} is out of range for dimension {dimension} of size {size}")
    return number + size if number < 0 else number


def _target_device(device: torch.device) -> torch.device:
    return device if device.type == "meta" else torch.device("cpu")
