"""Lightning checkpoints on S3."""
