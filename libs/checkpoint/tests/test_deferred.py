"""What is left out while torch rebuilds the tensors, and when nothing may be."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterable
from typing import IO, Any, cast

import pytest
import torch

from s3torch.checkpoint import S3Checkpoint
from s3torch.checkpoint._archive import read_archive
from s3torch.checkpoint._deferred import DeferredFile, SurpriseError
from s3torch.checkpoint._globals import reads_no_tensor
from s3torch.client import GetObjectStream, PutOptions, S3ClientConfig
from s3torch.client.memory import MemoryStore
from s3torch.client.values import GetRequest

KEY = "model.pt"
STATE = {"a": torch.arange(300_000.0), "b": torch.zeros(0), "c": torch.arange(7), "d": torch.arange(300_000.0)}


def saved(value: object, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def open_stream(engine: Any, store: MemoryStore, data: bytes) -> GetObjectStream:
    store.write("bucket", KEY, data, PutOptions())
    return GetObjectStream(engine, S3ClientConfig(), GetRequest("bucket", KEY))


def pickle_of(value: object, **options: Any) -> bytes:
    return zipfile.ZipFile(io.BytesIO(saved(value, **options))).read("archive/data.pkl")


def test_an_archive_is_found_where_python_s_zip_module_finds_it(engine: Any, store: MemoryStore) -> None:
    data = saved(STATE)
    archive = read_archive(open_stream(engine, store, data))
    assert archive is not None
    with zipfile.ZipFile(io.BytesIO(data)) as expected:
        assert archive.pickle == expected.read("archive/data.pkl")
        assert archive.byteorder.encode() == expected.read("archive/byteorder")
        contents = [expected.read(f"archive/data/{number}") for number in range(4)]
    assert [data[payload.offset : payload.offset + payload.size] for payload in archive.payloads] == contents
    for payload in archive.payloads:
        true_header = data[payload.header_offset : payload.header_offset + 30]
        assert payload.header[:4] == true_header[:4]
        assert payload.header[26:] == true_header[26:]  # lengths of name and extra field: where the content begins


def test_no_storage_is_read_before_all_tensors_stand(engine: Any, store: MemoryStore) -> None:
    stream = open_stream(engine, store, saved(STATE))
    archive = read_archive(stream)
    assert archive is not None
    filled: list[tuple[int, int]] = []

    def fill(pieces: Iterable[tuple[int, memoryview]]) -> None:
        filled.extend((start, view.nbytes) for start, view in pieces)

    file = DeferredFile(stream, archive, fill)
    before = len(engine.gets)
    restore: Any = file.map_location
    loaded = torch.load(cast("IO[bytes]", file), map_location=restore)
    assert len(engine.gets) == before
    assert filled == []
    file.fill()
    assert filled == [(payload.offset, payload.size) for payload in archive.payloads if payload.size]
    assert {name: tensor.shape for name, tensor in loaded.items()} == {n: t.shape for n, t in STATE.items()}


def test_storages_live_until_they_are_filled(engine: Any, store: MemoryStore) -> None:
    """A pickle may drop a tensor that it has made; its memory must not be written to when it is another's."""
    stream = open_stream(engine, store, saved([{"key": torch.arange(100_000.0)}]))
    archive = read_archive(stream)
    assert archive is not None
    file = DeferredFile(stream, archive, lambda pieces: None)
    restore: Any = file.map_location
    loaded = torch.load(cast("IO[bytes]", file), map_location=restore)
    address = loaded[0]["key"].data_ptr()
    del loaded
    (filling,) = file._noted
    assert filling.storage is not None
    assert filling.storage.data_ptr() == address
    assert filling.storage.nbytes() == 400_000


def test_a_surprise_in_torch_falls_back_to_the_plain_way(
    checkpoint: S3Checkpoint, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("bucket", KEY, saved(STATE), PutOptions())

    def map_location(self: DeferredFile, storage: object, location: str) -> None:
        """What a torch would do that does not show its storages."""

    monkeypatch.setattr(DeferredFile, "map_location", map_location)
    loaded = checkpoint.load(f"s3://bucket/{KEY}")
    assert all(torch.equal(loaded[name], STATE[name]) for name in STATE)


def test_memory_that_is_not_the_storage_s_is_a_surprise(engine: Any, store: MemoryStore) -> None:
    stream = open_stream(engine, store, saved(torch.arange(5)))
    archive = read_archive(stream)
    assert archive is not None
    file = DeferredFile(stream, archive, lambda pieces: None)

    def other(storage: Any, location: str) -> Any:
        return file.map_location(storage.clone(), location)

    restore: Any = other
    with pytest.raises(SurpriseError):
        torch.load(cast("IO[bytes]", file), map_location=restore)


@pytest.mark.parametrize("size", [0, 3, 4, 100])
def test_what_is_no_archive_is_none(engine: Any, store: MemoryStore, size: int) -> None:
    assert read_archive(open_stream(engine, store, b"PK\x03\x04"[:size] + bytes(max(0, size - 4)))) is None


def test_an_archive_with_anything_moved_is_none(engine: Any, store: MemoryStore) -> None:
    """Another tool may keep names and methods, and place contents elsewhere."""
    data = saved(STATE)
    source = zipfile.ZipFile(io.BytesIO(data))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        for name in source.namelist():
            out.writestr(zipfile.ZipInfo(name), source.read(name))
    assert read_archive(open_stream(engine, store, file.getvalue())) is None
    assert read_archive(open_stream(engine, store, data)) is not None


def test_an_archive_that_claims_a_record_too_many_is_none(engine: Any, store: MemoryStore) -> None:
    data = bytearray(saved(STATE))
    entry = data.rindex(b"PK\x01\x02", 0, data.rindex(b"archive/data/2"))
    (size,) = struct.unpack_from("<I", data, entry + 24)
    struct.pack_into("<2I", data, entry + 20, size - 1, size - 1)
    assert read_archive(open_stream(engine, store, bytes(data))) is None


class Own:
    pass


@pytest.mark.parametrize(
    ("value", "options", "expected"),
    [
        (STATE, {}, True),
        ({"parameter": torch.nn.Parameter(torch.zeros(3)), "size": torch.Size([2]), "kind": torch.float32}, {}, True),
        ([torch.zeros(2, dtype=kind) for kind in (torch.bfloat16, torch.bool, torch.complex128)], {}, True),
        ([torch.tensor([1], dtype=torch.uint32)], {}, True),
        (torch.nn.Linear(3, 3).state_dict(), {}, True),
        ({1, 2}, {}, True),
        (torch.eye(3).to_sparse(), {}, False),
        (torch.nn.Linear(3, 3), {}, False),
        (Own(), {}, False),
        (STATE, {"pickle_protocol": 4}, False),
        (print, {}, False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_what_reads_no_tensor_is_deferred(value: object, options: dict[str, Any], expected: bool) -> None:
    assert reads_no_tensor(pickle_of(value, **options)) is expected


@pytest.mark.parametrize("pickle", [b"", b"\xff\xff", b"\x80\x02c", b"\x80\x02cos\nsystem\n."])
def test_broken_and_foreign_pickles_are_not_deferred(pickle: bytes) -> None:
    assert not reads_no_tensor(pickle)
