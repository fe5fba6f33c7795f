"""``s3torch bench`` as a user runs it: into mistakes, on a bucket of one's own, and into Ctrl-C."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from s3torch.harness.bench.entry import _read_size
from s3torch.harness.bench.history import load, read_record
from s3torch.harness.bench.regressions import Change, Kind
from s3torch.harness.bench.results import Measured, Outcome
from s3torch.harness.bench.run import BenchmarkRun, Files, UsageError, _has_failed
from s3torch.harness.bench.scenario import Figure, Requirement, Scenario, Server, original, ours
from s3torch.harness.bench.subjects.measure import Run
from s3torch.harness.faults import Fault, FaultPlan, FaultProxy
from s3torch.harness.servers import MotoServer
from s3torch.harness.servers._address import foreign_variables

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")


def bench(*options: str, env: dict[str, str] | None = None, timeout: float = 100.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "s3torch.cli", "bench", *options],
        capture_output=True,
        text=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        timeout=timeout,
        check=False,
        env=env,
    )


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "report.html"
    for options, said in (
        (["get-reed"], "no scenario 'get-reed'; perhaps 'get-read'"),
        (["--html", str(missing)], "there is no folder"),
        (["--size", "much"], "--size must be a count of bytes"),
    ):
        done = bench(*options)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert done.stdout == ""


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"repeat": 0}, "--repeat must be 1 to 1000"),
        ({"endpoint": "http://localhost"}, "--endpoint needs --uri"),
        ({"profile": "me"}, "--profile needs --uri"),
        ({"uri": "bucket", "asks": False}, "not an S3 URI"),
        ({"uri": "s3://bucket"}, "give --yes where nobody can answer"),
        ({"uri": "s3://bucket", "endpoint": "nowhere", "asks": False}, "--endpoint must be a URL"),
        ({"uri": "s3://bucket", "endpoint": "http://me:secret@host", "asks": False}, "must not contain credentials"),
        ({"files": Files(html=Path(__file__).parent)}, "is a folder; name a file"),
        ({"files": Files(json=Path("/no-such-folder/x.json"))}, "make it first"),
        ({"files": Files(json=Path(os.devnull))}, "is no file"),
        ({"files": Files(history=Path(__file__))}, "is a file; name a folder"),
        ({"files": Files(history=Path(__file__, "below", "that"))}, "is a file; name a folder"),
        ({"files": Files(history=Path(__file__).parent, keeps=False)}, "exclude each other"),
    ],
)
def test_mistakes_are_found_before_anything_starts(
    wrong: dict[str, object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(UsageError, match=said) as failed:
        BenchmarkRun(**wrong)  # type: ignore[arg-type]  # as many types as there are options
    assert "secret" not in str(failed.value)


def test_finds_out_beforehand_what_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.touch()
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("whoever runs this may write anywhere")
        for files in (Files(json=file), Files(html=tmp_path / "new.html"), Files(history=tmp_path / "below")):
            with pytest.raises(UsageError, match="cannot be written"):
                BenchmarkRun(files=files)
        BenchmarkRun(files=replace(files, history=None, keeps=False))
    finally:
        tmp_path.chmod(0o700)


def test_reads_sizes() -> None:
    assert [_read_size(text) for text in ("1048576", "1MiB", "1.5 GB", "2gib")] == [2**20, 2**20, 1_500_000_000, 2**31]
    for text in ("", "MiB", "1 potato", "-1MiB", "1KiB"):
        with pytest.raises(Exception, match="size"):
            _read_size(text)


@pytest.mark.parametrize(
    ("seconds", "failure", "kinds", "is_quick", "expected"),
    [
        (1.0, None, [], False, False),
        (9.0, None, [], False, True),
        (9.0, None, [], True, False),
        (1.0, None, [Kind.BETTER], False, False),
        (1.0, None, [Kind.WORSE], False, True),
        (None, "it broke", [], False, True),
        (None, "it broke", [], True, True),
    ],
)
def test_strictness(
    seconds: float | None, failure: str | None, kinds: list[Kind], is_quick: bool, expected: bool
) -> None:
    requirement = Requirement(Figure.TIME, 2.0)
    scenario = Scenario("name", "title", Server.NONE, (), (requirement,))
    runs = [] if seconds is None else [Run(seconds, 1.0, 0, 1, 1, 0)]
    left_out = Measured(original("original", "connector:serial"), failure="left out")
    outcome = Outcome(scenario, [Measured(ours("ours", "connector:serial"), runs, failure=failure), left_out])
    changes = [Change("name", "ours", kind) for kind in kinds]
    assert _has_failed([outcome], changes, is_quick=is_quick) is expected


def test_lists_what_can_be_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert BenchmarkRun().show_list() == 0
    everywhere = capsys.readouterr().out
    assert "get-read " in everywhere
    assert "import " in everywhere
    assert BenchmarkRun(uri="s3://bucket", endpoint="http://localhost", asks=False).show_list() == 0
    own = capsys.readouterr().out
    assert "get-read " in own
    assert "import " not in own


@pytest.mark.usefixtures("dummy_aws_env")
def test_lists_what_can_be_measured_where_the_environment_leads(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    for endpoint, reads in (("http://localhost:9000", "get-read "), ("https://localhost:9000", "tls-read ")):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        # Nobody can answer, and nobody is asked.
        assert BenchmarkRun(uri="s3://bucket", is_listing=True).show_list() == 0
        listed = capsys.readouterr().out
        assert reads in listed
        assert ("get-read " in listed) != ("tls-read " in listed)


@pytest.fixture
def env(moto_server: MotoServer, tmp_path: Path) -> dict[str, str]:
    """The environment of a user of the server, with nothing of the real one's."""
    kept = {name: value for name, value in os.environ.items() if name not in foreign_variables(os.environ)}
    nowhere = str(tmp_path / "no-such-file")
    return {
        **kept,
        **moto_server.env(),
        "AWS_CONFIG_FILE": nowhere,
        "AWS_SHARED_CREDENTIALS_FILE": nowhere,
        "S3TORCH_BENCH_CACHE": str(tmp_path / "cache"),
    }


