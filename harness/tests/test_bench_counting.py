"""What a subject asks of a server, and what it is sent, is counted without being changed."""

from __future__ import annotations

import http.client
import socket
import time
from urllib.parse import urlsplit

import pytest

from s3torch.client import S3Client, S3ClientConfig
from s3torch.harness.bench.counting import CountingProxy, Counts
from s3torch.harness.servers import MotoServer
from s3torch.harness.servers.scripted import ScriptedServer, object_answer

MIB = 1024 * 1024


@pytest.mark.usefixtures("dummy_aws_env")
def test_counts_requests_and_bytes(moto_server: MotoServer) -> None:
    bucket = moto_server.create_bucket("counted")
    data = bytes(range(256)) * (3 * MIB // 256)
    with CountingProxy(moto_server.endpoint) as proxy:
        config = S3ClientConfig(force_path_style=True)
        client = S3Client(moto_server.region, endpoint=proxy.endpoint, s3client_config=config)
        client.put(bucket, "key", data)
        assert (proxy.counts.requests, proxy.counts.sent) == (1, 0)
        assert client.read(bucket, "key", start=MIB, end=3 * MIB) == data[MIB:]
        assert (proxy.counts.requests, proxy.counts.sent) == (2, 2 * MIB)
        assert client.head_object(bucket, "key").size == len(data)
        assert proxy.counts == Counts(requests=3, sent=2 * MIB)


def test_counts_an_answer_whose_last_byte_has_just_arrived(moto_server: MotoServer) -> None:
    bucket = moto_server.create_bucket("counted-at-once")
    moto_server.boto3_client().put_object(Bucket=bucket, Key="key", Body=b"data", ACL="public-read")
    with CountingProxy(moto_server.endpoint) as proxy:
        connection = http.client.HTTPConnection(urlsplit(proxy.endpoint).netloc, timeout=10)
        for number in range(1, 100):
            connection.request("GET", f"/{bucket}/key")
            assert connection.getresponse().read() == b"data"
            assert proxy.counts == Counts(requests=number, sent=4 * number)
        connection.close()


def test_counts_what_was_sent_to_one_who_hangs_up() -> None:
    body = bytes(8 * MIB)
    with ScriptedServer(object_answer(body)) as server, CountingProxy(server.endpoint) as proxy:
        connection = socket.create_connection(("127.0.0.1", urlsplit(proxy.endpoint).port or 0), 10)
        connection.sendall(b"GET /bucket/key HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(4096)
        connection.close()
        deadline = time.monotonic() + 10
        while not proxy.counts.requests and time.monotonic() < deadline:
            time.sleep(0.01)
        assert proxy.counts.requests == 1
        assert proxy.counts.sent < len(body)


def test_refuses_what_it_cannot_count() -> None:
    with CountingProxy("http://127.0.0.1:1") as proxy:
        connection = http.client.HTTPConnection(urlsplit(proxy.endpoint).netloc, timeout=10)
        connection.request("PUT", "/bucket/key", body=iter([b"piece"]), encode_chunked=True)
        assert connection.getresponse().status == 501
        connection.close()
