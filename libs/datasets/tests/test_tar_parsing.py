"""Archives as bytes: against Python's `tarfile`, against the format, and against damage."""

from __future__ import annotations

import gzip
import io
import re
import struct
import tarfile
from collections.abc import Sequence
from itertools import chain

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from s3torch.datasets.tar._header import BLOCK, TarFormatError, parse_header
from s3torch.datasets.tar._parts import Parts
from s3torch.datasets.tar._samples import RawSample, read_samples, split_name

Members = Sequence[tuple[str, bytes]]


def archive(members: Members, fmt: int = tarfile.PAX_FORMAT, **fields: object) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=fmt) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in fields.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def parts_of(data: bytes, size: int = 2**30, start: int = 0) -> Parts:
    pieces = iter([memoryview(data)[at : at + size] for at in range(start, len(data), size)])
    return Parts(lambda: next(pieces, None), start, lambda: len(data))


def read(data: bytes, size: int = 2**30, start: int = 0) -> list[RawSample]:
    return list(read_samples(parts_of(data, size, start)))


def contents(samples: Sequence[RawSample]) -> list[tuple[str, dict[str, bytes]]]:
    return [(sample.key, {name: bytes(data) for name, data in sample.fields.items()}) for sample in samples]


def grouped(members: Members) -> list[tuple[str, dict[str, bytes]]]:
    """What members make up, by the documented rule, in the plainest way."""
    result: list[tuple[str, dict[str, bytes]]] = []
    for name, data in members:
        folder, slash, base = name.rpartition("/")
        stem, dot, extension = base.partition(".")
        if not dot or not stem:
            continue
        key = folder + slash + stem
        if not result or result[-1][0] != key:
            result.append((key, {}))
        result[-1][1][extension.lower()] = data
    return result


TWO = [("a/1.jpg", b"first"), ("a/1.cls", b"7"), ("a/2.jpg", b"x" * 1500), ("a/2.cls", b"")]


@pytest.mark.parametrize("fmt", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("size", [1, 100, 511, 512, 513, 10_000, 10**6])
def test_members_are_grouped_by_their_name(fmt: int, size: int) -> None:
    assert contents(read(archive(TWO, fmt), size)) == [
        ("a/1", {"jpg": b"first", "cls": b"7"}),
        ("a/2", {"jpg": b"x" * 1500, "cls": b""}),
    ]


def test_offsets_lead_to_each_sample() -> None:
    data = archive([*TWO, ("b/" + "long" * 60 + ".txt", b"after a long name"), ("c.txt", b"end")])
    samples = read(data)
    assert len(samples) == 4
    for index, sample in enumerate(samples):
        assert contents(read(data, start=sample.offset)) == contents(samples[index:])
        assert contents(read(data, start=sample.end)) == contents(samples[index + 1 :])


def test_members_in_one_part_are_views_of_it() -> None:
    data = archive(TWO)
    (first, second) = read(data)
    assert all(isinstance(piece, memoryview) and piece.obj is data for piece in first.fields.values())
    (first, second) = read(data, 2600)
    assert isinstance(second.fields["jpg"], bytes)


_names = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=60),
    min_size=1,
    max_size=5,
).map("/".join)


@settings(max_examples=150, deadline=None)
@given(
    members=st.lists(st.tuples(_names, st.binary(max_size=2000)), max_size=8),
    fmt=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    size=st.integers(1, 3000),
)
@example([("é" * 90 + "/" + "ü" * 70 + ".ţxt", b"1")], tarfile.GNU_FORMAT, 700)
def test_what_tarfile_wrote_is_what_is_read(members: Members, fmt: int, size: int) -> None:
    members = [(name, data) for name, data in members if not re.match("__[^/]*__(/|$)", name)]
    unique, seen = [], set()
    for name, data in members:
        split = split_name(name)
        if split not in seen:
            seen.add(split)
            unique.append((name, data))
    data = archive(unique, fmt)
    assert contents(read(data, size)) == grouped(unique)


def test_a_ustar_prefix_belongs_to_the_name() -> None:
    name = "/".join(["folder" * 10] * 3) + "/0001.txt"
    data = archive([(name, b"deep")], tarfile.USTAR_FORMAT)
    assert data[345:350] != bytes(5)
    assert contents(read(data)) == [(name[: -len(".txt")], {"txt": b"deep"})]


