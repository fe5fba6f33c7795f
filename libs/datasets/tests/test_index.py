"""An index is the sequence it was made of, in few bytes."""

from __future__ import annotations

import copy
import fnmatch
import pickle
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3torch.client import HeadObjectResult, ObjectInfo, S3BucketKeyData
from s3torch.datasets import S3Index
from s3torch.datasets.index._building import build
from s3torch.datasets.index._chunks import chunks_of, join_chunks

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
ETAG = st.one_of(
    st.binary(min_size=16, max_size=16).map(lambda digest: f'"{digest.hex()}"'),
    st.tuples(st.binary(min_size=16, max_size=16), st.integers(1, 10_000)).map(lambda p: f'"{p[0].hex()}-{p[1]}"'),
    st.sampled_from(
        ["", '"odd"', '"' + "A" * 32 + '"', '"' + "a" * 32 + '-0"', "a" * 34, '"é"', '"' + "a " * 16 + '"']
    ),
)
SIZE = st.one_of(st.integers(0, 100), st.integers(0, 5 * 2**40))


@st.composite
def items(draw: st.DrawFn) -> list[S3BucketKeyData]:
    """Objects as they come: in one bucket or several, known or not, of any form."""
    buckets = draw(st.lists(st.sampled_from(["bucket", "other", "b"]), min_size=1, max_size=2))
    etags = draw(st.sampled_from([ETAG, st.just(""), st.just('"0123456789abcdef0123456789abcdef"')]))
    prefix = draw(st.sampled_from(["", "a/", "日本", "train/images/"]))
    made = []
    for _ in range(draw(st.integers(0, 20))):
        key = prefix + draw(TEXT)
        info = ObjectInfo(key, draw(etags), draw(SIZE), draw(st.integers(0, 2**31)), draw(st.sampled_from([None, "X"])))
        made.append(S3BucketKeyData(draw(st.sampled_from(buckets)), key, draw(st.sampled_from([info, info, None]))))
    return made


def timeless(items: list[S3BucketKeyData]) -> list[S3BucketKeyData]:
    return [
        item._replace(object_info=replace(item.object_info, last_modified=0))
        if isinstance(item.object_info, ObjectInfo)
        else item
        for item in items
    ]


def numbered(count: int, bucket: str = "bucket") -> list[S3BucketKeyData]:
    keys = [f"train/{number:08}.{'jpg' if number % 3 else 'json'}" for number in range(count)]
    return [
        S3BucketKeyData(bucket, key, ObjectInfo(key, f'"{number:032x}"', 1000 + number, 1767323045, "STANDARD"))
        for number, key in enumerate(keys)
    ]


@settings(max_examples=60)
@given(items())
def test_it_is_the_sequence_it_was_made_of(given: list[S3BucketKeyData]) -> None:
    index = S3Index.from_items(iter(given))
    assert len(index) == len(given)
    listed = list(index)
    assert timeless(listed) == timeless(given)
    assert [index[place] for place in range(len(given))] == listed
    assert [index[place - len(given)] for place in range(len(given))] == listed
    times = [item.object_info.last_modified for item in listed if item.object_info is not None]
    assert times in ([0] * len(times), [item.object_info.last_modified for item in given if item.object_info])
    sizes = [-1 if item.object_info is None else item.object_info.size for item in given]
    assert index.sizes.tolist() == sizes
    assert index.total_size == sum(size for size in sizes if size > 0)


@settings(max_examples=60)
@given(items(), st.data())
def test_selections_select(given: list[S3BucketKeyData], data: st.DataObject) -> None:
    index, listed = S3Index.from_items(given), list(S3Index.from_items(given))
    for _ in range(3):
        if data.draw(st.booleans()) or not listed:
            cut = data.draw(st.slices(len(listed)))
            index, listed = index[cut], listed[cut]
        else:
            chosen = data.draw(st.lists(st.integers(0, len(listed) - 1), max_size=80))
            index, listed = index.take(np.array(chosen, np.int64)), [listed[place] for place in chosen]
        assert len(index) == len(listed)
        assert list(index) == listed
        assert index.sizes.tolist() == [-1 if item.object_info is None else item.object_info.size for item in listed]
        if listed:
            place = data.draw(st.integers(0, len(listed) - 1))
            assert index[place] == listed[place]
            assert list(index.items([place, 0])) == [listed[place], listed[0]]
    assert index.fingerprint == S3Index.from_items(listed).fingerprint