def keys_of(server: MotoServer, bucket: str) -> list[str]:
    return [each["Key"] for each in server.boto3_client().list_objects_v2(Bucket=bucket).get("Contents", [])]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_measures_a_bucket_of_ones_own(
    moto_server: MotoServer, s3_bucket: str, env: dict[str, str], tmp_path: Path
) -> None:
    moto_server.boto3_client().put_object(Bucket=s3_bucket, Key="mine/kept", Body=b"x")
    html, json, history = tmp_path / "report.html", tmp_path / "report.json", tmp_path / "history"
    done = bench(
        "serial", "--uri", f"s3://{s3_bucket}/mine", "--quick", "--no-peers", "--yes",
        "--html", str(html), "--json", str(json), "--history", str(history), env=env, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "stores up to 10.5 MiB" in done.stdout
    assert f"Removed the 100 objects under s3://{s3_bucket}/mine/s3torch-bench-" in done.stdout
    assert keys_of(moto_server, s3_bucket) == ["mine/kept"]
    record = read_record(json)
    assert load(history) == ([record], [])
    (scenario,) = record.scenarios
    assert scenario.title == "100 objects of 110 KB, one by one, warm"
    measured = {each.role.value for each in scenario.subjects if each.seconds}
    assert measured == {"floor", "ours"}, [each.failure for each in scenario.subjects]
    for text in (html.read_text(encoding="utf-8"), json.read_text(encoding="utf-8")):
        assert s3_bucket not in text
        assert "testing" not in text, "a credential"
    assert not (tmp_path / "cache" / "history").exists(), "a quick run is kept only where the user says"


def measure_through_faults(
    server: MotoServer, bucket: str, env: dict[str, str], *methods: str, **files: Path
) -> subprocess.CompletedProcess[str]:
    """Measure a bucket whose store refuses requests of some methods."""
    fault = Fault("status", status=403, code="AccessDenied", methods=methods)
    with FaultProxy(server.endpoint, FaultPlan((fault,))) as proxy:
        names = dict.fromkeys(("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"), proxy.endpoint)
        options = [each for name, path in files.items() for each in (f"--{name}", str(path))]
        return bench(
            "serial", "--uri", f"s3://{bucket}", "--quick", "--no-peers", "--yes", *options, env=env | names
        )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_figures_are_kept_where_nothing_can_be_removed(
    moto_server: MotoServer, s3_bucket: str, env: dict[str, str], tmp_path: Path
) -> None:
    done = measure_through_faults(moto_server, s3_bucket, env, "DELETE", "POST", json=tmp_path / "report.json")
    assert done.returncode == 1
    assert "could not clean up" in done.stderr
    assert f"What was written may still lie under s3://{s3_bucket}/" in done.stdout
    assert len(keys_of(moto_server, s3_bucket)) == 100
    (scenario,) = read_record(tmp_path / "report.json").scenarios
    assert any(each.seconds for each in scenario.subjects)


def kill(process: psutil.Popen) -> None:
    """End a process and all below it, at once; a subject may just have ended by itself."""
    for each in [*process.children(recursive=True), process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait(10)


@posix_only
@pytest.mark.slow
@pytest.mark.timeout(200)
def test_what_was_measured_outlives_a_run_that_is_killed(
    moto_server: MotoServer, s3_bucket: str, env: dict[str, str], tmp_path: Path
) -> None:
    json, html = tmp_path / "report.json", tmp_path / "report.html"
    process = psutil.Popen(
        [sys.executable, "-m", "s3torch.cli", "bench", "serial", "many", "--uri", f"s3://{s3_bucket}", "--quick",
         "--no-peers", "--yes", "--json", str(json), "--html", str(html)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 100
        while not html.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        kill(process)  # as the kernel does where memory runs out
    first, *_ = read_record(json).scenarios
    assert first.scenario == "serial"
    assert any(each.seconds for each in first.subjects)
    assert "one by one" in html.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_bucket_that_cannot_be_written_is_one_line(
    moto_server: MotoServer, s3_bucket: str, env: dict[str, str]
) -> None:
    done = measure_through_faults(moto_server, s3_bucket, env, "PUT")
    assert done.returncode == 1
    assert "AccessDenied" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@posix_only
@pytest.mark.slow
@pytest.mark.timeout(200)
def test_an_interrupted_run_leaves_nothing(moto_server: MotoServer, s3_bucket: str, env: dict[str, str]) -> None:
    process = psutil.Popen(
        [sys.executable, "-m", "s3torch.cli", "bench", "serial", "--uri", f"s3://{s3_bucket}", "--repeat", "1000",
         "--no-peers", "--yes"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
        start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 100
        while not (len(keys_of(moto_server, s3_bucket)) > 100 and process.children(recursive=True)):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        below = process.children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        output, errors = process.communicate(timeout=80)
        assert process.returncode == 130, errors
        assert "Removed the " in output
        assert "Traceback" not in errors
        assert keys_of(moto_server, s3_bucket) == []
        _, alive = psutil.wait_procs(below, timeout=20)
        assert alive == []
    finally:
        if process.is_running():
            kill(process)
