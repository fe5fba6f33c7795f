from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import torch

from s3torch.client import S3ClientConfig, ServerError
from s3torch.lightning import S3AsyncLightningCheckpoint

if TYPE_CHECKING:
    from s3torch.harness.servers import MotoServer

URI = "s3://bucket/run/epoch=1.ckpt"
OTHER = "s3://bucket/run/epoch=2.ckpt"


@pytest.fixture
def saving(config: S3ClientConfig) -> S3AsyncLightningCheckpoint:
    return S3AsyncLightningCheckpoint("us-east-1", config)


def in_thread(call: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def test_saving_returns_before_the_upload(saving: Any, gate: Any, keys: Callable[[], list[str]]) -> None:
    state = {"weight": torch.zeros(100), "list": [1]}
    saving.save_checkpoint(state, URI)
    assert gate.reached.wait(30)
    assert keys() == []
    gate.opened.set()
    saving.wait()
    assert keys() == ["run/epoch=1.ckpt"]


def test_what_is_saved_is_what_was_there(saving: Any, gate: Any) -> None:
    shared = torch.zeros(1000)
    large = torch.ones(1 << 20)
    state: dict[str, Any] = {"weight": shared, "view": shared[10:20], "large": large, "list": [1]}
    saving.save_checkpoint(state, URI)
    shared += 1
    large.zero_()
    state["list"].append(2)
    gate.opened.set()
    loaded = saving.load_checkpoint(URI)
    assert torch.equal(loaded["weight"], torch.zeros(1000))
    assert torch.equal(loaded["large"], torch.ones(1 << 20))
    assert loaded["list"] == [1]
    loaded["weight"][10] = 5
    assert loaded["view"][0] == 5, "what tensors shared they share again"


@pytest.mark.parametrize("max_pending", [1, 2])
def test_the_next_save_waits(config: S3ClientConfig, gate: Any, max_pending: int) -> None:
    saving = S3AsyncLightningCheckpoint("us-east-1", config, max_pending=max_pending)
    for number in range(max_pending):
        saving.save_checkpoint({}, f"s3://bucket/{number}.ckpt")
    assert gate.reached.wait(30)
    thread = in_thread(lambda: saving.save_checkpoint({}, OTHER))
    thread.join(0.2)
    assert thread.is_alive()
    gate.opened.set()
    thread.join(30)
    assert not thread.is_alive()
    saving.teardown()
    assert saving.exists(OTHER)


@pytest.mark.parametrize("max_pending", [0, -1])
def test_a_bound_below_one_is_refused(max_pending: int) -> None:
    with pytest.raises(ValueError, match="max_pending"):
        S3AsyncLightningCheckpoint(max_pending=max_pending)


@pytest.mark.parametrize(
    "call",
    [
        lambda saving: saving.save_checkpoint({}, OTHER),
        lambda saving: saving.load_checkpoint(URI),
        lambda saving: saving.remove_checkpoint(OTHER),
        lambda saving: saving.copy_checkpoint(URI, OTHER),
        lambda saving: saving.wait(),
        lambda saving: saving.teardown(),
    ],
)
def test_an_error_is_raised_by_the_next_call(saving: Any, gate: Any, server_error: Any, call: Any) -> None:
    gate.error = server_error
    saving.save_checkpoint({}, URI)
    gate.opened.set()
    deadline = time.monotonic() + 30
    while not saving._queue._error:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    with pytest.raises(ServerError) as caught:
        call(saving)
    assert caught.value is server_error
    gate.error = None
    saving.save_checkpoint({"again": 1}, URI)
    saving.teardown()
    assert saving.load_checkpoint(URI) == {"again": 1}


def test_what_cannot_be_saved_is_an_error_at_once(saving: Any, keys: Callable[[], list[str]]) -> None:
    with pytest.raises((pickle.PicklingError, AttributeError)):
        saving.save_checkpoint({"function": lambda: None}, URI)
    for path, error in ((None, TypeError), ("here.ckpt", ValueError)):
        with pytest.raises(error):
            saving.save_checkpoint({}, path)
    with pytest.raises(TypeError, match="storage_options"):
        saving.save_checkpoint({}, URI, storage_options={})
    saving.teardown()
    assert keys() == []


def test_a_removal_waits_for_the_save_before_it(saving: Any, gate: Any, engine: Any, keys: Any) -> None:
    saving.client.engine.before = lambda name, key: None
    saving.client.put("bucket", "run/epoch=1.ckpt", b"old")
    saving.client.engine.before = gate
    saving.save_checkpoint({}, OTHER)
    saving.remove_checkpoint(URI)
    assert gate.reached.wait(30)
    assert keys() == ["run/epoch=1.ckpt"]
    assert not saving.exists(URI), "it is as good as gone"
    assert saving.exists(OTHER), "it is as good as there"
    gate.opened.set()
    saving.wait()
    assert keys() == ["run/epoch=2.ckpt"]
    assert [name for name, _ in engine.changes[-2:]] == ["put", "delete"]


def test_a_failed_save_spares_what_was_to_be_removed_after_it(
    saving: Any, gate: Any, server_error: Any, keys: Any, caplog: pytest.LogCaptureFixture
) -> None:
    saving.client.engine.before = lambda name, key: None
    saving.client.put("bucket", "run/epoch=1.ckpt", b"the last good one")
    saving.client.engine.before = gate
    gate.error = server_error
    saving.save_checkpoint({}, OTHER)
    saving.remove_checkpoint(URI)
    saving.copy_checkpoint(OTHER, "s3://bucket/last.ckpt")
    gate.opened.set()
    with pytest.raises(ServerError):
        saving.teardown()
    assert keys() == ["run/epoch=1.ckpt"]
    assert "did not remove s3://bucket/run/epoch=1.ckpt" in caplog.text


def test_an_error_on_its_way_is_not_hidden_by_a_later_one(saving: Any, gate: Any, server_error: Any) -> None:
    gate.error = server_error
    gate.opened.set()
    saving.save_checkpoint({}, URI)
    try:
        raise KeyError("of the training")
    except KeyError:
        saving.teardown()
    with pytest.raises(ServerError):
        saving.wait()


def test_loading_waits_for_that_checkpoint_only(saving: Any, gate: Any) -> None:
    gate.opened.set()
    saving.save_checkpoint({"number": 1}, URI)
    saving.wait()
    gate.opened.clear()
    gate.reached.clear()
    saving.save_checkpoint({"number": 2}, OTHER)
    assert gate.reached.wait(30)
    assert saving.load_checkpoint(URI) == {"number": 1}
    found: list[Any] = []
    thread = in_thread(lambda: found.append(saving.load_checkpoint(OTHER)))
    thread.join(0.1)
    assert thread.is_alive()
    gate.opened.set()
    thread.join(30)
    assert found == [{"number": 2}]


def test_the_thread_ends_with_the_work(saving: Any, engine: Any) -> None:
    saving.save_checkpoint({}, URI)
    saving.teardown()
    deadline = time.monotonic() + 30
    while any(thread.name == "s3torch-lightning-save" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert engine.release_count == 1


def test_it_pickles_as_configuration(saving: Any) -> None:
    plugin = S3AsyncLightningCheckpoint("eu-north-1", endpoint="http://127.0.0.1:9", max_pending=3)
    again = pickle.loads(pickle.dumps(plugin))
    assert (again.region, again.endpoint, again.max_pending) == ("eu-north-1", "http://127.0.0.1:9", 3)
    again.teardown()


PROGRAM = """
import sys, torch
from s3torch.client import S3ClientConfig
from s3torch.lightning import S3AsyncLightningCheckpoint

plugin = S3AsyncLightningCheckpoint(s3client_config=S3ClientConfig(part_size=5 << 20))
plugin.save_checkpoint({"weight": torch.ones(8 << 20)}, sys.argv[1])
"""


@contextmanager
def run_program(server: MotoServer, uri: str, rest: str = "") -> Iterator[subprocess.Popen[str]]:
    env = {**os.environ, **server.env(), "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-c", PROGRAM + textwrap.dedent(rest), uri]
    with subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()  # nothing if it has ended; a test that failed must not wait for it


@pytest.mark.slow
def test_a_program_that_does_not_wait_saves_all_the_same(
    moto_server: MotoServer, s3_bucket: str, dummy_aws_env: None
) -> None:
    with run_program(moto_server, f"s3://{s3_bucket}/a.ckpt") as process:
        assert process.wait(100) == 0, process.communicate()
    plugin = S3AsyncLightningCheckpoint(moto_server.region, endpoint=moto_server.endpoint)
    assert plugin.load_checkpoint(f"s3://{s3_bucket}/a.ckpt")["weight"].sum() == 8 << 20


@pytest.mark.slow
def test_ctrl_c_while_waiting_leaves_nothing_behind(
    moto_server: MotoServer, s3_bucket: str, dummy_aws_env: None
) -> None:
    rest = """
    import threading, time
    upload = plugin._upload
    def waits_in_teardown():
        frame, names = sys._current_frames()[threading.main_thread().ident], []
        while frame is not None:
            names.append(frame.f_code.co_name)
            frame = frame.f_back
        return "teardown" in names and "wait_for" in names
    def slow(snapshot, place, cancel):
        take = snapshot.take
        def pieces():
            for piece in take():
                yield piece[: 6 << 20]
                while not waits_in_teardown():
                    time.sleep(0.001)
                print("sent", flush=True)
                cancel.wait(60)
        snapshot.take = pieces
        upload(snapshot, place, cancel)
    plugin._upload = slow
    plugin.wait()
    plugin.save_checkpoint({"weight": torch.ones(8 << 20)}, sys.argv[1] + "2")
    plugin.teardown()
    """
    with run_program(moto_server, f"s3://{s3_bucket}/a.ckpt", rest) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "sent\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=100)
    assert process.returncode == -signal.SIGINT, errors
    assert "KeyboardInterrupt" in errors
    client = moto_server.boto3_client()
    assert [item["Key"] for item in client.list_objects_v2(Bucket=s3_bucket)["Contents"]] == ["a.ckpt"]
    assert "Uploads" not in client.list_multipart_uploads(Bucket=s3_bucket)
