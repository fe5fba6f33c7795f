"""A bucket of the user's own: what runs there, what it will cost, how one gets in, and that nothing stays."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from s3torch.client import S3Exception
from s3torch.harness.bench import own
from s3torch.harness.bench.own import OwnBucket, OwnBucketError
from s3torch.harness.bench.place import Place
from s3torch.harness.bench.runner import Runner, Settings, scaled
from s3torch.harness.bench.scaling import resized
from s3torch.harness.bench.scenario import GIB, MIB, Content, Role, Scenario, Server
from s3torch.harness.bench.scenarios import ALL_SCENARIOS
from s3torch.harness.bench.subjects import sockets
from s3torch.harness.bench.subjects.task import Task
from s3torch.harness.faults import Fault, FaultPlan, FaultProxy
from s3torch.harness.servers import MotoServer
from s3torch.harness.servers._address import make_boto3_client


def find(name: str, scenarios: Any = ALL_SCENARIOS) -> Scenario:
    found: Scenario = next(each for each in scenarios if each.name == name)
    return found


@pytest.mark.parametrize("is_tls", [False, True])
def test_chooses_what_any_store_can_be_asked_for(is_tls: bool) -> None:
    chosen = own.choose(ALL_SCENARIOS, is_tls=is_tls)
    names = {each.name for each in chosen}
    assert {"torch-save", "torch-load", "serial", "many", "dcp-save", "dcp-load", "dcp-partial"} <= names
    assert ({"tls-read", "tls-readinto"} if is_tls else {"get-read", "get-readinto"}) <= names
    assert not names & {"import", "listing", "moto-readers", "many-latency", "many-consumer"}
    assert ("get-read" in names) != is_tls
    for scenario in chosen:
        assert scenario.requirements == ()
        assert not scenario.is_counted
        assert "30 ms" not in scenario.title
        assert "TLS" not in scenario.title
        assert any(entry.role is Role.OURS for entry in scenario.entries)
        for entry in scenario.entries:
            if entry.role is Role.FLOOR:
                assert entry.subject.startswith("floor_tls:") == is_tls


def test_titles_name_the_sizes_that_are_used() -> None:
    quarter = scaled(find("get-read"), Settings(size=256 * MIB))
    assert (quarter.size, quarter.title) == (256 * MIB, "256 MiB, read(), plain HTTP")
    assert (
        scaled(find("dcp-partial"), Settings(size=256 * MIB)).title == "dcp.load of 4 of 64 tensors, 16 MiB of 256 MiB"
    )
    assert scaled(find("serial"), Settings(quick=True)).title == "100 objects of 110 KB, one by one, warm"
    assert scaled(find("serial"), Settings(size=GIB)).size == find("serial").size
    assert resized(find("many")) == find("many")


def test_says_beforehand_what_it_will_cost() -> None:
    settings = Settings(repeat=4, size=GIB)
    plain = own.choose(ALL_SCENARIOS, is_tls=False)
    read, save = find("get-read", plain), find("torch-save", plain)
    bill = own.estimate([read], settings)
    readers = len(read.entries)
    assert (bill.stored, bill.uploaded, bill.downloaded) == (GIB, GIB, GIB * readers * 5)
    assert bill.requests >= readers * 5 * 128
    assert bill.requests == readers * 5 * 128 + 130
    small = find("serial", plain)
    each_run = sum(small.objects_of(entry) for entry in small.entries)
    assert own.estimate([small], settings).requests == each_run * 5 + 500
    # The same object is stored once.
    assert own.estimate([read, find("get-readinto", plain)], settings).stored == GIB
    alone = own.estimate([read], replace(settings, peers=False))
    assert 0 < alone.downloaded < bill.downloaded
    saved = own.estimate([save], settings)
    assert saved.uploaded == GIB * len(save.entries) * 6
    assert saved.stored >= GIB
    partial = own.estimate([find("dcp-partial", plain)], settings)
    assert partial.downloaded < partial.stored * len(find("dcp-partial", plain).entries) * 5 / 10
    quick = own.estimate(plain, Settings(repeat=1, quick=True))
    assert quick.stored < own.estimate(plain, settings).stored


@pytest.mark.parametrize(
    ("uri", "endpoint"),
    [
        ("http://bucket", None),
        ("s3://", None),
        ("s3://data--use1-az4--x-s3/x", None),
        ("s3://bucket", "localhost:9000"),
        ("s3://bucket", "ftp://localhost"),
    ],
)
def test_refuses_addresses_before_any_request(uri: str, endpoint: str | None) -> None:
    with pytest.raises(ValueError):
        OwnBucket(uri, endpoint)


@pytest.fixture
def session(
    moto_server: MotoServer, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, dummy_aws_env: None
) -> own.Session:
    return own.open_bucket(OwnBucket(f"s3://{s3_bucket}/some where/", moto_server.endpoint))


def test_opens_a_bucket_under_a_fresh_prefix(session: own.Session, s3_bucket: str) -> None:
    assert session.uri.startswith(f"s3://{s3_bucket}/some where/s3torch-bench-")
    assert session.uri.endswith("/")
    assert not session.is_tls
    # Neither in the record nor in what represents the place.
    assert s3_bucket not in session.name
    assert "127.0.0.1" not in session.name
    identity = session.place.identity()
    assert identity["AWS_ACCESS_KEY_ID"] == "testing"
    assert "AWS_SESSION_TOKEN" not in identity


def test_who_cannot_sign_gets_in_by_what_is_presigned(session: own.Session) -> None:
    place = session.place
    base = f"{place.endpoint}/{place.bucket}/"
    put = urllib.request.Request(  # noqa: S310 - the loopback
        base + place.unsigned_key("an object", write=True),
        data=b"content",
        method="PUT",
        headers={"Content-Type": "application/octet-stream"},
    )
    with urllib.request.urlopen(put, timeout=30) as answer:  # noqa: S310 - the loopback
        assert answer.status == 200
    with urllib.request.urlopen(base + place.unsigned_key("an object"), timeout=30) as answer:  # noqa: S310
        assert answer.read() == b"content"


@pytest.fixture
def neighbours(moto_server: MotoServer, s3_bucket: str) -> Iterator[list[str]]:
    """What else lies in the bucket, and must stay."""
    client = moto_server.boto3_client()
    keys = ["some where", "some where/kept", "some where/s3torch-bench-", "other"]
    for key in keys:
        client.put_object(Bucket=s3_bucket, Key=key, Body=b"mine")
    yield sorted(keys)
    assert sorted(each["Key"] for each in client.list_objects_v2(Bucket=s3_bucket)["Contents"]) == sorted(keys)


@pytest.mark.parametrize("ending", [None, KeyboardInterrupt, SystemExit, RuntimeError])
def test_removes_all_of_its_own_and_nothing_else(
    session: own.Session, moto_server: MotoServer, s3_bucket: str, neighbours: list[str], ending: Any
) -> None:
    client, said = moto_server.boto3_client(), list[str]()

    def work() -> None:
        with own.cleaned_up(session, said.append):
            for number in range(3):
                client.put_object(Bucket=s3_bucket, Key=session.place.key(f"{number}"), Body=b"x")
            client.create_multipart_upload(Bucket=s3_bucket, Key=session.place.key("unfinished"))
            if ending is not None:
                raise ending

    if ending is None:
        work()
    else:
        with pytest.raises(ending):
            work()
    assert said == [f"Removed the 3 objects under {session.uri}"]
    assert "Uploads" not in client.list_multipart_uploads(Bucket=s3_bucket)


def test_says_where_something_stays_that_cannot_be_removed(session: own.Session) -> None:
    said: list[str] = []
    gone = replace(session, place=replace(session.place, bucket="no-such-bucket"))
    with pytest.raises(OwnBucketError, match="could not clean up"), own.cleaned_up(gone, said.append):
        pass
    assert said == [f"What was written may still lie under {session.uri}"]


def test_removes_the_objects_where_uploads_cannot_be_listed(
    session: own.Session, moto_server: MotoServer, s3_bucket: str
) -> None:
    said: list[str] = []
    fault = Fault("status", status=501, code="NotImplemented", methods=("LIST",))
    moto_server.boto3_client().put_object(Bucket=s3_bucket, Key=session.place.key("1"), Body=b"x")
    with FaultProxy(moto_server.endpoint, FaultPlan((fault,), after=1)) as proxy:
        client = make_boto3_client(moto_server, endpoint=proxy.endpoint)
        with own.cleaned_up(replace(session, place=replace(session.place, client=client)), said.append):
            pass
    assert said[0] == f"Removed the 1 objects under {session.uri}"
    assert "NotImplemented" in said[1]


def test_subjects_take_the_users_own_way_to_the_store(session: own.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "localhost")
    monkeypatch.setenv("AWS_SECRET_OF_ANOTHER", "x")
    env = Runner(Settings(), place=session.place)._environment(find("serial").entries[0], session.place)
    assert env["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert env["no_proxy"] == "localhost"
    assert "AWS_SECRET_OF_ANOTHER" not in env
    # Not where they go to servers on this machine.
    here = Place("http://127.0.0.1:1", "http://127.0.0.1:1")
    assert "HTTPS_PROXY" not in Runner(Settings())._environment(find("serial").entries[0], here)


@pytest.mark.usefixtures("dummy_aws_env")
def test_says_what_is_missing(moto_server: MotoServer, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(S3Exception, match="no-such-bucket"):
        own.open_bucket(OwnBucket("s3://no-such-bucket", moto_server.endpoint))
    with pytest.raises(OwnBucketError, match="profile"):
        own.open_bucket(OwnBucket(f"s3://{s3_bucket}", moto_server.endpoint, profile="nobody"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(OwnBucketError, match="no credentials"):
        own.open_bucket(OwnBucket(f"s3://{s3_bucket}", moto_server.endpoint))


def test_every_content_has_been_thought_of() -> None:
    assert set(Content) == {*own._DELIVERED, *own._SENT, Content.KEYS}
    assert Server.LISTING not in {each.server for each in own.choose(ALL_SCENARIOS, is_tls=False)}


def test_floors_name_the_host_as_it_is_signed() -> None:
    for endpoint, address, host in (
        ("https://s3.eu-west-1.amazonaws.com", ("s3.eu-west-1.amazonaws.com", 443), "s3.eu-west-1.amazonaws.com"),
        ("http://store.example", ("store.example", 80), "store.example"),
        ("http://127.0.0.1:9000", ("127.0.0.1", 9000), "127.0.0.1:9000"),
    ):
        task = Task(endpoint, "bucket", ["key"], 1)
        assert sockets.address_of(endpoint) == address
        assert sockets.get_request(task, "key?signature=1") == (
            f"GET /bucket/key?signature=1 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        )
