"""A manifest is the index again, with its labels, or a clear error."""

from __future__ import annotations

import pickle
import sys
import uuid
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s3torch.client import ObjectInfo, ObjectNotFoundError, S3BucketKeyData, S3Client
from s3torch.datasets import S3Index, load_manifest
from s3torch.datasets.index import manifest as manifests
from s3torch.harness.servers import MotoServer

SUFFIXES = ["parquet", "arrow"]


def some(count: int = 1000) -> list[S3BucketKeyData]:
    """Objects of every kind."""
    made = []
    for number in range(count):
        key = f"train/{number:06}é.jpg"
        etag = ('"{:032x}"', '"{:032x}-3"', '"odd {}"')[number % 7 % 3].format(number)
        info = ObjectInfo(key, etag, number * 1000, 1_700_000_000 + number, ("STANDARD", "GLACIER")[number % 2])
        made.append(S3BucketKeyData("other" if number % 3 == 0 else "bucket", key, info if number % 5 else None))
    return made


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_it_is_the_index_again(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "_ROW_GROUP", 300)  # several
    index = S3Index.from_items(some())
    index.save_manifest(tmp_path / f"m.{suffix}")
    again = load_manifest(tmp_path / f"m.{suffix}")
    assert list(again) == list(index)
    assert again.fingerprint == index.fingerprint
    assert again.label_names == []
    assert [path.name for path in tmp_path.iterdir()] == [f"m.{suffix}"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_labels_come_back_in_their_types_and_follow_a_selection(tmp_path: Path, suffix: str) -> None:
    index = S3Index.from_items(some())
    name = str(tmp_path / f"m.{suffix}")
    labels = {
        "label": np.arange(1000, dtype=np.int16),
        "name": pa.array(["cat", "dog"] * 500).dictionary_encode(),
        "box": [[0.5, float(number)] for number in range(1000)],
    }
    index.save_manifest(name, labels=labels)
    again: S3Index = pickle.loads(pickle.dumps(load_manifest(name)))
    assert again.label_names == ["label", "name", "box"]
    assert again.labels("label").type == pa.int16()
    assert again.labels("label").to_pylist() == list(range(1000))
    assert again.labels("name")[3].as_py() == "dog"
    assert again[10:20].labels("box").to_pylist() == labels["box"][10:20]
    assert again[::-7].labels("label").to_pylist() == list(range(1000))[::-7]
    chosen = again.take(np.array([5, 5, 999])).where(suffix=".jpg")
    assert chosen.labels("name").to_pylist() == ["dog", "dog", "dog"]
    chosen.save_manifest(name, labels={"more": [True, False, True]})
    last = load_manifest(name)
    assert list(last) == list(chosen)
    assert last.labels("box").to_pylist() == [[0.5, 5.0], [0.5, 5.0], [0.5, 999.0]]
    assert last.labels("more").to_pylist() == [True, False, True]
    with pytest.raises(KeyError, match="its columns of labels are: label, name, box, more"):
        last.labels("class")
    with pytest.raises(KeyError, match="not made from a manifest"):
        index.labels("label")


def test_one_of_another_program_is_read(tmp_path: Path) -> None:
    """Text in any of Arrow's types, entity tags without quotes, URIs, sizes of any integer type, other columns."""
    digest = "0123456789abcdef0123456789abcdef"
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    table = pa.table(
        {
            "uri": pa.array(["s3://b/k\n1", "s3://b/k/2"], pa.large_string()),
            "size": pa.array([1, 2], pa.uint32()),
            "etag": [digest, None],
            "last_modified": pa.array([moment, None], pa.timestamp("ms", tz="UTC")),
            "split": ["train", "test"],
        }
    )
    pq.write_table(table, tmp_path / "m.parquet")
    index = load_manifest(tmp_path / "m.parquet", bucket="b")
    assert list(index) == [
        S3BucketKeyData("b", "k\n1", ObjectInfo("k\n1", f'"{digest}"', 1, int(moment.timestamp()))),
        S3BucketKeyData("b", "k/2", ObjectInfo("k/2", "", 2, 0)),
    ]
    assert index.labels("split").to_pylist() == ["train", "test"]
    pq.write_table(pa.table({"key": ["k"]}), tmp_path / "m.parquet")
    assert list(load_manifest(tmp_path / "m.parquet", bucket="b")) == [S3BucketKeyData("b", "k")]


def test_an_empty_index(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        S3Index.from_items([]).save_manifest(tmp_path / f"m.{suffix}")
        assert len(load_manifest(tmp_path / f"m.{suffix}")) == 0


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"key": ["k"]}, "needs the columns bucket and key, or uri"),
        ({"path": ["k"]}, "needs the columns bucket and key, or uri"),
        ({"bucket": ["b", "b"], "key": ["k", None]}, "'key' must have a value in every row"),
        ({"bucket": ["b"], "key": [""]}, "a row's key is '', which cannot be"),
        ({"bucket": ["a/b"], "key": ["k"]}, "a row's bucket is 'a/b', which cannot be"),
        ({"uri": ["s3://b"]}, "a row's uri is 's3://b', which cannot be"),
        ({"uri": ["gs://b/k"]}, "a row's uri is 'gs://b/k', which cannot be"),
        ({"uri": [1]}, "'uri' must hold text, not int64"),
        ({"uri": ["s3://b/k"], "size": ["1"]}, "'size' must hold integers, not string"),
        ({"uri": ["s3://b/k"], "size": [-1]}, "an object of -1 bytes"),
        ({"uri": ["s3://b/k"], "last_modified": ["now"]}, "'last_modified' must hold timestamps"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, columns: dict[str, list[object]], message: str) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(ValueError, match=message) as caught:
        load_manifest(path)
    assert str(path) in str(caught.value)


