"""What both styles of dataset share: where the objects are, and how one becomes a sample."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from s3torch.client import S3BucketKeyData, S3ClientConfig, UserAgent
from s3torch.datasets._fetched import FetchedObject
from s3torch.datasets._objects import GetDatasetObjects
from s3torch.datasets._window import run_ahead
from s3torch.readers import ReaderClient, S3Reader, S3ReaderConstructor, S3ReaderConstructorProtocol

__all__ = ["S3Dataset", "identity"]

# Asking without allow_none would fix the method for the whole program. The platform's own comes first in the list.
_DEFAULT_START_METHOD = multiprocessing.get_all_start_methods()[0]


def identity(reader: S3Reader) -> S3Reader:
    """Return the reader itself: the transform of datasets that are given none."""
    return reader


class S3Dataset:
    """The objects of a dataset and the client that reads them; pickles as configuration, without connections."""

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
    ) -> None:
        for name, value in (("get_dataset_objects", get_dataset_objects), ("transform", transform)):
            if not callable(value):
                raise TypeError(f"{name} must be callable, got {type(value).__name__}")
        if reader_constructor is not None and not callable(reader_constructor):
            raise TypeError(f"reader_constructor must be callable, got {type(reader_constructor).__name__}")
        self._get_dataset_objects = get_dataset_objects
        self._transform = transform
        self._reader_constructor = reader_constructor
        reader_type = S3ReaderConstructor.get_reader_type_string(reader_constructor)
        # These two promise to fetch no more than the ranges they are asked for.
        self._runs_ahead = reader_type not in {"range_based", "dcp_optimized"}
        self._client = ReaderClient(
            region,
            endpoint=endpoint,
            user_agent=UserAgent([f"md/dataset#{self._style}", f"md/reader_type#{reader_type}"]),
            s3client_config=s3client_config,
        )
        if (multiprocessing.get_start_method(allow_none=True) or _DEFAULT_START_METHOD) == "fork":
            self._client.preload()  # or each of a DataLoader's workers would, before its first sample

    @property
    def region(self) -> str:
        """Region of the objects; where none was given, the environment's or the profile's."""
        return self._client.region

    @property
    def endpoint(self) -> str | None:
        """The endpoint given, if any."""
        return self._client.endpoint

    def _objects(self) -> Iterator[S3BucketKeyData]:
        return iter(self._get_dataset_objects(self._client))

    def _sample(self, item: S3BucketKeyData) -> Any:
        """Make a sample of one object, which is read when the transform asks."""
        reader = self._client.get_object(
            item.bucket, item.key, object_info=item.object_info, reader_constructor=self._reader_constructor
        )
        return self._transform(reader)

    def _samples(self, items: Iterable[S3BucketKeyData]) -> Iterator[Any]:
        """Make a sample of each object, in order, while the next ones are being fetched."""
        if not self._runs_ahead:
            yield from map(self._sample, items)
            return
        engine, config = self._client.engine, self._client.s3client_config
        construct = self._reader_constructor or S3ReaderConstructor.default()
        ahead = run_ahead(
            engine, items, part_size=config.part_size, window=config.window, window_bytes=config.window_bytes
        )
        try:
            for item, transfer in ahead:
                if transfer is None:
                    yield self._sample(item)
                else:
                    fetched = FetchedObject(engine, config, item, transfer)
                    reader = construct(
                        bucket=item.bucket, key=item.key, get_object_info=fetched.get_object_info, get_stream=fetched
                    )
                    yield self._transform(reader)
        finally:
            ahead.close()
