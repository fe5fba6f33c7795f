"""A subject in its process, and the runs it has had."""

from __future__ import annotations

from s3torch.harness.bench.contents import WrongBytesError
from s3torch.harness.bench.counting import Counts
from s3torch.harness.bench.process import Launched
from s3torch.harness.bench.results import Measured
from s3torch.harness.bench.scenario import Entry, Scenario
from s3torch.harness.bench.subjects.measure import Run


class Player:
    """One subject; made by ``Runner``.

    Args:
        entry: What it is in its scenario.
        process: Its process.
        scenario: The scenario.
        count: Objects in each run.
        size: Bytes in each run.
        expected: CRC-32 of what a run delivers; None where it delivers nothing.
        counts: What it asked of the server and was sent in one run; None where that is not known.
    """

    def __init__(
        self,
        entry: Entry,
        process: Launched,
        scenario: Scenario,
        count: int,
        size: int,
        expected: int | None,
        counts: Counts | None,
    ) -> None:
        self.entry = entry
        self.failure: str | None = None
        self._counts = counts
        self._process = process
        self._scenario = scenario
        self._count = count
        self._size = size
        self._expected = expected
        self._runs: list[Run] = []

    def warm_up(self) -> None:
        """Run once, with everything checked."""
        self._check(self._process.run(check=True))

    def play(self) -> Run:
        """Run once and keep the figures.

        Raises:
            SubjectError: If the subject fails.
            WrongBytesError: If its bytes are wrong.
        """
        run = self._process.run(spend=self._scenario.spend)
        if run.crc:
            self._check(run)
        self._runs.append(run)
        return run

    def result(self) -> Measured:
        """Return what it gave."""
        return Measured(
            self.entry,
            [] if self.failure else self._runs,
            self._process.resident,
            self._count,
            self._size,
            requests=self._counts.requests if self._counts else None,
            sent=self._counts.sent if self._counts else None,
            failure=self.failure,
        )

    def _check(self, run: Run) -> None:
        if self._expected is not None and (run.crc, run.size) != (self._expected, self._size):
            raise WrongBytesError(
                f"{self.entry.name} in {self._scenario.name}: {run.size} bytes with CRC-32 {run.crc:08x}, "
                f"not {self._size} with {self._expected:08x}"
            )
