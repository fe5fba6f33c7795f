"""Naming keys, 50 ms for each page of 1,000: what a dataset of a prefix begins with."""

from __future__ import annotations

from dataclasses import replace

from s3torch.harness.bench.scenario import (
    Content,
    Figure,
    Requirement,
    Scenario,
    Server,
    also,
    floor,
    original,
    ours,
    peer,
)

_SERIAL = "http.client, page after page"

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "listing",
        "listing 100,000 keys in 100 folders, 50 ms for each page of 1,000",
        Server.LISTING,
        (
            floor(_SERIAL, "floor_listing:serial"),
            floor("http.client, 16 folders at once", "floor_listing:parallel"),
            ours("s3torch, list_index", "ours_loader:listing"),
            also("s3torch, list_objects", "connector:listing"),
            original("s3torchconnector, list_objects", "connector:listing"),
            peer("boto3, paginator", "boto3", "boto3_peer:listing"),
            peer("obstore, list", "obstore", "obstore_peer:listing"),
            peer("s3fs, find", "s3fs", "s3fs_peer:listing"),
        ),
        (Requirement(Figure.RATE, 4.0, "original"),),
        size=0,
        count=100_000,
        quick_count=3000,
        content=Content.KEYS,
        is_counted=True,
    ),
    Scenario(
        "listing-million",
        "listing 1,000,000 keys in 1,000 folders, 50 ms for each page of 1,000",
        Server.LISTING,
        (
            # A minute for each run, if it listed them all.
            replace(floor(_SERIAL, "floor_listing:serial"), objects=100_000),
            floor("http.client, 16 folders at once", "floor_listing:parallel"),
            ours("s3torch, list_index", "ours_loader:listing"),
            original("s3torchconnector, list_objects", "connector:listing", objects=100_000),
        ),
        (Requirement(Figure.RATE, 8.0, _SERIAL),),
        size=0,
        count=1_000_000,
        quick_count=3000,
        content=Content.KEYS,
    ),
)
