"""Values and options refuse what makes no sense before any request is sent."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from s3torch.client import GetRequest, S3Client, S3ClientConfig, S3Uri, UserAgent, parse_s3_uri
from s3torch.harness.conformance import Recorder

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("uri", "bucket", "key"),
    [
        ("s3://bucket", "bucket", ""),
        ("s3://bucket/", "bucket", ""),
        ("s3://bucket/a/b", "bucket", "a/b"),
        ("s3://bucket//a//b/", "bucket", "/a//b/"),
        ("s3://bucket/a b%20?c=d#e", "bucket", "a b%20?c=d#e"),
        ("s3://bucket/../ä", "bucket", "../ä"),
    ],
)
def test_a_uri_is_taken_byte_for_byte(uri: str, bucket: str, key: str) -> None:
    assert parse_s3_uri(uri) == S3Uri(bucket, key)
    assert str(parse_s3_uri(uri)).rstrip("/") == uri.rstrip("/")


@pytest.mark.parametrize(
    "uri", ["", "bucket/key", "http://bucket/key", "s3:/bucket/key", "s3://", "s3:///key", "S3://b/k"]
)
def test_a_malformed_uri_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="s3://bucket/key"):
        parse_s3_uri(uri)


@pytest.mark.parametrize("uri", [None, b"s3://bucket/key", 5])
def test_a_uri_is_a_string(uri: Any) -> None:
    with pytest.raises(TypeError):
        parse_s3_uri(uri)


@pytest.mark.parametrize(
    "options",
    [
        {"part_size": 5 * MIB - 1},
        {"part_size": 5 * 1024 * MIB + 1},
        {"part_size": 0},
        {"throughput_target_gbps": 0.0},
        {"throughput_target_gbps": -1.0},
        {"throughput_target_gbps": float("nan")},
        {"throughput_target_gbps": float("inf")},
        {"max_attempts": 0},
        {"connect_timeout": 0},
        {"read_timeout": -1},
        {"operation_timeout": float("inf")},
        {"max_connections": 0},
        {"window": 0},
        {"window_bytes": 0},
        {"read_ahead": -1},
        {"upload_buffers": 0},
        {"engine": "telepathy"},
        {"checksum": "md5"},
        {"unsigned": True, "requester_pays": True},
    ],
)
def test_an_option_out_of_its_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        S3ClientConfig(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"part_size": "8MiB"},
        {"part_size": 8.5 * MIB},
        {"part_size": True},
        {"throughput_target_gbps": "10"},
        {"max_attempts": 2.5},
        {"read_timeout": "30"},
        {"window": "64"},
        {"unknown_option": 1},
    ],
)
def test_an_option_of_the_wrong_type_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        S3ClientConfig(**options)


def test_the_configuration_is_one_frozen_value() -> None:
    config = S3ClientConfig(part_size=16 * MIB, profile="p")
    with pytest.raises(FrozenInstanceError):
        config.part_size = 8 * MIB  # type: ignore[misc]  # what is refused
    assert pickle.loads(pickle.dumps(config)) == config
    assert replace(config, profile=None) == S3ClientConfig(part_size=16 * MIB)


def test_the_originals_options_come_in_its_order() -> None:
    config = S3ClientConfig(20.0, 6 * MIB, False, True, 3, "p", True)
    assert (config.throughput_target_gbps, config.part_size, config.force_path_style) == (20.0, 6 * MIB, True)
    assert (config.max_attempts, config.profile, config.requester_pays) == (3, "p", True)


def test_connections_follow_the_target() -> None:
    few, many = (S3ClientConfig(throughput_target_gbps=gbps).connections for gbps in (1.0, 100.0))
    assert 1 <= few < many
    assert S3ClientConfig(max_connections=3).connections == 3


@pytest.mark.parametrize(("start", "end"), [(None, 5), (5, 5), (5, 4), (-3, 5)])
def test_a_range_that_holds_no_byte_is_refused(start: int | None, end: int | None) -> None:
    with pytest.raises(ValueError):
        GetRequest("b", "k", start, end)


BAD_CALLS: list[tuple[type[Exception], str, tuple[Any, ...], dict[str, Any]]] = [
    (ValueError, "read", ("", "k"), {}),
    (ValueError, "read", ("b", ""), {}),
    (TypeError, "read", (None, "k"), {}),
    (TypeError, "read", ("b", 5), {}),
    (ValueError, "read", ("b", "k"), {"start": 5, "end": 5}),
    (ValueError, "get", ("b", ""), {}),
    (TypeError, "get", (b"b", "k"), {}),
    (ValueError, "head_object", ("b", ""), {}),
    (ValueError, "put", ("", "k", b""), {}),
    (TypeError, "put", ("b", "k", "text"), {}),
    (ValueError, "put_stream", ("b", ""), {}),
    (ValueError, "delete_object", ("b", ""), {}),
    (ValueError, "delete_objects", ("b", ["k", ""]), {}),
    (TypeError, "delete_objects", ("b", [None]), {}),
    (ValueError, "copy_object", ("b", "k", "b", ""), {}),
    (TypeError, "copy_object", ("b", "k", None, "k"), {}),
    (ValueError, "list_objects", ("",), {}),
    (ValueError, "list_objects", ("b", "", "", 0), {}),
    (ValueError, "list_objects", ("b", "", "", 1001), {}),
    (TypeError, "list_objects", ("b", None), {}),
    (ValueError, "get_many", ([],), {"window": 0}),
    (ValueError, "get_many", ([],), {"window_bytes": 0}),
    (TypeError, "read_into", ("b", "k", b"read-only"), {}),
]


@pytest.mark.parametrize(("kind", "verb", "arguments", "options"), BAD_CALLS)
def test_bad_arguments_fail_before_any_request(
    kind: type[Exception], verb: str, arguments: tuple[Any, ...], options: dict[str, Any]
) -> None:
    recorder = Recorder("memory")
    client = S3Client(endpoint="memory://no-buckets", s3client_config=S3ClientConfig(engine=recorder))
    # Had a request been sent, the missing bucket would be another error.
    with pytest.raises(kind) as caught:
        getattr(client, verb)(*arguments, **options)
    assert not isinstance(caught.value, OSError)
    assert recorder.gets == []


@pytest.mark.parametrize("options", [{"region": 5}, {"region": b"r"}, {"region": "r", "endpoint": 5}])
def test_a_client_refuses_wrong_types(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        S3Client(**options)


def test_the_user_agent_has_product_original_and_comments() -> None:
    text = str(UserAgent(["md/dataset#map", "md/reader_type#sequential"]))
    assert text.startswith("s3torch/")
    assert " s3torchconnector/" in text
    assert "lang/python#" in text
    assert text.endswith("(md/dataset#map md/reader_type#sequential)")
    assert not str(UserAgent()).endswith(")")


@pytest.mark.parametrize("comments", ["text", [1], [None]])
def test_user_agent_comments_are_a_list_of_strings(comments: Any) -> None:
    with pytest.raises(ValueError):
        UserAgent(comments)
