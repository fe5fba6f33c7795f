from __future__ import annotations

import pickle
import re

from torch.distributed.checkpoint.planner import SavePlan

from s3torch.dcp._attempt import Names, assign_names, give_ticket, make_ticket, names_for


def prefix(rank: int) -> str:
    return f"__{rank}_"


def test_tickets_are_names_that_nobody_has_used() -> None:
    tickets = {make_ticket() for _ in range(100)}
    assert len(tickets) == 100
    assert all(re.fullmatch("[0-9a-f]{16}", ticket) for ticket in tickets)


def test_all_ranks_write_under_the_coordinators_name() -> None:
    plans = [give_ticket(SavePlan([]), f"ticket{rank}") for rank in range(3)]
    assigned = [pickle.loads(pickle.dumps(plan)) for plan in assign_names(plans, "attempt", prefix)]
    for rank, plan in enumerate(assigned):
        names = names_for(plan.storage_data, f"ticket{rank}", lambda: "unused")
        assert names.name(0, ".distcp") == f"__{rank}_attempt_0.distcp"
        assert names.name(11, ".x") == f"__{rank}_attempt_11.x"


def test_a_plan_of_another_save_leaves_the_rank_its_own_name() -> None:
    (old,) = assign_names([give_ticket(SavePlan([]), "old")], "attempt", prefix)
    others = (old.storage_data, None, "something else", give_ticket(SavePlan([]), "new").storage_data)
    chosen = [names_for(storage_data, "new", lambda: "own_") for storage_data in others]
    assert all(re.fullmatch(r"own_[0-9a-f]{16}_0\.distcp", names.name(0, ".distcp")) for names in chosen)
    assert len({names.attempt for names in chosen} | {"attempt", "new"}) == len(others) + 2


def test_a_plan_that_lost_its_ticket_is_nobodys() -> None:
    (plan,) = assign_names([SavePlan([])], "attempt", prefix)
    assert names_for(plan.storage_data, "new", lambda: "own_").attempt != "attempt"


def test_ranks_that_plan_alone_keep_their_number() -> None:
    (plan,) = assign_names([give_ticket(SavePlan([]), "t")], "attempt", prefix, first_rank=5)
    assert plan.storage_data == Names("__5_", "attempt", "t")
