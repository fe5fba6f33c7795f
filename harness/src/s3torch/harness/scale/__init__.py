"""What one host needs to fill its network card: a model, a simulation that checks it, and a check against sockets.

``python -m s3torch.harness.scale`` prints the tables.
"""

from s3torch.harness.scale.costs import Costs, PathCosts
from s3torch.harness.scale.model import Needs, Prediction, Service, Work, WorkKind, plan, predict, work_of
from s3torch.harness.scale.simulation import Setup, Simulated, simulate

__all__ = [
    "Costs",
    "Needs",
    "PathCosts",
    "Prediction",
    "Service",
    "Setup",
    "Simulated",
    "Work",
    "WorkKind",
    "plan",
    "predict",
    "simulate",
    "work_of",
]
