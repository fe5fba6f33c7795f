"""What importing costs."""

from __future__ import annotations

from s3torch.harness.bench.scenario import (
    Entry,
    Figure,
    Requirement,
    Role,
    Scenario,
    Server,
)

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "import",
        "import, beyond boto3's own",
        Server.NONE,
        (
            Entry(
                "s3torch.client",
                Role.OURS,
                "workspace",
                "importing:module",
                {"module": "s3torch.client", "before": ["boto3"]},
            ),
            Entry(
                "http.client and ssl",
                Role.FLOOR,
                "workspace",
                "importing:module",
                {"module": "http.client, ssl"},
                is_remote=False,
            ),
            Entry("boto3", Role.PEER, "workspace", "importing:module", {"module": "boto3"}),
            Entry("obstore", Role.PEER, "obstore", "importing:module", {"module": "obstore"}),
            Entry("s3fs", Role.PEER, "s3fs", "importing:module", {"module": "s3fs"}),
            Entry(
                "s3torchconnector of s3torch, beyond torch's and boto3's own",
                Role.OURS,
                "workspace",
                "importing:module",
                {"module": "s3torchconnector", "before": ["torch", "boto3"]},
                is_judged=False,
            ),
            Entry(
                "s3torchconnector, beyond torch's own",
                Role.ORIGINAL,
                "original",
                "importing:module",
                {"module": "s3torchconnector", "before": ["torch"]},
            ),
        ),
        (Requirement(Figure.TIME, 0.150),),
        is_timed=True,
    ),
)
