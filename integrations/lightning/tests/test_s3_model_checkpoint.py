from __future__ import annotations

import datetime as dt
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]  # has no types
import pytest
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import AsyncCheckpointIO

from s3torch.lightning import S3AsyncLightningCheckpoint, S3LightningCheckpoint, S3ModelCheckpoint
from s3torch.lightning._last_path import LastPath

RUN = "s3://bucket/run"

pytestmark = [
    # What Lightning advises in general, not for models of this size.
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:GPU available but not used"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning"),
]


@pytest.fixture
def fit(make_trainer: Any, make_model: Any, loader: Any) -> Callable[..., Any]:
    """Trains a fresh model and returns it and its trainer."""

    def train(*callbacks: Any, ckpt_path: str | None = None, model: Any = None, **options: Any) -> Any:
        trainer = make_trainer(*callbacks, **options)
        model = make_model() if model is None else model
        trainer.fit(model, loader, ckpt_path=ckpt_path)
        return model, trainer

    return train


def test_a_folder_must_be_in_s3() -> None:
    for dirpath in ("/tmp/run", "run", "s3://", Path("run")):  # noqa: S108  # never written
        with pytest.raises(ValueError, match="ModelCheckpoint"):
            S3ModelCheckpoint(dirpath)
    with pytest.raises(TypeError):
        S3ModelCheckpoint(None)  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.parametrize("dirpath", [RUN, f"{RUN}/", "s3:/bucket/run", Path("s3://bucket/run")])
def test_a_folder_may_be_spelled_in_many_ways(dirpath: Any) -> None:
    callback = S3ModelCheckpoint(dirpath)
    assert callback.dirpath == RUN
    assert callback.format_checkpoint_name({"epoch": 1, "step": 2}) == f"{RUN}/epoch=1-step=2.ckpt"  # type: ignore[dict-item]  # as in Lightning's own tests


def test_contradicting_options_are_refused() -> None:
    with pytest.raises(MisconfigurationException):
        S3ModelCheckpoint(RUN, save_top_k=3)
    with pytest.raises(MisconfigurationException):
        S3ModelCheckpoint(RUN, every_n_epochs=1, every_n_train_steps=1)
    with pytest.raises(TypeError, match="no_such_option"):
        S3ModelCheckpoint(RUN, no_such_option=1)


def test_a_trainer_without_the_plugin_is_told(fit: Any) -> None:
    with pytest.raises(MisconfigurationException, match=r"plugins=\[S3LightningCheckpoint"):
        fit(S3ModelCheckpoint(RUN), plugins=[], max_epochs=1)
    with pytest.raises(MisconfigurationException, match="TorchCheckpointIO"):
        fit(S3ModelCheckpoint(RUN), plugins=[], max_epochs=1, ckpt_path="last")


def test_a_plugin_within_another_is_found(fit: Any, plugin: S3LightningCheckpoint, keys: Any) -> None:
    fit(S3ModelCheckpoint(RUN), plugins=[AsyncCheckpointIO(plugin)], max_epochs=1)
    assert keys() == ["run/epoch=0-step=4.ckpt"]


def test_the_last_epoch_is_kept(fit: Any, keys: Any) -> None:
    callback = S3ModelCheckpoint(RUN)
    fit(callback, max_epochs=3)
    assert keys() == ["run/epoch=2-step=12.ckpt"]
    assert callback.best_model_path == f"{RUN}/epoch=2-step=12.ckpt"


def test_the_bucket_itself_is_a_folder(fit: Any, keys: Any) -> None:
    callback = S3ModelCheckpoint("s3://bucket", save_last=True)
    fit(callback, max_epochs=2)
    assert keys() == ["epoch=1-step=8.ckpt", "last.ckpt"]
    _, trainer = fit(S3ModelCheckpoint("s3://bucket", save_last=True), max_epochs=3, ckpt_path="last")
    assert trainer.ckpt_path == "s3://bucket/last.ckpt"


def test_the_best_are_kept(fit: Any, keys: Any) -> None:
    callback = S3ModelCheckpoint(RUN, "{epoch}-{score:.1f}", monitor="score", save_top_k=2, mode="max")
    fit(callback, max_epochs=4)
    assert keys() == ["run/epoch=2-score=2.0.ckpt", "run/epoch=3-score=3.0.ckpt"]
    assert callback.best_model_path == f"{RUN}/epoch=3-score=3.0.ckpt"
    assert callback.kth_best_model_path == f"{RUN}/epoch=2-score=2.0.ckpt"
    worst = S3ModelCheckpoint(RUN, "min-{epoch}", monitor="score", mode="min")
    fit(worst, max_epochs=2)
    assert worst.best_model_path == f"{RUN}/min-epoch=0.ckpt"


