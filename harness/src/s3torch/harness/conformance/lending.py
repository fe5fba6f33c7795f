"""How a suite arranges on a server, and leaves it as it was."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from s3torch.harness.conformance.arrangement import Boto3Arrangement
from s3torch.harness.servers.endpoint import BucketLentError, EndpointServer, S3Server

__all__ = ["ServerArrangement"]


class ServerArrangement(Boto3Arrangement):
    """Arranges on a server for one test; what it made on a user's own is removed when it is closed.

    Args:
        server: The server.
        client: A boto3 client of it, which stays open.
    """

    def __init__(self, server: S3Server, client: Any) -> None:
        super().__init__(client)
        self._server = server
        self._made: list[str] = []

    def create_bucket(self) -> str:
        """Make an empty bucket and return its name; skip the test where the user lends one, and it is in use."""
        try:
            name = self._server.create_bucket(f"law-{uuid.uuid4().hex}")
        except BucketLentError as error:
            pytest.skip(str(error))
        self._made.append(name)
        return name

    def close(self) -> None:
        """Release the buckets."""
        made, self._made = self._made, []
        if isinstance(self._server, EndpointServer):
            for name in made:
                self._server.release(name)
