"""What is measured: a module for each family of scenarios, and all of them together."""

from __future__ import annotations

from s3torch.harness.bench.scenario import Scenario
from s3torch.harness.bench.scenarios import (
    dcp,
    first_batch,
    imports,
    large,
    listing,
    loader,
    moto,
    small,
    torch_files,
)

__all__ = ["ALL_SCENARIOS"]

ALL_SCENARIOS: tuple[Scenario, ...] = (
    *large.SCENARIOS,
    *torch_files.SCENARIOS,
    *small.SCENARIOS,
    *loader.SCENARIOS,
    *first_batch.SCENARIOS,
    *listing.SCENARIOS,
    *imports.SCENARIOS,
    *dcp.SCENARIOS,
    *moto.SCENARIOS,
)
"""Every scenario, in the order in which they are run."""
