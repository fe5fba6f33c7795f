"""The command ``s3torch``. Its sub-commands are supplied by whatever is installed, see `s3torch.cli.commands`."""

from s3torch.cli.application import main

__all__ = ["main"]
