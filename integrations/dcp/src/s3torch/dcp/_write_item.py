"""One item of a plan, from memory into the file that is being written."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Protocol, cast

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.planner import WriteItem
from torch.distributed.checkpoint.storage import WriteResult

from s3torch.client import PutObjectStream
from s3torch.dcp._elements import LEAST_LENT, is_dense, put_bytes, put_elements
from s3torch.dcp._item_info import note_payload
from s3torch.dcp._tensor_archive import ArchiveMaker, stand_alone
from s3torch.dcp._tensor_memory import is_plain

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["ItemWriter", "StreamTransform"]


class StreamTransform(Protocol):
    """What is used of torch's ``StreamTransformExtension``."""

    def get_descriptor(self) -> str:
        """Return the name by which a reader finds it."""
        ...

    def transform_to(self, output: IO[bytes]) -> IO[bytes]:
        """Return a file that writes what it is given, changed, to ``output``."""
        ...


class ItemWriter:
    """Writes items as torch does.

    Args:
        archives: Where the bytes around the tensors come from.
        extensions: What changes each item's bytes on their way, the last one first.
    """

    def __init__(self, archives: ArchiveMaker, extensions: Sequence[StreamTransform] = ()) -> None:
        self._archives = archives
        self._extensions = tuple(extensions)

    def write(
        self, stream: PutObjectStream, name: str, item: WriteItem, data: torch.Tensor | io.BytesIO
    ) -> WriteResult:
        """Write one item.

        Args:
            stream: The file.
            name: The file's name, as the metadata will tell it.
            item: The item.
            data: Its content; tensors as `make_ready` returns them.

        Returns:
            Where it lies.
        """
        start = stream.tell()
        payload: int | None = None
        if self._extensions:
            self._write_transformed(stream, data)
        elif isinstance(data, io.BytesIO):
            put_bytes(stream, data.getbuffer())
        else:
            payload = self._write_tensor(stream, data)
        length = stream.tell() - start
        info = _StorageInfo(name, start, length)
        if self._extensions:
            descriptors = [extension.get_descriptor() for extension in reversed(self._extensions)]
            info.transform_descriptors = descriptors
        if payload is not None and _is_as_planned(item, data):
            note_payload(info, payload - start)
        return WriteResult(index=item.index, size_in_bytes=length, storage_data=info)

    def _write_tensor(self, stream: PutObjectStream, tensor: torch.Tensor) -> int | None:
        """Write a tensor; return where its elements begin, if they are stored in the order of its indices."""
        if not is_plain(tensor) and self._archives.has_crc:
            tensor = tensor.cpu()
        archive = self._archives.make(tensor) if tensor.nbytes and is_dense(tensor) else None
        if archive is None:
            _save(stand_alone(tensor.cpu()), _OpenEnd(stream))
            return None
        is_small = tensor.nbytes < LEAST_LENT
        (stream.write if is_small else stream.lend)(archive.head)
        payload = stream.tell()
        put_elements(stream, tensor)
        (stream.write if is_small else stream.lend)(archive.tail)
        return payload

    def _write_transformed(self, stream: PutObjectStream, data: torch.Tensor | io.BytesIO) -> None:
        end = _OpenEnd(stream)
        output = cast("IO[bytes]", end)
        try:
            for extension in self._extensions:
                output = extension.transform_to(output)
            if isinstance(data, io.BytesIO):
                output.write(data.getbuffer())
            else:
                torch.save(stand_alone(data.cpu()), output)
            output.close()
        except BaseException:
            end.raise_first()
            raise


def _is_as_planned(item: WriteItem, data: object) -> bool:
    """Whether a tensor is what the metadata will say of it: a planner may save it in another type, for instance."""
    planned = item.tensor_data
    return (
        planned is not None
        and isinstance(data, torch.Tensor)
        and planned.properties.dtype == data.dtype
        and planned.chunk.sizes == data.size()
    )


def _save(tensor: torch.Tensor, end: _OpenEnd) -> None:
    try:
        torch.save(tensor, cast("IO[bytes]", end))
    except BaseException:
        end.raise_first()
        raise


class _OpenEnd(io.RawIOBase):
    """A file that leaves the stream open when it is closed, as other items follow, and that keeps the first error.

    torch makes a RuntimeError of whatever a file raises, and who compresses may make something else of it.
    """

    def __init__(self, stream: PutObjectStream) -> None:
        self._stream = stream
        self._error: BaseException | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:
        try:
            return self._stream.write(data)
        except BaseException as error:
            self._error = self._error or error
            raise

    def raise_first(self) -> None:
        if self._error is not None:
            raise self._error from None
