"""Strategies for a Lightning ``Trainer`` whose sharded checkpoints lie in S3."""

from __future__ import annotations

from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy

from s3torch.lightning._strategy import TrainerShards

__all__ = ["S3FSDPStrategy", "S3ModelParallelStrategy"]


class S3FSDPStrategy(TrainerShards, FSDPStrategy):
    """Lightning's ``FSDPStrategy`` for checkpoints in S3.

    Takes the same arguments. With ``state_dict_type="sharded"`` each process writes its own shards, and the folder is
    a checkpoint once all have; ``"full"`` gathers one object, which the plugin saves. The store's options are those of
    the plugin: ``Trainer(plugins=[S3LightningCheckpoint(...)], strategy=S3FSDPStrategy(...))``; without one, the
    environment's. Paths that are not on S3 are left to Lightning.
    """

    _form = ("_state_dict_type", "full")
    _model_name = "model"


class S3ModelParallelStrategy(TrainerShards, ModelParallelStrategy):
    """Lightning's ``ModelParallelStrategy`` (FSDP2, tensor parallelism) for checkpoints in S3.

    Takes the same arguments. By default each process writes its own shards, and the folder is a checkpoint once all
    have; ``save_distributed_checkpoint=False`` gathers one object, which the plugin saves. The store's options are
    those of the plugin: ``Trainer(plugins=[S3LightningCheckpoint(...)], strategy=S3ModelParallelStrategy(...))``;
    without one, the environment's. Paths that are not on S3 are left to Lightning.
    """

    _form = ("_save_distributed_checkpoint", False)
    _model_name = "state_dict"
