from __future__ import annotations

import io

import pytest
import torch
from integrations.dcp.tests.saving import all_tensors, assert_same

from s3torch.checkpoint.archive_crc import without_archive_crc
from s3torch.dcp._elements import copy_in_pieces
from s3torch.dcp._tensor_archive import ArchiveMaker, stand_alone
from s3torch.dcp._tensor_memory import byte_view, is_plain

TENSORS = {name: tensor.detach() for name, tensor in all_tensors().items()}
PLAIN = [name for name, tensor in TENSORS.items() if is_plain(tensor) and tensor.nbytes]


@pytest.mark.parametrize("has_crc", [False, True])
@pytest.mark.parametrize("name", PLAIN)
def test_an_archive_is_what_torch_would_have_written(name: str, has_crc: bool) -> None:
    tensor = TENSORS[name]
    archive = ArchiveMaker(has_crc=has_crc).make(tensor)
    assert archive is not None
    expected = io.BytesIO()
    if has_crc:
        torch.save(tensor.clone(), expected)
    else:
        with without_archive_crc():
            torch.save(tensor.clone(), expected)
    assert archive.head + bytes(byte_view(tensor)) + archive.tail == expected.getvalue()


def test_an_archive_serves_all_tensors_of_its_shape_and_type() -> None:
    maker = ArchiveMaker()
    first = maker.make(torch.zeros(5, 7))
    assert first is not None
    other = torch.randn(9, 7)[2:7]
    archive = maker.make(other)
    assert maker.has_crc or archive is first
    assert archive is not None
    loaded = torch.load(io.BytesIO(archive.head + bytes(byte_view(other)) + archive.tail))
    assert_same(loaded, other)
    assert maker.make(torch.zeros(7, 5)) != first
    assert maker.make(torch.zeros(5, 7, dtype=torch.int32)) != first


@pytest.mark.parametrize("size", [30, 14, 15, 40, 16, 154, 2, 1])
def test_content_as_long_as_what_surrounds_it_is_recognised(size: int) -> None:
    tensor = torch.full((size,), 80, dtype=torch.uint8)
    archive = ArchiveMaker().make(tensor)
    assert archive is not None
    assert_same(torch.load(io.BytesIO(archive.head + bytes(byte_view(tensor)) + archive.tail)), tensor)


@pytest.mark.parametrize("name", TENSORS)
def test_alone_a_tensor_is_the_same_and_has_no_more_memory_than_it_needs(name: str) -> None:
    tensor = TENSORS[name]
    alone = stand_alone(tensor)
    assert_same(alone, tensor)
    assert alone.untyped_storage().nbytes() == tensor.nbytes
    if is_plain(tensor) and tensor.nbytes:
        assert alone.data_ptr() == tensor.data_ptr()


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 40), (torch.float64, 1), (torch.uint8, 7)])
def test_pieces_are_copies_of_all_elements(dtype: torch.dtype, size: int) -> None:
    tensor = torch.arange(50).reshape(5, 10).to(dtype)
    pieces = list(copy_in_pieces(tensor, size))
    assert b"".join(bytes(byte_view(piece)) for piece in pieces) == bytes(byte_view(tensor))
    assert all(piece.nbytes <= max(size, tensor.itemsize) for piece in pieces)
    assert len({piece.data_ptr() for piece in pieces}) == len(pieces)
