"""`S3MapDataset`: objects by index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Dataset

from s3torch.client import S3BucketKeyData, S3ClientConfig
from s3torch.datasets._dataset import S3Dataset, identity
from s3torch.datasets._labelled import LabelColumn
from s3torch.datasets._objects import (
    GetDatasetObjects,
    index_objects,
    objects_by_name,
    objects_of_index,
    objects_of_manifest,
    objects_under_prefix,
)
from s3torch.datasets._on_error import OnError
from s3torch.datasets._options import IndexedOptions, SampleOptions
from s3torch.datasets.index import S3Index
from s3torch.readers import S3Reader, S3ReaderConstructorProtocol

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

__all__ = ["S3MapDataset"]


class S3MapDataset(S3Dataset, Dataset[Any]):
    """A dataset of S3 objects, each by its index: ``transform(reader)`` of the object's reader.

    The objects are listed when the first length or item is asked for, once and in parallel, into an index in memory
    that ``DataLoader`` workers share, so that a number means the same object in each. A ``DataLoader`` gets its batches
    through ``__getitems__``, which fetches the objects of a batch at the same time.

    Args:
        region: Region of the objects, such as ``us-east-1``; None takes the environment's or the profile's.
        get_dataset_objects: Given a client, names the objects. `from_prefix` and `from_objects` supply it.
        endpoint: URL of an S3-compatible store; None takes the environment's or Amazon's.
        transform: Makes a sample of an object's reader; by default the reader is the sample.
        s3client_config: Options of the client.
        reader_constructor: Which reader; None is ``S3ReaderConstructor.default()``.
        on_error: What happens with an object of which no sample can be made, for an error of the store or of the
            transform: ``"raise"`` the error in its turn, ``"skip"`` the object, or a function that is given the object
            (`S3BucketKeyData`) and the error, and returns ``"skip"`` or a sample in its place, or raises. What would
            meet every object (no connection, credentials, no such bucket) is raised also by ``"skip"``. `stats` tells
            what was skipped.
            A skipped sample is left out of its batch; an index of its own has nothing to skip to, and raises.
        transform_workers: Threads that make samples, several at once and in order, where the transform leaves the
            interpreter's lock (decoders do); 0 makes them in the caller's thread.
        progress: Show a bar of objects and bytes a second, with ``tqdm``, in the process that reads.
        label: Column of the index, made from a manifest, that labels the objects: a sample is then the pair of what the
            transform makes and its label.
    """

    _style = "map"

    def __init__(
        self,
        region: str | None,
        get_dataset_objects: GetDatasetObjects,
        endpoint: str | None = None,
        transform: Callable[[S3Reader], Any] = identity,
        s3client_config: S3ClientConfig | None = None,
        reader_constructor: S3ReaderConstructorProtocol | None = None,
        *,
        on_error: OnError = "raise",
        transform_workers: int = 0,
        progress: bool = False,
        label: str | None = None,
    ) -> None:
        super().__init__(
            region,
            get_dataset_objects,
            endpoint,
            transform,
            s3client_config,
            reader_constructor,
            on_error=on_error,
            transform_workers=transform_workers,
            progress=progress,
        )
        self._index: S3Index | None = None
        self._label = label
        self._labels: LabelColumn | None = None

    @classmethod
    def from_prefix(
        cls,
        s3_uri: str,
        *,
        region: str | None = None,
        endpoint: str | None = None,
        transform: Callable[[S3Reader], Any] = identity,
        s3client_config: S3ClientConfig | None = None,
        reader_constructor: S3ReaderConstructorProtocol | None = None,
        **options: Unpack[SampleOptions],
    ) -> Self:
        """Make a dataset of all objects whose keys begin with a prefix, in key order.

        Args:
            s3_uri: ``s3://bucket/prefix``; ``s3://bucket`` is the whole bucket.
            region: As in the constructor.
            endpoint: As in the constructor.
            transform: As in the constructor.
            s3client_config: As in the constructor.
            reader_constructor: As in the constructor.
            **options: The constructor's other ones but ``label``.

        Returns:
            The dataset; no request has been sent.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: The URI is malformed.
        """
        objects = objects_under_prefix(s3_uri)
        return cls(
            region,
            objects,
            endpoint,
            transform,
            s3client_config,
            reader_constructor,
            **options,
        )

    @classmethod
    def from_objects(
        cls,
        object_uris: str | Iterable[str] | Mapping[str, Any],
        *,
        region: str | None = None,
        endpoint: str | None = None,
        transform: Callable[[S3Reader], Any] = identity,
        s3client_config: S3ClientConfig | None = None,
        reader_constructor: S3ReaderConstructorProtocol | None = None,
        **options: Unpack[SampleOptions],
    ) -> Self:
        """Make a dataset of the objects named, in the order given.

        Args:
            object_uris: One ``s3://bucket/key`` or any number of them; or a dict of them and their labels, all of one
                type, which needs ``pyarrow``: a sample is then the pair of what the transform makes and the label.
            region: As in the constructor.
            endpoint: As in the constructor.
            transform: As in the constructor.
            s3client_config: As in the constructor.
            reader_constructor: As in the constructor.
            **options: The constructor's other ones but ``label``.

        Returns:
            The dataset; no request has been sent, and none will be to find out whether the objects exist.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: A URI is malformed or has no key.
        """
        objects, labelled = objects_by_name(object_uris)
        return cls(
            region,
            objects,
            endpoint,
            transform,
            s3client_config,
            reader_constructor,
            **options,
            **labelled,
        )

    @classmethod
    def from_index(cls, index: S3Index, *, region: str | None = None, **options: Unpack[IndexedOptions]) -> Self:
        """Make a dataset of the objects of an index, in its order.

        Args:
            index: The objects.
            region: As in the constructor.
            **options: The constructor's.

        Returns:
            The dataset; no request has been sent.

        Raises:
            TypeError: An argument has the wrong type.
        """
        return cls(region, objects_of_index(index), **options)

    @classmethod
    def from_manifest(
        cls, manifest: str, *, bucket: str | None = None, region: str | None = None, **options: Unpack[IndexedOptions]
    ) -> Self:
        """Make a dataset of the objects that a manifest names, in its order.

        Args:
            manifest: ``s3://bucket/key`` or the path of a file that `save_manifest` has written, or any Parquet or
                Arrow file with columns ``bucket`` and ``key``, and ``size`` and ``etag`` if they are known.
            bucket: Where the objects are, if the manifest only names keys; one that names objects of any other bucket
                is refused then. By default each is where the manifest says.
            region: As in the constructor.
            **options: The constructor's.

        Returns:
            The dataset; nothing is requested but the manifest, when the first length or item is asked for.

        Raises:
            TypeError: An argument has the wrong type. What is wrong with the manifest is raised when it is read.
        """
        return cls(region, objects_of_manifest(manifest, bucket), **options)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> Any:
        """Return one sample; negative indices count from the end."""
        return self._sample(self._pick([index])[0])

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return the samples of a batch, in order; their objects are fetched at the same time.

        Those that ``on_error`` skips are left out; a batch of which nothing is left is an empty list, which torch's own
        ``collate_fn`` refuses.
        """
        if type(self).__getitem__ is not S3MapDataset.__getitem__:
            return [self[index] for index in indices]  # a subclass makes its samples in its own way
        items = self._pick(indices)
        if self._client.s3client_config.window is None:
            # All of them are wanted now.
            self._width.value = max(self._width.value, min(len(items), self._width.most))
        return list(self._samples(items))

    def _pick(self, numbers: Sequence[int]) -> list[S3BucketKeyData]:
        """Return the objects of some indices, with their labels if they have any."""
        index = self.index
        if self._label is None:
            return [index[number] for number in numbers]
        if self._labels is None:
            self._labels = LabelColumn(index, self._label)
        found = np.array([range(len(index))[number] for number in numbers], dtype=np.int64)
        return list(self._labels.items(found))

    @property
    def index(self) -> S3Index:
        """The objects, in order; they are listed now if that was not done yet."""
        if self._index is None:
            self._index = index_objects(self._client, self._get_dataset_objects)
        return self._index
