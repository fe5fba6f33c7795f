"""Laws of what a dataset gives: every object once, in order, right, or the error of that object."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest

from s3torch.client import BucketNotFoundError, ObjectChangedError, ObjectNotFoundError
from s3torch.harness._law_processes import read_sample
from s3torch.harness.conformance._dataset_laws import OBJECTS, PREFIX, DatasetLaws, MakeDataset, load
from s3torch.harness.conformance.arrangement import Arrangement, make_bytes

__all__ = ["SampleLaws"]

_EVERY = list(OBJECTS.items())


class SampleLaws(DatasetLaws):
    """Both styles of dataset."""

    def test_gives_every_object_once_in_listing_order(self, make_dataset: MakeDataset, bucket: str) -> None:
        """Keys that begin with the prefix, in the order of their UTF-8 bytes, each with its own bytes; twice over."""
        dataset = make_dataset(bucket, PREFIX, read_sample)
        for _ in range(2):
            assert list(self.samples(dataset)) == _EVERY

    def test_a_prefix_is_plain_text(self, make_dataset: MakeDataset, bucket: str) -> None:
        """It is no folder; without one the bucket is the dataset, and what nothing begins with is an empty one."""
        expected = ["train", *OBJECTS, "trainee/1"]
        assert [key for key, _ in self.samples(make_dataset(bucket, "train", read_sample))] == expected
        whole = [*expected, "validation/1"]
        assert [key for key, _ in self.samples(make_dataset(bucket, "", read_sample))] == whole
        empty = make_dataset(bucket, "nothing/", read_sample)
        assert list(self.samples(empty)) == []
        assert load(empty, 0) == []

    def test_listings_of_several_pages_are_complete(
        self, make_dataset: MakeDataset, arrangement: Arrangement, bucket: str
    ) -> None:
        """More than the 1,000 keys of one page are no fewer."""
        if not self.long_listing:
            pytest.skip("so many objects take too long to make here")
        keys = [f"many/{number:05}" for number in range(self.long_listing)]
        for key in keys:
            arrangement.put(bucket, key, b"x")
        assert list(self.samples(make_dataset(bucket, "many/", _key))) == keys

    def test_transforms_once_in_order_in_the_callers_thread(self, make_dataset: MakeDataset, bucket: str) -> None:
        """A transform may keep state, be slow, or use what is bound to its thread: nobody else calls it."""
        calls: list[tuple[str, int]] = []

        def transform(reader: Any) -> int:
            calls.append((reader.key, threading.get_ident()))
            reader.read(1)
            return len(calls)

        found = list(self.samples(make_dataset(bucket, PREFIX, transform)))
        assert found == list(range(1, len(_EVERY) + 1))
        assert calls == [(key, threading.get_ident()) for key in OBJECTS]

    def test_a_sample_is_whatever_the_transform_returns(self, make_dataset: MakeDataset, bucket: str) -> None:
        """None, False and exceptions as values are samples like any other."""
        values: list[Any] = [None, False, 0, StopIteration("a value"), ValueError("a value"), []]
        following = iter(values * 10)
        found = list(self.samples(make_dataset(bucket, PREFIX, lambda _: next(following))))
        assert found == (values * 10)[: len(_EVERY)]

    def test_an_error_of_the_transform_stands_at_its_sample(self, make_dataset: MakeDataset, bucket: str) -> None:
        """What comes before is given, then that very exception is raised; the dataset can be read again."""
        error, fifth = ZeroDivisionError("on purpose"), _EVERY[4][0]
        failing = [True]

        def transform(reader: Any) -> tuple[str, bytes]:
            if reader.key == fifth and failing:
                raise error
            return read_sample(reader)

        dataset = make_dataset(bucket, PREFIX, transform)
        source = self.samples(dataset)
        assert [next(source) for _ in range(4)] == _EVERY[:4]
        with pytest.raises(ZeroDivisionError) as caught:
            next(source)
        assert caught.value is error
        failing.clear()
        assert list(self.samples(dataset)) == _EVERY

    def test_a_missing_bucket_has_its_error(self, make_dataset: MakeDataset, bucket: str) -> None:
        """Making a dataset asks for nothing; what first needs the listing raises `BucketNotFoundError`."""
        dataset = make_dataset(f"{bucket}-absent", PREFIX, read_sample)
        for _ in range(2):
            with pytest.raises(BucketNotFoundError) as caught:
                list(self.samples(dataset))
            assert caught.value.bucket == f"{bucket}-absent"

    def test_an_object_deleted_since_the_listing_is_an_error_at_its_place(
        self, make_dataset: MakeDataset, arrangement: Arrangement, bucket: str
    ) -> None:
        """It is `ObjectNotFoundError` with its key, after all that comes before; never left out, never empty."""
        keys = [f"gone/{number:03}" for number in range(self.reads_ahead + 4)]
        for key in keys:
            arrangement.put(bucket, key, key.encode())
        source = self.samples(make_dataset(bucket, "gone/", read_sample))
        assert next(source) == (keys[0], keys[0].encode())
        arrangement.remove(bucket, keys[-2])
        assert [next(source)[0] for _ in keys[1:-2]] == keys[1:-2]
        with pytest.raises(ObjectNotFoundError) as caught:
            next(source)
        assert (caught.value.bucket, caught.value.key) == (bucket, keys[-2])

    def test_an_object_replaced_since_the_listing_is_one_of_both(
        self, make_dataset: MakeDataset, arrangement: Arrangement, bucket: str
    ) -> None:
        """It is the old one, whole, or the new one, whole, or `ObjectChangedError`; whatever the listing said."""
        for size in (10, 2000):
            keys = [f"new{size}/{number:03}" for number in range(self.reads_ahead + 4)]
            for key in keys:
                arrangement.put(bucket, key, make_bytes(500))
            source = self.samples(make_dataset(bucket, f"new{size}/", read_sample))
            next(source)
            arrangement.put(bucket, keys[-1], make_bytes(size, 1))
            try:
                found = dict(source)[keys[-1]]
            except ObjectChangedError:
                continue
            assert found in (make_bytes(500), make_bytes(size, 1))

    def test_a_pickled_dataset_is_its_configuration(self, make_dataset: MakeDataset, bucket: str) -> None:
        """It pickles before and after it was used, in the middle, too, and the copy gives the same."""
        dataset = make_dataset(bucket, PREFIX, read_sample)
        assert list(self.samples(pickle.loads(pickle.dumps(dataset)))) == _EVERY  # noqa: S301  # made on this line
        source = self.samples(dataset)
        assert next(source) == _EVERY[0]
        copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301  # made on this line
        assert list(source) == _EVERY[1:]
        assert list(self.samples(copy)) == _EVERY

    def test_serves_a_data_loader_in_its_own_process(self, make_dataset: MakeDataset, bucket: str) -> None:
        """Without workers a `DataLoader` gives all samples, in order, in batches of any size or one by one."""
        dataset = make_dataset(bucket, PREFIX, read_sample)
        for batch_size in (1, 4, 100):
            batches = load(dataset, 0, batch_size=batch_size)
            assert [sample for batch in batches for sample in batch] == _EVERY
            assert all(len(batch) == batch_size for batch in batches[:-1])
        assert [tuple(sample) for sample in load(dataset, 0, batch_size=None)] == _EVERY


def _key(reader: Any) -> str:
    key: str = reader.key
    return key
