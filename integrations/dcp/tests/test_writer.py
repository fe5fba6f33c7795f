"""Saving into a store in memory."""

from __future__ import annotations

import gc
import inspect
import io
import pickle
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import pytest
import torch
import torch.distributed.checkpoint as dcp
from integrations.dcp.tests.saving import (
    BUCKET,
    FOLDER,
    MIB,
    URI,
    Place,
    all_tensors,
    assert_same,
    load_stock,
    quiet,
    save,
    small_state,
)
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItem

from s3torch.client import PreconditionFailedError, PutOptions, S3Exception, ServerError
from s3torch.dcp import CheckpointExistsError, HexPrefixStrategy, S3StorageWriter
from s3torch.dcp._item_info import payload_offset
from s3torch.harness.conformance.tapping import EngineTap


@pytest.fixture
def place() -> Place:
    return Place()


def metadata_of(place: Place, folder: str = FOLDER) -> Metadata:
    found = pickle.loads(place.store.find(BUCKET, f"{folder}/.metadata").data)
    assert isinstance(found, Metadata)
    return found


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("single_file", [True, False])
def test_stock_torch_reads_what_is_saved(place: Place, tmp_path: Path, threads: int, single_file: bool) -> None:
    state = all_tensors() | small_state(3)
    save(state, place.writer(thread_count=threads, single_file_per_rank=single_file))
    assert_same(load_stock(place.download(tmp_path), state), {name: _plain(value) for name, value in state.items()})
    files = [name for name in place.names() if name.endswith(".distcp")]
    assert len(files) == (threads if single_file else len(metadata_of(place).storage_data or ()))
    assert not place.store.uploads(BUCKET)


