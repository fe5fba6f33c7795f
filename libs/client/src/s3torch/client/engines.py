"""Engines by name."""

from __future__ import annotations

from s3torch.client.protocols import Engine, EngineContext

__all__ = ["make_engine"]


def make_engine(context: EngineContext) -> Engine:
    """Make the engine that the configuration names.

    Engines are imported when first asked for: most programs use one.

    Args:
        context: Region, endpoint, user agent and configuration.

    Returns:
        The engine; it has sent nothing yet.
    """
    engine = context.config.engine
    if callable(engine):
        return engine(context)
    if engine == "boto3":
        from s3torch.client.boto3_engine import Boto3Engine

        return Boto3Engine(context)
    if engine == "memory":
        from s3torch.client.memory import MemoryEngine

        return MemoryEngine(context)
    from s3torch.client.direct import DirectEngine

    return DirectEngine(context)
