"""The laws of distributed checkpoints in S3: what every writer, reader and catalogue does, whoever wrote it."""

from __future__ import annotations

from s3torch.harness.conformance._checkpoint_catalogs import CatalogLaws
from s3torch.harness.conformance._checkpoint_commits import CommitLaws
from s3torch.harness.conformance._checkpoint_round_trips import RoundTripLaws

__all__ = ["CheckpointConformance"]


class CheckpointConformance(RoundTripLaws, CommitLaws, CatalogLaws):
    """Tests that a storage for `torch.distributed.checkpoint` keeps checkpoints as S3 can.

    Subclass it in a test module and supply three fixtures; pytest runs the rest::

        class TestMine(CheckpointConformance):
            has_catalog = False  # what it declares of itself, see `CheckpointLaws`

            @pytest.fixture
            def arrangement(self) -> Arrangement: ...  # the suite's own way to the store

            @pytest.fixture
            def tap(self) -> RequestTap: ...  # sees and breaks off the subject's requests, such as an `EngineTap`

            @pytest.fixture
            def storage(self, tap: RequestTap) -> CheckpointStorage: ...  # makes writers, readers and catalogues

    What it lacks is declared by class attributes, and the laws that need it are skipped; laws are not overridden. Each
    test's docstring is the law it holds.
    """
