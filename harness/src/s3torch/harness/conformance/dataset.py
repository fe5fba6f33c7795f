"""The laws of a dataset: what every dataset of S3 objects does, whoever wrote it."""

from __future__ import annotations

from s3torch.harness.conformance._dataset_laws import MakeDataset
from s3torch.harness.conformance._dataset_workers import IterableWorkerLaws, MapWorkerLaws

__all__ = ["IterableDatasetConformance", "MakeDataset", "MapDatasetConformance"]


class MapDatasetConformance(MapWorkerLaws):
    """Tests that a dataset by index obeys the laws of datasets.

    Subclass it in a test module and supply two fixtures; pytest runs the rest::

        class TestMine(MapDatasetConformance):
            reads_ahead = 16  # objects it may hold ahead of the one it gave last

            @pytest.fixture
            def arrangement(self) -> Arrangement: ...  # the suite's own way to the store

            @pytest.fixture
            def make_dataset(self) -> MakeDataset: ...  # makes the dataset of a bucket, a prefix and a transform

    What the place lacks is declared by class attributes (see `DatasetLaws`), and the laws that need it are skipped;
    laws are not overridden. Each test's docstring is the law it holds.
    """


class IterableDatasetConformance(IterableWorkerLaws):
    """Tests that a dataset to iterate over obeys the laws of datasets; fixtures as for `MapDatasetConformance`."""
