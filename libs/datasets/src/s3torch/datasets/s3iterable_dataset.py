"""`S3IterableDataset`: objects one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch.utils.data import IterableDataset

from s3torch.client import S3ClientConfig
from s3torch.datasets._dataset import identity
from s3torch.datasets._epoch_dataset import EpochDataset
from s3torch.datasets._objects import (
    GetDatasetObjects,
    objects_by_name,
    objects_of_index,
    objects_of_manifest,
    objects_under_prefix,
)
from s3torch.datasets._on_error import OnError
from s3torch.datasets._options import IndexedEpochOptions, ListedEpochOptions
from s3torch.datasets._share import Uneven
from s3torch.datasets.index import S3Index
from s3torch.readers import S3Reader, S3ReaderConstructorProtocol

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

__all__ = ["S3IterableDataset"]


class S3IterableDataset(EpochDataset, IterableDataset[Any]):
    """A dataset of S3 objects in order: ``transform(reader)`` of each object's reader.

    The objects are listed anew, page by page, whenever it is iterated. With ``shuffle``, ``index`` or an ``uneven``
    other than ``"keep"`` they are listed once, in parallel, when it is made, into an index that workers share.
    The ranks of a job list each for itself; ``list_index(..., group=...)`` lists once for all, for `from_index`.

    While one is consumed the next small ones (``part_size`` at most) are being fetched: as many at once as measuring
    finds to be worth it, ``s3client_config.window`` objects and ``window_bytes`` bytes at most. Larger ones are read by
    their reader, in parallel parts. Readers that promise to fetch only ranges (``range_based``, ``dcp_optimized``) keep
    that promise: nothing is fetched for them ahead.

    An epoch that was interrupted goes on, sample for sample, by `state_dict` and `load_state_dict`. Without an index
    that holds as long as the listing is the same; with one, a change is an error.

    Args:
        region: Region of the objects, such as ``us-east-1``; None takes the environment's or the profile's.
        get_dataset_objects: Given a client, names the objects. `from_prefix` and `from_objects` supply it.
        endpoint: URL of an S3-compatible store; None takes the environment's or Amazon's.
        transform: Makes a sample of an object's reader; by default the reader is the sample.
        s3client_config: Options of the client.
        enable_sharding: Share the objects out among the ranks of torch's process group and the ``DataLoader`` workers
            of each, as they are when iterating: every object goes to exactly one of them. Without it everyone gets
            every object.
        reader_constructor: Which reader; None is ``S3ReaderConstructor.default()``.
        on_error: What happens with an object of which no sample can be made, for an error of the store or of the
            transform: ``"raise"`` the error in its turn, ``"skip"`` the object, or a function that is given the object
            (`S3BucketKeyData`) and the error, and returns ``"skip"`` or a sample in its place, or raises. What would
            meet every object (no connection, credentials, no such bucket) is raised also by ``"skip"``. `stats` tells
            what was skipped.
        transform_workers: Threads that make samples, several at once and in order, where the transform leaves the
            interpreter's lock (decoders do); 0 makes them in the caller's thread.
        progress: Show a bar of objects and bytes a second, with ``tqdm``, in the process that reads.
        shuffle: Visit the objects in an order of each epoch's own: an exact permutation that follows from ``seed`` and
            `set_epoch`, whatever the number of ranks and workers.
        seed: Of the orders.
        uneven: What to do with objects that cannot be shared out evenly among all ranks and workers: ``"keep"`` gives
            some one more; ``"drop"`` leaves out the epoch's last ones, fewer than there are consumers; ``"pad"`` gives
            some of the epoch's first ones again. With the latter two all consumers get as many, so that ranks which
            step together also end together.
        index: List the objects when the dataset is made. They are shared out then, as with ``enable_sharding``, and
            where there is no process group ``RANK`` and ``WORLD_SIZE`` count.
        shard: This process's rank and the number of ranks, where neither torch's process group nor the environment
            tells; shares the objects out, among ``DataLoader`` workers, too.
        label: Column of the index, made from a manifest, that labels the objects: a sample is then the pair of what the
            transform makes and its label.
    """

    _style = "iterable"

    def __init__(
        self,
        region: str | None,
        get_dataset_objects: GetDatasetObjects,
        endpoint: str | None = None,
        transform: Callable[[S3Reader], Any] = identity,
        s3client_config: S3ClientConfig | None = None,
        enable_sharding: bool = False,
        reader_constructor: S3ReaderConstructorProtocol | None = None,
        *,
        on_error: OnError = "raise",
        transform_workers: int = 0,
        progress: bool = False,
        shuffle: bool = False,
        seed: int = 0,
        uneven: Uneven = "keep",
        index: bool = False,
        shard: tuple[int, int] | None = None,
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
        self._enable_sharding = bool(enable_sharding)
        self._begin_epochs(shuffle=shuffle, seed=seed, uneven=uneven, index=index, shard=shard, label=label)

    @classmethod
    def from_prefix(
        cls,
        s3_uri: str,
        *,
        region: str | None = None,
        endpoint: str | None = None,
        transform: Callable[[S3Reader], Any] = identity,
        s3client_config: S3ClientConfig | None = None,
        enable_sharding: bool = False,
        reader_constructor: S3ReaderConstructorProtocol | None = None,
        **options: Unpack[ListedEpochOptions],
    ) -> Self:
        """Make a dataset of all objects whose keys begin with a prefix, in key order.

        Args:
            s3_uri: ``s3://bucket/prefix``; ``s3://bucket`` is the whole bucket.
            region: As in the constructor.
            endpoint: As in the constructor.
            transform: As in the constructor.
            s3client_config: As in the constructor.
            enable_sharding: As in the constructor.
            reader_constructor: As in the constructor.
            **options: The constructor's other ones but ``label``.

        Returns:
            The dataset; without an index no request has been sent.

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
            enable_sharding,
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
        enable_sharding: bool = False,
        reader_constructor: S3ReaderConstructorProtocol | None = None,
        **options: Unpack[ListedEpochOptions],
    ) -> Self:
        """Make a dataset of the objects named, in the order given.

        Args:
            object_uris: One ``s3://bucket/key`` or any number of them; or a dict of them and their labels, all of one
                type, which needs ``pyarrow``: a sample is then the pair of what the transform makes and the label,
                and the objects are shared out as those of an index.
            region: As in the constructor.
            endpoint: As in the constructor.
            transform: As in the constructor.
            s3client_config: As in the constructor.
            enable_sharding: As in the constructor.
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
            enable_sharding,
            reader_constructor,
            **options,
            **labelled,
        )

    @classmethod
    def from_index(cls, index: S3Index, *, region: str | None = None, **options: Unpack[IndexedEpochOptions]) -> Self:
        """Make a dataset of the objects of an index, in its order.

        Args:
            index: The objects; they are shared out among ranks and workers.
            region: As in the constructor.
            **options: The constructor's but ``index`` and ``enable_sharding``.

        Returns:
            The dataset; no request has been sent.

        Raises:
            KeyError: There is no such column of labels.
            TypeError: An argument has the wrong type.
        """
        return cls(region, objects_of_index(index), enable_sharding=True, index=True, **options)

    @classmethod
    def from_manifest(
        cls,
        manifest: str,
        *,
        bucket: str | None = None,
        region: str | None = None,
        **options: Unpack[IndexedEpochOptions],
    ) -> Self:
        """Make a dataset of the objects that a manifest names, in its order.

        Args:
            manifest: ``s3://bucket/key`` or the path of a file that `save_manifest` has written, or any Parquet or
                Arrow file with columns ``bucket`` and ``key``, and ``size`` and ``etag`` if they are known.
            bucket: Where the objects are, if the manifest only names keys; one that names objects of any other bucket
                is refused then. By default each is where the manifest says.
            region: As in the constructor.
            **options: The constructor's but ``index`` and ``enable_sharding``.

        Returns:
            The dataset; nothing is requested but the manifest.

        Raises:
            KeyError: There is no such column of labels.
            TypeError: An argument has the wrong type.
            ValueError: The manifest is none.
            ImportError: ``pyarrow`` is not installed.
        """
        return cls(region, objects_of_manifest(manifest, bucket), enable_sharding=True, index=True, **options)

    def __iter__(self) -> Iterator[Any]:
        """Return an iterator of samples; shard, epoch and where to begin are decided here, once for all of them."""
        return self._visit()