def test_only_plain_files_make_up_samples() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, kind in [
            ("1.dir", tarfile.DIRTYPE),
            ("1.link", tarfile.SYMTYPE),
            ("1.hard", tarfile.LNKTYPE),
            ("1.pipe", tarfile.FIFOTYPE),
        ]:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.linkname = "elsewhere"
            tar.addfile(info)
        for name in ("README", ".hidden.txt", "d/.hidden.txt", "__meta__", "__meta__/1.txt", "__meta__.json", "2.txt"):
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"abc"))
    assert contents(read(file.getvalue())) == [("__meta__", {"json": b"abc"}), ("2", {"txt": b"abc"})]


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("1.jpg", ("1", "jpg")),
        ("a.b/c/1.seg.PNG", ("a.b/c/1", "seg.png")),
        ("./1.jpg", ("./1", "jpg")),
        ("1.", ("1", "")),
        ("1", None),
        (".1", None),
        ("a.b/1", None),
        ("__info__", None),
        ("__info__/1.txt", None),
        ("a/__info__.txt", ("a/__info__", "txt")),
    ],
)
def test_names_split_at_the_first_dot(path: str, split: tuple[str, str] | None) -> None:
    assert split_name(path) == split


def header_with(data: bytes, **changes: bytes) -> bytes:
    """Change fields of the first header, and its checksum with them."""
    places = {"name": 0, "size": 124, "kind": 156, "magic": 257}
    block = bytearray(data[:BLOCK])
    for field, value in changes.items():
        block[places[field] : places[field] + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + data[BLOCK:]


def test_numbers_in_base_256() -> None:
    data = archive([("1.txt", b"abc")])
    assert contents(read(header_with(data, size=b"\x80" + (3).to_bytes(11, "big")))) == [("1", {"txt": b"abc"})]
    largest = header_with(data, size=b"\x80" + (2**63 - 1).to_bytes(11, "big"))
    assert parse_header(largest[:BLOCK], 0).size == 2**63 - 1
    with pytest.raises(TarFormatError, match=r"cut off, in '1.txt', at byte 10240"):
        read(largest)
    with pytest.raises(TarFormatError, match="no number in range"):
        read(header_with(data, size=b"\x80" + (2**63).to_bytes(11, "big")))
    with pytest.raises(TarFormatError, match="no number in range"):
        read(header_with(data, size=b"\xff" * 12))


@pytest.mark.parametrize("size", [b"0o17\0", b"1_0\0", b"+3\0", b"-3\0", b"9\0", b"1 1\0"])
def test_what_python_takes_for_a_number_and_tar_does_not(size: bytes) -> None:
    data = header_with(archive([("1.txt", b"abc")]), size=size.ljust(12, b"\0"))
    with pytest.raises(TarFormatError, match="no number in range"):
        read(data)


def test_sizes_of_extended_headers_win() -> None:
    data = archive([("1.txt", b"abc")], pax_headers={"size": "3", "mtime": "1.5", "path": "2.txt"})
    assert contents(read(data)) == [("2", {"txt": b"abc"})]
    # As it is written for members above 8 GiB: the header's own size says nothing.
    extended = 2 * BLOCK
    data = data[:extended] + header_with(data[extended:], size=b"00000000000\0")
    assert contents(read(data)) == [("2", {"txt": b"abc"})]


@pytest.mark.parametrize(
    "records", [b"5 a=b", b"99999 path=x\n", b"x path=x\n", b"9 path x\n", b"0 path=x\n", b"18 size=99999999999\n9"]
)
def test_malformed_extended_headers(records: bytes) -> None:
    data = archive([("PaxHeader", records), ("1.txt", b"")])
    with pytest.raises(TarFormatError, match="malformed record, at byte 0"):
        read(header_with(data, kind=b"x"))


@pytest.mark.parametrize("size", [b"-1", b"1e3", b"9223372036854775808", b"1" * 30, b""])
def test_extended_sizes_out_of_range(size: bytes) -> None:
    body = b"size=" + size + b"\n"
    records = b"%d " % (len(body) + (3 if len(body) + 3 >= 10 else 2)) + body
    data = archive([("PaxHeader", records), ("1.txt", b"")])
    with pytest.raises(TarFormatError, match="size out of range at byte 0"):
        read(header_with(data, kind=b"x"))


def test_sparse_files_are_refused() -> None:
    data = archive([("1.txt", b"abc")])
    with pytest.raises(TarFormatError, match="sparse"):
        read(header_with(data, kind=b"S"))
    with pytest.raises(TarFormatError, match="sparse"):
        read(archive([("1.txt", b"abc")], pax_headers={"GNU.sparse.major": "1"}))


def test_headers_for_all_members() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "a commit"}) as tar:
        tar.addfile(tarfile.TarInfo("1.txt"))
    assert contents(read(file.getvalue())) == [("1", {"txt": b""})]
    data = header_with(archive([("header", b"14 path=1.txt\n")]), kind=b"g")
    with pytest.raises(TarFormatError, match="all members"):
        read(data)


