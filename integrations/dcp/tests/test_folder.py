from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath

import pytest

from s3torch.dcp._folder import Folder, parse_folder


@pytest.mark.parametrize(
    "path",
    [
        "s3://bucket/run/step 1",
        "s3://bucket/run/step 1/",
        PurePosixPath("s3://bucket/run/step 1"),
        "s3:/bucket/run/step 1",
    ],
)
def test_a_path_names_a_folder(path: str) -> None:
    folder = parse_folder(path)
    assert folder == Folder("bucket", "run/step 1/")
    assert folder.key(".metadata") == "run/step 1/.metadata"
    assert str(folder) == "s3://bucket/run/step 1"


def test_a_bucket_is_a_folder() -> None:
    assert parse_folder("s3://bucket") == parse_folder("s3://bucket/") == Folder("bucket", "")
    assert Folder("bucket", "").key("a") == "a"
    assert str(Folder("bucket", "")) == "s3://bucket"


@pytest.mark.parametrize(
    "path", ["/srv/run", "run", PurePosixPath("/srv/run"), "gs://bucket/run", "s3://", "s3:///run"]
)
def test_what_is_not_on_s3_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="s3://bucket/prefix"):
        parse_folder(path)


def test_windows_paths_are_recognised() -> None:
    assert parse_folder(PureWindowsPath("s3://bucket/run/1")) == Folder("bucket", "run/1/")
