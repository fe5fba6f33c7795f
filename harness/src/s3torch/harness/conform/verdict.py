"""What became of the laws: events in, verdicts out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from s3torch.harness.conform.events import Case, Ended

__all__ = ["Law", "Verdicts", "lacking"]

_NOT_RUN = "not run"
# The worst of its cases is the law's verdict; a law that holds where it can be tried holds.
_WORST_FIRST = ("broken", _NOT_RUN, "held", "skipped")


@dataclass(slots=True)
class Law:
    """One law about one subject, and the cases it is held to."""

    subject: str
    """What is put to the test."""
    name: str
    """The law's name."""
    sentence: str
    """What it says."""
    cases: dict[str, Ended | None] = field(default_factory=dict)
    """What became of each case; None while it has not ended."""

    @property
    def verdict(self) -> str:
        """``held``, ``broken``, ``skipped`` or ``not run``."""
        found = {ended.verdict if ended else _NOT_RUN for ended in self.cases.values()}
        return next(verdict for verdict in _WORST_FIRST if verdict in found)

    @property
    def reason(self) -> str:
        """Why it is broken or skipped, of the first case that is."""
        ended = next((ended for ended in self.cases.values() if ended and ended.verdict == self.verdict), None)
        return ended.reason if ended and self.verdict != "held" else ""

    @property
    def details(self) -> list[str]:
        """The reports of the cases that are broken."""
        return [ended.details for ended in self.cases.values() if ended and ended.verdict == "broken" and ended.details]


class Verdicts:
    """The laws of one run, in order, as cases are judged."""

    def __init__(self) -> None:
        self._cases: dict[str, Case] = {}
        self._laws: dict[tuple[str, str], Law] = {}

    @property
    def laws(self) -> list[Law]:
        """All laws, subject by subject."""
        return list(self._laws.values())

    @property
    def judged(self) -> list[str]:
        """Ids of the cases that have ended."""
        return [case for law in self.laws for case, ended in law.cases.items() if ended]

    @property
    def total(self) -> int:
        """How many cases there are."""
        return len(self._cases)

    @property
    def is_broken(self) -> bool:
        """Whether a law is broken, or was not tried."""
        return any(law.verdict in ("broken", _NOT_RUN) for law in self.laws)

    def expect(self, cases: Iterable[Case]) -> None:
        """Take note of cases to come; those that are known stay as they are."""
        for case in cases:
            self._cases[case.id] = case
            law = self._laws.setdefault((case.subject, case.law), Law(case.subject, case.law, case.sentence))
            law.cases.setdefault(case.id, None)

    def judge(self, ended: Ended) -> None:
        """Take note of what became of a case; a clean-up that failed breaks a law that held."""
        case = self._cases[ended.id]
        law = self._laws[case.subject, case.law]
        before = law.cases[ended.id]
        if before is None or before.verdict != "broken":
            law.cases[ended.id] = ended

    def case(self, case_id: str) -> Case:
        """Return a case."""
        return self._cases[case_id]


def lacking(runs: Sequence[Verdicts]) -> list[Law]:
    """Return the laws that hold in none of several runs, broken or skipped: what these have in common is the store.

    Args:
        runs: What became of the same laws with different engines.
    """
    found = [{law.name: law for law in run.laws if law.verdict in ("broken", "skipped")} for run in runs]
    if len(found) < 2:
        return []
    return [law for name, law in found[0].items() if all(law.verdict == _verdict(others, name) for others in found[1:])]


def _verdict(laws: dict[str, Law], name: str) -> str:
    return laws[name].verdict if name in laws else ""
