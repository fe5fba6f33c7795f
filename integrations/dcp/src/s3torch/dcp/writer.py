"""`S3StorageWriter`: distributed checkpoints into S3."""

from __future__ import annotations

import os
import pickle
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from s3torch.client import (
    AccessDeniedError,
    BucketNotFoundError,
    CredentialsError,
    InvalidRangeError,
    PreconditionFailedError,
    S3Client,
    S3ClientConfig,
    S3Exception,
    S3NotFoundError,
    UserAgent,
)
from s3torch.dcp._attempt import assign_names, give_ticket, make_ticket, names_for
from s3torch.dcp._folder import METADATA, Folder, parse_folder
from s3torch.dcp._save_plan import plan_files
from s3torch.dcp._saving import remove_files, save_files
from s3torch.dcp._staging import StateCopier, WriterStager
from s3torch.dcp._tensor_archive import ArchiveMaker
from s3torch.dcp._write_item import ItemWriter, StreamTransform
from s3torch.dcp.errors import CheckpointExistsError
from s3torch.dcp.s3_file_system import S3FileSystem
from s3torch.dcp.s3_prefix_strategy import DefaultPrefixStrategy, S3PrefixStrategyBase

if TYPE_CHECKING:
    from torch.distributed.checkpoint.filesystem import SerializationFormat

__all__ = ["S3StorageWriter"]

# What torch's FileSystemWriter takes besides, without meaning here: a PUT is durable, and nothing is copied ahead.
_IGNORED = frozenset({"per_thread_copy_ahead", "sync_files"})


