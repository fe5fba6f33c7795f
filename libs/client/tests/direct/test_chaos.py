"""Every request may meet any fault: what comes out is the right bytes, whatever the order of misfortunes."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from s3torch.client import GetRequest, S3Client
from s3torch.client.checksum import compute
from s3torch.harness.servers.scripted import Request, ScriptedServer, Wire, object_answer

MakeClient = Callable[..., S3Client]
DEADLINE_S = 60.0
MIB = 1024**2


class Store:
    """A store whose every answer may go wrong in one of many ways; what it keeps is always right."""

    def __init__(self, seed: int, objects: dict[str, bytes], share: float) -> None:
        self.objects = objects
        self.share = share
        self.parts: dict[tuple[str, int], bytes] = {}
        self.faults: dict[str, int] = {}
        self._chance = random.Random(seed)
        self._lock = threading.Lock()

    def __call__(self, request: Request, wire: Wire) -> None:
        with self._lock:
            fault = self._chance.choice(sorted(FAULTS)) if self._chance.random() < self.share else None
            point = self._chance.random()
            if fault is not None:
                self.faults[fault] = self.faults.get(fault, 0) + 1
        if fault is not None:
            FAULTS[fault](self, request, wire, point)
        else:
            self.answer(request, wire)

    def answer(self, request: Request, wire: Wire) -> None:
        """Answer rightly."""
        key = request.path.removeprefix("/bucket/")
        if request.method in ("GET", "HEAD"):
            data = self.objects[key]
            headers = {} if request.range else {"x-amz-checksum-crc32": compute("crc32", [memoryview(data)])}
            object_answer(data, etag=f'"{hash(key)}"', headers=headers)(request, wire)
        elif request.method == "PUT":
            body = bytes(wire.read_body())
            with self._lock:
                if "partNumber" in request.query:
                    self.parts[key, int(request.query["partNumber"])] = body
                else:
                    self.objects[key] = body
            wire.respond(200, b"", {"ETag": '"part"'})
        elif "uploads" in request.query:
            wire.respond(200, b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
        elif request.method == "POST":
            wire.read_body()
            with self._lock:
                numbers = sorted(number for name, number in self.parts if name == key)
                self.objects[key] = b"".join(self.parts[key, number] for number in numbers)
            wire.respond(200, b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>")
        else:
            wire.respond(204)

    def whole(self, request: Request, wire: Wire) -> bytes:
        """The bytes of the right answer to a GET, or of some other small answer."""
        kept: list[bytes] = []
        recorder = _Recorder(wire, kept)
        if request.method == "GET":
            self.answer(request, recorder)
        else:
            wire.read_body()
            kept.append(wire.head(500, None, 0))
        return b"".join(kept)


class _Recorder(Wire):
    """Keeps what would be sent."""

    def __init__(self, wire: Wire, kept: list[bytes]) -> None:
        super().__init__(wire.sock, wire.request, wire.rest, wire.ended)
        self._kept = kept

    def send(self, data: bytes) -> None:
        self._kept.append(data)


def hang_up(store: Store, request: Request, wire: Wire, point: float) -> None:
    wire.close()


def reset(store: Store, request: Request, wire: Wire, point: float) -> None:
    wire.reset()


def fail(store: Store, request: Request, wire: Wire, point: float) -> None:
    wire.read_body()
    wire.respond(500, b"<Error><Code>InternalError</Code></Error>")


def fail_early(store: Store, request: Request, wire: Wire, point: float) -> None:
    wire.respond(500, b"", {"Connection": "close"})
    wire.close()


def cut(store: Store, request: Request, wire: Wire, point: float) -> None:
    raw = store.whole(request, wire)
    wire.send(raw[: int(len(raw) * point)])
    wire.close()


def cut_upload(store: Store, request: Request, wire: Wire, point: float) -> None:
    wire.read_body(int(int(request.headers.get("content-length", "0")) * point))
    wire.reset()


def cut_by_reset(store: Store, request: Request, wire: Wire, point: float) -> None:
    raw = store.whole(request, wire)
    wire.send(raw[: int(len(raw) * point)])
    wire.reset()


def stop_for_a_while(store: Store, request: Request, wire: Wire, point: float) -> None:
    raw = store.whole(request, wire)
    middle = int(len(raw) * point)
    wire.send(raw[:middle])
    wire.stall(0.1)
    wire.send(raw[middle:])


def stop(store: Store, request: Request, wire: Wire, point: float) -> None:
    raw = store.whole(request, wire)
    wire.send(raw[: int(len(raw) * point)])
    wire.stall(1.0)
    wire.close()


def garbage(store: Store, request: Request, wire: Wire, point: float) -> None:
    wire.read_body()
    wire.send(b"\x16\x03\x01" * int(1 + point * 100) + b"\r\n\r\n")
    wire.close()


def damage(store: Store, request: Request, wire: Wire, point: float) -> None:
    raw = bytearray(store.whole(request, wire))
    if request.method == "GET" and request.range is None:  # only whole objects come with a checksum
        raw[-1 - int(point * 100)] ^= 0x10
    wire.send(bytes(raw))


def in_drops(store: Store, request: Request, wire: Wire, point: float) -> None:
    raw = store.whole(request, wire)
    step = max(1, len(raw) // 20)
    for start in range(0, len(raw), step):
        wire.send(raw[start : start + step])
        wire.stall(0.001)


Fault = Callable[[Store, Request, Wire, float], None]
FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        hang_up,
        reset,
        fail,
        fail_early,
        cut,
        cut_upload,
        cut_by_reset,
        stop_for_a_while,
        stop,
        garbage,
        damage,
        in_drops,
    )
}


@pytest.mark.parametrize("is_tls", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_right_bytes_come_through_any_faults(
    make_client: MakeClient, tmp_path: Path, seed: int, *, is_tls: bool
) -> None:
    chance = random.Random(seed)
    objects = {str(number): chance.randbytes(chance.randrange(1, 60_000)) for number in range(30)}
    objects["large"] = chance.randbytes(17 * MIB + 5)
    store = Store(seed, dict(objects), share=0.4)
    with ScriptedServer(store, tls=tmp_path if is_tls else None) as server:
        client = make_client(
            server.endpoint,
            ca_bundle=str(server.certificates.ca_bundle) if server.certificates else None,
            part_size=5 * MIB,
            max_attempts=60,
            read_timeout=0.5,
            operation_timeout=DEADLINE_S,
        )
        client.engine.budget.refund(10_000)  # type: ignore[attr-defined]  # the direct engine's
        started = time.monotonic()
        assert client.read("bucket", "large") == objects["large"]
        requests = [GetRequest("bucket", str(number)) for number in range(30)]
        for request, result in zip(requests, client.get_many(requests, window=8), strict=True):
            assert result.data == objects[request.key]
        memory = bytearray(len(objects["large"]) - 1000)
        client.read_into("bucket", "large", memory, start=1000)
        assert memory == objects["large"][1000:]
        client.put("bucket", "new", objects["large"])
        assert store.objects["new"] == objects["large"]
        assert time.monotonic() - started < DEADLINE_S
    assert sum(store.faults.values()) > 10, store.faults
