"""`s3torch conform`: put a reader, a writer, an engine or a server to the test, and sum up which laws hold.

A plug-in command (entry point group ``s3torch.commands``) of the harness. Importing it costs next to nothing; what it
needs is imported when it runs.
"""

from s3torch.harness.conform.entry import command

__all__ = ["command"]
