"""Engines by name."""

from __future__ import annotations

from dataclasses import replace

from s3torch.client.protocols import Engine, EngineContext

__all__ = ["make_engine"]


def make_engine(context: EngineContext) -> Engine:
    """Make the engine that the configuration names, and put the cache before it if there is to be one.

    Engines are imported when first asked for: most programs use one.

    Args:
        context: Region, endpoint, user agent and configuration.

    Returns:
        The engine; it has sent nothing yet.

    Raises:
        OSError: The cache's directory cannot be used.
    """
    engine = _make_bare(context)
    if context.config.cache is None:
        return engine
    from s3torch.client.cache import CachingEngine, cache_for

    return CachingEngine(engine, cache_for(context.config.cache), context.endpoint)


def _make_bare(context: EngineContext) -> Engine:
    engine = context.config.engine
    if callable(engine):
        # It may make the engine that it wraps by `make_engine`: one cache is enough.
        return engine(replace(context, config=replace(context.config, cache=None)))
    if engine == "boto3":
        from s3torch.client.boto3_engine import Boto3Engine

        return Boto3Engine(context)
    if engine == "memory":
        from s3torch.client.memory import MemoryEngine

        return MemoryEngine(context)
    from s3torch.client.direct import DirectEngine

    return DirectEngine(context)