def test_names_that_are_taken_get_a_version(fit: Any, keys: Any) -> None:
    for _ in range(3):
        fit(S3ModelCheckpoint(RUN, "model", save_last=True), max_epochs=1)
    assert keys() == [f"run/{name}{version}.ckpt" for name in ("last", "model") for version in ("-v1", "-v2", "")]
    fit(S3ModelCheckpoint(RUN, "model", enable_version_counter=False), max_epochs=1)
    assert len(keys()) == 6


def test_every_n_steps_and_epochs(fit: Any, keys: Any) -> None:
    fit(S3ModelCheckpoint(RUN, every_n_train_steps=3, save_top_k=-1), max_epochs=2)
    assert keys() == ["run/epoch=0-step=3.ckpt", "run/epoch=1-step=6.ckpt"]
    fit(S3ModelCheckpoint("s3://bucket/b", every_n_epochs=2, save_top_k=-1), max_epochs=4)
    assert keys()[:2] == ["b/epoch=1-step=8.ckpt", "b/epoch=3-step=16.ckpt"]
    fit(
        S3ModelCheckpoint("s3://bucket/c", train_time_interval=dt.timedelta(microseconds=1), save_top_k=-1),
        max_epochs=1,
    )
    assert [key for key in keys() if key.startswith("c/")] == [f"c/epoch=0-step={step}.ckpt" for step in (1, 2, 3, 4)]


def test_weights_only(fit: Any, plugin: S3LightningCheckpoint) -> None:
    callback = S3ModelCheckpoint(RUN, save_weights_only=True)
    fit(callback, max_epochs=1)
    assert "optimizer_states" not in plugin.load_checkpoint(callback.best_model_path)


def test_a_link_is_a_copy_within_the_store(fit: Any, engine: Any, plugin: Any, keys: Any) -> None:
    callback = S3ModelCheckpoint(RUN, save_last="link", every_n_train_steps=2)
    fit(callback, max_epochs=1)
    assert keys() == ["run/epoch=0-step=4.ckpt", "run/last.ckpt"]
    assert plugin.client.read("bucket", "run/last.ckpt") == plugin.client.read("bucket", "run/epoch=0-step=4.ckpt")
    assert [name for name, key in engine.changes if key == "run/last.ckpt"].count("put") == 0
    again = S3ModelCheckpoint(RUN, save_last="link", every_n_train_steps=2)
    _, trainer = fit(again, max_epochs=2, ckpt_path="last")
    assert trainer.ckpt_path == f"{RUN}/last.ckpt"


@pytest.mark.parametrize("is_async", [False, True])
def test_a_resumed_run_ends_like_one_that_was_not_interrupted(
    fit: Any, config: Any, plugin: Any, is_async: bool
) -> None:
    def options() -> Any:
        return {"plugins": [S3AsyncLightningCheckpoint("us-east-1", config) if is_async else plugin]}

    whole, _ = fit(S3ModelCheckpoint("s3://bucket/whole"), max_epochs=4, **options())
    first, _ = fit(S3ModelCheckpoint(RUN, save_last=True), max_epochs=2, **options())
    second, trainer = fit(S3ModelCheckpoint(RUN, save_last=True), max_epochs=4, ckpt_path="last", **options())
    assert first.losses + second.losses == whole.losses
    assert trainer.ckpt_path == f"{RUN}/last.ckpt"
    assert str(trainer.ckpt_path) == f"{trainer.ckpt_path}" == f"{RUN}/last.ckpt"


def test_best_is_loaded(fit: Any, make_trainer: Any, make_model: Any, loader: Any) -> None:
    callback = S3ModelCheckpoint(RUN, monitor="score", mode="min")
    model, trainer = fit(callback, max_epochs=3)
    model.layer.weight.data.zero_()
    trainer.fit_loop.epoch_progress.reset()
    trainer.fit(model, loader, ckpt_path="best")
    assert trainer.ckpt_path == f"{RUN}/epoch=0-step=4.ckpt"
    assert bool(model.layer.weight.any())


def test_a_first_run_finds_no_last_checkpoint(fit: Any) -> None:
    with pytest.warns(UserWarning, match="there is no last checkpoint available"):
        model, trainer = fit(S3ModelCheckpoint(RUN, save_last=True), max_epochs=1, ckpt_path="last")
    assert trainer.ckpt_path is None
    assert len(model.losses) == 4


def test_a_bucket_that_cannot_be_listed_is_an_error(fit: Any) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fit(S3ModelCheckpoint("s3://nowhere/run"), max_epochs=1, ckpt_path="last")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fit(S3ModelCheckpoint("s3://nowhere/run"), max_epochs=1)


