"""Laws of sharing a client: threads, pickles, processes; and of endpoints that do not answer."""

from __future__ import annotations

import multiprocessing
import pickle
import socket
import threading
import time
import traceback
import warnings

import pytest

from s3torch.client import CredentialsError, GetRequest, S3Client, S3ConnectionError
from s3torch.harness._law_processes import read_and_send
from s3torch.harness.conformance._bytes import all_same, same
from s3torch.harness.conformance._laws import START_METHODS
from s3torch.harness.conformance._store_laws import StoreLaws
from s3torch.harness.conformance.arrangement import Arrangement, Connect, make_bytes

__all__ = ["SharingLaws"]

_THREADS = 6
_JOIN_SECONDS = 60.0
_SECRET = "AKIAVERYSECRETINDEED"


class SharingLaws(StoreLaws):
    """One client, many users."""

    def test_threads_share_a_client(self, client: S3Client, arrangement: Arrangement, bucket: str) -> None:
        """Several threads use one client at once; each gets its own bytes."""
        for number in range(_THREADS):
            arrangement.put(bucket, f"k{number}", make_bytes(70_000 + number))
        wrong: list[str] = []

        def work(number: int) -> None:
            try:
                for turn in range(5):
                    wanted = (number + turn) % _THREADS
                    if client.read(bucket, f"k{wanted}") != make_bytes(70_000 + wanted):
                        wrong.append(f"thread {number} got other bytes")
                client.put(bucket, f"from-{number}", make_bytes(number))
                results = client.get_many([GetRequest(bucket, f"k{n}") for n in range(_THREADS)], window=3)
                if [len(result.data) for result in results] != [70_000 + n for n in range(_THREADS)]:
                    wrong.append(f"thread {number} got another order")
            except Exception:  # noqa: BLE001  # shown in the assertion below
                wrong.append(traceback.format_exc())

        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(_THREADS)]
        deadline = time.monotonic() + _JOIN_SECONDS
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        assert not any(thread.is_alive() for thread in threads), "a thread hangs"
        assert wrong == []
        assert {f"from-{number}" for number in range(_THREADS)} <= arrangement.keys(bucket)

    def test_a_pickled_client_is_its_configuration(
        self, connect: Connect, arrangement: Arrangement, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A used client pickles, without connections and without credentials; the copy works."""
        arrangement.put(bucket, "k", b"data")
        with connect() as client:
            assert client.read(bucket, "k") == b"data"
            if not self.checks_credentials:
                monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", _SECRET)
                with connect() as secretive:
                    assert secretive.read(bucket, "k") == b"data"
                    assert _SECRET.encode() not in pickle.dumps(secretive)
                    assert _SECRET not in repr(secretive) + repr(secretive.engine)
            with pickle.loads(pickle.dumps(client)) as copy:  # noqa: S301  # made on this line
                assert copy.read(bucket, "k") == b"data"
                assert copy.s3client_config == client.s3client_config

    def test_a_closed_client_opens_again(self, client: S3Client, arrangement: Arrangement, bucket: str) -> None:
        """`close` ends connections, not the client."""
        arrangement.put(bucket, "k", b"data")
        for _ in range(2):
            assert client.read(bucket, "k") == b"data"
            client.close()

    @START_METHODS
    def test_a_used_client_goes_to_other_processes(
        self, client: S3Client, arrangement: Arrangement, bucket: str, method: str
    ) -> None:
        """A child uses the client it inherits or is sent; the parent goes on with its own connections, mid-transfer.

        As `torch.utils.data.DataLoader` does with its workers, however it starts them.
        """
        self.startable(method)
        data = make_bytes(300_000)
        arrangement.put(bucket, "k", data)
        assert same(client.read(bucket, "k"), data)
        stream = client.get(bucket, "k")
        head = stream.read(10)
        results = client.get_many([GetRequest(bucket, "k")] * 6, window=4)
        next(results)

        receiver, sender = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context(method).Process(  # type: ignore[attr-defined]  # of each context
            target=read_and_send, args=(client, bucket, "k", sender), daemon=True
        )
        with warnings.catch_warnings():
            # Python warns of forking beside threads (of torch, of the harness); that it works is what is tested.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        sender.close()
        try:
            assert same(client.read(bucket, "k"), data)  # while the child reads, too
            assert receiver.poll(_JOIN_SECONDS), "the child hangs"
            found = receiver.recv()
            assert isinstance(found, bytes), found
            assert same(found, data)
            process.join(_JOIN_SECONDS)
            assert process.exitcode == 0
        finally:
            receiver.close()
            process.kill()
            process.join(_JOIN_SECONDS)
        assert same(head + stream.read(), data)
        assert all_same([result.data for result in results], [data] * 5)

    def test_an_unreachable_endpoint_has_its_error(self, connect: Connect) -> None:
        """Nobody listens: `S3ConnectionError`, also a `ConnectionError`, soon and with the remedy."""
        if not self.is_networked:
            pytest.skip("no request leaves the process")
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
            began = time.monotonic()
            with (
                connect(endpoint=endpoint, max_attempts=2, connect_timeout=2.0, operation_timeout=10.0) as client,
                pytest.raises(S3ConnectionError) as caught,
            ):
                client.read("bucket", "k")
        assert time.monotonic() - began < 20
        assert isinstance(caught.value, ConnectionError)
        assert (caught.value.bucket, caught.value.key) == ("bucket", "k")
        assert caught.value.remedy

    def test_missing_credentials_have_their_error(self, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without any credentials a client that signs raises `CredentialsError` and asks nobody."""
        if not self.is_networked:
            pytest.skip("no request leaves the process")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with connect() as client, pytest.raises(CredentialsError) as caught:
            client.read("bucket", "k")
        assert isinstance(caught.value, PermissionError)
        assert caught.value.remedy

    def test_wrong_credentials_have_their_error(
        self, connect: Connect, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the store does not accept is `CredentialsError`, which does not tell the secret."""
        if not self.checks_credentials:
            pytest.skip("this store takes any credentials")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", _SECRET)
        with connect() as client, pytest.raises(CredentialsError) as caught:
            client.read(bucket, "k")
        assert _SECRET not in str(caught.value) + repr(caught.value)
