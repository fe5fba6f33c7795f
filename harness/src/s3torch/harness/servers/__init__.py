"""S3 servers for tests and benchmarks, each in a process of its own and gone when its user is gone."""

from s3torch.harness.servers._process import ServerError
from s3torch.harness.servers.endpoint import EndpointServer, S3Server
from s3torch.harness.servers.moto import MotoServer, RecordedRequest
from s3torch.harness.servers.origin import Origin, OriginUnavailableError
from s3torch.harness.servers.sink import Sink
from s3torch.harness.servers.swift import SwiftServer, SwiftUnavailableError

__all__ = [
    "EndpointServer",
    "MotoServer",
    "Origin",
    "OriginUnavailableError",
    "RecordedRequest",
    "S3Server",
    "ServerError",
    "Sink",
    "SwiftServer",
    "SwiftUnavailableError",
]
