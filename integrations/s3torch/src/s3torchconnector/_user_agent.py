"""What requests call themselves."""

from s3torch.client import UserAgent

__all__ = ["UserAgent"]
