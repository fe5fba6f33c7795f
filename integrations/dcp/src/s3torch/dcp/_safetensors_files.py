"""Safetensors files in S3: their headers, and pieces of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from s3torch.client import GetRequest, InvalidRangeError, ObjectNotFoundError, S3Client, S3Uri
from s3torch.client.scatter import Piece, read_pieces
from s3torch.dcp._model_files import ModelFiles, read_index
from s3torch.dcp._safetensors_format import Header, SafetensorsError, TensorEntry, parse_header, read_header_size

__all__ = ["SAVE_FILES", "SAVE_ID", "ModelFile", "TensorPlace", "fetch", "place_tensors", "read_headers"]

SAVE_ID = "s3torch_save_id"
"""Note in the headers of files that belong together: which save has written them."""
SAVE_FILES = "s3torch_save_files"
"""Note in the headers of files that belong together: how many there are."""

# Enough for the header of most files in one request. What came with it of the tensors is not fetched again.
_FIRST_READ = 128 * 1024


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A safetensors file: one version of an object, and its header."""

    request: GetRequest
    """The object, with its ETag and size."""
    header: Header
    """What it holds."""
    start: bytes = b""
    """The file's first bytes, as far as they came with the header."""

    @property
    def uri(self) -> str:
        """The object's URI."""
        return str(S3Uri(self.request.bucket, self.request.key))

    def forget_start(self) -> ModelFile:
        """Return it without bytes of tensors."""
        return replace(self, start=b"")


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """Where a tensor is."""

    file: ModelFile
    """The file."""
    entry: TensorEntry
    """The tensor in it."""


def read_headers(client: S3Client, files: ModelFiles, names: Iterable[str] | None = None) -> list[ModelFile]:
    """Read the headers of a model's files, many at once.

    Args:
        client: Where to read.
        files: The files.
        names: Only those files that hold these tensors; None for all.

    Returns:
        The files.

    Raises:
        SafetensorsError: One is not a safetensors file, or damaged, or not what the index says, or the files are not of
            one save.
        ObjectNotFoundError: One is missing.
    """
    requests = files.requests if names is None else files.holding(names)
    try:
        starts = _read_ranges(client, [(request, 0, _FIRST_READ) for request in requests])
    except ObjectNotFoundError as error:
        if files.fallback is not None:
            try:
                files = read_index(client, files.name, files.fallback)
            except ObjectNotFoundError:
                raise error from None
            return read_headers(client, files, names)
        if files.index is not None:
            raise ObjectNotFoundError(
                f"the index of {files.name} names this file, and it is not there",
                operation=error.operation,
                bucket=error.bucket,
                key=error.key,
                remedy="Save or upload the model again.",
            ) from error
        raise
    found: list[ModelFile] = []
    longer: list[tuple[int, int]] = []
    for number, (request, data) in enumerate(starts):
        size = request.size or 0
        with _naming(request):
            header_size = read_header_size(data, size)
            if header_size > len(data):
                longer.append((number, header_size))
                found.append(ModelFile(request, Header({}), data))
            else:
                found.append(ModelFile(request, parse_header(data, size), data))
    rests = _read_ranges(client, [(starts[number][0], len(starts[number][1]), size) for number, size in longer])
    for (number, _), (request, rest) in zip(longer, rests, strict=True):
        with _naming(request):
            found[number] = ModelFile(request, parse_header(found[number].start + rest, request.size or 0))
    _check(files, found, is_all=names is None)
    return found


def place_tensors(files: Iterable[ModelFile]) -> dict[str, TensorPlace]:
    """Return where each tensor is.

    Args:
        files: The files.

    Raises:
        SafetensorsError: Two of them have a tensor of the same name.
    """
    places: dict[str, TensorPlace] = {}
    for file in files:
        for name, entry in file.header.tensors.items():
            if name in places:
                raise SafetensorsError(
                    f"the tensor {name!r} is in {places[name].file.uri} and in {file.uri}. Name the file that is meant"
                )
            places[name] = TensorPlace(file, entry)
    return places


