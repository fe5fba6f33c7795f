from __future__ import annotations

import importlib.util
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from lightning.pytorch.plugins import CheckpointIO

from s3torch.client import PutOptions, S3ClientConfig, S3NotFoundError
from s3torch.lightning import S3LightningCheckpoint

if TYPE_CHECKING:
    from s3torch.harness.servers import MotoServer

URI = "s3://bucket/run/epoch=1.ckpt"


def make_state() -> dict[str, Any]:
    return {"state_dict": {"weight": torch.arange(12.0).reshape(3, 4)}, "epoch": 3, "names": ["a", "b"]}


def check_state(state: dict[str, Any]) -> None:
    expected = make_state()
    assert torch.equal(state["state_dict"]["weight"], expected["state_dict"]["weight"])
    assert (state["epoch"], state["names"]) == (3, ["a", "b"])


def test_s3fs_is_not_there() -> None:
    """Guards all others: whatever works here works without it."""
    assert importlib.util.find_spec("s3fs") is None


def test_is_a_plugin_with_the_contracts_names() -> None:
    parameters = inspect.signature(S3LightningCheckpoint).parameters
    assert list(parameters) == ["region", "s3client_config", "endpoint"]
    config = S3ClientConfig(max_attempts=2)
    plugin = S3LightningCheckpoint("eu-north-1", config, "http://127.0.0.1:9")
    assert isinstance(plugin, CheckpointIO)
    assert (plugin.region, plugin.s3client_config, plugin.endpoint) == ("eu-north-1", config, "http://127.0.0.1:9")
    assert "eu-north-1" in repr(plugin)


def test_what_was_saved_is_loaded(plugin: S3LightningCheckpoint) -> None:
    plugin.save_checkpoint(make_state(), URI)
    check_state(plugin.load_checkpoint(URI))
    plugin.teardown()
    check_state(plugin.load_checkpoint(URI, lambda storage, location: storage))


def test_on_a_server(moto_server: MotoServer, s3_bucket: str, dummy_aws_env: None) -> None:
    plugin = S3LightningCheckpoint(moto_server.region, S3ClientConfig(part_size=5 << 20), moto_server.endpoint)
    uri = f"s3://{s3_bucket}/large.ckpt"
    state = {"weight": torch.randn(3 << 20)}
    with moto_server.recording() as requests:
        plugin.save_checkpoint(state, uri)
        assert torch.equal(plugin.load_checkpoint(uri)["weight"], state["weight"])
        again: S3LightningCheckpoint = pickle.loads(pickle.dumps(plugin))
        assert again.exists(uri)
        again.remove_checkpoint(uri)
        assert not plugin.exists(uri)
    assert any(request.query.startswith("partNumber") for request in requests)
    assert any("md/lightning" in request.headers.get("user-agent", "") for request in requests)


@pytest.mark.parametrize("path", ["s3:/bucket/run/epoch=1.ckpt", "s3://bucket/run/epoch=1.ckpt/"])
def test_paths_that_lightning_has_changed_are_recognised(plugin: S3LightningCheckpoint, path: str) -> None:
    plugin.save_checkpoint(make_state(), path)
    check_state(plugin.load_checkpoint(URI))
    check_state(plugin.load_checkpoint(path))
    assert plugin.exists(path)
    plugin.remove_checkpoint(path)
    assert not plugin.exists(URI)


@pytest.mark.parametrize("path", [Path("/home/model.ckpt"), Path("s3://bucket/key"), None, 1, b"s3://bucket/key"])
def test_a_path_must_be_a_string(plugin: S3LightningCheckpoint, path: Any) -> None:
    for call in (lambda: plugin.save_checkpoint({}, path), lambda: plugin.load_checkpoint(path)):
        with pytest.raises(TypeError, match="S3FSDPStrategy"):
            call()
    for other in (plugin.remove_checkpoint, plugin.exists):
        with pytest.raises(TypeError):
            other(path)


@pytest.mark.parametrize("path", ["/home/model.ckpt", "model.ckpt", "s3://", "s3://bucket", "s3://bucket/", "gs://b/k"])
def test_a_path_must_be_an_object_in_s3(
    plugin: S3LightningCheckpoint, keys: Callable[[], list[str]], path: str
) -> None:
    plugin.save_checkpoint(make_state(), URI)
    for call in (lambda: plugin.save_checkpoint({}, path), lambda: plugin.load_checkpoint(path)):
        with pytest.raises(ValueError, match="s3://bucket/key"):
            call()
    with pytest.raises(ValueError, match="s3://bucket/key"):
        plugin.remove_checkpoint(path)
    assert keys() == ["run/epoch=1.ckpt"]


