"""One client in many hands: threads, forks, new processes, and a Ctrl-C at any moment."""

from __future__ import annotations

import gc
import hashlib
import multiprocessing
import os
import pickle
import random
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from s3torch.client import GetRequest, S3Client, S3ClientConfig
from s3torch.harness.servers import MotoServer
from s3torch.harness.servers.scripted import Request, ScriptedServer, Wire, object_answer

MakeClient = Callable[..., S3Client]
DEADLINE_S = 60.0
DATA = random.Random(17).randbytes(2_000_000)
HAS_FORK = hasattr(os, "fork")
# Python 3.12 and later warn of every fork of a process with threads; that it is safe here is what is tested.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def content(number: int) -> bytes:
    return random.Random(number).randbytes(1000 + 37_000 * number)


def fetch(client: S3Client, key: str = "key") -> bytes:
    return bytes(client.engine.start_get(GetRequest("bucket", key)).result().data)


@pytest.fixture
def filled(moto_server: MotoServer, s3_bucket: str) -> tuple[S3Client, str]:
    """A client that has been used, and a bucket of ten objects."""
    client = S3Client(
        moto_server.region,
        endpoint=moto_server.endpoint,
        s3client_config=S3ClientConfig(force_path_style=True, operation_timeout=DEADLINE_S),
    )
    for number in range(10):
        client.put(s3_bucket, str(number), content(number))
    return client, s3_bucket


# Threads


