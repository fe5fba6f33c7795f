"""Faults on purpose: a proxy and engine wrappers that let requests go wrong by a plan, and the matrix of it all.

Right bytes, or a clear error within the deadline: nothing else is a pass.
"""

from s3torch.harness.faults.plan import Fault, FaultPlan
from s3torch.harness.faults.proxy import FaultProxy, ProxyHost

__all__ = ["Fault", "FaultPlan", "FaultProxy", "ProxyHost"]
