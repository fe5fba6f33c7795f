"""Sharded safetensors models in S3 as distributed checkpoints."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem, SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

from s3torch.client import ObjectNotFoundError, S3Client, S3ClientConfig, UserAgent
from s3torch.dcp._attempt import give_ticket, make_ticket
from s3torch.dcp._folder import Folder, InFolder, parse_folder
from s3torch.dcp._hf_consolidation import consolidate, delete_leftovers, put_index
from s3torch.dcp._hf_model import Fill, SavedPart, describe_files, fill_tensors
from s3torch.dcp._hf_plan import RankNames, assign_files, check_items, plan_rank_files
from s3torch.dcp._model_files import find_files
from s3torch.dcp._safetensors_files import read_headers
from s3torch.dcp._saving import save_files
from s3torch.dcp._tensor_archive import ArchiveMaker
from s3torch.dcp._write_item import ItemWriter
from s3torch.dcp.errors import CheckpointError, CheckpointNotFoundError

__all__ = ["S3HuggingFaceStorageReader", "S3HuggingFaceStorageWriter"]

_SHARDED = "sharded"
_MEMORY_BUDGET = 96 * 1024 * 1024


class S3HuggingFaceStorageWriter(InFolder, StorageWriter):
    """Saves safetensors models to S3, for ``torch.distributed.checkpoint.save``.

    It is what torch's ``HuggingFaceStorageWriter`` is for local folders. Tensors go from their memory to the socket.
    What this writes, transformers and torch's own reader can read once it is downloaded. The files have fixed
    names, so that a save replaces the model in its folder, and an interrupted one leaves none that can be loaded:
    give each model a folder of its own, and use `S3StorageWriter` for the checkpoints of a training run.

    Args:
        path: The model's folder, ``s3://bucket/prefix``.
        region: Region of the bucket, such as ``us-east-1``; None takes the environment's or the profile's.
        fqn_to_index_mapping: In which file each tensor goes, counted from 1; None for one file (one for each rank that
            saves).
        thread_count: Files that each rank writes at once, in as many threads.
        save_distributed: Whether each rank saves its own part of tensors that are spread over ranks. Such files are for
            torch and for `S3HuggingFaceStorageReader`. Otherwise all tensors must be whole.
        enable_consolidation: After a distributed save, whether rank 0 makes files of whole tensors of them, for
            transformers. The parts are in the folder ``sharded`` then.
        s3client_config: Options of the client; None gives the defaults.
        endpoint: URL of an S3-compatible store; None takes the environment's, the profile's or Amazon's.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of its range, or the path is not on S3.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        region: str | None = None,
        fqn_to_index_mapping: Mapping[str, int] | None = None,
        thread_count: int = 1,
        save_distributed: bool = False,
        enable_consolidation: bool = False,
        *,
        s3client_config: S3ClientConfig | None = None,
        endpoint: str | None = None,
    ) -> None:
        super().__init__()
        if isinstance(thread_count, bool) or not isinstance(thread_count, int):
            raise TypeError(f"thread_count must be an int, got {type(thread_count).__name__}")
        if thread_count < 1:
            raise ValueError(f"thread_count must be at least 1, got {thread_count}")
        if enable_consolidation and not save_distributed:
            raise ValueError("enable_consolidation is for save_distributed=True: otherwise tensors are saved whole")
        for name, index in (fqn_to_index_mapping or {}).items():
            if type(index) is not int or index < 1:
                raise ValueError(f"fqn_to_index_mapping must have numbers from 1, got {index!r} for {name!r}")
        self._client = _make_client(region, endpoint, s3client_config)
        self._folder = parse_folder(path)
        self.fqn_to_index_mapping = None if fqn_to_index_mapping is None else dict(fqn_to_index_mapping)
        self.thread_count = thread_count
        self.save_distributed = save_distributed
        self.enable_consolidation = enable_consolidation
        self._save_id = uuid.uuid4().hex
        self._ticket = make_ticket()

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Begin another save.

        Args:
            checkpoint_id: The folder, if another one than before.
        """
        if checkpoint_id:
            self._folder = parse_folder(checkpoint_id)
        self._save_id = uuid.uuid4().hex

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002  # torch's
        """Take this rank's role.

        Args:
            is_coordinator: Whether this rank commits.
            *args: Nothing.
            **kwargs: ``use_collectives``: it must be True, as the ranks agree on the files.

        Raises:
            ValueError: It is False.
        """
        if not kwargs.get("use_collectives", True):
            raise ValueError("use_collectives=False is not for safetensors models, of whose files all ranks must know")

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Check that a rank's items can be saved.

        Args:
            plan: The rank's plan.

        Raises:
            ValueError: An item is no tensor, has no file, or is a part where tensors must be whole.
        """
        check_items(plan.items, self.fqn_to_index_mapping, is_distributed=self.save_distributed)
        self._ticket = make_ticket()
        return give_ticket(plan, self._ticket)

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Choose the files of all ranks.

        Args:
            plans: One plan for each rank.

        Raises:
            ValueError: Whole tensors of several ranks are to go into one file.
        """
        assigned = assign_files(
            [plan.items for plan in plans],
            [getattr(plan.storage_data, "ticket", "") for plan in plans],
            self._save_id,
            self.fqn_to_index_mapping,
            is_distributed=self.save_distributed,
        )
        return [replace(plan, storage_data=names) for plan, names in zip(plans, assigned, strict=True)]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this rank's files.

        Args:
            plan: What to write.
            planner: Who has it.

        Returns:
            Where each item lies; it is done.

        Raises:
            S3Exception: Something could not be written. This rank's files of the save are removed, as far as possible.
        """
        names = plan.storage_data
        if not isinstance(names, RankNames) or names.ticket != self._ticket:
            raise ValueError("the plan is of another save: safetensors models are saved without plan caching")
        self._ticket = make_ticket()
        results = save_files(
            self._client,
            self._data_folder(),
            plan_rank_files(plan.items, names, self.fqn_to_index_mapping),
            planner,
            ItemWriter(ArchiveMaker()),
            thread_count=self.thread_count,
        )
        future: Future[list[WriteResult]] = Future()
        future.set_result(results)
        return future

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:  # noqa: ARG002  # torch's names
        """Make a model of the files: put the index of whole tensors last, and remove files of an earlier save.

        Args:
            metadata: Not needed.
            results: Where each item lies, by rank.

        Raises:
            S3Exception: It could not be done.
        """
        written = [result for rank in results for result in rank]
        folder = self._data_folder()
        files = {result.storage_data.relative_path for result in written}
        if not self.save_distributed:
            places = {result.index.fqn: result.storage_data.relative_path for result in written}
            put_index(self._client, folder, places, sum(result.size_in_bytes for result in written))
            delete_leftovers(self._client, folder, files)
            return
        delete_leftovers(self._client, folder, files, has_index=False)
        if self.enable_consolidation:
            consolidate(self._client, folder, self._folder, self.fqn_to_index_mapping, self._save_id)

    def storage_meta(self) -> StorageMeta:
        """Return what identifies this save."""
        return StorageMeta(checkpoint_id=self.checkpoint_id, save_id=self._save_id)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r}, save_distributed={self.save_distributed})"

    def _data_folder(self) -> Folder:
        if not self.enable_consolidation:
            return self._folder
        return Folder(self._folder.bucket, self._folder.key(f"{_SHARDED}/"))


