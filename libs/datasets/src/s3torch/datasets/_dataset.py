"""What both styles of dataset share: where the objects are, and how one becomes a sample."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from typing import Any, TypeAlias

from s3torch.client import GetInfo, S3BucketKeyData, S3ClientConfig, UserAgent
from s3torch.client.protocols import Into
from s3torch.client.window import Width, Window
from s3torch.datasets._fetched import FetchedObject
from s3torch.datasets._labelled import LabelledItem
from s3torch.datasets._meter import Session
from s3torch.datasets._objects import GetDatasetObjects
from s3torch.datasets._on_error import SKIPPED, OnError, check_on_error, decide
from s3torch.datasets._pool import map_in_order
from s3torch.datasets._store_dataset import StoreDataset
from s3torch.datasets._window import FetchPlan
from s3torch.datasets.decode._placing import Placing, TensorReader, allocate_for, tensor_behind
from s3torch.datasets.index import S3Index
from s3torch.readers import ReaderClient, S3Reader, S3ReaderConstructor, S3ReaderConstructorProtocol

__all__ = ["S3Dataset", "identity"]

_DEFAULT_READER = S3ReaderConstructor.default()

# An object in its turn: None where nothing of it was fetched ahead.
_Turn: TypeAlias = tuple[S3BucketKeyData, FetchedObject | None]


def identity(reader: S3Reader) -> S3Reader:
    """Return the reader itself: the transform of datasets that are given none."""
    return reader


class S3Dataset(StoreDataset):
    """The objects of a dataset, and how each is read."""

    _style: str
    """What the dataset calls itself in the user agent."""

    def __init__(
        self,
        region: str | None,
        get_dataset_objects: GetDatasetObjects,
        endpoint: str | None,
        transform: Callable[[S3Reader], Any],
        s3client_config: S3ClientConfig | None,
        reader_constructor: S3ReaderConstructorProtocol | None,
        *,
        on_error: OnError = "raise",
        transform_workers: int = 0,
        progress: bool = False,
    ) -> None:
        for name, value in (("get_dataset_objects", get_dataset_objects), ("transform", transform)):
            if not callable(value):
                raise TypeError(f"{name} must be callable, got {type(value).__name__}")
        if reader_constructor is not None and not callable(reader_constructor):
            raise TypeError(f"reader_constructor must be callable, got {type(reader_constructor).__name__}")
        check_on_error(on_error)
        if isinstance(transform_workers, bool) or not isinstance(transform_workers, int):
            raise TypeError(f"transform_workers must be an int, got {type(transform_workers).__name__}")
        if transform_workers < 0:
            raise ValueError(f"transform_workers must be at least 0, got {transform_workers}")
        reader_type = S3ReaderConstructor.get_reader_type_string(reader_constructor)
        client = ReaderClient(
            region,
            endpoint=endpoint,
            user_agent=UserAgent([f"md/dataset#{self._style}", f"md/reader_type#{reader_type}"]),
            s3client_config=s3client_config,
        )
        super().__init__(client, progress=progress)
        self._get_dataset_objects = get_dataset_objects
        self._transform = transform
        self._reader_constructor = reader_constructor
        self._on_error = on_error
        self._transform_workers = transform_workers
        # These two promise to fetch no more than the ranges they are asked for.
        self._runs_ahead = reader_type not in {"range_based", "dcp_optimized"}
        # A reader that somebody else has made may give other bytes than the store has.
        self._places = isinstance(transform, Placing) and reader_type == "sequential"
        self._width = Width.bounded(client.s3client_config.window)

    @property
    @abstractmethod
    def index(self) -> S3Index:
        """The objects, in order."""

    def save_manifest(self, uri: str) -> None:
        """Save the index for `from_manifest`.

        Args:
            uri: ``s3://bucket/key`` or a path; ``.parquet`` or ``.arrow`` says in which form.

        Raises:
            ImportError: ``pyarrow`` is not installed.
        """
        self.index.save_manifest(uri, client=self._client)

    def _objects(self) -> Iterator[S3BucketKeyData]:
        return iter(self._get_dataset_objects(self._client))

    def _sample(self, item: S3BucketKeyData) -> Any:
        """Make a sample of one object, which is read when the transform asks; there is no other to skip to."""
        with closing(self._meter.begin(self._client.engine)) as session:
            try:
                sample = self._make((item, None))
            except Exception as error:
                sample = decide(self._on_error, item, error) if callable(self._on_error) else SKIPPED
                if sample is SKIPPED:
                    raise
            session.made()
            return sample

    # Generators wait in the middle of a yield for as long as the caller computes. They hand on what they hold, so that
    # no bytes and no sample live longer than the caller wants.

    def _samples(self, items: Iterable[S3BucketKeyData]) -> Generator[Any, None, None]:
        """Make a sample of each object, in order, while the next ones are being fetched; skipped ones are left out."""
        with closing(self._outcomes(items)) as outcomes:
            for sample in outcomes:
                if sample is not SKIPPED:
                    given = [sample]
                    del sample
                    yield given.pop()

    def _outcomes(self, items: Iterable[S3BucketKeyData]) -> Generator[Any, None, None]:
        """Yield one value for each object, in order: its sample, or `SKIPPED`."""
        with (
            closing(self._meter.begin(self._client.engine)) as session,
            closing(self._made(items, session)) as made,
        ):
            for item, call in made:
                try:
                    given = [call()]
                except Exception as error:  # noqa: BLE001  # whatever the transform raises is the object's
                    given = [decide(self._on_error, item, error)]
                    if given[0] is SKIPPED:
                        session.skipped(item, error)
                if given[0] is not SKIPPED:
                    session.made()
                del item, call
                yield given.pop()

    def _made(
        self, items: Iterable[S3BucketKeyData], session: Session
    ) -> Generator[tuple[S3BucketKeyData, Callable[[], Any]], None, None]:
        """Yield each object in its turn with the call that makes its sample, or that has made it."""
        with closing(self._turns(items, session)) as turns:
            if not self._transform_workers:
                for turn in turns:
                    given = [(turn[0], partial(self._make, turn))]
                    del turn
                    yield given.pop()
                return

            def advance() -> None:
                if session.window is not None:
                    session.window.advance()

            with closing(map_in_order(self._transform_workers, self._make, turns, advance)) as results:
                for turn, future in results:
                    done = [(turn[0], future.result)]
                    del turn, future
                    yield done.pop()

    def _turns(self, items: Iterable[S3BucketKeyData], session: Session) -> Generator[_Turn, None, None]:
        """Yield the objects in order, with what was fetched of them, while those that follow are being fetched."""
        if not self._runs_ahead:
            for item in items:
                yield item, None
            return
        engine, config = self._client.engine, self._client.s3client_config
        plan = FetchPlan(config.part_size)
        window = session.window = Window(
            engine,
            items,
            plan,
            width=self._width,
            most_bytes=config.window_bytes,
            into=self._into if self._places else None,
        )
        try:
            while (following := window.next()) is not None:
                item, transfer = following
                if transfer is None:
                    yield item, None
                    continue
                fetched = FetchedObject(engine, config, item, transfer)
                if item.object_info is None and fetched.size is not None:
                    plan.learn(fetched.size)
                given: list[_Turn] = [(item, fetched)]
                del following, item, transfer, fetched
                yield given.pop()
        finally:
            window.close()

    def _into(self, item: S3BucketKeyData) -> Into:
        """Say where the bytes of an object go: into what its sample is made of, where the transform knows."""
        if (allocate := allocate_for(self._transform, item.key)) is None:
            return None

        def make(info: GetInfo) -> memoryview:
            try:
                return allocate(info.length).numpy().data
            except (RuntimeError, MemoryError):
                return memoryview(bytearray(info.length))  # the transform meets the same when its turn comes

        return make

    def _make(self, turn: _Turn) -> Any:
        """Make a sample of an object."""
        item, fetched = turn
        sample = self._transform(self._open(item, fetched))
        return (sample, item.label) if isinstance(item, LabelledItem) else sample

    def _open(self, item: S3BucketKeyData, fetched: FetchedObject | None) -> Any:
        """Return what the transform reads an object from."""
        if fetched is None:
            return self._client.get_object(
                item.bucket, item.key, object_info=item.object_info, reader_constructor=self._reader_constructor
            )
        if self._places and (tensor := tensor_behind(fetched.whole)) is not None:
            return TensorReader(item.bucket, item.key, tensor)
        construct = self._reader_constructor or _DEFAULT_READER
        return construct(bucket=item.bucket, key=item.key, get_object_info=fetched.get_object_info, get_stream=fetched)
