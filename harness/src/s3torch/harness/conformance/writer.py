"""The laws of a writer: what every file that becomes an object does, whoever wrote it."""

from __future__ import annotations

from s3torch.harness.conformance._writer_contents import WriterContentLaws
from s3torch.harness.conformance._writer_endings import WriterEndingLaws
from s3torch.harness.conformance._writer_laws import OpenWriter

__all__ = ["OpenWriter", "WriterConformance"]


class WriterConformance(WriterContentLaws, WriterEndingLaws):
    """Tests that a writer obeys the laws of writers.

    Subclass it in a test module and supply two fixtures; pytest runs the rest::

        class TestMine(WriterConformance):
            part_size = 5 * 1024 * 1024  # what it sends in one request

            @pytest.fixture
            def arrangement(self) -> Arrangement: ...  # the suite's own way to the store

            @pytest.fixture
            def open_writer(self) -> OpenWriter: ...  # a function of bucket and key

            @pytest.fixture
            def tap(self) -> RequestTap: ...  # optional: sees and breaks off the writer's requests

    Without a ``tap`` the laws of failing requests are skipped. What the place lacks is declared by class attributes
    (see `WriterLaws`), and the laws that need it are skipped; laws are not overridden. Each test's docstring is the law
    it holds.
    """
