"""`s3torch demo`: train on images streamed from S3, checkpoint there, be killed, resume, and end at the same loss.

A plug-in command (entry point group ``s3torch.commands``) of the harness, which brings the server it runs on. Importing
it costs next to nothing; what it needs is imported when it runs.
"""

from s3torch.harness.demo.entry import command

__all__ = ["command"]
