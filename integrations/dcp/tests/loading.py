"""What the tests of loading share: state dicts of all kinds, and storing and loading them."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex, TensorProperties
from torch.distributed.checkpoint.planner import TensorWriteData, WriteItem, WriteItemType

from s3torch.client import GetRequest, GetResult, PutOptions, S3Client, S3ClientConfig, ServerError
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torch.client.protocols import EngineContext, Into
from s3torch.client.transfers import DoneTransfer
from s3torch.dcp import S3StorageReader, S3StorageWriter

BUCKET = "bucket"
FOLDER = "runs/1"
URI = f"s3://{BUCKET}/{FOLDER}"


def save_stock(state: dict[str, Any], folder: Path, **options: Any) -> None:
    """Save with torch's own writer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(state, storage_writer=dcp.FileSystemWriter(folder, sync_files=False, **options))


def upload(folder: Path, store: MemoryStore, prefix: str = FOLDER) -> None:
    """Put a folder's files into the store."""
    for file in folder.rglob("*"):
        if file.is_file():
            key = f"{prefix}/{file.relative_to(folder).as_posix()}"
            store.write(BUCKET, key, file.read_bytes(), PutOptions())


def load(state: dict[str, Any], reader: Any, **options: Any) -> dict[str, Any]:
    """Load without a process group, which torch warns of; raises what the rank has raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dcp.load(state, storage_reader=reader, **options)
        except dcp.api.CheckpointException as error:
            raise error.failures[0][0] from error
    return state


def emptied(value: Any) -> Any:
    """Return the same structure with other contents."""
    if isinstance(value, torch.Tensor):
        stride = value.stride() if 0 not in value.stride() else torch.empty(value.shape).stride()
        made = torch.empty_strided(value.size(), stride, dtype=value.dtype)
        return made.fill_(0)
    if isinstance(value, dict):
        return {name: emptied(each) for name, each in value.items()}
    if isinstance(value, list):
        return [emptied(each) for each in value]
    return None


def content(tensor: torch.Tensor) -> bytes:
    """Return a tensor's elements as bytes, whatever their type, so that equal means equal to the last bit."""
    plain = tensor.detach().resolve_conj().resolve_neg().contiguous()
    if not plain.numel():
        return b""
    return bytes(plain.reshape(-1).view(torch.uint8).numpy().tobytes())


def same(left: Any, right: Any) -> bool:
    """Whether two values are equal to the last bit."""
    if isinstance(left, torch.Tensor):
        return (
            isinstance(right, torch.Tensor)
            and (left.dtype, left.shape) == (right.dtype, right.shape)
            and content(left) == content(right)
        )
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


class Chunks(torch.Tensor):
    """A tensor of which there are only some boxes here, as a rank of a larger job has it."""

    chunks: list[tuple[tuple[int, ...], torch.Tensor]]

    def __new__(cls, shape: tuple[int, ...], chunks: list[tuple[tuple[int, ...], torch.Tensor]]) -> Chunks:
        made = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=chunks[0][1].dtype)
        assert isinstance(made, Chunks)
        made.chunks = chunks
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]  # a stub
        raise NotImplementedError(f"{func} of a tensor that is not whole")

    def __create_write_items__(self, fqn: str, value: object) -> list[WriteItem]:
        return [
            WriteItem(
                index=MetadataIndex(fqn, offset, number),
                type=WriteItemType.SHARD,
                tensor_data=TensorWriteData(
                    chunk=ChunkStorageMetadata(torch.Size(offset), chunk.size()),
                    properties=TensorProperties.create_from_tensor(chunk),
                    size=self.size(),
                ),
            )
            for number, (offset, chunk) in enumerate(self.chunks)
        ]

    def __create_chunk_list__(self) -> list[ChunkStorageMetadata]:
        return [ChunkStorageMetadata(torch.Size(offset), chunk.size()) for offset, chunk in self.chunks]

    def __get_tensor_shard__(self, index: MetadataIndex) -> torch.Tensor:
        return next(chunk for offset, chunk in self.chunks if torch.Size(offset) == index.offset)


