"""`torch.save` and `torch.load` of one file."""

from __future__ import annotations

from s3torch.harness.bench.scenario import (
    MIB,
    Content,
    Figure,
    Requirement,
    Scenario,
    Server,
    floor,
    original,
    ours,
    peer,
)

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "torch-save",
        "torch.save of 64 tensors, 1 GiB",
        Server.DISCARD,
        (
            floor("torch.save, sendall", "floor_torch:save"),
            ours("s3torch, torch.save(S3Writer)", "connector:torch_save"),
            ours("s3torch, S3Checkpoint.save", "ours:checkpoint_save"),
            original("s3torchconnector, torch.save(S3Writer)", "connector:torch_save"),
            peer("boto3, BytesIO, upload_fileobj", "boto3", "torch_boto3:save"),
            peer("obstore, open_writer", "obstore", "torch_obstore:save"),
            peer("s3fs, open", "s3fs", "torch_s3fs:save"),
        ),
        (
            Requirement(Figure.RATE, 0.85, "floor"),
            Requirement(Figure.RATE, 2.5, "original"),
            Requirement(Figure.EXTRA, 64 * MIB),
        ),
        content=Content.UPLOAD,
        is_counted=True,
    ),
    Scenario(
        "torch-load",
        "torch.load of 64 tensors, 1 GiB",
        Server.PLAIN,
        (
            floor("sockets into tensors, loop, 8 connections", "floor_torch:load"),
            ours("s3torch, torch.load(S3Reader)", "connector:torch_load"),
            ours("s3torch, S3Checkpoint.load", "ours:checkpoint_load"),
            original("s3torchconnector, torch.load(S3Reader)", "connector:torch_load"),
            peer("s3torchconnector, range_based", "original", "connector:torch_load", reader="range_based"),
            peer("boto3, BytesIO", "boto3", "torch_boto3:load"),
            peer("obstore, BytesIO", "obstore", "torch_obstore:load"),
            peer("s3fs, open", "s3fs", "torch_s3fs:load"),
        ),
        (
            Requirement(Figure.RATE, 0.75, "floor"),
            Requirement(Figure.RATE, 3.0, "original"),
            Requirement(Figure.MEMORY, 1.1),
        ),
        content=Content.STATE,
        is_counted=True,
    ),
)