def fetch(client: S3Client, wanted: Iterable[tuple[ModelFile, Sequence[Piece]]], *, memory: int | None = None) -> None:
    """Fetch pieces of files, all at once.

    Args:
        client: Where to read.
        wanted: Pieces, and the files they are of; a file may come more than once.
        memory: Bytes that may be held for pieces that do not go straight into memory.

    Raises:
        ObjectChangedError: A file was replaced since its header was read.
        S3Exception: A request failed; nothing touches the memory any more.
    """
    sources: dict[str, tuple[GetRequest, list[Piece]]] = {}
    for file, pieces in wanted:
        left = [rest for piece in pieces if (rest := _serve(file, piece)) is not None]
        if left:
            sources.setdefault(file.uri, (file.request, []))[1].extend(left)
    read_pieces(client.engine, client.s3client_config, list(sources.values()), memory=memory)


def _serve(file: ModelFile, piece: Piece) -> Piece | None:
    """Fill what lies in the bytes at hand; return what is left of the piece."""
    at_hand = len(file.start)
    if piece.start == piece.end:
        return None
    if piece.start >= at_hand:
        return piece
    if not isinstance(piece.into, memoryview):
        if piece.end > at_hand:
            return piece
        piece.into(memoryview(bytearray(file.start[piece.start : piece.end])))
        return None
    data = memoryview(file.start)[piece.start : piece.end]
    piece.into[: data.nbytes] = data
    return None if piece.end <= at_hand else Piece(at_hand, piece.end, piece.into[data.nbytes :])


def _check(files: ModelFiles, found: Sequence[ModelFile], *, is_all: bool) -> None:
    """Check that the files belong together."""
    if len({file.header.metadata.get(SAVE_ID) for file in found}) > 1:
        raise SafetensorsError(
            f"{files.name}: its files are not of one save: another one is going on, or was interrupted."
            " Load it again later, or save it again"
        )
    count = found[0].header.metadata.get(SAVE_FILES) if found and is_all else None
    is_named = files.fallback is not None  # one file, which the user has named, may be one of several
    if count is not None and count != str(len(found)) and not is_named:
        raise SafetensorsError(
            f"{files.name}: it has {len(found)} of the {count} files of its save, which was interrupted or is still"
            " going on, or some were deleted. Save it again"
        )
    by_key: Mapping[str, ModelFile] = {file.request.key: file for file in found}
    for name, key in (files.index or {}).items():
        if key in by_key and name not in by_key[key].header.tensors:
            raise SafetensorsError(f"{files.name}: the index says that {name!r} is in {by_key[key].uri}, and it is not")


@contextmanager
def _naming(request: GetRequest) -> Iterator[None]:
    """Put the file's name before what is said of its content."""
    try:
        yield
    except SafetensorsError as error:
        raise SafetensorsError(f"{S3Uri(request.bucket, request.key)}: {error}") from None


def _read_ranges(client: S3Client, ranges: Sequence[tuple[GetRequest, int, int]]) -> list[tuple[GetRequest, bytes]]:
    """Read a range of each object, and learn its ETag and size where they were not known."""
    for request, _, _ in ranges:
        if request.size == 0:
            raise _empty(request)
    asked = [request.narrow(start, end, request.etag, request.size) for request, start, end in ranges]
    found: list[tuple[GetRequest, bytes]] = []
    try:
        for result in client.get_many(asked):
            request = result.request
            known = request.narrow(None, None, result.info.etag or None, result.info.size)
            found.append((known, bytes(result.data)))
    except InvalidRangeError as error:
        raise _empty(ranges[len(found)][0]) from error
    return found


def _empty(request: GetRequest) -> SafetensorsError:
    return SafetensorsError(f"{S3Uri(request.bucket, request.key)}: not a safetensors file: it is empty")
