"""Tar shards: their samples, streamed."""
