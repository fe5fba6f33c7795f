"""Boxes of stored tensors: every element once, in ranges that are worth a request."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s3torch.dcp._heads import HEAD_SIZE, read_head
from s3torch.dcp._load_plan import Box, StoredTensor, cut_box, cut_dense, select

LIMIT = 512 * 1024


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Views into a tensor of bytes: any order of dimensions, any steps and gaps."""
    shape = draw(st.lists(st.integers(1, 5), max_size=4))
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.integers(1, 3)) for _ in shape]
    whole = torch.arange(math.prod(size * step for size, step in zip(shape, steps, strict=True)) or 1)
    view = whole.view([shape[d] * steps[d] for d in order] or [])
    view = view.permute([order.index(d) for d in range(len(shape))])
    for dimension, step in enumerate(steps):
        view = view[(slice(None),) * dimension + (slice(None, None, step),)]
    return view


def stored(view: torch.Tensor, start: int = 0) -> StoredTensor:
    return StoredTensor(start + 8 * int(view.storage_offset()), torch.int64, tuple(view.shape), view.stride())


@settings(deadline=None, max_examples=50)
@given(view=tensors(), data=st.data())
def test_boxes_hold_each_element_once_at_its_place(view: torch.Tensor, data: st.DataObject) -> None:
    offsets = [data.draw(st.integers(0, size)) for size in view.shape]
    lengths = [data.draw(st.integers(0, size - first)) for size, first in zip(view.shape, offsets, strict=True)]
    longest = data.draw(st.integers(1, 2000))
    wanted = view[tuple(slice(first, first + length) for first, length in zip(offsets, lengths, strict=True))]
    box = select(stored(view, 1000), offsets, lengths)
    found = torch.full(wanted.shape, -1)
    file = bytes(1000) + bytes(view.untyped_storage().tolist())
    for part in cut_box(box, longest):
        for piece in cut_dense(part, longest) if part.is_dense else [part]:
            raw = torch.frombuffer(bytearray(file[piece.start : piece.end]), dtype=torch.int64)
            if piece.is_dense:
                assert len(raw) * 8 == piece.nbytes
                assert len(raw) * 8 <= longest or math.prod(piece.shape) == 1
            place = tuple(slice(first, first + size) for first, size in zip(piece.offsets, piece.shape, strict=True))
            assert bool((found[place] == -1).all())
            found[place] = raw.as_strided(piece.shape, [step // 8 for step in piece.stride])
    assert torch.equal(found, wanted)


def test_what_is_far_apart_is_left_apart() -> None:
    tensor = StoredTensor(0, torch.uint8, (4, 3, 1 << 20), (3 << 20, 1 << 20, 1))
    parts = list(cut_box(select(tensor, (0, 1, 0), (4, 1, 1 << 20)), LIMIT))
    assert [(part.start, part.end) for part in parts] == [((3 * n + 1) << 20, (3 * n + 2) << 20) for n in range(4)]
    assert all(part.is_dense for part in parts)
    parts = list(cut_box(select(tensor, (0, 0, 0), (4, 3, 100)), LIMIT))
    assert len(parts) == 12
    assert {part.nbytes for part in parts} == {100}


def test_what_is_near_is_put_together_up_to_a_length() -> None:
    tensor = StoredTensor(0, torch.uint8, (1000, 4096), (4096, 1))
    parts = list(cut_box(select(tensor, (0, 5), (1000, 10)), LIMIT))
    assert sum(part.shape[0] for part in parts) == 1000
    assert len(parts) == math.ceil(1000 * 4096 / LIMIT)
    assert all(part.end - part.start <= LIMIT for part in parts)


@pytest.mark.parametrize(
    ("offsets", "lengths"), [((0,), (3,)), ((0, 0), (3, 5)), ((1, 0), (3, 4)), ((-1, 0), (1, 1)), ((0, 0), (1, -1))]
)
def test_boxes_outside_are_refused(offsets: Any, lengths: Any) -> None:
    with pytest.raises(ValueError, match="stored tensor"):
        select(StoredTensor(0, torch.float32, (3, 4), (4, 1)), offsets, lengths)


def test_a_box_of_nothing_has_no_parts() -> None:
    assert list(cut_box(Box((0, 0), (3, 0), (8, 8), 0, 8), LIMIT)) == []


def saved(tensor: torch.Tensor, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(tensor, file, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(30, 40),
        torch.randn(30, 40).t(),
        torch.randn(300)[20:90],
        torch.nn.Parameter(torch.randn(3)),
        torch.tensor(3),
        torch.zeros(0, 3),
        torch.zeros(9, dtype=torch.bfloat16),
        torch.zeros(9, dtype=torch.uint16),
        torch.zeros(9).to(torch.float8_e5m2),
        torch.zeros(9, dtype=torch.bool),
        torch.zeros(9, dtype=torch.complex128),
    ],
)
def test_heads_tell_where_the_elements_lie(tensor: torch.Tensor) -> None:
    data = saved(tensor)
    found = read_head(data[:HEAD_SIZE], 1000, len(data))
    assert found is not None
    assert (found.dtype, found.shape) == (tensor.dtype, tuple(tensor.shape))
    assert found.stride == tensor.stride()
    if tensor.numel() and tensor.is_contiguous():
        elements = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        raw = torch.frombuffer(bytearray(data[found.start - 1000 :]), dtype=torch.uint8)
        assert torch.equal(raw[: len(elements)], elements)


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
def test_heads_of_other_things_are_left_to_torch() -> None:
    for thing in (
        saved(torch.zeros(3, dtype=torch.complex64).conj()),
        saved(torch.zeros(3, dtype=torch.complex64).conj().imag),
        saved(torch.eye(3).to_sparse()),
        saved(torch.zeros(3), _use_new_zipfile_serialization=False),
        saved([torch.zeros(3)]),  # type: ignore[arg-type]  # on purpose
        saved([torch.zeros(3), torch.zeros(3)]),  # type: ignore[arg-type]  # on purpose
        saved(torch.zeros(3, device="meta")),
        b"",
        b"PK",
        bytes(5000),
    ):
        assert read_head(thing[:HEAD_SIZE], 0, len(thing)) is None


@settings(deadline=None)
@given(data=st.data())
def test_damaged_heads_are_never_an_error(data: st.DataObject) -> None:
    value = torch.arange(100.0)
    raw = bytearray(saved(value))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, 700))] = data.draw(st.integers(0, 255))
    found = read_head(bytes(raw[: data.draw(st.integers(0, HEAD_SIZE))]), 0, len(raw))
    if found is not None:
        last = found.start + sum((s - 1) * t for s, t in zip(found.shape, found.stride, strict=True)) * 4
        assert 0 <= found.start <= last <= len(raw) or 0 in found.shape


def test_an_item_that_is_too_short_is_left_to_torch() -> None:
    data = saved(torch.arange(1000.0))
    assert read_head(data[:HEAD_SIZE], 0, 3000) is None
