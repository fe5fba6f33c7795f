"""`S3StorageReader`: distributed checkpoints from S3."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from typing import Any, cast, get_args

from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner
from torch.futures import Future

from s3torch.client import S3Client, S3ClientConfig, UserAgent
from s3torch.dcp._broadcast import make_offer, run_shared
from s3torch.dcp._broadcast_plan import Broadcast, Share, share_plans
from s3torch.dcp._folder import InFolder, parse_folder
from s3torch.dcp._items import find_items
from s3torch.dcp._loading import Loading, explained
from s3torch.dcp._metadata import read_metadata
from s3torch.dcp.errors import CheckpointNotFoundError
from s3torch.dcp.s3_file_system import S3FileSystem
from s3torch.readers import ItemRange, S3ReaderConstructor, S3ReaderConstructorProtocol
from s3torch.readers.constructor import DCPOptimizedConstructor

__all__ = ["S3StorageReader"]

_MEMORY_BUDGET = 96 * 1024 * 1024


class S3StorageReader(InFolder, FileSystemReader):  # type: ignore[misc]  # a URI is no local path
    """Loads distributed checkpoints from S3: for ``torch.distributed.checkpoint.load``.

    Only the bytes that the plan asks for are fetched, from all files at once, straight into the tensors' memory where
    their type and layout allow.

    Args:
        region: Region of the bucket, such as ``us-east-1``; None takes the environment's or the profile's.
        path: The checkpoint: ``s3://bucket/prefix``.
        s3client_config: Options of the client; None gives the defaults.
        reader_constructor: Read the files one after the other through such readers instead, from
            `S3ReaderConstructor`; None is the fast way.
        endpoint: URL of an S3-compatible store; None takes the environment's, the profile's or Amazon's.
        memory_budget: Bytes of memory to use beside the tensors that are loaded into; an item that has to be read whole
            and is larger is read alone.
        broadcast: Who reads what several ranks need alike: each of them (``never``), or one rank of each host
            (``host``) or of the whole job (``job``), which sends it to the others through the process group. Sharing
            pays where the network, the store's request rate or TLS is what limits all ranks of a host together.
            ``auto`` shares nothing: where each rank's connections are the limit, sharing takes longer.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The path is not on S3.
    """

    def __init__(
        self,
        region: str | None,
        path: str | os.PathLike[str],
        s3client_config: S3ClientConfig | None = None,
        reader_constructor: S3ReaderConstructorProtocol | None = None,
        *,
        endpoint: str | None = None,
        memory_budget: int = _MEMORY_BUDGET,
        broadcast: Broadcast = "auto",
        _extension_registry: Any = None,
    ) -> None:
        # Not FileSystemReader's own: that makes a local path of the URI.
        self._folder = parse_folder(path)
        if isinstance(memory_budget, bool) or not isinstance(memory_budget, int):
            raise TypeError(f"memory_budget must be an int, got {type(memory_budget).__name__}")
        if memory_budget < 1:
            raise ValueError(f"memory_budget must be positive, got {memory_budget}")
        if broadcast not in get_args(Broadcast):
            raise ValueError(f"unknown broadcast {broadcast!r}; expected one of {', '.join(get_args(Broadcast))}")
        self._memory_budget = memory_budget
        self._broadcast: Broadcast = broadcast
        self._reader_constructor = reader_constructor
        kind = S3ReaderConstructor.get_reader_type_string(reader_constructor) if reader_constructor else "direct"
        self._client = S3Client(
            region,
            endpoint=endpoint,
            user_agent=UserAgent(["md/dcp", f"md/reader_type#{kind}"]),
            s3client_config=s3client_config,
        )
        self._metadata: Metadata | None = None
        self._refusal: Exception | None = None
        self.fs = S3FileSystem(s3_client=self._client, reader_constructor=reader_constructor)  # type: ignore[assignment]  # as torch's, on S3
        self.transforms = _make_transforms(_extension_registry)
        self.storage_data = {}
        self.load_id = uuid.uuid4().hex
        self.rank = None
        self.use_collectives = True

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Begin another load.

        Args:
            checkpoint_id: The checkpoint, if another one than before.
        """
        if checkpoint_id:
            self._folder = parse_folder(checkpoint_id)
        self.storage_data = {}
        self._metadata = None
        self.load_id = uuid.uuid4().hex

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:  # noqa: ARG002  # torch looks for the names
        """Fetch what the checkpoint says of itself.

        Args:
            args: Nothing.
            kwargs: ``rank``: whose metadata, for a checkpoint that was saved without collectives.

        Returns:
            The metadata.

        Raises:
            CheckpointNotFoundError: There is none.
            CorruptCheckpointError: It is damaged, or not a checkpoint's.
            CheckpointVersionError: It takes another torch, or a package that is missing.
            S3Exception: The store refused.
        """
        rank = kwargs.get("rank")
        try:
            metadata = read_metadata(self._client, self._folder, rank)
        except Exception as error:
            first, self._refusal = self._refusal, error if rank is None else None
            if rank is None or first is None:
                raise
            # torch has asked for the metadata of all ranks before, and would make one AssertionError of both errors.
            return cast("Metadata", _NoMetadata(first if isinstance(error, CheckpointNotFoundError) else error))
        self._refusal = None
        assert metadata.storage_meta is not None  # noqa: S101  # read_metadata has seen to it
        metadata.storage_meta.load_id = self.load_id
        return metadata

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002  # torch's names
        """Take what `read_metadata` has returned.

        Args:
            metadata: The checkpoint's.
            is_coordinator: Whether this rank plans for all.
            args: Nothing.
            kwargs: ``rank`` and ``use_collectives``.
        """
        if isinstance(metadata, _NoMetadata):
            raise metadata.error
        self._metadata = metadata
        self.storage_data = metadata.storage_data
        self.rank = kwargs.get("rank")
        self.use_collectives = kwargs.get("use_collectives", True)

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Tell the coordinator whether this rank can share what it reads.

        Args:
            plan: This rank's plan.

        Returns:
            The plan, with that.
        """
        if (
            self._broadcast in ("auto", "never")
            or self._reader_constructor is not None
            or plan.storage_data is not None
        ):
            return plan
        return replace(plan, storage_data=make_offer())

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """Decide, on the coordinator, what is read by one rank for others.

        Args:
            plans: All ranks' plans.

        Returns:
            The plans, each with its share.
        """
        return share_plans(plans, self._broadcast, self.storage_data, self._metadata)

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Load what a plan asks for.

        Args:
            plan: Which parts of which items.
            planner: Knows the tensors they go into.

        Returns:
            A future that is done.

        Raises:
            CheckpointError: The checkpoint does not hold what was planned.
            S3Exception: The store failed.
        """
        if self._reader_constructor is not None:
            return self._read_through(self._reader_constructor, plan, planner)
        loading = Loading(
            self._client,
            self._folder,
            self._metadata,
            self.storage_data,
            self.transforms.transform_load_stream,
            self._memory_budget,
        )
        if isinstance(plan.storage_data, Share):
            run_shared(plan.storage_data, plan.items, planner, loading)
        else:
            loading.run(plan.items, planner)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def _read_through(
        self, constructor: S3ReaderConstructorProtocol, plan: LoadPlan, planner: LoadPlanner
    ) -> Future[None]:
        """Load as torch does, one item after the other, through readers of the files."""
        # Readers that know the plan read ahead, and need the items in the order in which they lie.
        items = find_items(plan.items, self.storage_data, self._folder)
        if isinstance(constructor, DCPOptimizedConstructor):
            ranges: dict[str, list[ItemRange]] = {}
            for item in items:
                key, start = self._folder.key(item.info.relative_path), item.info.offset
                ranges.setdefault(key, []).append(ItemRange(start, start + item.info.length))
            constructor.set_item_ranges_by_file(ranges)
        with explained(self._folder):
            return super().read_data(replace(plan, items=[item.read for item in items]), planner)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r}, region={self._client._region!r})"  # noqa: SLF001  # asks no store


class _NoMetadata:
    """Stands for metadata that could not be read: whatever is asked of it is answered with the reason."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Any:
        raise self.error


def _make_transforms(registry: Any) -> Any:
    from torch.distributed.checkpoint import filesystem

    make = getattr(filesystem, "_StorageReaderTransforms", None)
    if make is not None:
        return make(registry)
    return _NoTransforms()  # torch 2.6


class _NoTransforms:
    """What a torch that knows no transforms does."""

    def transform_load_stream(self, read_item: Any, descriptors: Any, stream: Any) -> Any:  # noqa: ARG002
        return stream