class S3StorageWriter(StorageWriter, WriterStager):
    """Saves distributed checkpoints to S3, for `torch.distributed.checkpoint.save` and ``async_save``.

    Tensors go from their memory to the socket. A checkpoint exists once its ``.metadata`` exists, which is put last, in
    one request; every save writes its data under names of its own. So a save that fails, is killed or runs beside
    another leaves the checkpoint that was there as it was. Stock PyTorch reads the checkpoint once it is downloaded.

    The writer is the stager of ``async_save``: it copies the state to the CPU, and keeps that memory for the next save,
    which holds training up for less long then. So keep the writer, and give each save its ``checkpoint_id``.

    Args:
        region: Region of the bucket, such as ``us-east-1``; None takes the environment's or the profile's.
        path: The checkpoint's folder, ``s3://bucket/prefix``; one that `pathlib` has made ``s3:/bucket/prefix`` of is
            recognised. ``checkpoint_id`` of a save replaces it.
        s3client_config: Options of the client; None gives the defaults.
        prefix_strategy: What each rank's object names begin with; None is `DefaultPrefixStrategy`.
        thread_count: Files that each rank writes, in as many threads.
        endpoint: URL of an S3-compatible store; None takes the environment's, the profile's or Amazon's.
        overwrite: Whether a checkpoint that is there may be replaced.
        single_file_per_rank: One file for each thread rather than one for each tensor or object.
        cache_staged_state_dict: Whether ``async_save`` keeps the memory of its copy of the state for the next save
            through this writer. Each tensor's memory is used again only when nothing refers to it any more.
        serialization_format: torch's ``SerializationFormat``, or its value: ``torch_save`` or ``safetensors``.
        _extensions: Stream transforms of torch (experimental there), such as compression; the file format must be
            ``torch_save`` then.
        **kwargs: ``sync_files`` and ``per_thread_copy_ahead`` of torch's ``FileSystemWriter`` are accepted and have no
            effect.

    Raises:
        TypeError: An argument has the wrong type, or its name is unknown.
        ValueError: An argument is out of its range, or the path is not on S3.
    """

    def __init__(
        self,
        region: str | None = None,
        path: str | os.PathLike[str] | None = None,
        s3client_config: S3ClientConfig | None = None,
        prefix_strategy: S3PrefixStrategyBase | None = None,
        thread_count: int = 1,
        *,
        endpoint: str | None = None,
        overwrite: bool = True,
        single_file_per_rank: bool = True,
        cache_staged_state_dict: bool = True,
        serialization_format: SerializationFormat | str = "torch_save",
        _extensions: Sequence[StreamTransform] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        unknown = sorted(kwargs.keys() - _IGNORED)
        if unknown:
            raise TypeError(f"{type(self).__name__} takes no argument {unknown[0]!r}")
        if isinstance(thread_count, bool) or not isinstance(thread_count, int):
            raise TypeError(f"thread_count must be an int, got {type(thread_count).__name__}")
        if thread_count < 1:
            raise ValueError(f"thread_count must be at least 1, got {thread_count}")
        if prefix_strategy is not None and not callable(prefix_strategy):
            raise TypeError(f"prefix_strategy must be an S3PrefixStrategyBase, got {type(prefix_strategy).__name__}")
        self._client = S3Client(
            region, endpoint=endpoint, user_agent=UserAgent(["md/dcp"]), s3client_config=s3client_config
        )
        self._folder = None if path is None else parse_folder(path)
        self.prefix_strategy = prefix_strategy or DefaultPrefixStrategy()
        self.thread_count = thread_count
        self.overwrite = overwrite
        self.single_file_per_rank = single_file_per_rank
        self._is_safetensors = _is_safetensors(serialization_format)
        self._extensions = tuple(_extensions or ())
        if self._is_safetensors and self._extensions:
            raise ValueError("_extensions cannot be combined with safetensors, whose files have a fixed layout")
        self._copier = StateCopier(keeps_memory=cache_staged_state_dict)
        self._save_id = _make_save_id()
        self._ticket = make_ticket()
        self._rank: int | None = None
        self._is_coordinator = True
        self._use_collectives = True

    @property
    def region(self) -> str:
        """The region requests are made for."""
        return self._client.region

    @property
    def path(self) -> str:
        """The checkpoint's folder, ``s3://bucket/prefix``; empty as long as there is none."""
        return "" if self._folder is None else str(self._folder)

    @property
    def checkpoint_id(self) -> str:
        """The checkpoint's folder, as torch calls it."""
        return self.path

    @property
    def fs(self) -> S3FileSystem:
        """The store as a file system, over the writer's client."""
        return S3FileSystem(s3_client=self._client)

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Begin another checkpoint.

        Args:
            checkpoint_id: Its folder; None keeps the folder.

        Raises:
            ValueError: It is not on S3.
        """
        if checkpoint_id:
            self._folder = parse_folder(checkpoint_id)
        self._save_id = _make_save_id()

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002  # torch's
        """Take this rank's role.

        Args:
            is_coordinator: Whether this rank commits.
            *args: Nothing.
            **kwargs: ``rank``, and ``use_collectives`` (True), as torch gives them.
        """
        self._is_coordinator = is_coordinator
        self._rank = kwargs.get("rank")
        self._use_collectives = kwargs.get("use_collectives", True)

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Look whether the checkpoint can be written, before any data is moved.

        Args:
            plan: This rank's plan.

        Raises:
            CheckpointExistsError: There is one, and it is not to be overwritten.
            S3Exception: The bucket does not exist, the store cannot be reached, and so on.
            ValueError: There is neither a path nor a ``checkpoint_id``.
        """
        if self._is_coordinator or not self._use_collectives:
            self._look()
        self._ticket = make_ticket()
        return give_ticket(plan, self._ticket)

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Tell each rank the names to write under.

        Args:
            plans: One plan for each rank.
        """
        first_rank = 0 if self._use_collectives else self._own_rank()
        return assign_names(plans, make_ticket(), self.prefix_strategy, first_rank=first_rank)

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this rank's items.

        Args:
            plan: What to write.
            planner: Who has it.

        Returns:
            Where each item lies; it is done.

        Raises:
            S3Exception: Something could not be written. This rank's files of the save are removed, as far as possible.
        """
        names = names_for(plan.storage_data, self._ticket, lambda: self.prefix_strategy(self._own_rank()))
        self._ticket = make_ticket()  # no names are used twice, whatever is called twice
        files = plan_files(
            plan.items,
            names,
            thread_count=self.thread_count,
            single_file_per_rank=self.single_file_per_rank,
            safetensors=self._is_safetensors,
        )
        # The store checks what arrives against the upload's checksums, so torch's own, which nothing reads, can go.
        archives = ArchiveMaker(has_crc=self._client.s3client_config.checksum == "none")
        writer = ItemWriter(archives, self._extensions)
        results = save_files(
            self._client, self._needed_folder(), files, planner, writer, thread_count=self.thread_count
        )
        future: Future[list[WriteResult]] = Future()
        future.set_result(results)
        return future

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Commit: put the metadata, in one request.

        Args:
            metadata: The checkpoint's.
            results: Where each item lies, by rank.

        Raises:
            CheckpointExistsError: Another save committed meanwhile, and it is not to be overwritten.
            S3Exception: It could not be put.
        """
        version = getattr(filesystem, "CURRENT_DCP_VERSION", None)  # of later versions of torch
        if version is not None:
            metadata.version = version
        metadata.storage_data = {result.index: result.storage_data for rank in results for result in rank}
        metadata.storage_meta = self.storage_meta()
        folder = self._needed_folder()
        key = folder.key(self._metadata_name())
        content = pickle.dumps(metadata)
        options = self._client.s3client_config.put_options
        if not self.overwrite:
            options = replace(options, if_none_match=True)
        try:
            self._client.put(folder.bucket, key, content, options=options)
        except PreconditionFailedError as error:
            if self.overwrite:
                raise  # the condition is one of the client's options
            held = self._try_to_read(folder, key)
            if held == content:
                return  # the answer to a first request was lost, and so it was sent again
            if held is not None:
                files = {info.relative_path for info in metadata.storage_data.values()}
                remove_files(self._client, folder, sorted(files))
            raise self._exists(folder) from error

    def storage_meta(self) -> StorageMeta | None:
        """Return what identifies this save."""
        return StorageMeta(checkpoint_id=self.checkpoint_id, save_id=self._save_id)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Tell whether something is a path in S3.

        Args:
            checkpoint_id: The path.
        """
        return S3FileSystem.validate_checkpoint_id(checkpoint_id)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r}, thread_count={self.thread_count}, overwrite={self.overwrite})"

    def _look(self) -> None:
        """Read one byte of the metadata: unlike a HEAD, it tells a missing bucket from a missing object."""
        folder = self._needed_folder()
        try:
            self._client.read(folder.bucket, folder.key(self._metadata_name()), start=0, end=1)
        except BucketNotFoundError:
            raise
        except S3NotFoundError:
            return
        except InvalidRangeError:
            pass  # it is there, and empty
        except CredentialsError:
            raise
        except AccessDeniedError:
            # Who may not read may yet write; and where it matters, the condition of the commit holds.
            return
        if not self.overwrite:
            raise self._exists(folder)

    def _try_to_read(self, folder: Folder, key: str) -> bytes | None:
        try:
            return self._client.read(folder.bucket, key)
        except S3Exception:
            return None

    def _exists(self, folder: Folder) -> CheckpointExistsError:
        return CheckpointExistsError(
            f"there is a checkpoint in {folder} already. Save under another path, delete it, or pass overwrite=True"
        )

    def _metadata_name(self) -> str:
        return METADATA if self._use_collectives else f"__{self._own_rank()}{METADATA}"

    def _needed_folder(self) -> Folder:
        if self._folder is None:
            raise ValueError("no checkpoint to write: give the writer a path, or the save a checkpoint_id")
        return self._folder

    def _own_rank(self) -> int:
        if self._rank is not None:
            return self._rank
        return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def _make_save_id() -> str:
    return str(uuid.uuid4())


def _is_safetensors(serialization_format: object) -> bool:
    value = getattr(serialization_format, "value", serialization_format)
    if value not in ("torch_save", "safetensors"):
        raise ValueError(f"unknown serialization_format {serialization_format!r}; expected torch_save or safetensors")
    return bool(value == "safetensors")
