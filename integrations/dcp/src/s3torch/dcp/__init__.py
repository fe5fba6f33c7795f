"""torch.distributed.checkpoint on S3."""
