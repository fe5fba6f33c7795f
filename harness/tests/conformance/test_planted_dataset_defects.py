"""The laws of datasets can be broken: each planted defect is found by the law it breaks."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch.distributed
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from s3torch.client import S3Client, S3ClientConfig, S3Exception
from s3torch.client.memory import MemoryStore
from s3torch.harness.conformance import (
    IterableDatasetConformance,
    MakeDataset,
    MapDatasetConformance,
    MemoryArrangement,
)
from s3torch.harness.conformance._dataset_laws import make_bucket

pytestmark = [pytest.mark.conformance, pytest.mark.usefixtures("in_continuous_integration")]

Item = tuple[str, int]


class Reader:
    """An object that is read when asked."""

    def __init__(self, client: S3Client, bucket: str, key: str) -> None:
        self.client, self.bucket, self.key = client, bucket, key

    def read(self, size: int = -1) -> bytes:
        data = self.client.read(self.bucket, self.key)
        return data if size < 0 else data[:size]


class Objects:
    """What both styles share, in the plainest way."""

    def __init__(self, endpoint: str, bucket: str, prefix: str, transform: Callable[[Any], Any], share: bool) -> None:
        self.client = S3Client("us-east-1", endpoint=endpoint, s3client_config=S3ClientConfig(engine="memory"))
        self.bucket, self.prefix, self.transform, self.share = bucket, prefix, transform, share

    def list(self) -> list[Item]:
        pages = self.client.list_objects(self.bucket, self.prefix)
        return [(info.key, info.size) for page in pages for info in page.object_info]

    def sample(self, item: Item) -> Any:
        return self.transform(Reader(self.client, self.bucket, item[0]))


class GoodMap(Objects, Dataset[Any]):
    """Obeys the laws that the defects below break."""

    listed: list[Item] | None = None

    @property
    def items(self) -> list[Item]:
        if self.listed is None:
            self.listed = self.list()
        return self.listed

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.sample(self.items[index])

    def __getitems__(self, indices: Any) -> list[Any]:
        return [self[index] for index in indices]


class GoodIterable(Objects, IterableDataset[Any]):
    """Obeys the laws that the defects below break."""

    def shard(self) -> tuple[int, int]:
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        rank, ranks = 0, 1
        if torch.distributed.is_initialized():
            rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
        return rank + ranks * number, ranks * workers

    def __iter__(self) -> Iterator[Any]:
        first, step = self.shard() if self.share else (0, 1)
        return self.give(islice(self.list(), first, None, step))

    def give(self, items: Iterator[Item]) -> Iterator[Any]:
        return map(self.sample, items)


class LosesTheLast(GoodMap):
    def list(self) -> list[Item]:
        return super().list()[:-1]


class TakesOnePage(GoodMap):
    def list(self) -> list[Item]:
        return [(info.key, info.size) for info in next(self.client.list_objects(self.bucket, self.prefix)).object_info]


class TakesFoldersOnly(GoodMap):
    def list(self) -> list[Item]:
        return [item for item in super().list() if item[0].startswith(f"{self.prefix.rstrip('/')}/")]


class SkipsEmptyObjects(GoodMap):
    def list(self) -> list[Item]:
        return [item for item in super().list() if item[1]]


class SortsByText(GoodMap):
    def list(self) -> list[Item]:
        return sorted(super().list(), key=lambda item: item[0].encode("utf-16-be"))


class ListsAnew(GoodMap):
    """Has an index mean whatever is there at the moment."""

    @property
    def items(self) -> list[Item]:
        return self.list()


class ListsAnewWhenPickled(GoodMap):
    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "listed": None}


class HasNoNegativeIndices(GoodMap):
    def __getitem__(self, index: Any) -> Any:
        if index < 0:
            raise IndexError(index)
        return super().__getitem__(index)


class WrapsAround(GoodMap):
    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(index % len(self))


class SortsBatches(GoodMap):
    def __getitems__(self, indices: Any) -> list[Any]:
        return [self[index] for index in sorted(indices)]


class DropsDoubles(GoodMap):
    def __getitems__(self, indices: Any) -> list[Any]:
        return [self[index] for index in dict.fromkeys(indices)]


class TransformsTwice(GoodMap):
    def sample(self, item: Item) -> Any:
        super().sample(item)
        return super().sample(item)


class TransformsElsewhere(GoodMap):
    """Calls the transform in a thread of its own."""

    def sample(self, item: Item) -> Any:
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(super(TransformsElsewhere, self).sample(item)))
        thread.start()
        thread.join()
        return found[0]


class GivesNoneForWhatIsGone(GoodMap):
    def sample(self, item: Item) -> Any:
        try:
            return super().sample(item)
        except S3Exception:
            return None


class ChangesErrors(GoodMap):
    def sample(self, item: Item) -> Any:
        try:
            return super().sample(item)
        except Exception as error:
            raise RuntimeError("a sample could not be made") from error


class TrustsTheListing(GoodMap):
    """Cuts what it reads to the size that the listing told."""

    def sample(self, item: Item) -> Any:
        reader = Reader(self.client, self.bucket, item[0])
        read = reader.read
        reader.read = lambda size=-1: read(size)[: item[1]]  # type: ignore[method-assign]  # the defect
        return self.transform(reader)


class AsksWhenMade(GoodMap):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.listed = self.list()


class HoldsALock(GoodMap):
    """Cannot be pickled once it was used."""

    def __getitem__(self, index: Any) -> Any:
        self.lock = threading.Lock()
        return super().__getitem__(index)


class SkipsTheRestOfAShard(GoodIterable):
    """Gives as many to each as all can have."""

    def give(self, items: Iterator[Item]) -> Iterator[Any]:
        _, step = self.shard() if self.share else (0, 1)
        return super().give(islice(items, len(self.list()) // step))


class DoublesInWorkers(GoodIterable):
    """Knows of ranks, and forgets the workers."""

    def shard(self) -> tuple[int, int]:
        return 0, 1


class ForgetsTheRanks(GoodIterable):
    def shard(self) -> tuple[int, int]:
        worker = get_worker_info()
        return (0, 1) if worker is None else (worker.id, worker.num_workers)


class SharesOutUnasked(GoodIterable):
    def __iter__(self) -> Iterator[Any]:
        first, step = self.shard()
        return self.give(islice(self.list(), first, None, step))


class StaysWithItsFirstShard(GoodIterable):
    """Decides who reads what when it is first iterated, and takes that along to the workers."""

    kept: tuple[int, int] | None = None

    def shard(self) -> tuple[int, int]:
        self.kept = self.kept or super().shard()
        return self.kept


class GivesTheLargeToTheFirst(GoodIterable):
    """Leaves some workers without anything."""

    def shard(self) -> tuple[int, int]:
        number, count = super().shard()
        return (0, 1) if number == 0 else (10**6, count)


class IteratesOnce(GoodIterable):
    source: Iterator[Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        self.source = self.source or super().__iter__()
        return self.source


class SharesItsIterator(GoodIterable):
    """Keeps its position in itself."""

    position = 0

    def give(self, items: Iterator[Item]) -> Iterator[Any]:
        every = list(items)
        self.position = 0
        while self.position < len(every):
            self.position += 1
            yield self.sample(every[self.position - 1])


class SkipsWhatFails(GoodIterable):
    def give(self, items: Iterator[Item]) -> Iterator[Any]:
        for item in items:
            try:
                yield self.sample(item)
            except S3Exception:
                continue


class EndsAtErrors(GoodIterable):
    """Takes a failure for the end."""

    def give(self, items: Iterator[Item]) -> Iterator[Any]:
        try:
            for item in items:
                yield self.sample(item)
        except Exception:  # noqa: BLE001  # the defect
            return


class DropsNone(GoodIterable):
    def give(self, items: Iterator[Item]) -> Iterator[Any]:
        return (sample for sample in super().give(items) if sample is not None)


class LeavesThreads(GoodIterable):
    """Fetches in a thread that waits for a consumer for ever."""

    def give(self, items: Iterator[Item]) -> Iterator[Any]:
        threading.Thread(target=threading.Event().wait, args=(30.0,), daemon=True).start()
        yield from super().give(items)


MAP = MapDatasetConformance()
ITERABLE = IterableDatasetConformance()
BROKEN: list[tuple[type[Any], Callable[..., None], tuple[Any, ...]]] = [
    (LosesTheLast, MAP.test_gives_every_object_once_in_listing_order, ()),
    (TakesOnePage, MAP.test_listings_of_several_pages_are_complete, ()),
    (TakesFoldersOnly, MAP.test_a_prefix_is_plain_text, ()),
    (SkipsEmptyObjects, MAP.test_gives_every_object_once_in_listing_order, ()),
    (SortsByText, MAP.test_gives_every_object_once_in_listing_order, ()),
    (ListsAnew, MAP.test_an_index_means_the_same_object_for_good, ()),
    (ListsAnewWhenPickled, MAP.test_an_index_means_the_same_object_for_good, ()),
    (HasNoNegativeIndices, MAP.test_is_a_sequence, ()),
    (WrapsAround, MAP.test_is_a_sequence, ()),
    (SortsBatches, MAP.test_batches_are_what_single_samples_are, ()),
    (SortsBatches, MAP.test_serves_samplers_and_subsets, ()),
    (DropsDoubles, MAP.test_batches_are_what_single_samples_are, ()),
    (TransformsTwice, MAP.test_transforms_once_in_order_in_the_callers_thread, ()),
    (TransformsElsewhere, MAP.test_transforms_once_in_order_in_the_callers_thread, ()),
    (GivesNoneForWhatIsGone, MAP.test_an_object_that_is_gone_fails_for_good, ()),
    (GivesNoneForWhatIsGone, MAP.test_an_error_in_a_worker_names_the_object, ()),
    (ChangesErrors, MAP.test_an_error_of_the_transform_stands_at_its_sample, ()),
    (ChangesErrors, MAP.test_an_object_deleted_since_the_listing_is_an_error_at_its_place, ()),
    (TrustsTheListing, MAP.test_an_object_replaced_since_the_listing_is_one_of_both, ()),
    (AsksWhenMade, MAP.test_a_missing_bucket_has_its_error, ()),
    (HoldsALock, MAP.test_a_pickled_dataset_is_its_configuration, ()),
    (SkipsTheRestOfAShard, ITERABLE.test_any_number_of_workers_shares_out_the_objects, (4,)),
    (DoublesInWorkers, ITERABLE.test_any_number_of_workers_shares_out_the_objects, (4,)),
    (ForgetsTheRanks, ITERABLE.test_ranks_and_their_workers_share_out_the_objects, ()),
    (SharesOutUnasked, ITERABLE.test_without_sharing_out_each_worker_gives_everything, ()),
    (StaysWithItsFirstShard, ITERABLE.test_workers_share_out_the_objects, ("fork",)),
    (GivesTheLargeToTheFirst, ITERABLE.test_workers_share_out_the_objects, ("fork",)),
    (IteratesOnce, ITERABLE.test_gives_every_object_once_in_listing_order, ()),
    (IteratesOnce, ITERABLE.test_workers_that_persist_read_every_epoch, ()),
    (SharesItsIterator, ITERABLE.test_iterators_do_not_disturb_each_other, ()),
    (SkipsWhatFails, ITERABLE.test_an_object_deleted_since_the_listing_is_an_error_at_its_place, ()),
    (SkipsWhatFails, ITERABLE.test_an_error_in_a_worker_names_the_object, ()),
    (EndsAtErrors, ITERABLE.test_an_error_of_the_transform_stands_at_its_sample, ()),
    (DropsNone, ITERABLE.test_a_sample_is_whatever_the_transform_returns, ()),
    (LeavesThreads, ITERABLE.test_an_abandoned_iterator_leaves_nothing, ()),
]


def hold(law: Callable[..., None], dataset: type[Any], arguments: tuple[Any, ...], folder: Path) -> str | None:
    """Hold a dataset to a law; return what it finds."""
    endpoint = f"memory://{uuid.uuid4().hex}"
    store = MemoryStore.named(endpoint)
    arrangement = MemoryArrangement(store)

    def make(bucket: str, prefix: str, transform: Callable[[Any], Any], *, share: bool = False) -> Any:
        return dataset(endpoint, bucket, prefix, transform, share)

    suite = type(law.__self__)()  # type: ignore[attr-defined]  # of a bound method
    suite.reads_ahead = 2
    suite.is_seen_by_other_processes = False
    typed: MakeDataset = make
    supplied = {
        "make_dataset": typed,
        "arrangement": arrangement,
        "bucket": make_bucket(arrangement),
        "tmp_path": folder,
    }
    code = law.__func__.__code__  # type: ignore[attr-defined]  # of a bound method
    names = code.co_varnames[1 : code.co_argcount]
    values = iter(arguments)
    try:
        getattr(suite, law.__name__)(**{name: supplied[name] if name in supplied else next(values) for name in names})
    except BaseException as error:  # noqa: BLE001  # a failed assertion, or what pytest.raises raises
        return repr(error)
    finally:
        store.clear()
    return None


@pytest.mark.parametrize(("defect", "law", "arguments"), BROKEN, ids=lambda item: getattr(item, "__name__", None))
def test_a_defect_is_found(
    defect: type[Any], law: Callable[..., None], arguments: tuple[Any, ...], tmp_path: Path
) -> None:
    good = GoodMap if issubclass(defect, GoodMap) else GoodIterable
    for number, subject in enumerate((good, defect)):
        folder = tmp_path / str(number)
        folder.mkdir()
        found = hold(law, subject, arguments, folder)
        assert (found is None) == (subject is good), found or f"{law.__name__} does not notice {defect.__name__}"
