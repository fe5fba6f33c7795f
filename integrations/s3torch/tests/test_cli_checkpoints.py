"""``s3torch checkpoints`` against a real server."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex

from s3torch.cli import main

if TYPE_CHECKING:
    from s3torch.harness.servers import MotoServer

pytestmark = pytest.mark.usefixtures("dummy_aws_env")


@pytest.fixture
def bucket(moto_server: MotoServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket with three checkpoints, an interrupted save and an unfinished upload; the environment leads there."""
    for name, value in moto_server.env().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "160")
    bucket = moto_server.create_bucket(f"cli-{uuid.uuid4().hex}")
    client = moto_server.boto3_client()
    metadata = pickle.dumps(Metadata({}, storage_data={MetadataIndex("t"): _StorageInfo("a_0.distcp", 0, 4)}))
    for name in ("step-100", "step-150", "[red]step-200"):
        client.put_object(Bucket=bucket, Key=f"runs/{name}/a_0.distcp", Body=b"data")
        client.put_object(Bucket=bucket, Key=f"runs/{name}/.metadata", Body=metadata)
    client.put_object(Bucket=bucket, Key="runs/dead/b_0.distcp", Body=b"x" * 1234)
    client.create_multipart_upload(Bucket=bucket, Key="runs/dead/c_0.distcp")
    client.close()
    return bucket


@pytest.fixture
def names(bucket: str, moto_server: MotoServer) -> Callable[[], set[str]]:
    """The sub-folders that are there."""

    def look() -> set[str]:
        client = moto_server.boto3_client()
        try:
            found = client.list_objects_v2(Bucket=bucket).get("Contents", ())
            return {Path(item["Key"]).parts[1] for item in found}
        finally:
            client.close()

    return look


ALL = {"step-100", "step-150", "[red]step-200", "dead"}


def test_list_shows_committed_checkpoints(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoints", "list", f"s3://{bucket}/runs"]) == 0
    said = capsys.readouterr().out
    assert "[red]step-200" in said
    assert "3 checkpoints" in said
    assert "dead" not in said


def test_latest_prints_an_address_and_nothing_else(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoints", "latest", f"s3://{bucket}/runs"]) == 0
    # All of one second: the natural order of the names decides.
    assert capsys.readouterr().out.strip().startswith(f"s3://{bucket}/runs/")
    assert main(["checkpoints", "latest", f"s3://{bucket}/none"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"s3torch: there is no checkpoint in s3://{bucket}/none\n"


def test_prune_asks_first(
    bucket: str, names: Callable[[], set[str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ["checkpoints", "prune", f"s3://{bucket}/runs", "--keep-last", "1"]
    assert main([*line, "--dry-run"]) == 0
    assert "2 checkpoints" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", _Answers("n\n"))
    assert main(line) == 130
    assert names() == ALL
    monkeypatch.setattr("sys.stdin", _Answers("y\n"))
    assert main(line) == 0
    assert "Removed" in capsys.readouterr().out
    assert len(names() - {"dead"}) == 1
    assert main([*line, "--yes"]) == 0
    assert "no checkpoints" in capsys.readouterr().out


def test_delete_names_one(bucket: str, names: Callable[[], set[str]], capsys: pytest.CaptureFixture[str]) -> None:
    line = ["checkpoints", "delete", f"s3://{bucket}/runs"]
    assert main(line) == 2
    assert "name" in capsys.readouterr().err
    assert main([*line, "step-999", "--yes"]) == 1
    assert "step-999" in capsys.readouterr().err
    assert main([*line, "step-100", "--dry-run"]) == 0
    assert names() == ALL
    for name in ("step-100", "step-150", "[red]step-200"):
        assert main([*line, name, "--yes", "--allow-newest"]) == 0
    assert names() == {"dead"}


def test_leftovers_are_removed_when_told(
    bucket: str, names: Callable[[], set[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["checkpoints", "leftovers", f"s3://{bucket}/runs", "--older-than"]
    assert main([*line, "1h"]) == 0
    assert "b_0.distcp" not in capsys.readouterr().out
    assert main([*line, "0s"]) == 0
    said = capsys.readouterr().out
    assert "1,234" in said
    assert "unfinished upload" in said
    assert "2 leftovers" in said
    assert names() == ALL
    assert main([*line, "0s", "--remove", "--yes"]) == 0
    assert names() == ALL - {"dead"}
    capsys.readouterr()
    assert main([*line, "0s"]) == 0
    assert capsys.readouterr().out.strip() == "no leftovers, 0 bytes"


@pytest.mark.parametrize(
    "line",
    [
        ["list", "file:///runs"],
        ["prune", "s3://bucket/runs"],
        ["prune", "s3://bucket/runs", "--keep-last", "0"],
        ["leftovers", "s3://bucket/runs", "--older-than", "yesterday"],
        ["burn", "s3://bucket/runs"],
    ],
)
def test_mistakes_are_told_in_a_line(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoints", *line]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1


def test_a_missing_bucket_is_told_in_a_line(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoints", "list", "s3://no-such-bucket/runs"]) == 1
    assert "no-such-bucket" in capsys.readouterr().err


class _Answers:
    """A standard input with one answer."""

    def __init__(self, text: str) -> None:
        self._text = text

    def readline(self, _size: int = -1) -> str:
        text, self._text = self._text, ""
        return text

    def isatty(self) -> bool:
        return False
