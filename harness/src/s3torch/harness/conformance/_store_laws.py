"""What all laws of a store share: the subject, and what it declares of itself."""

from __future__ import annotations

from typing import ClassVar

import pytest

from s3torch.client import S3Client
from s3torch.harness.conformance._laws import StartingLaws
from s3torch.harness.conformance.arrangement import Connect

__all__ = ["MIB", "StoreLaws"]

MIB = 1024 * 1024


class StoreLaws(StartingLaws):
    """Fixtures to supply and capabilities to declare; see `StoreConformance`."""

    is_networked: ClassVar[bool] = True
    """Whether requests leave the process, so that an endpoint can be unreachable."""
    checks_credentials: ClassVar[bool] = False
    """Whether the store refuses wrong credentials; many test servers take any."""
    has_storage_classes: ClassVar[bool] = True
    """Whether the store has other storage classes than ``STANDARD``."""
    has_tags: ClassVar[bool] = True
    """Whether objects can be given tags."""
    refused_keys: ClassVar[frozenset[str]] = frozenset()
    """Valid keys that this store cannot keep (not the engine: each one here is a defect of the server)."""

    @pytest.fixture
    def connect(self) -> Connect:
        """A function that makes clients of the subject; credentials come from the environment."""
        raise NotImplementedError("supply the fixture 'connect'")

    @pytest.fixture
    def client(self, connect: Connect) -> S3Client:
        """A client of the subject with its defaults; override it to share one among the laws."""
        return connect()
