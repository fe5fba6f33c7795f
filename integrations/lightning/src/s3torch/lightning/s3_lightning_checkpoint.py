"""`S3LightningCheckpoint`: Lightning's checkpoints in S3."""

from __future__ import annotations

from typing import Any

from lightning.fabric.plugins import CheckpointIO

from s3torch.checkpoint import S3Checkpoint
from s3torch.client import S3Client, S3ClientConfig, S3NotFoundError, UserAgent
from s3torch.lightning import _objects
from s3torch.lightning._paths import parse_checkpoint_path
from s3torch.readers import S3Reader

__all__ = ["S3LightningCheckpoint"]


class S3LightningCheckpoint(CheckpointIO):
    """Reads and writes the checkpoints of a Lightning ``Trainer`` or ``Fabric`` in S3.

    Give it to them as a plugin: ``Trainer(plugins=[S3LightningCheckpoint()])``. Each checkpoint is one object, which
    appears whole or not at all.

    Args:
        region: Region of the buckets, such as ``us-east-1``; None takes the environment's or the profile's.
        s3client_config: Options of the client; None gives the defaults.
        endpoint: URL of an S3-compatible store; None takes the environment's, the profile's or Amazon's.
    """

    def __init__(
        self,
        region: str | None = None,
        s3client_config: S3ClientConfig | None = None,
        endpoint: str | None = None,
    ) -> None:
        self.region = region
        self.s3client_config = s3client_config
        self.endpoint = endpoint
        self._checkpoint = S3Checkpoint(region, endpoint, s3client_config)
        self._client = S3Client(
            region, endpoint=endpoint, user_agent=UserAgent(["md/lightning"]), s3client_config=s3client_config
        )

    @property
    def client(self) -> S3Client:
        """The client that looks up, copies and removes checkpoints."""
        return self._client

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str, storage_options: Any | None = None) -> None:  # type: ignore[override]  # the contract takes no other paths
        """Save a checkpoint; one that was there before is replaced at the end, at once.

        Args:
            checkpoint: What to save.
            path: ``s3://bucket/key``.
            storage_options: Must be None: what uploads ask for is in ``s3client_config``.

        Raises:
            S3Exception: Writing failed; nothing has become visible.
            TypeError: The path is not a string, or there are ``storage_options``.
            ValueError: The path is not on S3.
        """
        self._check_save(path, storage_options)
        self._checkpoint.save(checkpoint, str(parse_checkpoint_path(path)))

    def load_checkpoint(  # type: ignore[override]  # the contract takes no other paths
        self, path: str, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load a checkpoint.

        Args:
            path: ``s3://bucket/key``.
            map_location: Where tensors go, as for `torch.load`; None leaves all on the CPU, from where Lightning moves
                them: several processes of a node would otherwise meet on one device.
            weights_only: Unpickle only tensors and plain values; None is True. False runs whatever code the
                checkpoint names: only for those from a source you trust.

        Returns:
            The checkpoint.

        Raises:
            S3Exception: Reading failed. A checkpoint that does not exist is also a `FileNotFoundError`.
            TypeError: The path is not a string.
            ValueError: The path is not on S3.
        """
        place = parse_checkpoint_path(path)
        try:
            loaded: dict[str, Any] = self._checkpoint.load(
                str(place),
                map_location="cpu" if map_location is None else map_location,
                weights_only=weights_only is None or weights_only,
            )
        except S3NotFoundError as error:
            found = _objects.find(self._client, place)
            if found is not None and found.kind == "sharded":
                error.remedy = "There is a sharded checkpoint: load it with S3FSDPStrategy or S3ModelParallelStrategy."
            raise
        return loaded

    def remove_checkpoint(self, path: str) -> None:  # type: ignore[override]  # the contract takes no other paths
        """Remove a checkpoint, a single object or a folder; one that is not there is no error.

        Args:
            path: ``s3://bucket/key``.

        Raises:
            S3Exception: It could not be removed.
            TypeError: The path is not a string.
            ValueError: The path is not on S3.
        """
        _objects.remove(self._client, parse_checkpoint_path(path))

    def copy_checkpoint(self, source: str, target: str) -> None:
        """Copy a checkpoint within the store, without its bytes coming here.

        Args:
            source: ``s3://bucket/key`` of the checkpoint, a single object or a folder.
            target: ``s3://bucket/key`` of the copy; a checkpoint that was there before is replaced at the end.

        Raises:
            S3Exception: It could not be copied.
            TypeError: A path is not a string.
            ValueError: A path is not on S3.
        """
        _objects.copy(self._client, parse_checkpoint_path(source), parse_checkpoint_path(target))

    def exists(self, path: str) -> bool:
        """Tell whether there is a checkpoint, a single object or a committed folder.

        Args:
            path: ``s3://bucket/key``.

        Raises:
            S3Exception: The store did not say.
            TypeError: The path is not a string.
            ValueError: The path is not on S3.
        """
        return _objects.find(self._client, parse_checkpoint_path(path)) is not None

    def open(self, path: str) -> S3Reader:
        """Open a checkpoint as a binary file, such as for ``LightningModule.load_from_checkpoint``.

        Args:
            path: ``s3://bucket/key``.

        Returns:
            The file; use it in a ``with`` block.

        Raises:
            TypeError: The path is not a string.
            ValueError: The path is not on S3.
        """
        return self._checkpoint.reader(str(parse_checkpoint_path(path)))

    def wait(self) -> None:
        """Return when everything that was asked for is done; here it always is."""

    def _check_save(self, path: str, storage_options: Any | None) -> None:
        parse_checkpoint_path(path)
        if storage_options is not None:
            raise TypeError(
                f"{type(self).__name__} takes no storage_options, got {storage_options!r}; give what uploads ask for"
                " as s3client_config=S3ClientConfig(put_options=...)"
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(region={self.region!r}, endpoint={self.endpoint!r})"
