"""boto3, as its users use it."""

from __future__ import annotations

import io
from typing import Any

import boto3
from botocore.config import Config

from s3torch.harness.bench.subjects.memory import fresh_map
from s3torch.harness.bench.subjects.task import Sink, Subject, Task, listed


def make_client(task: Task, *, connections: int = 10) -> Any:
    """Return a client.

    Args:
        task: Says where to.
        connections: Kept open at most; boto3's own default.
    """
    return boto3.client(
        "s3",
        region_name=task.region,
        endpoint_url=task.endpoint,
        verify=task.ca_bundle,
        config=Config(s3={"addressing_style": "path"}, max_pool_connections=connections),
    )


def large_get(task: Task) -> Subject:
    """One large object, by the body of one GET."""
    client = make_client(task)

    def run(_: Sink) -> Any:
        body = client.get_object(Bucket=task.bucket, Key=task.keys[0])["Body"]
        if not task.options.get("into"):
            return body.read()
        view, at = memoryview(fresh_map(task.size)), 0
        while at < task.size:
            at += body.readinto(view[at:])
        return view

    return Subject(run)


def download(task: Task) -> Subject:
    """One large object, by the transfer manager into memory."""
    client = make_client(task)

    def run(_: Sink) -> Any:
        file = io.BytesIO()
        client.download_fileobj(task.bucket, task.keys[0], file)
        return file.getbuffer()

    return Subject(run)


def serial(task: Task) -> Subject:
    """Objects one by one."""
    client = make_client(task)

    def run(sink: Sink) -> None:
        for key in task.keys:
            sink(client.get_object(Bucket=task.bucket, Key=key)["Body"].read())

    return Subject(run)


def listing(task: Task) -> Subject:
    """Every key under a prefix, by the paginator."""
    client = make_client(task)

    def run(_: Sink) -> list[str]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=task.bucket, Prefix=task.keys[0])
        return [each["Key"] for page in pages for each in page.get("Contents", [])]

    return Subject(run, parts=listed)