def test_one_of_another_bucket_is_refused(tmp_path: Path) -> None:
    index = S3Index.from_items([S3BucketKeyData("b", "k"), S3BucketKeyData("bb", "k")])
    index.save_manifest(tmp_path / "m.arrow")
    with pytest.raises(ValueError, match="objects in bucket 'bb', but 'b' is expected"):
        load_manifest(tmp_path / "m.arrow", bucket="b")


def test_what_is_damaged_is_refused(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        path = tmp_path / f"m.{suffix}"
        S3Index.from_items(some(10)).save_manifest(path)
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(ValueError, match="is not a manifest that can be used"):
            load_manifest(path)


def test_bad_arguments_fail_at_once(tmp_path: Path) -> None:
    index = S3Index.from_items(some(10))
    with pytest.raises(ValueError, match="tells its format by its end"):
        index.save_manifest(tmp_path / "m.csv")
    with pytest.raises(ValueError, match="tells its format by its end"):
        load_manifest("s3://bucket/manifest")
    with pytest.raises(ValueError, match="9 labels 'label' for 10 objects"):
        index.save_manifest(tmp_path / "m.arrow", labels={"label": range(9)})
    with pytest.raises(ValueError, match="cannot be called 'size'"):
        index.save_manifest(tmp_path / "m.arrow", labels={"size": range(10)})
    with pytest.raises(FileNotFoundError):
        load_manifest(tmp_path / "absent.parquet")
    assert list(tmp_path.iterdir()) == []


def test_without_pyarrow_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for call in (
        lambda: S3Index.from_items(some(1)).save_manifest(tmp_path / "m.parquet"),
        lambda: load_manifest(tmp_path / "m.parquet"),
    ):
        with pytest.raises(ImportError, match=r"pip install 's3torch-datasets\[manifest\]'"):
            call()


@pytest.mark.usefixtures("dummy_aws_env")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_it_lies_on_s3(moto_server: MotoServer, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "_ROW_GROUP", 300)
    bucket = moto_server.create_bucket(f"manifest-{uuid.uuid4().hex}")
    uri = f"s3://{bucket}/a manifest.{suffix}"
    index = S3Index.from_items(some())
    with S3Client(moto_server.region, endpoint=moto_server.endpoint) as client:
        with pytest.raises(ObjectNotFoundError):
            load_manifest(uri, client=client)
        index.save_manifest(uri, client=client, labels={"label": range(1000)})
        again = load_manifest(uri, client=client)
    assert list(again) == list(index)
    assert again.labels("label").to_pylist() == list(range(1000))