@settings(max_examples=60)
@given(items(), TEXT, st.sampled_from(["*", "a/*", "*[0-9]*", "日*", "?", "train/images/?"]), SIZE)
def test_filters_keep_what_python_keeps(given: list[S3BucketKeyData], suffix: str, glob: str, size: int) -> None:
    given = [item for item in given if item.object_info is not None]
    index = S3Index.from_items(given)
    given = list(index)
    suffixes = (suffix, given[0].key[-3:]) if given else (suffix,)
    both = index.where(suffix=suffixes)
    assert list(both) == [item for item in given if item.key.endswith(suffixes)]
    assert list(index.where(glob=glob)) == [item for item in given if fnmatch.fnmatchcase(item.key, glob)]
    known = [(item, item.object_info.size) for item in given if item.object_info is not None]
    assert list(index.where(min_size=size)) == [item for item, has in known if has >= size]
    assert list(index.where(max_size=size, glob="*")) == [item for item, has in known if has <= size]
    odd = index.where(predicate=lambda item: len(item.key) % 2)
    assert list(odd.where(suffix=suffixes)) == [item for item in both if len(item.key) % 2]


def test_a_filter_waits_until_it_is_needed_and_travels_decided() -> None:
    asked: list[str] = []

    def wanted(item: S3BucketKeyData) -> bool:
        asked.append(item.key)
        return item.key.endswith("7.jpg")

    index = S3Index.from_items(numbered(100)).where(predicate=wanted)
    assert repr(index) == "S3Index(filtered)"
    assert not asked
    again: S3Index = pickle.loads(pickle.dumps(index))
    assert len(asked) == 100
    assert list(again) == list(index)
    assert len(asked) == 100
    assert repr(again) == f"S3Index({len(index)} objects)"


def test_a_size_asked_of_what_is_not_known_is_an_error() -> None:
    index = S3Index.from_items([S3BucketKeyData("b", "k")]).where(min_size=1)
    with pytest.raises(ValueError, match="does not know the sizes"):
        len(index)


@settings(max_examples=60)
@given(items(), st.integers(0, 200))
def test_a_fingerprint_tells_sequences_apart(given: list[S3BucketKeyData], place: int) -> None:
    mark = S3Index.from_items(given).fingerprint
    assert len(mark) == 16
    assert int(mark, 16) >= 0
    assert S3Index.from_items(iter(timeless(given))).fingerprint == mark, "the time of change is no part of it"
    assert pickle.loads(pickle.dumps(S3Index.from_items(given))).fingerprint == mark
    if not given:
        return
    bucket, key, info = given[place % len(given)]
    changes = [S3BucketKeyData(bucket, key + "x"), S3BucketKeyData(f"{bucket}x", key, info)]
    if isinstance(info, ObjectInfo):
        changes.append(S3BucketKeyData(bucket, key, replace(info, size=info.size + 1)))
        changes.append(S3BucketKeyData(bucket, key, replace(info, etag='"changed"')))
    for change in changes:
        other = [*given]
        other[place % len(given)] = change
        assert S3Index.from_items(other).fingerprint != mark
    assert S3Index.from_items([*given, given[0]]).fingerprint != mark
    assert S3Index.from_items(given[:-1]).fingerprint != mark


def test_the_same_objects_have_the_same_fingerprint_however_they_are_stored() -> None:
    given = numbered(20_000)
    other = S3BucketKeyData("another", "key")
    index = S3Index.from_items([*given, other])
    assert index[: len(given)].fingerprint == S3Index.from_items(given).fingerprint
    assert index[::-1].take(np.arange(len(given), 0, -1)).fingerprint == index[: len(given)].fingerprint
    assert index[:10].fingerprint != index[1:11].fingerprint


@pytest.mark.parametrize("make", [copy.deepcopy, lambda index: pickle.loads(pickle.dumps(index))])
def test_a_pickle_is_an_equal_index(make: Callable[[S3Index], S3Index]) -> None:
    index = S3Index.from_items(numbered(5000))[::7]
    again = make(index)
    assert list(again) == list(index)
    assert again.fingerprint == index.fingerprint