class S3HuggingFaceStorageReader(InFolder, StorageReader):
    """Loads safetensors models from S3, for ``torch.distributed.checkpoint.load``.

    It is what torch's ``HuggingFaceStorageReader`` is for local folders, and reads what transformers, the safetensors
    package, torch or `S3HuggingFaceStorageWriter` have written: whole tensors, with or without an index, or the
    parts that ranks have saved. Only the bytes that the plan asks for are fetched, from all files at once, straight
    into the tensors' memory where their type and layout allow.

    Args:
        path: The model's folder, ``s3://bucket/prefix``; also its only file, or its index.
        region: Region of the bucket, such as ``us-east-1``; None takes the environment's or the profile's.
        s3client_config: Options of the client; None gives the defaults.
        endpoint: URL of an S3-compatible store; None takes the environment's, the profile's or Amazon's.
        memory_budget: Bytes of memory to use for what does not go straight into a tensor's memory.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The path is not on S3.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        region: str | None = None,
        *,
        s3client_config: S3ClientConfig | None = None,
        endpoint: str | None = None,
        memory_budget: int = _MEMORY_BUDGET,
    ) -> None:
        super().__init__()
        if isinstance(memory_budget, bool) or not isinstance(memory_budget, int):
            raise TypeError(f"memory_budget must be an int, got {type(memory_budget).__name__}")
        if memory_budget < 1:
            raise ValueError(f"memory_budget must be positive, got {memory_budget}")
        self._client = _make_client(region, endpoint, s3client_config)
        self._folder = parse_folder(path)
        self._memory_budget = memory_budget
        self._parts: Mapping[MetadataIndex, SavedPart] = {}
        self.load_id = uuid.uuid4().hex

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Begin another load.

        Args:
            checkpoint_id: The model, if another one than before.
        """
        if checkpoint_id:
            self._folder = parse_folder(checkpoint_id)
        self._parts = {}
        self.load_id = uuid.uuid4().hex

    def read_metadata(self) -> Metadata:  # torch asks again for a rank's own where there are more arguments
        """Read the headers of all files, at once.

        Returns:
            The model's metadata.

        Raises:
            CheckpointNotFoundError: There is no model.
            S3Exception: The store refused.
            SafetensorsError: A file is damaged, or the files are not those of one model.
        """
        try:
            files = find_files(self._client, str(self._folder))
            tensors = describe_files(read_headers(self._client, files))
        except ObjectNotFoundError as error:
            raise CheckpointNotFoundError(f"no safetensors model in {self._folder}: {error}") from error
        parts: dict[MetadataIndex, SavedPart] = {}
        described: dict[str, TensorStorageMetadata] = {}
        for name, tensor in tensors.items():
            described[name] = TensorStorageMetadata(
                properties=TensorProperties(dtype=tensor.dtype),
                size=tensor.shape,
                chunks=[ChunkStorageMetadata(torch.Size(part.offsets), part.shape) for part in tensor.parts],
            )
            parts.update({MetadataIndex(name, torch.Size(part.offsets)): part for part in tensor.parts})
        metadata = Metadata(state_dict_metadata=dict(described), storage_data=parts)
        metadata.storage_meta = StorageMeta(checkpoint_id=self.checkpoint_id, load_id=self.load_id)
        return metadata

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002  # torch's names
        """Take what `read_metadata` has returned.

        Args:
            metadata: The model's.
            is_coordinator: Whether this rank plans for all.
            *args: Nothing.
            **kwargs: Nothing.
        """
        self._parts = metadata.storage_data or {}

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Return the plan as it is.

        Args:
            plan: This rank's plan.
        """
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """Return the plans as they are.

        Args:
            plans: One plan for each rank.
        """
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Load what a plan asks for.

        Args:
            plan: The plan.
            planner: Whose tensors are filled. They are committed after all bytes have come.

        Returns:
            A future; it is done.

        Raises:
            CheckpointError: A tensor has another shape than the one it is to be loaded into.
            ObjectChangedError: A file was replaced since its header was read.
            S3Exception: The store failed. Tensors may be half filled then, and nothing touches them any more.
        """
        fills: list[tuple[ReadItem, torch.Tensor, Fill]] = []
        devices: set[torch.device] = set()
        for item in plan.items:
            target = planner.resolve_tensor(item).detach()
            if target.shape != item.lengths:
                raise CheckpointError(
                    f"{item.storage_index.fqn!r} of the model {self._folder}: {tuple(item.lengths)} elements are to be"
                    f" loaded into a tensor of {tuple(target.shape)}. Give a tensor of the saved shape"
                )
            devices.add(target.device)
            part = self._parts[item.storage_index]
            fills.append((item, target, Fill(part, tuple(item.storage_offsets), target)))
        for device in devices:
            _synchronize(device)
        fill_tensors(self._client, [fill for _, _, fill in fills], memory=self._memory_budget)
        for item, target, _ in fills:
            if not target.is_inference():
                torch.autograd.graph.increment_version(target)  # torch has not seen how its memory changed
            planner.commit_tensor(item, target)
        future: Future[None] = Future()
        future.set_result(None)
        return future

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"


def _make_client(region: str | None, endpoint: str | None, config: S3ClientConfig | None) -> S3Client:
    agent = UserAgent(["md/dcp", "md/safetensors"])
    return S3Client(region, endpoint=endpoint, user_agent=agent, s3client_config=config)


def _synchronize(device: torch.device) -> None:
    """Let a device do what it was told so far: the copies to it may come from another thread."""
    if device.type not in ("cpu", "meta"):
        synchronize = getattr(torch.get_device_module(device), "synchronize", None)
        if synchronize is not None:
            synchronize()
