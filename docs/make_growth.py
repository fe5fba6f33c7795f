"""Writes the table of ``growth.md`` and its figure from ``growth.json``.

``python docs/make_growth.py`` writes them anew; with ``--measure`` it first measures this machine, which takes some
minutes and some gigabytes of memory.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from statistics import median

import psutil
from figures import Line, draw

from s3torch.client import ObjectInfo, S3BucketKeyData, S3Client, S3ClientConfig
from s3torch.datasets import S3Index, S3IterableDataset, decode
from s3torch.harness.scale.pacing import PacingServer

FOLDER = Path(__file__).parent
PAGE, DATA, FIGURE = FOLDER / "growth.md", FOLDER / "growth.json", FOLDER / "growth.svg"
COUNTS = (10_000, 100_000, 1_000_000, 10_000_000)
FIRST_BYTE = 0.03
BATCH = 32
WORKERS = 8
_VISITED = 100_000
_SIZE = 110_000


@dataclass(frozen=True)
class Growth:
    """What an index of so many objects takes."""

    count: int
    key_bytes: int
    """Length of a key."""
    index_bytes: float
    """Bytes of the index for each object, its key included."""
    pickled: float
    """Seconds until it is handed to a worker that is no fork."""
    worker_bytes: int
    """Memory of its own that the greatest of eight such workers takes to visit objects at random."""
    first_batch: float
    """Seconds from a listed dataset, shuffled, to its first batch, 30 ms from the store."""


def key_of(number: int) -> str:
    """Return an object's key, which ends in its size, as the server wants it."""
    return f"train/{number // 1000:05d}/{number:08d}-{_SIZE}"


def objects(count: int, server: PacingServer) -> Iterator[S3BucketKeyData]:
    """Name objects of the server, of which all have one ETag."""
    config = S3ClientConfig(unsigned=True, force_path_style=True)
    with S3Client(server.region, endpoint=server.endpoint, s3client_config=config) as client:
        etag = client.head_object("bucket", key_of(0)).etag
    for number in range(count):
        key = key_of(number)
        yield S3BucketKeyData("bucket", key, ObjectInfo(key, etag, _SIZE, 1_700_000_000, "STANDARD", None))


def visit(index: S3Index) -> int:
    """Return the bytes of memory of its own that a worker takes to visit objects at random."""
    chosen = random.Random(os.getpid())
    process = psutil.Process()
    index[0]
    before = process.memory_full_info().uss
    total = sum(len(index[chosen.randrange(len(index))].key) for _ in range(_VISITED))
    return max(0, process.memory_full_info().uss - before) if total else 0


def measure_first_batch(server: PacingServer, index: S3Index) -> float:
    """Return the seconds until a shuffled dataset has given its first samples, each time by another client."""
    config = S3ClientConfig(unsigned=True, force_path_style=True)
    found = []
    for seed in range(6):
        dataset = S3IterableDataset.from_index(
            index,
            region=server.region,
            endpoint=server.endpoint,
            s3client_config=config,
            transform=decode.Tensor(),
            shuffle=True,
            seed=seed,
        )
        start = time.perf_counter()
        if len(list(islice(dataset, BATCH))) != BATCH:
            raise RuntimeError("there are too few samples")
        found.append(time.perf_counter() - start)
    return median(found[1:])  # the first one loads what is loaded once


def grow(count: int) -> Growth:
    """Measure one number of objects, in a process of its own."""
    with PacingServer(first_byte=FIRST_BYTE) as server:
        index = S3Index.from_items(objects(count, server))
        start = time.perf_counter()
        ForkingPickler.dumps(index)
        pickled = time.perf_counter() - start
        with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as workers:
            own = list(workers.map(visit, [index] * WORKERS))
        first = measure_first_batch(server, index)
    return Growth(count, len(key_of(0)), index.nbytes / count, pickled, max(own), first)


def measure() -> None:
    """Measure all numbers of objects and write ``growth.json``."""
    found = []
    for count in COUNTS:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
            found.append(alone.submit(grow, count).result())
        sys.stderr.write(f"{found[-1]}\n")
    DATA.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n", encoding="utf-8")


def files() -> dict[str, str]:
    """Return the content of each file that this program writes, by its name."""
    found = [Growth(**each) for each in json.loads(DATA.read_text(encoding="utf-8"))]
    rows = [
        f"| {each.count:,} | {each.index_bytes * each.count / 1e6:,.1f} MB | "
        f"{each.index_bytes - each.key_bytes:+.1f} bytes | {each.pickled * 1e3:.1f} ms | "
        f"{each.worker_bytes / 1e6:.1f} MB | {each.first_batch * 1e3:.0f} ms |"
        for each in found
    ]
    head = (
        "| objects | index | each, beside its key | handed to a worker in | a worker's own memory | first batch |\n"
        "|---|---|---|---|---|---|\n"
    )
    page, count = re.subn(
        r"(<!-- growth: made by make_growth\.py -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}\n{head}" + "\n".join(rows) + f"\n\n{match[2]}",
        PAGE.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError(f"{PAGE.name} has {count} places for the table")
    return {PAGE.name: page, FIGURE.name: _figure(found)}


def _figure(found: list[Growth]) -> str:
    memory = [(each.count, each.index_bytes * each.count / 1e6) for each in found]
    batches = [(each.count, each.first_batch * 1e3) for each in found]
    slope = memory[-1][1] / memory[-1][0]
    level = median(y for _, y in batches)
    lines = [
        Line("index, MB", "blue", lambda x: slope * x, tuple(memory)),
        Line("first batch, ms", "red", lambda _: level, tuple(batches)),
    ]
    title = "Memory of an index, linear, and time to the first batch once it is listed, constant: dots are measured"
    return draw(lines, (COUNTS[0], COUNTS[-1]), (0.1, 1000), ("objects", ""), title)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true", help="measure this machine first")
    if parser.parse_args().measure:
        measure()
    for file, text in files().items():
        (FOLDER / file).write_text(text, encoding="utf-8")
