"""`S3ModelCheckpoint`: Lightning's ``ModelCheckpoint`` for folders in S3, without s3fs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any, Literal

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn

from s3torch.client import restore_s3_uri
from s3torch.lightning import _objects
from s3torch.lightning._agreement import do_once
from s3torch.lightning._last_path import LastPath
from s3torch.lightning._paths import is_s3_path, parse_checkpoint_path, parse_dirpath
from s3torch.lightning._plugins import find_plugin
from s3torch.lightning.s3_lightning_checkpoint import S3LightningCheckpoint

__all__ = ["S3ModelCheckpoint"]


class S3ModelCheckpoint(ModelCheckpoint):
    """Saves a Trainer's checkpoints below a folder in S3, and finds them again.

    Works with the plugin that knows the store, without s3fs::

        Trainer(plugins=[S3LightningCheckpoint()], callbacks=[S3ModelCheckpoint("s3://bucket/run-7", save_last=True)])

    and with the strategies of this package, whose plugin it takes. ``ckpt_path="last"`` and ``"best"`` resume from
    what it has saved, single objects and sharded folders alike. Only checkpoints that it, or the run it continues, has
    saved below ``dirpath`` are ever removed, and not the one that the run was resumed from.

    Args:
        dirpath: ``s3://bucket/prefix``, where checkpoints go.
        filename: As for ``ModelCheckpoint``.
        monitor: As for ``ModelCheckpoint``.
        verbose: As for ``ModelCheckpoint``.
        save_last: As for ``ModelCheckpoint``: True also uploads each checkpoint as ``last.ckpt``; ``"link"`` lets the
            store copy the one just saved to there, which takes no upload.
        save_top_k: As for ``ModelCheckpoint``.
        save_weights_only: As for ``ModelCheckpoint``.
        mode: As for ``ModelCheckpoint``.
        auto_insert_metric_name: As for ``ModelCheckpoint``.
        every_n_train_steps: As for ``ModelCheckpoint``.
        train_time_interval: As for ``ModelCheckpoint``.
        every_n_epochs: As for ``ModelCheckpoint``.
        save_on_train_epoch_end: As for ``ModelCheckpoint``.
        enable_version_counter: As for ``ModelCheckpoint``.
        newer: What newer versions of ``ModelCheckpoint`` take besides, such as ``save_on_exception``.

    Raises:
        MisconfigurationException: The options contradict each other.
        TypeError: ``dirpath`` is neither a string nor a path.
        ValueError: ``dirpath`` is not on S3.
    """

    def __init__(
        self,
        dirpath: str | os.PathLike[str],
        filename: str | None = None,
        monitor: str | None = None,
        verbose: bool = False,
        save_last: bool | Literal["link"] | None = None,
        save_top_k: int = 1,
        *,
        save_weights_only: bool = False,
        mode: str = "min",
        auto_insert_metric_name: bool = True,
        every_n_train_steps: int | None = None,
        train_time_interval: timedelta | None = None,
        every_n_epochs: int | None = None,
        save_on_train_epoch_end: bool | None = None,
        enable_version_counter: bool = True,
        **newer: Any,
    ) -> None:
        folder = parse_dirpath(dirpath)
        super().__init__(
            # Not given, since ModelCheckpoint would look for the file system of any.
            dirpath=None,
            filename=filename,
            monitor=monitor,
            verbose=verbose,
            save_last=save_last,
            save_top_k=save_top_k,
            save_weights_only=save_weights_only,
            mode=mode,
            auto_insert_metric_name=auto_insert_metric_name,
            every_n_train_steps=every_n_train_steps,
            train_time_interval=train_time_interval,
            every_n_epochs=every_n_epochs,
            save_on_train_epoch_end=save_on_train_epoch_end,
            enable_version_counter=enable_version_counter,
            **newer,
        )
        self._folder = folder
        self.dirpath = str(folder).rstrip("/")
        self._plugin: S3LightningCheckpoint | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002  # Lightning's
        """Find the plugin, and warn of a folder that is not empty.

        Raises:
            MisconfigurationException: The Trainer has no plugin for S3.
            S3Exception: The folder could not be listed.
        """
        plugin = self._find_plugin(trainer)
        if stage == "fit" and self.save_top_k != 0 and do_once(trainer.strategy, self._lists_something(plugin)):
            rank_zero_warn(f"Checkpoint directory {self.dirpath} exists and is not empty.")

    def file_exists(self, filepath: str | os.PathLike[str], trainer: Trainer) -> bool:
        """Tell every process whether there is a checkpoint, or will be when what is pending is done.

        Raises:
            S3Exception: The store did not say.
        """
        plugin = self._find_plugin(trainer)
        return do_once(trainer.strategy, lambda: plugin.exists(restore_s3_uri(filepath)))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue what an earlier run has saved, if that was below the same folder."""
        dirpath = state_dict.get("dirpath")
        if is_s3_path(dirpath) and parse_dirpath(str(dirpath)) == self._folder:
            state_dict = {**state_dict, "dirpath": self.dirpath}  # however it was spelled
        super().load_state_dict(state_dict)

    def to_yaml(self, filepath: str | os.PathLike[str] | None = None) -> None:
        """Save the paths and scores of the best checkpoints as YAML.

        Args:
            filepath: ``s3://bucket/key`` or a local path; None is ``best_k_models.yaml`` below ``dirpath``.

        Raises:
            MisconfigurationException: The callback was not in use yet, so that no plugin is known.
            S3Exception: Writing failed.
        """
        path = f"{self.dirpath}/best_k_models.yaml" if filepath is None else filepath
        if not is_s3_path(path):
            super().to_yaml(os.fspath(path))
            return
        if self._plugin is None:
            raise MisconfigurationException("to_yaml knows the store only once a Trainer has used the callback")
        import yaml  # type: ignore[import-untyped]  # has no types

        place = parse_checkpoint_path(restore_s3_uri(path))
        text = yaml.dump({path: score.item() for path, score in self.best_k_models.items()})
        self._plugin.client.put(place.bucket, place.key, text.encode())

    def _find_last_checkpoints(self, trainer: Trainer) -> set[str]:
        """Return the newest checkpoint whose name says that it is the last one; Lightning asks before it resumes."""
        plugin = self._find_plugin(trainer)
        plugin.wait()
        is_last = _last_pattern(self.CHECKPOINT_NAME_LAST, self.CHECKPOINT_EQUALS_CHAR, self.FILE_EXTENSION)
        founds = [
            found
            for found in _objects.find_all(plugin.client, self._folder)
            if is_last.fullmatch(PurePosixPath(found.uri).name)
        ]
        if not founds:
            return set()
        # The store tells whole seconds.
        newest = max(founds, key=lambda found: (found.committed, _natural(found.uri)))
        return {LastPath(newest.uri, newest.committed)}

    def _link_checkpoint(self, trainer: Trainer, filepath: str, linkpath: str) -> None:  # type: ignore[override]  # needs the plugin
        """Copy a checkpoint within the store: S3 has no links."""
        plugin = self._find_plugin(trainer)
        if filepath != linkpath:
            do_once(trainer.strategy, lambda: plugin.copy_checkpoint(filepath, linkpath))

    def _should_remove_checkpoint(self, trainer: Trainer, previous: str, current: str) -> bool:
        """Tell whether a checkpoint that is not wanted any more may go."""
        if previous == current or not is_s3_path(previous):
            return False
        resumed = trainer.ckpt_path
        if resumed is not None and is_s3_path(resumed) and restore_s3_uri(resumed) == restore_s3_uri(previous):
            return False
        return restore_s3_uri(previous).startswith(f"{self.dirpath}/")

    def _find_plugin(self, trainer: Trainer) -> S3LightningCheckpoint:
        plugin = find_plugin(trainer.strategy.checkpoint_io)
        if plugin is None:
            raise MisconfigurationException(
                f"{type(self).__name__} needs the plugin that writes to S3: Trainer(plugins=[S3LightningCheckpoint()],"
                f" ...); the Trainer has {type(trainer.strategy.checkpoint_io).__name__}"
            )
        self._plugin = plugin
        return plugin

    def _lists_something(self, plugin: S3LightningCheckpoint) -> Callable[[], bool]:
        def look() -> bool:
            prefix = f"{self._folder.key}/" if self._folder.key else ""
            page = next(plugin.client.list_objects(self._folder.bucket, prefix, max_keys=1), None)
            return page is not None and bool(page.object_info)

        return look


def _last_pattern(name: str, equals: str, extension: str) -> re.Pattern[str]:
    """Make what names of last checkpoints match: ``last.ckpt``, ``last-v1.ckpt``, and with a template what it gives."""
    fixed = [re.escape(part) for part in re.split(r"\{.*?\}", name)]
    return re.compile(f"(?:[^/]+{re.escape(equals)})?.+?".join(fixed) + r"(?:-v\d+)?" + re.escape(extension))


def _natural(text: str) -> list[tuple[int, str]]:
    """Order names as people do: ``last.ckpt``, ``last-v2.ckpt``, ``last-v10.ckpt``."""
    stem = text.removesuffix(PurePosixPath(text).suffix)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", stem)]