def test_names_twice_in_a_sample() -> None:
    data = archive([("1.txt", b"a"), ("1.cls", b"b"), ("1.TXT", b"c")])
    with pytest.raises(TarFormatError, match=r"'1.TXT' is the second .* in sample '1' at byte 2048"):
        read(data)


def test_an_archive_without_members() -> None:
    assert read(archive([])) == []
    assert read(bytes(1024)) == []
    assert read(bytes(512)) == []


@pytest.mark.parametrize("length", range(0, 10240, 256))
def test_every_cut_is_found(length: int) -> None:
    data = archive(TWO)
    end = 4 * BLOCK + 2 * BLOCK + 3 * BLOCK  # headers, two short members, one of three blocks
    assert data[end : end + BLOCK] == bytes(BLOCK)
    if length >= end + BLOCK and length % BLOCK == 0:
        assert len(read(data[:length])) == 2  # the members are whole, and a block of zeros follows
    elif length >= end + BLOCK:
        assert len(read(data[:length])) == 2
    else:
        with pytest.raises(TarFormatError, match=f"cut off.* at byte {length}"):
            read(data[:length])


def test_a_lost_block_does_not_pass_for_the_end() -> None:
    data = archive(TWO)
    with pytest.raises(TarFormatError, match="data follow the blocks of zeros"):
        read(bytes(BLOCK) + data[BLOCK:])
    with pytest.raises(TarFormatError, match="data follow the blocks of zeros"):
        read(data + data)


@pytest.mark.parametrize("compress", [gzip.compress])
def test_compressed_archives_are_named(compress: object) -> None:
    with pytest.raises(TarFormatError, match="gzip"):
        read(gzip.compress(archive(TWO)) + bytes(BLOCK))


@pytest.mark.parametrize("data", [b"", b"hello", b"hello" * 500])
def test_what_is_no_archive(data: bytes) -> None:
    with pytest.raises(TarFormatError, match=r"at byte (0|5)$"):
        read(data)


def test_checksums_with_signed_bytes() -> None:
    data = bytearray(archive([("é.txt", b"abc")], tarfile.GNU_FORMAT))
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(struct.unpack("512b", bytes(data[:BLOCK])))
    assert contents(read(bytes(data))) == [("é", {"txt": b"abc"})]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_changed_byte_of_a_header_is_found(data: st.DataObject) -> None:
    whole = bytearray(archive(TWO, tarfile.USTAR_FORMAT))
    at = data.draw(st.integers(0, BLOCK - 1))
    bit = data.draw(st.integers(1, 255))
    whole[at] ^= bit
    try:
        found = contents(read(bytes(whole)))
    except TarFormatError as error:
        assert 0 <= error.offset <= len(whole)
    else:
        # Only the checksum's own field has more than one way to write the same number.
        assert 148 <= at < 156
        assert found == contents(read(archive(TWO)))


@settings(max_examples=120, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 10239), st.integers(0, 255)), max_size=6),
    junk=st.binary(max_size=1200),
    size=st.integers(1, 2000),
)
def test_damage_is_an_error_or_harmless(changes: list[tuple[int, int]], junk: bytes, size: int) -> None:
    data = bytearray(archive(TWO))
    for at, value in changes:
        data[at] = value
    for damaged in (bytes(data), bytes(data) + junk, junk, junk + bytes(data)):
        try:
            samples = read(damaged, size)
        except TarFormatError as error:
            assert 0 <= error.offset <= len(damaged)
        else:
            pieces = list(chain.from_iterable(sample.fields.values() for sample in samples))
            assert sum(map(len, pieces)) <= len(damaged)