def test_the_newest_of_several_last_checkpoints_counts(make_trainer: Any, plugin: Any) -> None:
    callback = S3ModelCheckpoint(RUN)
    for name in (
        "last.ckpt",
        "last-v2.ckpt",
        "last-v10.ckpt",
        "lastly.ckpt",
        "epoch=9.ckpt",
        "last.txt",
        "sub/last.ckpt",
    ):
        plugin.client.put("bucket", f"run/{name}", b"1")
    trainer = make_trainer(callback)
    # All within the same second: then the highest version is the newest.
    assert callback._find_last_checkpoints(trainer) == {f"{RUN}/last-v10.ckpt"}
    plugin.client.put("bucket", "run/last-v11.ckpt/.metadata", b"1")
    plugin.client.put("bucket", "run/last-v12.ckpt/__0_0.distcp", b"1")
    assert callback._find_last_checkpoints(trainer) == {f"{RUN}/last-v11.ckpt"}


def test_a_template_for_the_last_checkpoint(fit: Any, keys: Any) -> None:
    def make() -> S3ModelCheckpoint:
        callback = S3ModelCheckpoint(RUN, save_last=True)
        callback.CHECKPOINT_NAME_LAST = "{epoch:02d}-last"
        return callback

    fit(make(), max_epochs=2)
    assert keys() == ["run/epoch=01-last.ckpt", "run/epoch=1-step=8.ckpt"]
    _, trainer = fit(make(), max_epochs=3, ckpt_path="last")
    assert trainer.ckpt_path == f"{RUN}/epoch=01-last.ckpt"


def test_an_older_local_checkpoint_takes_part_in_the_search(fit: Any, make_trainer: Any, tmp_path: Path) -> None:
    fit(S3ModelCheckpoint(RUN, save_last=True), max_epochs=1)
    local = tmp_path / "local" / "last.ckpt"
    local.parent.mkdir()
    local.touch()
    os.utime(local, (1, 1))
    both = (S3ModelCheckpoint(RUN, save_last=True), ModelCheckpoint(local.parent, save_top_k=0))
    _, trainer = fit(*both, max_epochs=1, ckpt_path="last")
    assert trainer.ckpt_path == f"{RUN}/last.ckpt"


def test_the_state_goes_on_in_the_same_folder_only(fit: Any, keys: Any) -> None:
    first = S3ModelCheckpoint(RUN, monitor="score", mode="max", save_top_k=2)
    fit(first, max_epochs=2)
    again = S3ModelCheckpoint(f"{RUN}/", monitor="score", mode="max", save_top_k=2)
    again.load_state_dict({**first.state_dict(), "dirpath": f"{RUN}/"})
    assert again.best_k_models == first.best_k_models
    assert again.best_model_path == first.best_model_path
    other = S3ModelCheckpoint("s3://bucket/other", monitor="score", mode="max", save_top_k=2)
    with pytest.warns(UserWarning, match="dirpath has changed"):
        other.load_state_dict(first.state_dict())
    assert other.best_k_models == {}


def test_a_resumed_run_removes_what_the_first_has_saved_but_not_what_it_came_from(
    fit: Any, make_model: Any, keys: Any
) -> None:
    fit(S3ModelCheckpoint(RUN, monitor="score", mode="max", save_top_k=2), max_epochs=2)
    assert keys() == ["run/epoch=0-step=4.ckpt", "run/epoch=1-step=8.ckpt"]
    model = make_model()
    model.score = iter(range(10, 20))  # better than before
    again = S3ModelCheckpoint(RUN, monitor="score", mode="max", save_top_k=2)
    fit(again, model=model, max_epochs=5, ckpt_path=f"{RUN}/epoch=1-step=8.ckpt")
    assert keys() == [f"run/{name}.ckpt" for name in ("epoch=1-step=8", "epoch=3-step=16", "epoch=4-step=20")]


@pytest.mark.parametrize(
    ("previous", "is_removed"),
    [
        (f"{RUN}/a.ckpt", True),
        ("s3:/bucket/run/a.ckpt", True),
        (f"{RUN}/current.ckpt", False),
        ("s3://bucket/other/a.ckpt", False),
        ("s3://bucket/running/a.ckpt", False),
        ("s3://another/run/a.ckpt", False),
        ("/run/a.ckpt", False),
    ],
)
def test_only_what_lies_below_the_folder_is_removed(make_trainer: Any, previous: str, is_removed: bool) -> None:
    callback = S3ModelCheckpoint(RUN)
    trainer = make_trainer(callback)
    assert callback._should_remove_checkpoint(trainer, previous, f"{RUN}/current.ckpt") is is_removed


