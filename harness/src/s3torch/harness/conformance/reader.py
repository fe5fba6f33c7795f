"""The laws of a reader: what every file over one object does, whatever its strategy."""

from __future__ import annotations

from s3torch.harness.conformance._reader_laws import ReaderLaws, StoredObject, StoreObject

__all__ = ["ReaderConformance", "StoreObject", "StoredObject"]


class ReaderConformance(ReaderLaws):
    """Tests that a reader obeys the laws of readers.

    Subclass it in a test module and supply one fixture; pytest runs the rest::

        class TestMine(ReaderConformance):
            slack = 64 * 1024  # what a small read may fetch beyond what it was asked for

            @pytest.fixture
            def store_object(self) -> StoreObject: ...  # stores bytes, says how to open, replace and delete them

    Where a `StoredObject` cannot count or fail, the laws that need it are skipped; laws are not overridden. Each
    test's docstring is the law it holds. A reader of a checkpoint's items has laws of its own, in `DCPConformance`.
    """
