from __future__ import annotations

import os.path
from pathlib import PurePosixPath, PureWindowsPath

import pytest

from s3torch.client import parse_s3_uri, restore_s3_uri

URI = "s3://bucket/a/b c%20"


@pytest.mark.parametrize(
    "path", [URI, PurePosixPath(URI), PureWindowsPath(URI), os.path.normpath(URI), "s3:\\bucket\\a\\b c%20"]
)
def test_a_mangled_uri_is_restored(path: str) -> None:
    assert restore_s3_uri(path) == URI
    assert parse_s3_uri(restore_s3_uri(path)) == ("bucket", "a/b c%20")


@pytest.mark.parametrize("path", ["", "/srv/s3:/bucket", "s3", "file:/a", "s3:bucket", "s3://bucket//a\\b", "s3:///a"])
def test_anything_else_stays(path: str) -> None:
    assert restore_s3_uri(path) == path


def test_a_path_is_text() -> None:
    with pytest.raises(TypeError):
        restore_s3_uri(b"s3:/bucket")  # type: ignore[arg-type]
