"""Writes the data set to the store, several images at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from s3torch.client import S3Client, parse_s3_uri
from s3torch.harness.demo.data import make_images
from s3torch.harness.demo.events import Event, Written
from s3torch.harness.demo.settings import Job

__all__ = ["write_dataset"]

# PUTs wait for the store, so that a few threads sharing the client hide its latency.
_THREADS = 8
_REPORT_EVERY = 32


def write_dataset(job: Job, emit: Callable[[Event], None]) -> None:
    """Make the images and put each under ``images/``.

    Args:
        job: Where, and how many.
        emit: Is told of the progress.
    """
    store = job.store
    client = S3Client(store.region, endpoint=store.endpoint, s3client_config=store.client_config())
    place = parse_s3_uri(f"{store.uri}/images/")

    def put(image: tuple[str, bytes]) -> None:
        name, data = image
        client.put(place.bucket, place.key + name, data)

    emit(Written(0, 0.0))
    started = time.perf_counter()
    with client, ThreadPoolExecutor(_THREADS) as pool:
        try:
            for count, _ in enumerate(pool.map(put, make_images(job.samples, seed=job.seed)), 1):
                if count % _REPORT_EVERY == 0 or count == job.samples:
                    emit(Written(count, time.perf_counter() - started))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
