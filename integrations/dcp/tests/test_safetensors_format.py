"""The format, beside the safetensors package."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from s3torch.dcp._safetensors_format import (
    SafetensorsError,
    layout_key,
    make_header,
    parse_header,
    read_header_size,
    stored_size,
)

TYPES = (
    "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex64 "
    "float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz"
)
READABLE = TYPES.split()  # by the package, too


def ones(dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    """Make a tensor whose bytes are all 1: a valid element of each type."""
    data = torch.ones(math.prod(shape) * dtype.itemsize, dtype=torch.uint8)
    return data.view(dtype).reshape(shape) if data.numel() else torch.empty(shape, dtype=dtype)


def same(left: torch.Tensor, right: torch.Tensor) -> bool:
    return (left.dtype, left.shape) == (right.dtype, right.shape) and torch.equal(
        left.reshape(-1).view(torch.uint8), right.reshape(-1).view(torch.uint8)
    )


def describe(file: bytes) -> object:
    """Return all that a header says but the order of the bytes, which is the writer's choice."""
    header = parse_header(file, len(file))
    tensors = {name: (stored.type_name, stored.stored_shape) for name, stored in header.tensors.items()}
    return tensors, header.metadata


def build(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(start: int = 0, end: int = 1, *, dtype: str = "U8", shape: list[int] | None = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [end - start] if shape is None else shape, "data_offsets": [start, end]}


shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)
names = st.text(max_size=8).filter(lambda name: name != "__metadata__")
contents = st.dictionaries(names, st.tuples(st.sampled_from(READABLE), shapes), max_size=6)
notes = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)


@given(contents, notes)
def test_headers_are_read_and_written_like_the_packages(
    content: dict[str, tuple[str, tuple[int, ...]]], metadata: dict[str, str]
) -> None:
    tensors = {name: ones(getattr(torch, dtype), shape) for name, (dtype, shape) in content.items()}
    theirs = safetensors.torch.save(tensors, metadata or None)
    entries = [(name, tensor.dtype, tensor.shape) for name, tensor in tensors.items()]
    entries.sort(key=lambda item: layout_key(item[0], item[1]))
    head = make_header(entries, metadata)
    ours = head + b"\1" * sum(stored_size(dtype, shape) for _, dtype, shape in entries)
    assert len(head) % 8 == 0
    assert describe(ours) == describe(theirs)

    header = parse_header(theirs, len(theirs))
    assert dict(header.metadata) == metadata
    assert set(header.tensors) == set(tensors)
    for name, stored in header.tensors.items():
        assert (stored.dtype, stored.shape, stored.nbytes) == (
            tensors[name].dtype,
            tensors[name].shape,
            tensors[name].nbytes,
        )
    loaded = safetensors.torch.load(ours)
    assert set(loaded) == set(tensors)
    assert all(same(loaded[name], tensor) for name, tensor in tensors.items())


