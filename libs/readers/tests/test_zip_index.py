import io
import zipfile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s3torch.readers.zip_index import ZipRecord, find_directory, is_torch_archive, parse_directory

NAMES = st.text("abcdefgh/._-0123456789äß", min_size=1, max_size=40)


def make_zip(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.comment = comment
    return out.getvalue()


def records_of(data: bytes, tail: int = 4096) -> list[ZipRecord]:
    directory = find_directory(data[-tail:], len(data))
    assert directory is not None
    records = parse_directory(data[directory.offset : directory.offset + directory.size])
    assert records is not None
    return records


def assert_as_zipfile_sees_it(data: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        expected = sorted((info.header_offset, info.filename, info.file_size) for info in archive.infolist())
    found = [(record.header_offset, record.name.decode(), record.size) for record in records_of(data)]
    assert found == expected


@given(st.dictionaries(NAMES, st.binary(max_size=300), max_size=30), st.sampled_from([0, 8]))
def test_the_directory_is_what_zipfile_says(members: dict[str, bytes], compression: int) -> None:
    data = make_zip(members, compression)
    assert_as_zipfile_sees_it(data)
    assert all(record.is_stored == (compression == 0) for record in records_of(data))


@given(st.dictionaries(NAMES, st.binary(max_size=300), min_size=1, max_size=10), st.integers(0, 400))
def test_zip64_fields_are_read(members: dict[str, bytes], limit: int) -> None:
    before = zipfile.ZIP64_LIMIT
    zipfile.ZIP64_LIMIT = limit  # type: ignore[misc]  # the only way to a small zip64 archive
    try:
        data = make_zip(members)
    finally:
        zipfile.ZIP64_LIMIT = before  # type: ignore[misc]  # as above
    assert_as_zipfile_sees_it(data)


@given(st.binary(max_size=200))
def test_what_is_no_archive_has_no_directory(noise: bytes) -> None:
    found = find_directory(noise, len(noise) + 1000)
    assert found is None or found.offset + found.size <= len(noise) + 1000


@given(st.data())
def test_a_damaged_archive_gives_records_or_nothing(data: st.DataObject) -> None:
    archive = bytearray(make_zip({"a/data.pkl": b"1" * 50, "a/data/0": b"2" * 90}))
    for _ in range(data.draw(st.integers(1, 4))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    directory = find_directory(archive, len(archive))
    if directory is not None:
        parse_directory(archive[directory.offset : directory.offset + directory.size])


def test_a_comment_or_a_cut_tail_is_no_directory() -> None:
    assert find_directory(make_zip({"a": b"b"}, comment=b"hello"), 1000) is None
    assert find_directory(b"", 0) is None
    assert find_directory(b"PK\x05\x06", 4) is None


def save(obj: object, zip_format: bool = True) -> bytes:
    out = io.BytesIO()
    torch.save(obj, out, _use_new_zipfile_serialization=zip_format)
    return out.getvalue()


@pytest.mark.parametrize("count", [0, 1, 17, 200])
def test_payload_offsets_of_torch_are_predicted(count: int) -> None:
    tensors = [torch.arange(7 * number + 1) for number in range(count)]
    data = save(tensors)
    assert_as_zipfile_sees_it(data)
    records = records_of(data)
    assert is_torch_archive(records)
    for record in records:
        lengths = data[record.header_offset + 26 : record.header_offset + 30]
        behind_header = 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
        assert record.payload_offset() == record.header_offset + behind_header
    storages = [record for record in records if b"/data/" in record.name]
    assert len(storages) == count
    for record in storages:
        tensor = tensors[int(record.name.rpartition(b"/")[2])]
        assert data[record.payload_offset() : record.payload_offset() + record.size] == tensor.numpy().tobytes()


def test_other_archives_are_not_torchs() -> None:
    assert not is_torch_archive([])
    assert not is_torch_archive(records_of(make_zip({"a.npy": b"1", "b.npy": b"2"})))
    assert not is_torch_archive(records_of(make_zip({"a/data.pkl": b"1" * 500}, zipfile.ZIP_DEFLATED)))
    assert not is_torch_archive(records_of(make_zip({"a/data.pkl": b"1", "b/data/0": b"2"})))
    assert is_torch_archive(records_of(make_zip({"a/data.pkl": b"1", "a/data/0": b"2"})))
    assert find_directory(save([1], zip_format=False), 10_000) is None
