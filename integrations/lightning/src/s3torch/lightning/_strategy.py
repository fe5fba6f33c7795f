"""What the strategies for S3 have in common, whichever framework theirs is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from torch.nn import Module
from torch.optim import Optimizer

from s3torch.client import ObjectNotFoundError, S3Uri, restore_s3_uri
from s3torch.dcp import S3StorageReader, S3StorageWriter
from s3torch.lightning import _objects
from s3torch.lightning._agreement import do_once
from s3torch.lightning._paths import is_s3_path, parse_checkpoint_path
from s3torch.lightning._plugins import find_plugin
from s3torch.lightning._sharded import load_sharded, save_full, save_sharded
from s3torch.lightning._states import find_model, get_state, set_full_state
from s3torch.lightning.s3_lightning_checkpoint import S3LightningCheckpoint

__all__ = ["FabricShards", "Shards", "TrainerShards"]

if TYPE_CHECKING:
    # What the other base of each strategy supplies, Lightning's strategy of the same name.
    class _Base:
        is_global_zero: bool
        model: Any
        optimizers: list[Optimizer]
        lightning_module: Any
        _checkpoint_io: Any

        def broadcast(self, obj: Any, src: int = 0) -> Any: ...
        def save_checkpoint(self, *args: Any, **kwargs: Any) -> None: ...
        def load_checkpoint(self, *args: Any, **kwargs: Any) -> Any: ...
        def teardown(self) -> None: ...
else:
    _Base = object


class Shards(_Base):
    """Saves to S3 and loads from there; leaves local paths to Lightning's strategy."""

    # Lightning's attribute that tells the form of checkpoints, and its value for one object.
    _form: tuple[str, object]

    @property
    def checkpoint_io(self) -> Any:
        """The plugin; one for S3, with the environment's region, unless another one is given."""
        if self._checkpoint_io is None:
            self._checkpoint_io = S3LightningCheckpoint()
        return self._checkpoint_io

    @checkpoint_io.setter
    def checkpoint_io(self, plugin: Any) -> None:
        self._checkpoint_io = plugin

    def make_storage_writer(self, path: str) -> S3StorageWriter:
        """Return what writes a sharded checkpoint; override it for a prefix strategy or more threads.

        Args:
            path: The folder, ``s3://bucket/prefix``.
        """
        plugin = self._plugin()
        return S3StorageWriter(plugin.region, path, plugin.s3client_config, endpoint=plugin.endpoint)

    def make_storage_reader(self, path: str) -> S3StorageReader:
        """Return what reads a sharded checkpoint; override it for a bound of its memory.

        Args:
            path: The folder, ``s3://bucket/prefix``.
        """
        plugin = self._plugin()
        return S3StorageReader(plugin.region, path, plugin.s3client_config, endpoint=plugin.endpoint)

    def _plugin(self) -> S3LightningCheckpoint:
        plugin = find_plugin(self.checkpoint_io)
        if plugin is None:
            raise TypeError(
                f"{type(self).__name__} writes to S3 with the plugin S3LightningCheckpoint, but was given"
                f" {type(self.checkpoint_io).__name__}"
            )
        return plugin

    def _is_full(self) -> bool:
        attribute, full = self._form
        return bool(getattr(self, attribute) == full)

    def _agree_on_path(self, path: Any) -> S3Uri | None:
        """Return the first process's path everywhere; None where it is not on S3."""
        path = self.broadcast(path)
        return parse_checkpoint_path(restore_s3_uri(path)) if is_s3_path(path) else None

    def _refuse_storage_options(self, storage_options: Any) -> None:
        if storage_options is not None:
            raise TypeError(
                f"{type(self).__name__} takes no storage_options, got {storage_options!r}; give what uploads ask for"
                " to the plugin, as S3LightningCheckpoint(s3client_config=S3ClientConfig(put_options=...))"
            )

    def _save(self, place: S3Uri, make_state: Callable[[], tuple[dict[str, Any], dict[str, Any]]]) -> None:
        """Save the model's and the optimizers' states, and the rest."""
        plugin = self._plugin()
        state, rest = make_state()
        if self._is_full():
            do_once(self, lambda: save_full(plugin, place, {**rest, **state}))
        else:
            save_sharded(plugin, self, place, self.make_storage_writer(str(place)), state, rest)

    def _find(self, place: S3Uri) -> _objects.Kind:
        plugin = self._plugin()

        def look() -> Literal["full", "sharded"]:
            plugin.wait()
            found = _objects.find(plugin.client, place)
            if found is None:
                raise ObjectNotFoundError(
                    "there is no checkpoint, neither an object nor a folder with .metadata",
                    bucket=place.bucket,
                    key=place.key,
                    remedy="Check the path; a save that was interrupted leaves no checkpoint",
                )
            return found.kind

        return do_once(self, look)

    def _load_sharded(
        self,
        place: S3Uri,
        name: str,
        model: Module,
        optimizers: Mapping[str, Optimizer],
        strict: bool,
        weights_only: bool | None,
    ) -> dict[str, Any]:
        reader = self.make_storage_reader(str(place))
        return load_sharded(
            self._plugin(), place, reader, name, model, optimizers, strict=strict, weights_only=weights_only
        )