@given(contents)
def test_any_order_is_valid(content: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    entries = [(name, getattr(torch, dtype), shape) for name, (dtype, shape) in content.items()]
    file = make_header(entries) + b"\1" * sum(stored_size(dtype, shape) for _, dtype, shape in entries)
    assert set(safetensors.torch.load(file)) == set(content)


@pytest.mark.parametrize("type_name", ["float8_e8m0fnu", "float4_e2m1fn_x2"])
def test_types_that_the_package_only_writes(type_name: str) -> None:
    dtype = getattr(torch, type_name, None)
    if dtype is None:
        pytest.skip(f"torch {torch.__version__} has no {type_name}")
    tensor = torch.zeros(3, 4, dtype=torch.uint8).view(dtype)
    theirs = safetensors.torch.save({"a": tensor})
    ours = make_header([("a", dtype, tensor.shape)]) + bytes(12)
    assert parse_header(ours, len(ours)) == parse_header(theirs, len(theirs))
    stored = parse_header(theirs, len(theirs)).tensors["a"]
    assert (stored.dtype, stored.shape, stored.nbytes) == (dtype, tensor.shape, 12)


def test_types_that_torch_has_not_are_an_error_only_when_used() -> None:
    file = build({"a": entry(0, 3, dtype="F6_E2M3", shape=[4]), "b": entry(3, 4)}, bytes(4))
    header = parse_header(file, len(file))
    assert header.tensors["b"].dtype is torch.uint8
    with pytest.raises(SafetensorsError, match=r"'a'.*F6_E2M3"):
        _ = header.tensors["a"].dtype


def test_half_a_pair_is_refused() -> None:
    file = build({"a": entry(0, 3, dtype="F4", shape=[2, 3])}, bytes(3))
    with pytest.raises(SafetensorsError, match="pairs"):
        _ = parse_header(file, len(file)).tensors["a"].shape


@pytest.mark.parametrize(
    "entries",
    [
        [("a", torch.complex128, (1,))],
        [("a", torch.float32, (1,)), ("a", torch.float32, (1,))],
        [("__metadata__", torch.float32, (1,))],
        [("\ud800", torch.float32, (1,))],
    ],
    ids=["type", "twice", "reserved", "surrogate"],
)
def test_what_the_format_cannot_hold_is_refused(entries: Any) -> None:
    with pytest.raises(ValueError):
        make_header(entries)


def test_notes_are_strings() -> None:
    with pytest.raises(TypeError, match="3"):
        make_header([], {"epoch": 3})  # type: ignore[dict-item]  # what users try


@pytest.mark.parametrize(
    ("file", "complaint"),
    [
        (b"", "not a safetensors file"),
        (b"\2\0\0", "not a safetensors file"),
        (b"PK\3\4" + bytes(100), "not a safetensors file"),
        (b"\x80\0\0\0\0\0\0\0" + b"<html>" + bytes(200), "not a safetensors file"),
        ((1 << 40).to_bytes(8, "little") + b"{}", "not a safetensors file"),
        (build(b"[]"), "not a safetensors file"),
        (build(b"{]"), "not a safetensors file"),
        (build(b"{}\0\0"), "not a safetensors file"),
        (build(b'{"\xff":1}'), "not a safetensors file"),
        (build(b'{"a":' * 50_000), "not a safetensors file"),
        (build(b'{"a":' + b"9" * 5000 + b"}"), "not a safetensors file"),
        (build({"a": entry()}, b"\0")[:20], "truncated"),
        (build({"a": entry(0, 9)}, bytes(8)), "truncated"),
        (build({"a": entry()}, b"\0\0"), "corrupt"),
        (build({"a": entry(1, 2)}, bytes(2)), "gap after the header"),
        (build({"a": entry(0, 2), "b": entry(3, 4)}, bytes(4)), "'b' leaves a gap after 'a'"),
        (build({"a": entry(0, 2), "b": entry(1, 4)}, bytes(4)), "'b' overlaps 'a'"),
        (build({"a": entry(0, 2), "b": entry(0, 2)}, bytes(2)), "'b' overlaps 'a'"),
        (build({"a": entry(0, 4, shape=[3])}, bytes(4)), "takes 3 bytes, its offsets 4"),
        (build({"a": entry(0, 1, dtype="F4", shape=[1])}, bytes(1)), "takes 0.5 bytes"),
        (build({"a": entry(0, 8, dtype="F64", shape=[1 << 62, 1 << 62])}, bytes(8)), "takes"),
        (build({"a": entry(0, 1, shape=[-1])}, bytes(1)), "shape"),
        (build({"a": entry(0, 1, shape=[True])}, bytes(1)), "shape"),
        (build({"a": {**entry(), "data_offsets": [1, 0]}}, bytes(1)), "offsets"),
        (build({"a": {**entry(), "data_offsets": [0, 1, 1]}}, bytes(1)), "offsets"),
        (build({"a": {**entry(), "data_offsets": None}}, bytes(1)), "offsets"),
        (build({"a": {**entry(), "dtype": "U7"}}, bytes(1)), "unknown type 'U7'"),
        (build({"a": {**entry(), "dtype": ["U8"]}}, bytes(1)), "unknown type"),
        (build({"a": 1}), "'a'"),
        (build({"__metadata__": {"a": 1}}), "metadata"),
        (build({"__metadata__": [1]}), "metadata"),
        (
            build(b'{"a":%b,"a":%b}' % ((json.dumps(entry()).encode(),) * 2), bytes(1)),
            "'a' stands there twice",
        ),
    ],
)
def test_what_is_no_such_file_is_one_clear_error(file: bytes, complaint: str) -> None:
    with pytest.raises(SafetensorsError, match=complaint):
        parse_header(file, len(file))


def test_metadata_may_be_missing_or_nothing() -> None:
    for text in (b"{}", b'{"__metadata__":null}', b'{"__metadata__":{}}   '):
        assert parse_header(build(text), 8 + len(text)).metadata == {}


@given(st.binary(max_size=60), st.integers(0, 60))
def test_no_bytes_break_the_parser(junk: bytes, at: int) -> None:
    good = build({"a": entry(0, 4), "b": entry(4, 8)}, bytes(8))
    file = good[:at] + junk + good[at + len(junk) :]
    try:
        parse_header(file, len(file))
    except SafetensorsError:
        return
    safetensors.deserialize(file)  # type: ignore[no-untyped-call]  # what we take, the package takes


def test_the_size_comes_before_the_header() -> None:
    file = build({"a": entry()}, b"\0")
    assert read_header_size(file[:8], len(file)) == read_header_size(file, len(file)) == len(file) - 1
    with pytest.raises(ValueError, match="bytes"):
        parse_header(file[:30], len(file))
