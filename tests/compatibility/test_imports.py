"""Every path by which code written for the original imports a name, and the s3torch class that it must find there."""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import Any

import pytest

import s3torchconnector
import s3torchconnectorclient
from s3torch.client import UserAgent

# Import path -> names there -> where they are defined; None where any definition will do.
NAMES: dict[str, dict[str, str | None]] = {
    "s3torchconnector": {
        "S3Checkpoint": "s3torch.checkpoint",
        "S3ClientConfig": "s3torch.client",
        "S3Exception": "s3torch.client",
        "S3IterableDataset": "s3torch.datasets",
        "S3MapDataset": "s3torch.datasets",
        "S3Reader": "s3torch.readers",
        "S3ReaderConstructor": "s3torch.readers",
        "S3Writer": "s3torch.writer",
        "__version__": None,
    },
    "s3torchconnector._s3bucket_key_data": {"S3BucketKeyData": "s3torch.client"},
    "s3torchconnector._s3client": {"S3Client": None, "S3ClientConfig": "s3torch.client"},
    "s3torchconnector._s3client._s3client": {"S3Client": None},
    "s3torchconnector._s3client.s3client_config": {"S3ClientConfig": "s3torch.client"},
    "s3torchconnector._user_agent": {"UserAgent": "s3torch.client"},
    "s3torchconnector.s3checkpoint": {"S3Checkpoint": "s3torch.checkpoint"},
    "s3torchconnector.s3iterable_dataset": {"S3IterableDataset": "s3torch.datasets"},
    "s3torchconnector.s3map_dataset": {"S3MapDataset": "s3torch.datasets"},
    "s3torchconnector.s3reader": {
        "DCPOptimizedS3Reader": "s3torch.readers",
        "RangedS3Reader": "s3torch.readers",
        "S3Reader": "s3torch.readers",
        "S3ReaderConstructor": "s3torch.readers",
        "S3ReaderConstructorProtocol": "s3torch.readers",
        "SequentialS3Reader": "s3torch.readers",
    },
    "s3torchconnector.s3reader.constructor": {"S3ReaderConstructor": "s3torch.readers"},
    "s3torchconnector.s3reader.dcp_optimized": {
        "DCPOptimizedS3Reader": "s3torch.readers",
        "ItemRange": "s3torch.readers",
        "RangeGroup": "s3torch.readers",
    },
    "s3torchconnector.s3reader.protocol": {
        "DCPS3ReaderConstructorProtocol": "s3torch.readers",
        "GetStreamCallable": "s3torch.readers",
        "S3ReaderConstructorProtocol": "s3torch.readers",
    },
    "s3torchconnector.s3reader.ranged": {"RangedS3Reader": "s3torch.readers"},
    "s3torchconnector.s3reader.s3reader": {"S3Reader": "s3torch.readers"},
    "s3torchconnector.s3reader.sequential": {"SequentialS3Reader": "s3torch.readers"},
    "s3torchconnector.s3writer": {"S3Writer": "s3torch.writer"},
    "s3torchconnectorclient": {"S3Exception": "s3torch.client", "__version__": None},
    "s3torchconnectorclient._mountpoint_s3_client": {
        "GetObjectStream": "s3torch.client",
        "HeadObjectResult": "s3torch.client",
        "ListObjectResult": "s3torch.client",
        "ListObjectStream": None,
        "ObjectInfo": "s3torch.client",
        "PutObjectStream": "s3torch.client.upload",
        "RestoreStatus": "s3torch.client",
        "S3Exception": "s3torch.client",
    },
}
PATHS = [(path, name, home) for path, names in NAMES.items() for name, home in names.items()]


@pytest.mark.parametrize(("path", "name", "home"), PATHS)
def test_a_name_is_where_the_original_has_it(path: str, name: str, home: str | None) -> None:
    module: Any = importlib.import_module(path)
    found = getattr(module, name)
    assert name in module.__all__
    if home is not None:
        assert found is getattr(importlib.import_module(home), name)


@pytest.mark.parametrize("package", [s3torchconnector, s3torchconnectorclient])
def test_every_module_says_what_it_offers(package: Any) -> None:
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        module: Any = importlib.import_module(found.name)
        assert module.__all__, found.name
        assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_the_version_is_that_of_the_api_supplied() -> None:
    assert s3torchconnector.__version__ == s3torchconnectorclient.__version__
    assert re.fullmatch(r"1\.5\.\d+", s3torchconnector.__version__)
    assert f" s3torchconnector/{s3torchconnector.__version__} " in UserAgent().prefix