class TrainerShards(Shards):
    """For strategies of a Trainer."""

    # The name that Lightning gives the model in sharded checkpoints.
    _model_name: str

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        """Save a checkpoint; it exists once it is complete.

        Args:
            checkpoint: What the Trainer has collected.
            filepath: ``s3://bucket/key``: an object, or the folder of the shards; a local path is left to Lightning.
            storage_options: Must be None.

        Raises:
            S3Exception: It could not be saved; sharded, torch may raise ``CheckpointException``.
            TypeError: There are ``storage_options``.
        """
        place = self._agree_on_path(filepath)
        if place is None:
            super().save_checkpoint(checkpoint, filepath, storage_options)
            return
        self._refuse_storage_options(storage_options)

        def make_state() -> tuple[dict[str, Any], dict[str, Any]]:
            if self._is_full():
                return checkpoint, {}
            state = {self._model_name: checkpoint.pop("state_dict")}
            for number, optimizer in enumerate(checkpoint.pop("optimizer_states", [])):
                state[f"optimizer_{number}"] = optimizer
            return state, checkpoint

        self._save(place, make_state)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Load a checkpoint into the model, and the optimizers when fitting.

        Args:
            checkpoint_path: ``s3://bucket/key``: an object, or the folder of shards; a local path is left to
                Lightning.
            weights_only: As for the plugin.

        Returns:
            All else that was saved.

        Raises:
            FileNotFoundError: There is none.
            S3Exception: The store failed.
        """
        place = self._agree_on_path(checkpoint_path)
        if place is None:
            options = {} if weights_only is None else {"weights_only": weights_only}  # unknown to older versions
            loaded: dict[str, Any] = super().load_checkpoint(checkpoint_path, **options)
            return loaded
        strict = self.lightning_module.strict_loading
        is_fitting = self.lightning_module.trainer.state.fn == "fit"
        optimizers = list(self.optimizers) if is_fitting else []
        if self._find(place) == "sharded":
            named = {f"optimizer_{number}": optimizer for number, optimizer in enumerate(optimizers)}
            return self._load_sharded(place, self._model_name, self.model, named, strict, weights_only)
        checkpoint = self._plugin().load_checkpoint(str(place), None, weights_only)
        states = checkpoint.get("optimizer_states", [])
        if optimizers and len(optimizers) != len(states):
            raise KeyError(
                f"the checkpoint {place} has the states of {len(states)} optimizers, and there are {len(optimizers)};"
                " it has none where save_weights_only=True"
            )
        set_full_state(self.model, dict(zip(optimizers, states, strict=False)), checkpoint.pop("state_dict"), strict)
        return checkpoint

    def teardown(self) -> None:
        """End, once the plugin has finished what it does in the background."""
        try:
            super().teardown()
        finally:
            self.checkpoint_io.teardown()  # which Lightning's own sharding strategies leave out


class FabricShards(Shards):
    """For strategies of a Fabric."""

    def save_checkpoint(
        self,
        path: Any,
        state: dict[str, Any],
        storage_options: Any | None = None,
        filter: dict[str, Callable[[str, Any], bool]] | None = None,  # noqa: A002  # Lightning's name
    ) -> None:
        """Save a model, optimizers and all else of a state; the checkpoint exists once it is complete.

        Args:
            path: ``s3://bucket/key``: an object, or the folder of the shards; a local path is left to Lightning.
            state: One model that the strategy has set up, its optimizers, and other values.
            storage_options: Must be None.
            filter: Which entries of each of these to save, by name; only for a checkpoint in one object.

        Raises:
            NotImplementedError: A sharded checkpoint is to be filtered.
            S3Exception: It could not be saved; sharded, torch may raise ``CheckpointException``.
            TypeError: There are ``storage_options``.
            ValueError: The state has no such model, or several.
        """
        place = self._agree_on_path(path)
        if place is None:
            super().save_checkpoint(path, state, storage_options, filter)
            return
        self._refuse_storage_options(storage_options)
        if filter and not self._is_full():
            raise NotImplementedError("a sharded checkpoint cannot be filtered; save it as one object")
        _, model = find_model(state)

        def make_state() -> tuple[dict[str, Any], dict[str, Any]]:
            tensors: dict[str, Any] = {}
            rest: dict[str, Any] = {}
            for name, value in state.items():
                if isinstance(value, (Module, Optimizer)):
                    tensors[name] = _keep(filter, name, get_state(model, value, is_full=self._is_full()))
                else:
                    rest[name] = _keep(filter, name, value.state_dict() if _has_state(value) else value)
            return tensors, rest

        self._save(place, make_state)

    def load_checkpoint(
        self,
        path: Any,
        state: Module | Optimizer | dict[str, Any] | None = None,
        strict: bool = True,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Load a checkpoint into the objects of a state.

        Args:
            path: ``s3://bucket/key``: an object, or the folder of shards; a local path is left to Lightning.
            state: The model, its optimizers and other values, by name; a model alone takes an object that holds its
                state and nothing else.
            strict: Whether the checkpoint must hold all that the state names.
            weights_only: As for the plugin.

        Returns:
            What the state does not name.

        Raises:
            FileNotFoundError: There is none.
            KeyError: The checkpoint lacks something.
            NotImplementedError: An optimizer alone is to be loaded.
            S3Exception: The store failed.
            ValueError: The state is empty, or has no model that the strategy has set up, or several.
        """
        place = self._agree_on_path(path)
        if place is None:
            options = {} if weights_only is None else {"weights_only": weights_only}  # unknown to older versions
            loaded: dict[str, Any] = super().load_checkpoint(path, state, strict, **options)
            return loaded
        if isinstance(state, Optimizer):
            raise NotImplementedError("an optimizer is loaded with its model, as {'model': ..., 'optimizer': ...}")
        if isinstance(state, Module):
            set_full_state(state, {}, self._plugin().load_checkpoint(str(place), None, weights_only), strict)
            return {}
        name, model = find_model(state or {})
        assert state is not None  # noqa: S101  # or it would have no model
        optimizers = {key: value for key, value in state.items() if isinstance(value, Optimizer)}
        if self._find(place) == "sharded":
            rest = self._load_sharded(place, name, model, optimizers, strict, weights_only)
        else:
            rest = self._plugin().load_checkpoint(str(place), None, weights_only)
            missing = [key for key in (name, *optimizers) if key not in rest]
            if missing:
                raise KeyError(f"the checkpoint {place} has no {missing[0]!r}, only {sorted(rest)}")
            states = {optimizer: rest.pop(key) for key, optimizer in optimizers.items()}
            set_full_state(model, states, rest.pop(name), strict)
        for key in state.keys() - {name} - optimizers.keys():
            if key in rest:
                _restore(state, key, rest.pop(key))
            elif strict:
                raise KeyError(f"the checkpoint {place} has no {key!r}; strict=False goes without")
        return rest


def _keep(filters: Mapping[str, Callable[[str, Any], bool]] | None, name: str, value: Any) -> Any:
    is_wanted = (filters or {}).get(name)
    if is_wanted is None:
        return value
    return {key: entry for key, entry in value.items() if is_wanted(key, entry)}


def _has_state(value: Any) -> bool:
    return hasattr(value, "state_dict") and hasattr(value, "load_state_dict")


def _restore(state: dict[str, Any], key: str, value: Any) -> None:
    if _has_state(state[key]):
        state[key].load_state_dict(value)
    else:
        state[key] = value