def _plain(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else value


def test_what_is_stored_is_no_larger_than_with_stock_torch(place: Place, tmp_path: Path) -> None:
    state = all_tensors()
    save(state, place.writer())
    with quiet():
        dcp.save(state, storage_writer=dcp.FileSystemWriter(tmp_path / "stock", sync_files=False))
    stock = pickle.loads((tmp_path / "stock" / ".metadata").read_bytes())
    ours = metadata_of(place)
    assert {index: info.length for index, info in (ours.storage_data or {}).items()} == {
        index: info.length for index, info in stock.storage_data.items()
    }
    assert ours.state_dict_metadata == stock.state_dict_metadata
    assert ours.planner_data == stock.planner_data


def test_payloads_are_recorded_where_the_elements_lie_in_order(place: Place) -> None:
    state = all_tensors()
    save(state, place.writer())
    for index, info in (metadata_of(place).storage_data or {}).items():
        tensor = state[index.fqn].detach()
        offset = payload_offset(info)
        if offset is None:
            assert not tensor.is_contiguous() or not tensor.nbytes or tensor.is_conj() or tensor.is_neg()
            continue
        data = place.store.find(BUCKET, f"{FOLDER}/{info.relative_path}").data
        start = info.offset + offset
        assert data[start : start + tensor.nbytes] == bytes(tensor.contiguous().view(-1).view(torch.uint8).tolist())


def test_every_attempt_has_names_of_its_own(place: Place, tmp_path: Path) -> None:
    writer = place.writer(prefix_strategy=HexPrefixStrategy(epoch_num=3, min_prefix_length=2, prefix_count=1))
    save(small_state(1), writer)
    first = set(place.names())
    save(small_state(2), writer)
    save(small_state(3), place.writer())
    names = set(place.names())
    assert len(names) == 4
    assert len([name for name in names if name.startswith("00/epoch_3/__0_")]) == 2
    assert first < names
    assert_same(load_stock(place.download(tmp_path), small_state(3)), small_state(3))


@pytest.mark.skipif(not hasattr(SavePlanner, "_cached_save_plan"), reason="this torch caches no plans")
@pytest.mark.parametrize("is_new_writer", [False, True])
def test_cached_plans_do_not_bring_old_names_back(
    place: Place, tmp_path: Path, is_new_writer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cache in ("_cached_save_plan", "_cached_all_plans", "_cached_global_plan", "_cached_metadata"):
        monkeypatch.setattr(SavePlanner, cache, {})
    monkeypatch.setattr(SavePlanner, "_cached_final_save_plan", {})
    writer = place.writer()
    for seed in range(1, 4):
        before = place.store.objects(BUCKET)
        save(small_state(seed), writer, planner=DefaultSavePlanner(enable_plan_caching=True))
        after = place.store.objects(BUCKET)
        assert all(after[key] == before[key] for key in before if not key.endswith(".metadata"))
        assert_same(load_stock(place.download(tmp_path / str(seed)), small_state(seed)), small_state(seed))
        if is_new_writer:
            writer = place.writer()
    assert len(place.names()) == 4


def test_the_checkpoint_id_of_a_save_replaces_the_path(place: Place) -> None:
    writer = place.writer()
    save(small_state(), writer, checkpoint_id=PurePosixPath("s3://bucket/other/2"))
    assert writer.path == writer.checkpoint_id == "s3://bucket/other/2"
    assert metadata_of(place, "other/2").storage_meta is not None
    assert metadata_of(place, "other/2").storage_meta.checkpoint_id == "s3://bucket/other/2"  # type: ignore[union-attr]  # as above
    assert place.names() == []
    save(small_state(), place.writer(None), checkpoint_id=URI)
    assert ".metadata" in place.names()


def test_without_any_path_nothing_is_saved(place: Place) -> None:
    with pytest.raises(ValueError, match="checkpoint_id"):
        save(small_state(), place.writer(None))


@pytest.mark.skipif("use_collectives" not in inspect.signature(dcp.save).parameters, reason="needs a later torch")
def test_ranks_that_save_alone_commit_alone(place: Place, tmp_path: Path) -> None:
    for overwrite in (False, True):
        with quiet():
            writer = place.writer(overwrite=overwrite)
            dcp.save(small_state(5), storage_writer=writer, use_collectives=False)
        assert [name for name in place.names() if "metadata" in name] == ["__0.metadata"]
    metadata = dcp.FileSystemReader(place.download(tmp_path)).read_metadata(rank=0)
    names = {info.relative_path for info in metadata.storage_data.values()}
    assert names < set(place.names())
    assert all(name.startswith("__0_") for name in names)
    writer = place.writer(overwrite=False)
    with quiet(), pytest.raises(CheckpointExistsError):
        dcp.save(small_state(5), storage_writer=writer, use_collectives=False)


def test_an_existing_checkpoint_is_replaced_or_left(place: Place, tmp_path: Path) -> None:
    save(small_state(1), place.writer())
    before = place.store.objects(BUCKET)
    with pytest.raises(CheckpointExistsError, match="overwrite=True") as caught:
        save(small_state(2), place.writer(overwrite=False))
    assert isinstance(caught.value, FileExistsError)
    assert URI in str(caught.value)
    assert place.store.objects(BUCKET) == before
    save(small_state(2), place.writer())
    assert_same(load_stock(place.download(tmp_path), small_state(2)), small_state(2))
    save(small_state(3), place.writer("s3://bucket/new", overwrite=False))


def test_of_two_saves_that_must_not_overwrite_one_commits(place: Place, tmp_path: Path) -> None:
    tap = EngineTap("memory")
    writer = place.writer(engine=tap, overwrite=False)
    tap.call_before(1, lambda: save(small_state(2), place.writer(overwrite=False)))
    with pytest.raises(CheckpointExistsError):
        save(small_state(1), writer)
    assert len(place.names()) == 2  # those of the other save
    assert_same(load_stock(place.download(tmp_path), small_state(2)), small_state(2))


def test_a_commit_whose_answer_was_lost_is_recognised(place: Place, tmp_path: Path) -> None:
    class Forgetful(EngineTap):
        """Sends the commit twice, as a retry does when the first answer is lost."""

        def ask(self, asked: Any, call: Callable[[], Any]) -> Any:
            if asked.operation == "PutObject" and asked.keys[0].endswith(".metadata"):
                super().ask(asked, call).result()
            return super().ask(asked, call)

    save(small_state(1), place.writer(engine=Forgetful("memory"), overwrite=False))
    assert_same(load_stock(place.download(tmp_path), small_state(1)), small_state(1))


def test_a_condition_of_the_clients_own_stays_what_it_is(place: Place) -> None:
    save(small_state(1), place.writer())
    config = place.config(put_options=PutOptions(if_none_match=True))
    writer = S3StorageWriter("us-east-1", URI, config, endpoint=place.endpoint)
    with pytest.raises(PreconditionFailedError):
        save(small_state(2), writer)


def test_nothing_exists_before_the_last_request(place: Place) -> None:
    tap = EngineTap("memory")
    save(small_state(1), place.writer(engine=tap, thread_count=2))
    asked = tap.requests()
    assert [request.operation for request in asked] == ["GetObject", "PutObject", "PutObject", "PutObject"]
    assert asked[-1].keys == (f"{FOLDER}/.metadata",)


def test_of_two_saves_at_once_the_last_commit_wins_whole(place: Place, tmp_path: Path) -> None:
    tap = EngineTap("memory")
    count = 4
    for number in range(count):
        tap.clear()
        other = place.writer(thread_count=2)
        tap.call_before(number, lambda other=other: save(small_state(1), other))  # type: ignore[misc]  # a lambda's default
        save(small_state(2), place.writer(engine=tap, thread_count=2))
        assert len(tap.requests()) == count
        assert_same(load_stock(place.download(tmp_path / str(number)), small_state(2)), small_state(2))
    # The other way round: what was begun first commits last.
    tap.clear()
    tap.call_before(count - 1, lambda: save(small_state(3), place.writer()))
    save(small_state(4), place.writer(engine=tap, thread_count=2))
    assert_same(load_stock(place.download(tmp_path / "last"), small_state(4)), small_state(4))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("kind", "carried_out"),
    [(ServerError, False), (ServerError, True), (KeyboardInterrupt, False)],
    ids=["refused", "answer lost", "interrupted"],
)
def test_whichever_request_fails_the_old_checkpoint_stays_and_no_part_is_left(
    place: Place, tmp_path: Path, threads: int, kind: type[BaseException], carried_out: bool
) -> None:
    def state(seed: float) -> dict[str, Any]:
        return {
            "a": torch.full((11 * MIB // 4,), seed),
            "b": torch.full((6 * MIB // 4,), seed),
            "c": torch.tensor(seed),
        }

    save(state(1.0), place.writer())
    committed = place.store.objects(BUCKET)
    tap = EngineTap("memory")
    writer = place.writer(engine=tap, thread_count=threads)
    save(state(2.0), writer, checkpoint_id="s3://bucket/elsewhere")
    count = len(tap.requests())
    assert count >= 8
    for number in range(1, count):
        tap.clear()
        tap.break_at(number, carried_out=carried_out, for_good=False, error=kind("the store failed"))
        with pytest.raises(kind):
            save(state(2.0), writer, checkpoint_id=URI)
        failed = tap.requests()[number]
        # What the store has done without saying so cannot be known: it is left for the catalogue to find.
        uploads, objects = place.store.uploads(BUCKET), place.store.objects(BUCKET)
        left = [key for key in objects.keys() - committed.keys() if not key.startswith("elsewhere")]
        if failed.keys == (f"{FOLDER}/.metadata",):
            seed = 2.0 if carried_out else 1.0
            assert_same(load_stock(place.download(tmp_path / str(number)), state(seed)), state(seed))
            continue
        assert all(objects[key] is found for key, found in committed.items())
        assert len(uploads) == (carried_out and failed.operation == "CreateMultipartUpload")
        assert len(left) == (carried_out and failed.operation in ("PutObject", "CompleteMultipartUpload"))
        place.store.remove(BUCKET, left)
        for upload, key in uploads.items():
            place.store.abort(BUCKET, key, upload)


def test_the_first_error_stops_the_other_threads(place: Place) -> None:
    begun: list[str] = []
    lock = threading.Lock()

    class Planner(DefaultSavePlanner):
        def resolve_data(self, write_item: WriteItem) -> Any:
            with lock:
                begun.append(write_item.index.fqn)
            if write_item.index.fqn == "t1":
                raise ZeroDivisionError("the planner failed")
            time.sleep(0.05)  # there is time to stop: all of them would take more than a second
            return super().resolve_data(write_item)

    state = {f"t{number}": torch.zeros(MIB) for number in range(60)}
    with pytest.raises(ZeroDivisionError):
        save(state, place.writer(thread_count=3), planner=Planner())
    assert len(begun) < 60
    assert place.names() == []
    assert not place.store.uploads(BUCKET)
    assert not [thread for thread in threading.enumerate() if thread.name == "s3torch-save"]


def test_what_a_failed_save_cannot_remove_is_told(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    tap = EngineTap("memory")
    state = {f"t{number}": torch.zeros(10) for number in range(4)}
    tap.break_at(3, carried_out=False, for_good=True, error=ServerError("the store failed"))
    with pytest.raises(ServerError):
        save(state, place.writer(engine=tap, single_file_per_rank=False))
    assert len(place.names()) == 2
    assert "2 objects of a failed save may remain in s3://bucket/runs/step 1" in caplog.text


def test_errors_of_torch_save_do_not_hide_the_stores(place: Place) -> None:
    tap = EngineTap("memory")
    tap.break_at(2, carried_out=False, for_good=False, error=ServerError("the store failed"))
    state = {"x": torch.zeros(4 * MIB, 2).t()}  # written by torch itself
    with pytest.raises(ServerError):
        save(state, place.writer(engine=tap))
    assert not place.store.uploads(BUCKET)


def test_a_missing_bucket_is_told_before_any_data_is_resolved(place: Place) -> None:
    class Planner(DefaultSavePlanner):
        def resolve_data(self, write_item: WriteItem) -> Any:
            raise AssertionError("data was moved")

    with pytest.raises(S3Exception) as caught:
        save(small_state(), place.writer("s3://no-such-bucket/run"), planner=Planner())
    assert caught.value.bucket == "no-such-bucket"
    assert isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"path": "/srv/run"}, ValueError),
        ({"path": "s3://"}, ValueError),
        ({"path": 7}, TypeError),
        ({"path": URI, "thread_count": 0}, ValueError),
        ({"path": URI, "thread_count": "2"}, TypeError),
        ({"path": URI, "no_such_option": 1}, TypeError),
        ({"path": URI, "serialization_format": "pickle"}, ValueError),
        ({"path": URI, "s3client_config": {}}, TypeError),
        ({"path": URI, "prefix_strategy": "__0_"}, TypeError),
    ],
)
def test_bad_arguments_fail_at_once(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        S3StorageWriter("us-east-1", **arguments)


def test_options_of_torchs_writer_that_mean_nothing_here_are_taken(place: Place) -> None:
    writer = place.writer(sync_files=True, per_thread_copy_ahead=1, cache_staged_state_dict=True)
    save(small_state(), writer)
    assert ".metadata" in place.names()


class Deflate:
    """A stream transform, as torch calls it."""

    def get_descriptor(self) -> str:
        return "stream.deflate/1"

    def transform_to(self, output: IO[bytes]) -> IO[bytes]:
        class Writer(io.RawIOBase):
            def __init__(self) -> None:
                self.packer = zlib.compressobj()

            def writable(self) -> bool:
                return True

            def write(self, data: Any) -> int:
                output.write(self.packer.compress(data))
                return memoryview(data).nbytes

            def close(self) -> None:
                if not self.closed:
                    output.write(self.packer.flush())
                    output.close()
                super().close()

        return cast("IO[bytes]", Writer())


def test_stream_transforms_change_each_item(place: Place) -> None:
    state = all_tensors() | {"object": list(range(100))}
    save(state, place.writer(_extensions=[Deflate()]))
    for index, info in (metadata_of(place).storage_data or {}).items():
        data = place.store.find(BUCKET, f"{FOLDER}/{info.relative_path}").data
        unpacked = io.BytesIO(zlib.decompress(data[info.offset : info.offset + info.length]))
        assert_same(torch.load(unpacked), _plain(state[index.fqn]))
        assert list(info.transform_descriptors or ()) == ["stream.deflate/1"]
        assert payload_offset(info) is None
    with pytest.raises(ValueError, match="safetensors"):
        place.writer(_extensions=[Deflate()], serialization_format="safetensors")


def test_it_pickles_as_configuration(place: Place) -> None:
    writer = pickle.loads(pickle.dumps(place.writer(thread_count=2, overwrite=False)))
    assert repr(writer) == repr(place.writer(thread_count=2, overwrite=False))
    save(small_state(), writer)
    assert ".metadata" in place.names()


def test_an_asynchronous_save_takes_the_state_of_its_call(place: Place, tmp_path: Path) -> None:
    state = small_state(1)
    with quiet():
        future = dcp.async_save(state, storage_writer=place.writer())
        state["weight"].zero_()
        cast("Any", future).result(timeout=60)
    assert_same(load_stock(place.download(tmp_path), small_state(1)), small_state(1))


def wait_for_end(threads: set[threading.Thread]) -> None:
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_one_writer_saves_again_and_again_in_the_background(place: Place, tmp_path: Path) -> None:
    writer = place.writer()
    state = small_state(1)
    memory = set()
    before = set(threading.enumerate())
    for step in range(4):
        state["weight"].fill_(step)
        with quiet():
            future = dcp.async_save(state, checkpoint_id=f"s3://{BUCKET}/run/{step}", storage_writer=writer)
            memory |= {tensor.data_ptr() for tensor in writer._copier._last.values()}
            state["weight"].fill_(-1)
            cast("Any", future).result(timeout=60)
            wait_for_end(set(threading.enumerate()) - before)  # the thread that has saved lets go of it by ending
            gc.collect()  # older versions of torch.save leave circles
    assert len(memory) == len(writer._copier._last) > 0
    for step in range(4):
        expected = small_state(1)
        expected["weight"].fill_(step)
        assert_same(load_stock(place.download(tmp_path / str(step), f"run/{step}"), small_state(1)), expected)
    writer.close()
    assert not writer._copier._last


def test_a_save_that_is_still_on_its_way_keeps_its_memory(place: Place, tmp_path: Path) -> None:
    gate = threading.Event()

    class Waiting(DefaultSavePlanner):
        def resolve_data(self, write_item: WriteItem) -> Any:
            data = super().resolve_data(write_item)
            assert gate.wait(60)
            return data

    writer, other = place.writer(), place.writer()
    state = {"weight": torch.full((1000,), 1.0)}
    with quiet():
        first = dcp.async_save(state, storage_writer=writer, planner=Waiting())
        state["weight"].fill_(2)
        copied = writer.stage(state)  # as a second save would
        gate.set()
        cast("Any", first).result(timeout=60)
        dcp.save(copied, checkpoint_id=f"s3://{BUCKET}/second", storage_writer=other)
    zeros = {"weight": torch.zeros(1000)}
    assert_same(load_stock(place.download(tmp_path / "1"), zeros), {"weight": torch.full((1000,), 1.0)})
    assert_same(load_stock(place.download(tmp_path / "2", "second"), zeros), {"weight": torch.full((1000,), 2.0)})


def test_an_asynchronous_save_that_fails_raises_from_its_future(place: Place) -> None:
    tap = EngineTap("memory")
    tap.break_at(1, carried_out=False, for_good=True, error=ServerError("the store failed"))
    with quiet():
        future = dcp.async_save(small_state(), storage_writer=place.writer(engine=tap))
        with pytest.raises(dcp.api.CheckpointException) as caught:
            cast("Any", future).result(timeout=60)
    assert isinstance(caught.value.failures[0][0], ServerError)
    assert place.names() == []


def test_a_planner_of_ones_own_decides_what_is_written(place: Place, tmp_path: Path) -> None:
    class Halving(DefaultSavePlanner):
        def create_local_plan(self) -> SavePlan:
            plan = super().create_local_plan()
            return replace(plan, items=[item for item in plan.items if item.index.fqn != "left out"])

        def transform_object(self, write_item: WriteItem, object: Any) -> Any:  # noqa: A002  # torch's name
            made = super().transform_object(write_item, object)
            return made / 2 if isinstance(made, torch.Tensor) else made

    state: dict[str, Any] = {"large": torch.randn(3 * MIB), "small": torch.randn(5), "other": 1}
    save(state | {"left out": torch.zeros(3)}, place.writer(), planner=Halving())
    assert {index.fqn for index in metadata_of(place).storage_data or ()} == state.keys()
    loaded = load_stock(place.download(tmp_path), state)
    assert_same(loaded["large"], state["large"] / 2)
    assert_same(loaded["small"], state["small"] / 2)


def test_a_planner_that_resolves_something_else_is_told(place: Place) -> None:
    class Odd(DefaultSavePlanner):
        def resolve_data(self, write_item: WriteItem) -> Any:
            return b"bytes"

    with pytest.raises(TypeError, match="'x' to a bytes"):
        save({"x": torch.zeros(1)}, place.writer(), planner=Odd())
