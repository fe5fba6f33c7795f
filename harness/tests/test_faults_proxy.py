"""The fault proxy passes on what no fault strikes, and strikes as its plan says."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import boto3
import pytest
from botocore.config import Config

from s3torch.harness.conformance.arrangement import make_bytes
from s3torch.harness.faults import Fault, FaultPlan, FaultProxy, ProxyHost
from s3torch.harness.faults.plan import FaultCount, FaultName, make_replacement
from s3torch.harness.servers import MotoServer

SIZE = 300_000
DATA = make_bytes(SIZE)
NEVER = FaultPlan()


@pytest.fixture(scope="module")
def host() -> Iterator[ProxyHost]:
    with ProxyHost() as host:
        yield host


@pytest.fixture
def path(moto_server: MotoServer) -> str:
    bucket = moto_server.create_bucket(f"faults-{uuid.uuid4().hex}")
    moto_server.boto3_client().put_object(Bucket=bucket, Key="object", Body=DATA)
    return f"/{bucket}/object"


def connect(proxy: FaultProxy) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(proxy.endpoint.removeprefix("http://"), timeout=10)


def signed(key: str = "testing", region: str = "us-east-1") -> dict[str, str]:
    # Not checked by moto, but asked for.
    return {"Authorization": f"AWS4-HMAC-SHA256 Credential={key}/20260101/{region}/s3/aws4_request, Signature=0"}


def get(connection: http.client.HTTPConnection, path: str, **headers: str) -> tuple[int, bytes]:
    connection.request("GET", path, headers={**signed(), **headers})
    response = connection.getresponse()
    return response.status, response.read()


def put(connection: http.client.HTTPConnection, path: str, body: bytes, **headers: str) -> tuple[int, bytes]:
    connection.request("PUT", path, body=body, headers={**signed(), **headers})
    response = connection.getresponse()
    return response.status, response.read()


def test_a_plan_depends_on_seed_and_order_alone() -> None:
    faults = (Fault("reset"), Fault("cut"))

    def follow(seed: int) -> list[str | None]:
        count = FaultCount(FaultPlan(faults, rate=0.3, seed=seed))
        return [fault.name if fault is not None else None for fault in (count.next("GET") for _ in range(200))]

    first = follow(1)
    assert first == follow(1) != follow(2)
    assert 30 <= sum(name is not None for name in first) <= 90
    assert {"reset", "cut"} <= set(first)


def test_a_plan_strikes_only_what_suits_it() -> None:
    plan = FaultPlan((Fault("flip"), Fault("reset", side="request")), after=1, most=1)
    count = FaultCount(plan)
    assert count.next("HEAD") is None
    assert count.next("GET") is None
    found = count.next("PUT", 10)
    assert found is not None
    assert found.name == "reset"
    assert count.next("GET") is None
    assert FaultPlan.from_json(plan.to_json()) == plan


def test_a_listing_is_not_taken_for_an_object() -> None:
    assert [name for name in get_args(FaultName) if not Fault(name).suits("LIST", 0)] == ["flip", "swap", "replace"]
    assert all(Fault(name).suits("GET", 0) for name in get_args(FaultName))
    assert Fault("reset", methods=("GET",)).suits("LIST", 0)
    assert not Fault("reset", methods=("LIST",)).suits("GET", 0)
    assert not Fault("reset", methods=("PUT",)).suits("LIST", 0)


@pytest.mark.parametrize("wrong", [{"name": "unknown"}, {"name": "reset", "at": -2}, {"name": "drip", "pace": 0}])
def test_a_wrong_fault_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"there are|must be"):
        Fault(**wrong)
    with pytest.raises(ValueError, match="rate"):
        FaultPlan(rate=1.5)


def test_without_a_fault_everything_passes(moto_server: MotoServer, host: ProxyHost, path: str) -> None:
    bucket = path.split("/")[1]
    with FaultProxy(moto_server.endpoint, NEVER, host=host) as proxy:
        client = boto3.client(
            "s3",
            endpoint_url=proxy.endpoint,
            region_name=moto_server.region,
            aws_access_key_id="a",
            aws_secret_access_key="b",
            config=Config(s3={"addressing_style": "path"}, proxies={}),
        )
        client.put_object(Bucket=bucket, Key="a b", Body=DATA)
        assert client.get_object(Bucket=bucket, Key="a b")["Body"].read() == DATA
        assert client.head_object(Bucket=bucket, Key="a b")["ContentLength"] == SIZE
        assert [each["Key"] for each in client.list_objects_v2(Bucket=bucket)["Contents"]] == ["a b", "object"]
        client.delete_object(Bucket=bucket, Key="a b")
        client.close()
        assert proxy.injected() == {}
        assert proxy.requests() == 5


def test_resets_and_cuts_come_where_they_should(moto_server: MotoServer, host: ProxyHost, path: str) -> None:
    for fault, error in (
        (Fault("reset", at=1000), ConnectionResetError),
        (Fault("cut", at=1000), http.client.IncompleteRead),
        (Fault("reset", at=-1), ConnectionError),
        (Fault("cut", at=-1), http.client.RemoteDisconnected),
    ):
        with FaultProxy(moto_server.endpoint, FaultPlan((fault,), most=1), host=host) as proxy:
            connection = connect(proxy)
            with pytest.raises(error) as caught:
                get(connection, path)
            if isinstance(caught.value, http.client.IncompleteRead):
                assert caught.value.partial == DATA[:1000]
            connection.close()
            assert get(connection, path) == (200, DATA)
            connection.close()
        assert proxy.injected() == {fault.name: 1}


def test_an_unframed_answer_ends_early_without_a_word(moto_server: MotoServer, host: ProxyHost, path: str) -> None:
    with FaultProxy(moto_server.endpoint, FaultPlan((Fault("unframed", at=1000),)), host=host) as proxy:
        connection = connect(proxy)
        assert get(connection, path) == (200, DATA[:1000])
        connection.close()


def test_a_stall_and_a_drip_take_their_time(moto_server: MotoServer, host: ProxyHost, path: str) -> None:
    for fault in (Fault("stall", at=1000, seconds=0.4), Fault("drip", at=SIZE - 1000, pace=2000)):
        with FaultProxy(moto_server.endpoint, FaultPlan((fault,)), host=host) as proxy:
            connection = connect(proxy)
            started = time.monotonic()
            assert get(connection, path) == (200, DATA)
            assert time.monotonic() - started > 0.3
            connection.close()


def test_a_proxy_ends_while_it_stalls(moto_server: MotoServer, host: ProxyHost, path: str) -> None:
    with FaultProxy(moto_server.endpoint, FaultPlan((Fault("stall", at=10),)), host=host) as proxy:
        connection = connect(proxy)
        connection.request("GET", path, headers=signed())
        connection.getresponse()
        started = time.monotonic()
    assert time.monotonic() - started < 20
    connection.close()


def test_flipped_swapped_doubled_and_replaced_bytes(moto_server: MotoServer, host: ProxyHost, path: str) -> None:
    with FaultProxy(moto_server.endpoint, FaultPlan((Fault("flip", at=5),)), host=host) as proxy:
        connection = connect(proxy)
        _, body = get(connection, path)
        assert body == DATA[:5] + bytes([DATA[5] ^ 1]) + DATA[6:]
        proxy.follow(FaultPlan((Fault("swap"),)))
        assert get(connection, path, Range="bytes=10-19") == (206, DATA[9:19])
        assert get(connection, path) == (206, DATA[1:])
        assert proxy.injected() == {"swap": 2}
        proxy.follow(FaultPlan((Fault("replace"),)))
        assert get(connection, path, Range="bytes=0-9") == (206, DATA[:10])
        assert get(connection, path) == (200, make_replacement(SIZE))
        moto_server.boto3_client().put_object(Bucket=path.split("/")[1], Key="object", Body=DATA)
        proxy.follow(FaultPlan((Fault("replace"),)))
        assert [get(connection, path)[1] for _ in range(2)] == [DATA, make_replacement(SIZE)]
        connection.close()
    for name, more in (("duplicate", 1024), ("echo", None)):
        with FaultProxy(moto_server.endpoint, FaultPlan((Fault(name),)), host=host) as proxy:  # type: ignore[arg-type]
            headers = {"Host": "x", "Connection": "close", **signed()}
            lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
            with socket.create_connection(("127.0.0.1", int(proxy.endpoint.rpartition(":")[2])), 10) as sock:
                sock.sendall("\r\n".join(lines).encode())
                received = b"".join(iter(lambda: sock.recv(65536), b""))
            length = received.index(b"\r\n\r\n") + 4 + SIZE
            assert len(received) == (length + more if more else 2 * length)


def test_listings_pass_where_objects_are_struck(moto_server: MotoServer, host: ProxyHost, path: str) -> None:
    bucket = path.rpartition("/")[0]
    with FaultProxy(moto_server.endpoint, FaultPlan((Fault("flip", at=5),), most=1), host=host) as proxy:
        connection = connect(proxy)
        for query in ("?list-type=2", "?prefix=o&list-type=2", "?uploads"):
            status, body = get(connection, bucket + query)
            assert (status, body[:5]) == (200, b"<?xml")
        assert proxy.injected() == {}
        assert get(connection, path)[1] != DATA
        assert proxy.injected() == {"flip": 1}
        connection.close()


def test_what_has_no_bytes_passes_where_bytes_are_struck(moto_server: MotoServer, host: ProxyHost, path: str) -> None:
    moto_server.boto3_client().put_object(Bucket=path.split("/")[1], Key="empty", Body=b"")
    for name in ("flip", "drip", "duplicate"):
        with FaultProxy(moto_server.endpoint, FaultPlan((Fault(name),)), host=host) as proxy:
            connection = connect(proxy)
            assert get(connection, path.replace("/object", "/empty")) == (200, b"")
            assert proxy.injected() == {}
            connection.close()


def test_errors_are_answered_by_the_proxy(moto_server: MotoServer, host: ProxyHost, path: str) -> None:
    fault = Fault("status", status=429, code="TooManyRequests", retry_after=2)
    with FaultProxy(moto_server.endpoint, FaultPlan((fault,), most=1), host=host) as proxy:
        connection = connect(proxy)
        connection.request("GET", path, headers=signed())
        response = connection.getresponse()
        assert (response.status, response.headers["Retry-After"]) == (429, "2")
        assert b"TooManyRequests" in response.read()
        assert get(connection, path) == (200, DATA)  # on the same connection
        connection.close()


def test_credentials_expire_and_regions_are_wrong(moto_server: MotoServer, host: ProxyHost, path: str) -> None:
    plan = FaultPlan((Fault("expire", status=403, code="ExpiredToken"),), after=1, most=1)
    with FaultProxy(moto_server.endpoint, plan, host=host) as proxy:
        connection = connect(proxy)
        assert get(connection, path, **signed("old"))[0] == 200
        assert get(connection, path, **signed("old"))[0] == 403
        assert get(connection, path, **signed("new"))[0] == 200
        assert get(connection, path, **signed("old"))[0] == 403
        proxy.follow(NEVER)
        assert get(connection, path, **signed("old")) == (200, DATA)
        proxy.follow(FaultPlan((Fault("region", status=400, region="eu-west-3"),)))
        status, body = get(connection, path, **signed("new"))
        assert status == 400
        assert b"<Region>eu-west-3</Region>" in body
        assert get(connection, path, **signed("new", "eu-west-3"))[0] == 200
        connection.close()


def test_a_restart_refuses_connections_for_a_while(moto_server: MotoServer, host: ProxyHost, path: str) -> None:
    with FaultProxy(moto_server.endpoint, FaultPlan((Fault("refuse", seconds=3.0),), most=1), host=host) as proxy:
        connection = connect(proxy)
        with pytest.raises(ConnectionError):
            get(connection, path)
        connection.close()
        time.sleep(0.1)
        with pytest.raises(ConnectionRefusedError):
            get(connection, path)
        connection.close()
        deadline = time.monotonic() + 30
        while (answer := try_get(connection, path)) is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert answer == (200, DATA)
        connection.close()


def try_get(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes] | None:
    """Return the answer, None where nobody accepts connections."""
    try:
        return get(connection, path)
    except ConnectionRefusedError:
        connection.close()
        return None


def wait_until_injected(proxy: FaultProxy, expected: dict[str, int]) -> None:
    deadline = time.monotonic() + 30
    while proxy.injected() != expected:
        assert time.monotonic() < deadline, proxy.injected()
        time.sleep(0.05)


def test_idle_connections_and_those_that_nobody_reads_end(moto_server: MotoServer, host: ProxyHost, path: str) -> None:
    bucket = path.split("/")[1]
    large = make_bytes(16 * 1024 * 1024)
    moto_server.boto3_client().put_object(Bucket=bucket, Key="large", Body=large)
    with FaultProxy(moto_server.endpoint, FaultPlan((Fault("idle", seconds=2.0),)), host=host) as proxy:
        connection = connect(proxy)
        assert get(connection, path) == (200, DATA)
        wait_until_injected(proxy, {"idle": 1})
        connection.close()
        connection.request("GET", f"/{bucket}/large", headers=signed())
        response = connection.getresponse()
        wait_until_injected(proxy, {"idle": 2})
        with pytest.raises((ConnectionError, http.client.IncompleteRead)):
            response.read()
        connection.close()


def test_an_upload_is_struck_on_its_way(moto_server: MotoServer, host: ProxyHost, path: str) -> None:
    plan = FaultPlan((Fault("reset", at=1000, side="request"),), most=1)
    with FaultProxy(moto_server.endpoint, plan, host=host) as proxy:
        connection = connect(proxy)
        with pytest.raises(ConnectionError):
            put(connection, path, make_bytes(4_000_000))
        connection.close()
        proxy.follow(FaultPlan((Fault("flip", at=3, side="request"),)))
        status, body = put(connection, path, DATA, **{"x-amz-checksum-crc32": "AAAAAA=="})
        assert status == 400
        assert b"BadDigest" in body
        assert get(connection, path) == (200, DATA)
        assert put(connection, path, b"abcdef")[0] == 200
        assert get(connection, path) == (200, b"abceef")
        connection.close()


def test_tls_ends_without_notice(moto_server: MotoServer, host: ProxyHost, path: str, tmp_path: Path) -> None:
    plan = FaultPlan((Fault("unframed", at=1000),), most=1)
    with FaultProxy(moto_server.endpoint, plan, host=host, tls=tmp_path) as proxy:
        context = ssl.create_default_context(cafile=str(proxy.ca_bundle))
        lines = [f"GET {path} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in signed().items()), "", ""]
        with (
            socket.create_connection(("127.0.0.1", int(proxy.endpoint.rpartition(":")[2])), 10) as sock,
            context.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False) as tls,
        ):
            tls.sendall("\r\n".join(lines).encode())
            received = b""
            while not received.endswith(DATA[:1000]):
                received += tls.recv(65536)
            with pytest.raises(ssl.SSLEOFError):
                tls.recv(1)


def test_a_proxy_ends_though_a_client_says_nothing(moto_server: MotoServer, host: ProxyHost, tmp_path: Path) -> None:
    with FaultProxy(moto_server.endpoint, NEVER, host=host, tls=tmp_path) as proxy:
        address = ("127.0.0.1", int(proxy.endpoint.rpartition(":")[2]))
        sock = socket.create_connection(address, 10)
        time.sleep(0.5)
        started = time.monotonic()
    assert time.monotonic() - started < 20
    sock.close()


def test_only_a_plain_upstream_is_taken() -> None:
    with pytest.raises(ValueError, match="http://host:port"):
        FaultProxy("https://example.com", NEVER)