@pytest.mark.parametrize(
    ("sizes", "etags"),
    [(lambda n: n * 7919 % 10**6, '"{:032x}"'), (lambda n: n * 104_729 % 2**35, '"{:032x}-12"'), (lambda n: n, "")],
)
def test_an_entry_takes_24_bytes_beside_its_key(sizes: Callable[[int], int], etags: str) -> None:
    count = 70_000
    keys = [f"{number * 2654435761 % 2**32:08x}" for number in range(count)]
    index = S3Index.from_items(
        S3BucketKeyData("b", key, ObjectInfo(key, etags.format(number), sizes(number), number * 7919, "STANDARD"))
        for number, key in enumerate(keys)
    )
    assert index.nbytes <= sum(map(len, keys)) + 24 * count
    assert [item.key for item in index.items([0, 17, count - 1])] == [keys[0], keys[17], keys[-1]]


def test_what_a_head_tells_is_kept_too() -> None:
    head = HeadObjectResult('"0123456789abcdef0123456789abcdef"', 7, 123, "GLACIER", metadata={"a": "b"})
    [item] = S3Index.from_items([S3BucketKeyData("b", "k", head)])
    assert item.object_info == ObjectInfo("k", head.etag, 7, 123, "GLACIER")


def test_an_index_that_is_empty() -> None:
    index = S3Index.from_items([])
    assert (len(index), list(index), index.total_size, index.sizes.tolist()) == (0, [], 0, [])
    assert list(index.where(suffix="x", min_size=1)) == []
    assert index.fingerprint == index[5:].take(np.zeros(0, np.int64)).fingerprint
    with pytest.raises(IndexError, match="there are 0 objects"):
        index[0]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda index: index[3], IndexError),
        (lambda index: index[-4], IndexError),
        (lambda index: index["a"], TypeError),
        (lambda index: index.take([0, 3]), IndexError),
        (lambda index: index.take([-1]), IndexError),
        (lambda index: index.take([0.5]), TypeError),
        (lambda index: index.take([[0]]), TypeError),
        (lambda index: index.items([3]), IndexError),
        (lambda index: index.where(suffix=3), TypeError),
        (lambda index: index.where(suffix=("a", 3)), TypeError),
        (lambda index: index.where(glob=b"*"), TypeError),
        (lambda index: index.where(min_size=-1), ValueError),
        (lambda index: index.where(max_size="a"), TypeError),
        (lambda index: index.where(predicate="a"), TypeError),
    ],
)
def test_bad_arguments_fail_at_once(call: Callable[[S3Index], object], error: type[Exception]) -> None:
    with pytest.raises(error):
        call(S3Index.from_items(numbered(3)))


@pytest.mark.parametrize(
    ("item", "error"),
    [
        ("s3://bucket/key", TypeError),
        (("bucket", "key", None), TypeError),
        (S3BucketKeyData("bucket", ""), ValueError),
        (S3BucketKeyData("", "key"), ValueError),
        (S3BucketKeyData("a/b", "key"), ValueError),
        (S3BucketKeyData("bucket", "\ud800"), ValueError),
        (S3BucketKeyData("bucket", b"key"), TypeError),  # type: ignore[arg-type]  # what is tested
        (S3BucketKeyData("bucket", "key", ObjectInfo("other", "", 0, 0)), ValueError),
        (S3BucketKeyData("bucket", "key", ObjectInfo("key", "", -1, 0)), ValueError),
    ],
)
def test_what_is_no_object_is_refused(item: S3BucketKeyData, error: type[Exception]) -> None:
    with pytest.raises(error):
        S3Index.from_items([item])


@settings(max_examples=60)
@given(st.lists(items(), max_size=4))
def test_chunks_can_be_joined(lists: list[list[S3BucketKeyData]]) -> None:
    lists = [[item._replace(bucket="b") for item in part] for part in lists]
    chunks = [chunk for part in lists for chunk in chunks_of(part)]
    index = S3Index(build(chunks))
    joined = S3Index(build([join_chunks(chunks)] if chunks else []))
    assert list(joined) == list(index)
    assert joined.fingerprint == index.fingerprint


def test_lengths_that_fit_once_the_common_part_is_cut() -> None:
    """Up to 1,024 bytes of key, of which all but a few are common: the rest is what is counted in a byte."""
    keys = ["x" * 900 + "/" + "y" * (number % 250) for number in range(500)]
    index = S3Index.from_items(S3BucketKeyData("b", key) for key in keys)
    assert [item.key for item in index] == keys
    assert index._columns.arrays["lengths"].dtype == np.uint8
    assert S3Index.from_items(list(index)[:1]).fingerprint == index[:1].fingerprint


def test_no_object_at_all_has_one_fingerprint() -> None:
    assert S3Index.from_items(numbered(9))[:0].fingerprint == S3Index.from_items([]).fingerprint