def split(random: Random, size: int, most: int) -> list[tuple[int, int]]:
    """Cut a length at random: the first index and the length of each part."""
    cuts = sorted({0, size, *(random.randint(0, size) for _ in range(random.randint(0, most - 1)))})
    return [(first, last - first) for first, last in itertools.pairwise(cuts)] or [(0, 0)]


def grid(random: Random, shape: tuple[int, ...], most: int = 3) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Cut a shape into boxes at random: offsets and sizes of each."""
    sides = [split(random, size, most) for size in shape]
    return [(tuple(first for first, _ in box), tuple(length for _, length in box)) for box in itertools.product(*sides)]


def laid_out(random: Random, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Make an empty tensor, of any layout in memory."""
    kind = random.choice(["plain", "plain", "permuted", "gaps", "offset"])
    order = list(range(len(shape)))
    if kind == "permuted":
        random.shuffle(order)
    larger = [size + (random.randint(1, 3) if kind == "gaps" else 0) for size in shape]
    if kind == "offset" and shape:
        larger[0] += 2
    made = torch.zeros([larger[d] for d in order], dtype=torch.uint8).to(dtype)
    made = made.permute([order.index(d) for d in range(len(shape))])
    for dimension, size in enumerate(shape):
        made = made.narrow(dimension, made.shape[dimension] - size, size)
    return made


def numbers(random: Random, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Make a tensor of any layout with random elements, the same in whatever layout."""
    made = laid_out(random, shape, dtype)
    generator = torch.Generator().manual_seed(random.randint(0, 1 << 30))
    if dtype == torch.bool:
        values = torch.randint(0, 2, shape, generator=generator).to(dtype)
    elif dtype.is_floating_point or dtype.is_complex:
        values = torch.randn(shape, generator=generator).to(dtype)
    else:
        values = torch.randint(0, 100, shape, generator=generator).to(dtype)
    return made.copy_(values)


class RecordingEngine(MemoryEngine):
    """Notes the GETs, and fails from one of them on."""

    def __init__(self, context: EngineContext, store: MemoryStore) -> None:
        super().__init__(context, store)
        self.gets: list[GetRequest] = []
        self.failing_get = 10**9
        self.before_get: Callable[[GetRequest], None] = lambda request: None
        self.helpers = 0

    def start_get(self, request: GetRequest, into: Into = None) -> DoneTransfer[GetResult]:
        self.gets.append(request)
        self.before_get(request)
        if len(self.gets) >= self.failing_get:
            return DoneTransfer(error=ServerError("the store failed", operation="GetObject"))
        return super().start_get(request, into)

    def helper_threads(self, size: int) -> int:
        return self.helpers

    @property
    def fetched(self) -> int:
        """Bytes asked for in data files."""
        return sum((get.end or 0) - (get.start or 0) for get in self.gets)


class Place:
    """A store in memory, and readers and writers of one checkpoint in it."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.store.create_bucket(BUCKET)
        self.engine = RecordingEngine(EngineContext("us-east-1", None, "test", S3ClientConfig()), self.store)
        self.config = S3ClientConfig(engine=lambda context: self.engine, part_size=5 << 20)

    def reader(self, uri: str = URI, **options: Any) -> S3StorageReader:
        return S3StorageReader("us-east-1", uri, self.config, **options)

    def save(self, state: dict[str, Any], uri: str = URI, **options: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            writer = S3StorageWriter("us-east-1", uri, self.config, **options)
            dcp.save(state, storage_writer=writer)

    def clear(self) -> None:
        self.store.clear()
        self.store.create_bucket(BUCKET)
        self.engine.gets.clear()

    def keys(self, prefix: str = FOLDER) -> list[str]:
        client = S3Client("us-east-1", s3client_config=self.config)
        return [info.key for page in client.list_objects(BUCKET, prefix) for info in page.object_info]

    def data_key(self) -> str:
        return next(key for key in self.keys() if key.endswith(".distcp"))

    def data(self, key: str) -> bytes:
        return bytes(self.store.find(BUCKET, key).data)

    def put(self, key: str, data: bytes) -> None:
        self.store.write(BUCKET, key, data, PutOptions())