def test_storage_options_are_refused(plugin: S3LightningCheckpoint, keys: Callable[[], list[str]]) -> None:
    with pytest.raises(TypeError, match="put_options"):
        plugin.save_checkpoint({}, URI, storage_options={"acl": "private"})
    assert keys() == []


def test_options_of_the_client_hold(store: Any, engine: Any) -> None:
    config = S3ClientConfig(engine=lambda context: engine, put_options=PutOptions(storage_class="STANDARD_IA"))
    plugin = S3LightningCheckpoint("us-east-1", config)
    plugin.save_checkpoint(make_state(), URI)
    assert plugin.client.head_object("bucket", "run/epoch=1.ckpt").storage_class == "STANDARD_IA"


def test_a_missing_checkpoint_is_a_file_not_found(plugin: S3LightningCheckpoint) -> None:
    with pytest.raises(FileNotFoundError, match=r"s3://bucket/run/epoch=1\.ckpt"):
        plugin.load_checkpoint(URI)
    assert not plugin.exists(URI)


def test_a_sharded_checkpoint_names_the_strategies(plugin: S3LightningCheckpoint) -> None:
    plugin.client.put("bucket", "run/epoch=1.ckpt/.metadata", b"")
    with pytest.raises(S3NotFoundError, match="S3FSDPStrategy"):
        plugin.load_checkpoint(URI)


def test_only_plain_values_are_unpickled_unless_asked(plugin: S3LightningCheckpoint) -> None:
    plugin.save_checkpoint({"path": Exception("anything")}, URI)
    for weights_only in (None, True):
        with pytest.raises(pickle.UnpicklingError):
            plugin.load_checkpoint(URI, weights_only=weights_only)
    assert isinstance(plugin.load_checkpoint(URI, weights_only=False)["path"], Exception)


def test_a_failed_save_leaves_what_was_there(plugin: S3LightningCheckpoint, engine: Any, server_error: Any) -> None:
    plugin.save_checkpoint(make_state(), URI)

    def fail(name: str, key: str) -> None:
        raise server_error

    engine.before = fail
    with pytest.raises(type(server_error)):
        plugin.save_checkpoint({"other": 1}, URI)
    check_state(plugin.load_checkpoint(URI))


def test_removing_takes_an_object_or_a_folder_and_no_neighbour(
    plugin: S3LightningCheckpoint, engine: Any, keys: Callable[[], list[str]]
) -> None:
    kept = ["run/a.ckpt-v1", "run/a.ckptx/__0_0.distcp", "run/b.ckpt"]
    folder = ["run/a.ckpt/.metadata", "run/a.ckpt/__0_0.distcp", "run/a.ckpt/deep/__1_0.distcp", "run/a.ckpt/meta.pt"]
    for key in (*kept, *folder, "run/a.ckpt"):
        plugin.client.put("bucket", key, b"1")
    engine.changes.clear()
    plugin.remove_checkpoint("s3://bucket/run/a.ckpt")
    assert keys() == kept
    # The rest goes in requests for many keys.
    assert engine.changes == [("delete", "run/a.ckpt"), ("delete", "run/a.ckpt/.metadata")]
    plugin.remove_checkpoint("s3://bucket/run/a.ckpt")


def test_a_copy_takes_the_place_of_what_was_there(
    plugin: S3LightningCheckpoint, engine: Any, keys: Callable[[], list[str]]
) -> None:
    for key in (
        "a/.metadata",
        "a/.x",
        "a/new.distcp",
        "a/meta.pt",
        "last/.metadata",
        "last/old.distcp",
        "last/meta.pt",
    ):
        plugin.client.put("bucket", key, key.encode())
    engine.changes.clear()
    plugin.copy_checkpoint("s3://bucket/a", "s3://bucket/last")
    copied = [key for name, key in engine.changes if name == "copy"]
    assert copied[-1] == "last/.metadata"
    assert [key for key in keys() if key.startswith("last")] == [
        "last/.metadata",
        "last/.x",
        "last/meta.pt",
        "last/new.distcp",
    ]
    assert plugin.client.read("bucket", "last/meta.pt") == b"a/meta.pt"

    plugin.client.put("bucket", "single", b"single")
    plugin.copy_checkpoint("s3://bucket/single", "s3://bucket/last")
    assert [key for key in keys() if key.startswith("last")] == ["last"]
    with pytest.raises(FileNotFoundError):
        plugin.copy_checkpoint("s3://bucket/nowhere", "s3://bucket/last")
    assert plugin.client.read("bucket", "last") == b"single"
