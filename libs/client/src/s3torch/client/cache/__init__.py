"""A local cache of what is read: switched on by ``S3ClientConfig(cache=CacheConfig(directory))``."""

from s3torch.client.cache.disk import CacheStats, DiskCache, cache_for
from s3torch.client.cache.engine import CachingEngine
from s3torch.client.config import CacheConfig

__all__ = ["CacheConfig", "CacheStats", "CachingEngine", "DiskCache", "cache_for"]