def test_threads_share_a_client(make_client: MakeClient) -> None:
    bodies = {str(number): content(number) for number in range(20)}

    def answer(request: Request, wire: Wire) -> None:
        object_answer(bodies[request.path.rpartition("/")[2]])(request, wire)

    failures: list[str] = []
    with ScriptedServer(answer) as server:
        client = make_client(server.endpoint, operation_timeout=DEADLINE_S)

        def work(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(5):
                keys = [str(chance.randrange(20)) for _ in range(6)]
                results = client.get_many([GetRequest("bucket", key) for key in keys], window=3)
                for key, result in zip(keys, results, strict=True):
                    if result.data != bodies[key]:
                        failures.append(key)
                key = keys[0]
                if client.read("bucket", key) != bodies[key]:
                    failures.append(key)

        threads = [threading.Thread(target=work, args=(seed,), daemon=True) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive()
    assert failures == []


def test_a_transfer_started_in_one_thread_is_finished_in_another(make_client: MakeClient) -> None:
    with ScriptedServer(object_answer(DATA)) as server:
        client = make_client(server.endpoint)
        transfers = [client.engine.start_get(GetRequest("bucket", "key")) for _ in range(4)]
        transfers[0].advance(0.1)
        results: list[bytes] = []

        def finish() -> None:
            results.extend(bytes(transfer.result().data) for transfer in transfers[:2])

        thread = threading.Thread(target=finish, daemon=True)
        thread.start()
        mine = [bytes(transfer.result().data) for transfer in transfers[2:]]
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
        assert results + mine == [DATA] * 4


def test_a_stream_moves_to_another_thread(make_client: MakeClient) -> None:
    data = DATA * 8
    with ScriptedServer(object_answer(data)) as server:
        client = make_client(server.endpoint, operation_timeout=DEADLINE_S, part_size=5 * 1024**2)
        stream = client.get("bucket", "key")
        pieces = [stream.read(100_000), stream.read(300_000)]

        def go_on() -> None:
            pieces.append(stream.read(1_000_000))
            pieces.extend(stream)

        thread = threading.Thread(target=go_on, daemon=True)
        thread.start()
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
        stream.close()
    assert b"".join(pieces) == data


def test_a_thread_that_ends_leaves_nothing_open(make_client: MakeClient) -> None:
    with ScriptedServer(object_answer(DATA)) as server:
        client = make_client(server.endpoint)

        def use_and_leave() -> None:
            assert fetch(client) == DATA
            client.engine.start_get(GetRequest("bucket", "left in flight"))

        for _ in range(3):
            thread = threading.Thread(target=use_and_leave, daemon=True)
            thread.start()
            thread.join(DEADLINE_S)
            assert not thread.is_alive()
        gc.collect()  # a socket that nobody closed would warn here
        deadline = time.monotonic() + 10
        while server.open_connections and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.open_connections == 0
        assert fetch(client) == DATA


def test_connections_a_thread_gives_back_serve_the_next(make_client: MakeClient) -> None:
    with ScriptedServer(object_answer(DATA)) as server:
        client = make_client(server.endpoint)

        def use_and_give_back() -> None:
            assert fetch(client) == DATA
            client.engine.release_thread()

        for _ in range(4):
            thread = threading.Thread(target=use_and_give_back, daemon=True)
            thread.start()
            thread.join(DEADLINE_S)
        assert fetch(client) == DATA
        assert server.connections == 1


def test_a_client_that_is_dropped_closes_its_connections(make_client: MakeClient) -> None:
    with ScriptedServer(object_answer(DATA)) as server:
        client = S3Client("us-east-1", endpoint=server.endpoint, s3client_config=S3ClientConfig(force_path_style=True))
        assert fetch(client) == DATA
        transfer = client.engine.start_get(GetRequest("bucket", "in flight"))
        gone = weakref.ref(client.engine)
        del client, transfer
        gc.collect()  # a socket that nobody closed would warn here
        assert gone() is None
        deadline = time.monotonic() + 10
        while server.open_connections and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.open_connections == 0


def test_a_closed_client_can_be_used_again(make_client: MakeClient) -> None:
    with ScriptedServer(object_answer(DATA)) as server:
        client = make_client(server.endpoint)
        for _ in range(3):
            assert fetch(client) == DATA
            client.close()
        assert server.connections == 3


def test_transfers_in_flight_when_the_client_is_closed_end(make_client: MakeClient) -> None:
    with ScriptedServer(object_answer(DATA)) as server:
        client = make_client(server.endpoint)
        transfer = client.engine.start_get(GetRequest("bucket", "key"))
        transfer.advance(0.05)
        client.close()
        started = time.monotonic()
        try:
            data = bytes(transfer.result().data)
        except ConnectionError:
            pass
        else:
            assert data == DATA
        assert time.monotonic() - started < 10


# Processes


def run_child(work: Callable[[], bool]) -> int:
    """Fork; the child does the work and exits with 0 if it returned True."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(int(DEADLINE_S))
            code = 0 if work() else 2
        except BaseException as error:  # noqa: BLE001  # nothing of pytest may run in the child
            os.write(2, f"child: {error!r}\n".encode())
        finally:
            os._exit(code)
    return child


def wait_for(child: int) -> int:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError("the child does not end")


@pytest.mark.skipif(not HAS_FORK, reason="the system has no fork")
def test_parent_and_child_go_on_with_what_was_in_flight_at_a_fork(filled: tuple[S3Client, str]) -> None:
    client, bucket = filled
    transfers = [client.engine.start_get(GetRequest(bucket, str(number))) for number in range(10)]
    transfers[0].advance(0.01)  # heads and bodies are on their way

    def check() -> bool:
        arrived = [bytes(transfer.result().data) for transfer in transfers]
        return arrived == [content(number) for number in range(10)] and fetch_all(client, bucket)

    children = [run_child(check) for _ in range(2)]
    assert check()
    assert [wait_for(child) for child in children] == [0, 0]
    assert fetch_all(client, bucket), "the children's end has closed nothing of the parent's"


def fetch_all(client: S3Client, bucket: str) -> bool:
    results = client.get_many([GetRequest(bucket, str(number)) for number in range(10)], window=4)
    return [result.data for result in results] == [content(number) for number in range(10)]


@pytest.mark.skipif(not HAS_FORK, reason="the system has no fork")
def test_a_stream_is_read_on_by_parent_and_child(filled: tuple[S3Client, str]) -> None:
    client, bucket = filled
    data = DATA * 10
    client.put(bucket, "large", data)
    stream = client.get(bucket, "large")
    assert stream.read(500_000) == data[:500_000]
    stream.prefetch()

    def check() -> bool:
        return stream.read() == data[500_000:]

    child = run_child(check)
    assert check()
    assert wait_for(child) == 0


@pytest.mark.skipif(not HAS_FORK, reason="the system has no fork")
def test_an_upload_in_flight_at_a_fork_is_finished_by_the_parent(filled: tuple[S3Client, str]) -> None:
    client, bucket = filled
    body = DATA * 4
    transfer = client.engine.start_put(bucket, "put", [memoryview(body)], client.s3client_config.put_options)
    child = run_child(lambda: fetch_all(client, bucket))
    assert transfer.result().etag
    assert wait_for(child) == 0
    assert client.read(bucket, "put") == body


@pytest.mark.skipif(not HAS_FORK, reason="the system has no fork")
def test_a_fork_while_another_thread_works_does_not_hang(filled: tuple[S3Client, str]) -> None:
    client, bucket = filled
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            assert fetch_all(client, bucket)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        for _ in range(3):
            time.sleep(0.03)
            child = run_child(lambda: fetch_all(client, bucket))
            assert wait_for(child) == 0
    finally:
        stop.set()
        thread.join(DEADLINE_S)
    assert not thread.is_alive()


def report(client: S3Client, bucket: str, answers: multiprocessing.SimpleQueue[object]) -> None:
    try:
        answers.put([hashlib.sha256(client.read(bucket, str(number))).hexdigest() for number in range(10)])
    except BaseException as error:  # noqa: BLE001  # the parent shows it
        answers.put(repr(error))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_client_that_was_used_works_in_a_new_process(filled: tuple[S3Client, str], method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"the system has no {method}")
    client, bucket = filled
    context: Any = multiprocessing.get_context(method)
    answers = context.SimpleQueue()
    process = context.Process(target=report, args=(client, bucket, answers), daemon=True)
    process.start()
    assert fetch_all(client, bucket), "both at once"
    process.join(DEADLINE_S)
    try:
        assert process.exitcode == 0
        assert answers.get() == [hashlib.sha256(content(number)).hexdigest() for number in range(10)]
    finally:
        if process.is_alive():
            process.kill()
            process.join(DEADLINE_S)
        process.close()
        answers.close()
    assert fetch_all(client, bucket)


def test_a_client_pickles_as_its_configuration(make_client: MakeClient) -> None:
    with ScriptedServer(object_answer(DATA)) as server:
        client = make_client(server.endpoint, part_size=6 * 1024**2)
        assert fetch(client) == DATA
        copy = pickle.loads(pickle.dumps(client))
        assert copy.s3client_config == client.s3client_config
        assert fetch(copy) == DATA
        copy.close()
        assert server.connections == 2


# Interrupts


# An interrupt between a socket's making and its first assignment has it closed by its own end: a warning, no leak.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
# One within a finaliser is swallowed by Python.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <function.*__del__:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no interval timers")
@pytest.mark.parametrize("kind", ["read", "window", "put"])
def test_an_interrupt_at_any_moment_leaves_a_client_that_works(make_client: MakeClient, kind: str) -> None:
    data = DATA[:700_000]
    bodies: list[bytes] = []

    def answer(request: Request, wire: Wire) -> None:
        if request.method == "PUT":
            bodies.append(wire.read_body())
            wire.respond(200, b"", {"ETag": '"new"'})
        else:
            object_answer(data)(request, wire)

    is_armed = False

    def interrupt(signum: int, frame: object) -> None:
        if is_armed:
            raise KeyboardInterrupt

    chance = random.Random(1)
    interrupted = 0
    before = signal.signal(signal.SIGALRM, interrupt)
    gc.disable()  # hypothesis looks at every collection, and there Python swallows interrupts, too
    try:
        with ScriptedServer(answer) as server:
            client = make_client(server.endpoint, operation_timeout=DEADLINE_S)
            assert fetch(client) == data
            requests = [GetRequest("bucket", str(number)) for number in range(6)]

            def work() -> None:
                if kind == "read":
                    client.read("bucket", "key")
                elif kind == "put":
                    client.put("bucket", "key", data)
                else:
                    list(client.get_many(requests, window=3))

            def seconds() -> float:
                started = time.monotonic()
                work()
                return time.monotonic() - started

            work()
            usual = min(seconds() for _ in range(5))
            tries = 0
            while tries < 40 or (interrupted < 5 and tries < 1000):
                tries += 1
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0001, usual))
                try:
                    is_armed = True
                    work()
                    is_armed = False
                except KeyboardInterrupt:
                    is_armed = False
                    interrupted += 1
                signal.setitimer(signal.ITIMER_REAL, 0)
                assert fetch(client) == data
            assert [result.data for result in client.get_many(requests, window=3)] == [data] * 6
            assert client.put("bucket", "key", data).etag == '"new"'
            assert all(body == data for body in bodies)
    finally:
        gc.enable()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted >= 5, "the timers were too slow to test anything"


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot send itself Ctrl-C alone")
def test_ctrl_c_in_the_middle_of_a_transfer_is_raised_at_once(make_client: MakeClient) -> None:
    main = threading.main_thread().ident
    assert main is not None

    def answer(request: Request, wire: Wire) -> None:
        if request.path == "/bucket/slow":
            wire.send(wire.head(200, {"ETag": '"one"'}, len(DATA)) + DATA[:1000])
            wire.stall(0.2)
            signal.pthread_kill(main, signal.SIGINT)
            wire.stall(20)
            wire.close()
        else:
            object_answer(DATA)(request, wire)

    with ScriptedServer(answer) as server:
        client = make_client(server.endpoint)
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            client.read("bucket", "slow")
        assert time.monotonic() - started < 15
        assert fetch(client) == DATA
