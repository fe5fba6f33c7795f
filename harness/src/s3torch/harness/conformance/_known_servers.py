"""What the servers at hand can do and cannot, each fact with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from s3torch.harness.servers.endpoint import EndpointServer, S3Server
from s3torch.harness.servers.moto import MotoServer
from s3torch.harness.servers.swift import SwiftServer

__all__ = ["MEMORY", "MOTO", "SWIFT", "ServerFacts", "declare", "facts_of"]


@dataclass(frozen=True)
class ServerFacts:
    """What suites need to know of a store; see `StoreLaws` and `WriterLaws`."""

    is_networked: bool = True
    """Whether requests leave the process."""
    checks_credentials: bool = False
    """Whether it refuses wrong credentials."""
    has_storage_classes: bool = True
    """Whether it has other storage classes than ``STANDARD``."""
    has_tags: bool = True
    """Whether objects can be given tags."""
    lists_uploads: bool = True
    """Whether it can tell which multipart uploads were left unfinished."""
    refused_keys: frozenset[str] = frozenset()
    """Valid keys that it cannot keep."""
    broken_laws: Mapping[str, str] = field(default_factory=dict)
    """Laws that cannot hold on it: name of the test to what it gets wrong."""


MEMORY = ServerFacts(is_networked=False)


MOTO = ServerFacts(
    # werkzeug, the web framework below moto, has no route for a path with a line break.
    refused_keys=frozenset({"newline/\n"}),
    broken_laws={
        "test_a_copy_is_bound_to_its_source": "moto does not look at x-amz-copy-source-if-match",
        "test_an_aborted_upload_cannot_go_on": "moto answers 500 instead of NoSuchUpload",
    },
)


SWIFT = ServerFacts(
    checks_credentials=True,
    has_storage_classes=False,  # 400 InvalidStorageClass for any but STANDARD
    has_tags=False,  # 501 NotImplemented
)


def facts_of(server: S3Server) -> ServerFacts:
    """Return what is known of a server; one that the user named is asked what can be asked without harm.

    Args:
        server: The server, running.
    """
    if isinstance(server, MotoServer):
        return MOTO
    if isinstance(server, SwiftServer):
        return SWIFT
    if isinstance(server, EndpointServer):
        return ServerFacts(checks_credentials=server.checks_credentials(), lists_uploads=server.lists_uploads())
    return ServerFacts()


def declare(suite: type[Any], facts: ServerFacts) -> None:
    """Let a suite declare what its laws look at.

    Args:
        suite: The class of tests, or one that they inherit from.
        facts: What is known of the store at hand.
    """
    suite.is_networked = suite.is_seen_by_other_processes = facts.is_networked
    suite.checks_credentials = facts.checks_credentials
    suite.has_storage_classes = facts.has_storage_classes
    suite.has_tags = facts.has_tags
    suite.lists_uploads = facts.lists_uploads
    suite.refused_keys = facts.refused_keys
    suite.broken_by_server = facts.broken_laws
