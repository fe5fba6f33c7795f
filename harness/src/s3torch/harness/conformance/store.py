"""The laws of a store: what every engine does, whatever it is made of."""

from __future__ import annotations

from s3torch.harness.conformance._store_lists import ListLaws
from s3torch.harness.conformance._store_model import ModelLaws
from s3torch.harness.conformance._store_reads import ReadLaws
from s3torch.harness.conformance._store_sharing import SharingLaws
from s3torch.harness.conformance._store_started_lists import StartedListLaws
from s3torch.harness.conformance._store_writes import WriteLaws

__all__ = ["StoreConformance"]


class StoreConformance(ReadLaws, ListLaws, StartedListLaws, WriteLaws, SharingLaws, ModelLaws):
    """Tests that an engine obeys the laws of its protocols, through `S3Client`.

    Subclass it in a test module and supply two fixtures; pytest runs the rest::

        class TestMine(StoreConformance):
            checks_credentials = True  # what the store at hand can do, or cannot

            @pytest.fixture
            def arrangement(self) -> Arrangement: ...  # the suite's own way to the store

            @pytest.fixture
            def connect(self) -> Connect: ...  # makes clients of the engine under test

    What the store at hand lacks is declared by class attributes (see `StoreLaws`), and the laws that need it are
    skipped; laws are not overridden. Each test's docstring is the law it holds.
    """
