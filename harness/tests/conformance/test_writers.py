"""The writer on every engine against the laws of a writer."""

from __future__ import annotations

import pytest
from harness.tests.conformance.targets import (
    MIB,
    Boto3OnMoto,
    Boto3OnSwift,
    DirectOnMoto,
    DirectOnSwift,
    InMemory,
    Target,
)

from s3torch.client import S3ClientConfig
from s3torch.harness.conformance import EngineTap, OpenWriter, WriterConformance
from s3torch.writer import WriterClient

pytestmark = pytest.mark.conformance


class Ours(WriterConformance):
    """The writer of this project."""

    part_size = 5 * MIB

    @pytest.fixture
    def tap(self, tap: EngineTap) -> EngineTap:
        return tap

    @pytest.fixture
    def open_writer(self, target: Target, tap: EngineTap) -> OpenWriter:
        # With its usual retries: moto may answer 500 to an abort that meets a part whose connection was just cut.
        config = S3ClientConfig(engine=tap, force_path_style=True, part_size=self.part_size)
        return WriterClient(target.region, endpoint=target.endpoint, s3client_config=config).put_object


class TestMemory(InMemory, Ours):
    pass


class TestBoto3OnMoto(Boto3OnMoto, Ours):
    pass


class TestDirectOnMoto(DirectOnMoto, Ours):
    pass


class TestBoto3OnSwift(Boto3OnSwift, Ours):
    pass


class TestDirectOnSwift(DirectOnSwift, Ours):
    pass
