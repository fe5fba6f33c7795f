"""The names under which one attempt at saving a checkpoint writes.

Objects that a committed checkpoint refers to are never written again: each attempt has a name of its own, which is
part of the names of its objects, and the metadata, put last, tells where they are. So an attempt that is interrupted,
or that runs beside another, damages nothing.

The coordinator chooses the attempt's name and sends it to all ranks in the plan. A planner that caches plans hands out
the plan of an earlier save, with the names of that one. Each rank therefore puts a ticket into its local plan, and
writes under the names it is sent only if they bear that ticket; otherwise it chooses an attempt's name of its own.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch.distributed.checkpoint.planner import SavePlan

__all__ = ["Names", "assign_names", "give_ticket", "make_ticket", "names_for"]


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one rank's objects in one attempt."""

    prefix: str
    """What they begin with, by the prefix strategy; relative to the checkpoint's folder."""
    attempt: str
    """The attempt's name."""
    ticket: str
    """What the rank recognises its plan by."""

    def name(self, number: int, suffix: str) -> str:
        """Return the name of an object, relative to the checkpoint's folder.

        Args:
            number: Counts the rank's objects, from 0.
            suffix: The name's end, with its dot.
        """
        return f"{self.prefix}{self.attempt}_{number}{suffix}"


@dataclass(frozen=True, slots=True)
class _Ticket:
    ticket: str


def make_ticket() -> str:
    """Return a name that nobody has used, of 16 hexadecimal digits."""
    return secrets.token_hex(8)


def give_ticket(plan: SavePlan, ticket: str) -> SavePlan:
    """Put a rank's ticket into its local plan.

    Args:
        plan: The local plan.
        ticket: The ticket.
    """
    return replace(plan, storage_data=_Ticket(ticket))


def assign_names(
    plans: Sequence[SavePlan], attempt: str, prefix: Callable[[int], str], *, first_rank: int = 0
) -> list[SavePlan]:
    """Put into each rank's plan the names under which it writes.

    Args:
        plans: One plan for each rank, with its ticket.
        attempt: The attempt's name.
        prefix: What the names of a rank's objects begin with.
        first_rank: Rank of the first plan.
    """
    assigned = []
    for rank, plan in enumerate(plans, start=first_rank):
        ticket = plan.storage_data.ticket if isinstance(plan.storage_data, _Ticket) else ""
        assigned.append(replace(plan, storage_data=Names(prefix(rank), attempt, ticket)))
    return assigned


def names_for(storage_data: object, ticket: str, prefix: Callable[[], str]) -> Names:
    """Return the names to write under.

    Args:
        storage_data: What came with the plan.
        ticket: The ticket that was given to the local plan of this save.
        prefix: What the names begin with where those of the plan are not for this save.
    """
    if isinstance(storage_data, Names) and storage_data.ticket == ticket:
        return storage_data
    return Names(prefix(), make_ticket(), ticket)
