"""The direct engine: requests over its own sockets, bytes straight into their destination."""

from s3torch.client.direct.engine import DirectEngine

__all__ = ["DirectEngine"]
