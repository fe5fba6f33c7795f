"""Which objects a dataset holds: the functions that a dataset calls with its client to find out, and their index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias

from s3torch.client import S3BucketKeyData, S3Uri, parse_s3_uri
from s3torch.datasets._listing import list_ahead
from s3torch.datasets.index import S3Index, list_index, load_manifest
from s3torch.readers import ReaderClient

__all__ = [
    "GetDatasetObjects",
    "index_objects",
    "objects_by_name",
    "objects_by_uri",
    "objects_of_index",
    "objects_of_manifest",
    "objects_under_prefix",
]

GetDatasetObjects: TypeAlias = Callable[[ReaderClient], Iterable[S3BucketKeyData]]
"""Given a client, name the objects of a dataset, in order."""

_LABEL = "label"  # the column of labels that are given with the names of objects


def objects_under_prefix(s3_uri: str) -> GetDatasetObjects:
    """Check a prefix and return the function that lists it.

    Args:
        s3_uri: ``s3://bucket`` or ``s3://bucket/prefix``. The prefix is a plain one: ``train`` matches ``training/1``,
            too, and objects of zero bytes that consoles make to show a folder count like any other.

    Returns:
        A picklable function that lists page by page, in key order.

    Raises:
        TypeError: The URI is not a string.
        ValueError: The URI is malformed.
    """
    return partial(_list, uri=parse_s3_uri(s3_uri))


def objects_by_uri(object_uris: str | Iterable[str]) -> GetDatasetObjects:
    """Check the URIs of objects and return the function that names them; it sends no request.

    Args:
        object_uris: One URI or any number of them, each ``s3://bucket/key``.

    Returns:
        A picklable function that names the objects in the order given, duplicates included.

    Raises:
        TypeError: What is given is no string and no iterable of strings.
        ValueError: A URI is malformed or has no key.
    """
    if isinstance(object_uris, str):
        object_uris = (object_uris,)
    if not isinstance(object_uris, Iterable):
        raise TypeError(f"object_uris must be a str or an iterable of str, got {type(object_uris).__name__}")
    return partial(_name, uris=tuple(_parse_object(uri) for uri in object_uris))


def objects_by_name(
    object_uris: str | Iterable[str] | Mapping[str, Any],
) -> tuple[GetDatasetObjects, dict[str, Any]]:
    """Check the URIs of objects, and see whether they have labels.

    Args:
        object_uris: As `objects_by_uri` has them, or by URI its object's label.

    Returns:
        The function that names the objects; and the dataset's options that go with it: none, or the column of labels.

    Raises:
        ImportError: There are labels, and `pyarrow` is not installed.
        TypeError: As `objects_by_uri`.
        ValueError: Likewise, or the labels are not of one type.
    """
    if not isinstance(object_uris, Mapping):
        return objects_by_uri(object_uris), {}
    index = S3Index.from_items(S3BucketKeyData(*_parse_object(uri)) for uri in object_uris)
    labelled = index.with_labels({_LABEL: list(object_uris.values())})
    return objects_of_index(labelled), {"label": _LABEL}


def objects_of_index(index: S3Index) -> GetDatasetObjects:
    """Return the function that names the objects of an index.

    Raises:
        TypeError: It is no index.
    """
    if not isinstance(index, S3Index):
        raise TypeError(f"index must be an S3Index, got {type(index).__name__}")
    return partial(_give, index=index)


def objects_of_manifest(manifest: str, bucket: str | None = None) -> GetDatasetObjects:
    """Return the function that reads a manifest.

    Args:
        manifest: Where it is.
        bucket: As `load_manifest` has it.

    Raises:
        TypeError: One of them is no string.
    """
    if not isinstance(manifest, str):
        raise TypeError(f"manifest must be a str, got {type(manifest).__name__}")
    if bucket is not None and not isinstance(bucket, str):
        raise TypeError(f"bucket must be a str, got {type(bucket).__name__}")
    return partial(_load, manifest=manifest, bucket=bucket)


def index_objects(client: ReaderClient, get_dataset_objects: GetDatasetObjects) -> S3Index:
    """Find out now which objects a dataset holds: a prefix is listed in parallel, an index is the answer."""
    if isinstance(get_dataset_objects, partial):
        if get_dataset_objects.func is _give:
            index: S3Index = get_dataset_objects.keywords["index"]
            return index
        if get_dataset_objects.func is _list:
            uri: S3Uri = get_dataset_objects.keywords["uri"]
            return list_index(client, f"s3://{uri.bucket}/{uri.key}")
        if get_dataset_objects.func is _load:
            return _load(client, **get_dataset_objects.keywords)
    return S3Index.from_items(get_dataset_objects(client))


def _parse_object(uri: str) -> S3Uri:
    parsed = parse_s3_uri(uri)
    if not parsed.key:
        raise ValueError(f"S3 URI without a key: {uri!r}; expected s3://bucket/key")
    return parsed


def _list(client: ReaderClient, uri: S3Uri) -> Iterator[S3BucketKeyData]:
    return list_ahead(client, uri.bucket, uri.key)


def _name(client: ReaderClient, uris: tuple[S3Uri, ...]) -> Iterator[S3BucketKeyData]:  # noqa: ARG001  # GetDatasetObjects
    return (S3BucketKeyData(bucket, key) for bucket, key in uris)


def _give(client: ReaderClient, index: S3Index) -> Iterator[S3BucketKeyData]:  # noqa: ARG001  # GetDatasetObjects
    return iter(index)


def _load(client: ReaderClient, manifest: str, bucket: str | None) -> S3Index:
    return load_manifest(manifest, client=client, bucket=bucket)