def test_a_folder_that_is_not_empty_is_told(fit: Any, plugin: Any) -> None:
    plugin.client.put("bucket", "running/other.ckpt", b"1")
    plugin.client.put("bucket", "run/other.ckpt", b"1")
    with pytest.warns(UserWarning, match="s3://bucket/run exists and is not empty"):
        fit(S3ModelCheckpoint(RUN), max_epochs=1)


def test_an_upload_that_fails_is_raised_and_the_last_good_checkpoint_stays(
    fit: Any, config: Any, engine: Any, server_error: Any, keys: Any
) -> None:
    """With an upload in the background, a removal that was decided on before the error must not happen."""

    def fail(name: str, key: str) -> None:
        if name == "put" and "epoch=2" in key:
            raise server_error

    engine.before = fail
    saving = S3AsyncLightningCheckpoint("us-east-1", config)
    with pytest.raises(type(server_error)):
        fit(S3ModelCheckpoint(RUN), plugins=[saving], max_epochs=3)
    assert keys() == ["run/epoch=1-step=8.ckpt"]


def test_versions_see_what_is_still_under_way(fit: Any, config: Any, keys: Any) -> None:
    saving = S3AsyncLightningCheckpoint("us-east-1", config, max_pending=4)
    fit(S3ModelCheckpoint(RUN, "model", monitor="score", save_top_k=-1), plugins=[saving], max_epochs=3)
    assert keys() == ["run/model-v1.ckpt", "run/model-v2.ckpt", "run/model.ckpt"]


def test_scores_as_yaml(fit: Any, plugin: Any, tmp_path: Path) -> None:
    callback = S3ModelCheckpoint(RUN, monitor="score", mode="max")
    with pytest.raises(MisconfigurationException):
        callback.to_yaml()
    fit(callback, max_epochs=1)
    callback.to_yaml()
    expected = b"s3://bucket/run/epoch=0-step=4.ckpt: 0.0\n"
    assert plugin.client.read("bucket", "run/best_k_models.yaml") == expected
    callback.to_yaml("s3://bucket/elsewhere.yaml")
    assert plugin.client.read("bucket", "elsewhere.yaml") == expected
    callback.to_yaml(tmp_path / "scores.yaml")
    assert (tmp_path / "scores.yaml").read_bytes() == expected


def test_save_on_exception_where_lightning_knows_it(fit: Any, make_model: Any, keys: Any) -> None:
    try:
        callback = S3ModelCheckpoint(RUN, save_on_exception=True, every_n_epochs=10)
    except TypeError:
        pytest.skip("this version of Lightning does not")
    model = make_model()

    def fail(*args: Any) -> None:
        if len(model.losses) == 6:
            raise KeyError("stop")

    model.on_train_batch_start = fail
    with pytest.raises(KeyError):
        fit(callback, model=model, max_epochs=2)
    assert keys() == ["run/epoch=1-step=6.ckpt"]


def test_a_last_path_is_a_path_once_it_was_asked() -> None:
    path = LastPath("s3://bucket/last.ckpt", 1_700_000_000)
    assert path == "s3://bucket/last.ckpt"
    assert f"{path}" == "s3://bucket/last.ckpt"
    files = fsspec.core.url_to_fs(str(path))[0]
    assert files.exists(path)
    assert not files.exists("s3://bucket/last.ckpt")
    assert files.modified(path) == dt.datetime.fromtimestamp(1_700_000_000, tz=dt.timezone.utc)
    assert str(path) == "s3://bucket/last.ckpt"
    again = pickle.loads(pickle.dumps(path))
    assert (type(again), again) == (str, "s3://bucket/last.ckpt")


def test_nothing_asks_fsspec_for_s3(fit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against paths that some later Lightning may hand to fsspec, also where s3fs is installed."""
    asked: list[str] = []
    original = fsspec.get_filesystem_class

    def note(protocol: str) -> Any:
        asked.append(protocol)
        return original(protocol)

    for name in ("fsspec", "fsspec.core", "fsspec.registry"):
        monkeypatch.setattr(sys.modules[name], "get_filesystem_class", note, raising=False)
    fit(S3ModelCheckpoint(RUN, monitor="score", save_last=True), max_epochs=2)
    fit(S3ModelCheckpoint(RUN, monitor="score", save_last=True), max_epochs=3, ckpt_path="last")
    assert "s3" not in asked
    assert asked


def test_the_trainers_own_save_and_load(make_trainer: Any, fit: Any, plugin: Any, make_model: Any, loader: Any) -> None:
    model, trainer = fit(S3ModelCheckpoint(RUN), max_epochs=1)
    assert isinstance(trainer, Trainer)
    trainer.save_checkpoint("s3://bucket/by-hand.ckpt")
    with plugin.open("s3://bucket/by-hand.ckpt") as file:
        again = type(model).load_from_checkpoint(file)
    assert again.layer.weight.equal(model.layer.weight)
