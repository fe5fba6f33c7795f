"""What is in flight for shards that are read: order, bounds, and memory."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from libs.datasets.tests.tars import MIB, tar_of

from s3torch.client import EngineContext, ObjectInfo, S3BucketKeyData, S3ClientConfig
from s3torch.datasets.tar._fetch import ShardFetch, ShardWindow

if TYPE_CHECKING:
    from libs.datasets.tests.conftest import Place, RecordingEngine

    from s3torch.harness.servers import MotoServer

PART = 700_000


def engine_of(place: Place) -> RecordingEngine:
    return place.engine(EngineContext("us-east-1", None, "test", S3ClientConfig()))


def shards(place: Place, sizes: list[int], *, known: list[bool]) -> list[ShardFetch]:
    place.fill({str(number): random.Random(number).randbytes(size) for number, size in enumerate(sizes)})
    items = []
    for number, is_known in enumerate(known):
        found = place.store.find("bucket", str(number))
        info = ObjectInfo(str(number), found.etag, len(found.data), 0) if is_known else None
        items.append(S3BucketKeyData("bucket", str(number), info))
    return [ShardFetch(item) for item in items]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_parts_come_in_order_within_the_bounds(memory: Place, data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.sampled_from([0, 1, 500_000, 524_288, 1_200_000, 3_000_000]), min_size=1, max_size=6))
    known = data.draw(st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes)))
    width, window, window_bytes = (
        data.draw(st.integers(1, 3)),
        data.draw(st.integers(1, 8)),
        data.draw(st.sampled_from([1, 600_000, 2_000_000, 10_000_000])),
    )
    engine = engine_of(memory)
    fetched = ShardWindow(
        engine, shards(memory, sizes, known=known), part_size=PART, window=window, window_bytes=window_bytes
    )
    reading: dict[ShardFetch, bytearray] = {}
    finished = 0
    while True:
        while len(reading) < width and (shard := fetched.open_next()) is not None:
            reading[shard] = bytearray()
        if not reading:
            break
        shard = data.draw(st.sampled_from(list(reading)))
        part = fetched.next_part(shard)
        # What somebody waits for is fetched whatever the window holds: one part for each shard that is being read.
        assert fetched.waiting_bytes <= window_bytes + width * PART
        assert engine.in_flight <= window + width
        if part is None:
            number = int(shard.item.key)
            assert bytes(reading.pop(shard)) == random.Random(number).randbytes(sizes[number])
            fetched.close_shard(shard)
            finished += 1
        else:
            assert 0 < len(part) <= PART
            reading[shard] += part
    assert finished == len(sizes)
    assert engine.in_flight == 0
    asked = [(request.key, request.start) for request in engine.requests]
    assert len(asked) == len(set(asked))


def test_shards_that_are_read_are_kept_equally_far_ahead(memory: Place) -> None:
    engine = engine_of(memory)
    found = shards(memory, [6_000_000] * 4, known=[True] * 4)
    window = ShardWindow(engine, found, part_size=PART, window=64, window_bytes=6_000_000)
    opened = [window.open_next() for _ in range(3)]
    first = opened[0]
    assert first is not None
    window.next_part(first)
    ahead = [shard.waiting_bytes for shard in opened if shard is not None]
    assert max(ahead) - min(ahead) <= PART
    assert sum(ahead) > 5_000_000
    assert found[3].waiting_bytes == 0  # not before those that are being read have all


# Of its own process, which has read something before: what is measured is what the large samples add.
READ = """
import sys
from s3torch.client import S3ClientConfig
from s3torch.datasets.tar import S3TarDataset

# Not ru_maxrss, which begins with what the parent held.
def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))

def read(dataset):
    found = []
    for sample in dataset:
        found.append(len(sample["bin"]))
        del sample
    return found

bucket, endpoint, shuffle = sys.argv[1:]
options = {
    "region": "us-east-1",
    "endpoint": endpoint,
    "s3client_config": S3ClientConfig(force_path_style=True, window_bytes=8 * 2**20, operation_timeout=60),
    "shuffle": shuffle == "True",
}
read(S3TarDataset.from_prefix(f"s3://{bucket}/small", **options))
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak begins anew
before = status("VmRSS")
sizes = sorted(read(S3TarDataset.from_prefix(f"s3://{bucket}/mixed", **options)))
print(*sizes, status("VmHWM") - before)
"""
LARGE = 24 * MIB


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it reads the peak of memory from /proc")
@pytest.mark.slow
@pytest.mark.usefixtures("dummy_aws_env")
@pytest.mark.parametrize("shuffle", [False, True])
def test_memory_is_bounded_whatever_the_samples(moto_server: MotoServer, shuffle: bool) -> None:
    bucket = moto_server.create_bucket(f"tar-memory-{shuffle}".lower())
    server = moto_server.boto3_client()
    small = {f"{number:03}": {"bin": bytes(10_000)} for number in range(100)}
    large = {"a": {"bin": b""}, "b": {"bin": bytes(LARGE)}, "c": {"bin": bytes(1000)}, "d": {"bin": bytes(LARGE)}}
    for key, samples in [("small", small), *((f"mixed/{number}", large) for number in range(2))]:
        server.put_object(Bucket=bucket, Key=f"{key}.tar", Body=tar_of(samples))
    finished = subprocess.run(
        [sys.executable, "-c", READ, bucket, moto_server.endpoint, str(shuffle)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    *sizes, grown = map(int, finished.stdout.split())
    assert sizes == [0, 0, 1000, 1000, LARGE, LARGE, LARGE, LARGE]
    # The window, and one sample of each shard that is read; of the four large ones never all.
    assert MIB < grown < (2 if shuffle else 1) * LARGE + 8 * MIB + 20 * MIB
