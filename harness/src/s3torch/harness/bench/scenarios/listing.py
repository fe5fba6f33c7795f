"""Naming 100,000 keys, 50 ms for each page of 1,000: what a dataset of a prefix begins with."""

from __future__ import annotations

from s3torch.harness.bench.scenario import Content, Scenario, Server, floor, original, ours, peer

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "listing",
        "listing 100,000 keys in 100 folders, 50 ms for each page of 1,000",
        Server.LISTING,
        (
            floor("http.client, page after page", "floor_listing:serial"),
            floor("http.client, 16 folders at once", "floor_listing:parallel"),
            ours("s3torch, list_objects", "connector:listing"),
            original("s3torchconnector, list_objects", "connector:listing"),
            peer("boto3, paginator", "boto3", "boto3_peer:listing"),
            peer("obstore, list", "obstore", "obstore_peer:listing"),
            peer("s3fs, find", "s3fs", "s3fs_peer:listing"),
        ),
        size=0,
        count=100_000,
        quick_count=3000,
        content=Content.KEYS,
        is_counted=True,
    ),
)
