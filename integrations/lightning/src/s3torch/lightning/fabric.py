"""Strategies for a Lightning ``Fabric`` whose sharded checkpoints lie in S3."""

from __future__ import annotations

from lightning.fabric.strategies.fsdp import FSDPStrategy
from lightning.fabric.strategies.model_parallel import ModelParallelStrategy

from s3torch.lightning._strategy import FabricShards

__all__ = ["S3FSDPStrategy", "S3ModelParallelStrategy"]


class S3FSDPStrategy(FabricShards, FSDPStrategy):
    """Fabric's ``FSDPStrategy`` for checkpoints in S3.

    Takes the same arguments, which also say whether a checkpoint is one object or sharded. The store's options are
    those of the plugin:
    ``Fabric(plugins=[S3LightningCheckpoint(...)], strategy=S3FSDPStrategy(...))``; without one, the environment's.
    Paths that are not on S3 are left to Lightning.
    """

    _form = ("_state_dict_type", "full")


class S3ModelParallelStrategy(FabricShards, ModelParallelStrategy):
    """Fabric's ``ModelParallelStrategy`` (FSDP2, tensor parallelism) for checkpoints in S3.

    Takes the same arguments, which also say whether a checkpoint is one object or sharded. The store's options are
    those of the plugin:
    ``Fabric(plugins=[S3LightningCheckpoint(...)], strategy=S3ModelParallelStrategy(...))``; without one, the
    environment's. Paths that are not on S3 are left to Lightning.
    """

    _form = ("_save_distributed_checkpoint", False)
