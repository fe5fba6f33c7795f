"""The command `s3torch conform`: its options, its verdicts, and the whole of it as a user runs it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from harness.tests.processes import still_there

from s3torch.cli import main
from s3torch.harness.conform.events import Case, Collected, Ended, Started, Stopped, decode, encode
from s3torch.harness.conform.settings import Settings, law_name, plan_runs
from s3torch.harness.conform.verdict import Verdicts, lacking
from s3torch.harness.servers import MotoServer

DEADLINE = 170.0
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
# Each starts a process that imports torch.
runs_it = [pytest.mark.slow, pytest.mark.timeout(DEADLINE + 10)]

READERS = """
import os
import threading
import time

from s3torch.readers import SequentialS3Reader


class Hangs(SequentialS3Reader):
    def readline(self, size=-1):
        time.sleep(1000)


class Crashes(SequentialS3Reader):
    def readline(self, size=-1):
        os._exit(7)


class Lingers(SequentialS3Reader):
    def readline(self, size=-1):
        threading.Thread(target=time.sleep, args=(1000,)).start()
        return super().readline(size)


class Slow(SequentialS3Reader):
    def read(self, size=-1):
        time.sleep(0.3)
        return super().read(size)


class Aside:
    \"\"\"Reads past what it was given, as a reader with a client of its own would.\"\"\"

    def __new__(cls, bucket, key, get_object_info, get_stream):
        import io
        import boto3

        return io.BytesIO(boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
"""

# An engine that hangs, and whose connections take long to end.
ENGINES = """
import time
from dataclasses import replace
from pathlib import Path

from s3torch.client.engines import make_engine


class Sluggish:
    def __init__(self, context):
        self.inner = make_engine(replace(context, config=replace(context.config, engine="direct")))

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def head(self, bucket, key):
        time.sleep(1000)

    def close(self):
        time.sleep(5)
        self.inner.close()
        Path("has-closed").touch()
"""

# Takes the process down, and cannot be imported in the next one.
BREAKS_FOR_GOOD = """
import os
from pathlib import Path

from s3torch.readers import SequentialS3Reader

if Path("has-crashed").exists():
    raise RuntimeError("on purpose")


class Reader(SequentialS3Reader):
    def readline(self, size=-1):
        Path("has-crashed").touch()
        os._exit(7)
"""


def conform(*options: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "s3torch.cli", "conform", *options],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=DEADLINE,
        check=False,
        cwd=cwd,
        env={**(os.environ if env is None else env), "COLUMNS": "160"},
    )


@pytest.fixture
def readers(tmp_path: Path) -> Path:
    """A folder with a module of readers."""
    (tmp_path / "odd_readers.py").write_text(READERS, encoding="utf-8")
    return tmp_path


class TestSettings:
    def test_a_store_alone_is_seen_through_both_engines(self) -> None:
        runs = plan_runs(Settings(endpoint="http://localhost:9000", bucket="b"))
        assert [str(run) for run in runs] == [
            "engine direct on http://localhost:9000",
            "engine boto3 on http://localhost:9000",
        ]
        assert runs[1].arguments == (
            *("--s3-endpoint", "http://localhost:9000", "--s3-bucket", "b", "--s3-engine", "boto3"),
        )

    def test_readers_and_writer_share_a_run(self) -> None:
        [run] = plan_runs(Settings(readers=("a:b", "c:d"), writer="e:f", engine="memory", slack="1KiB"))
        assert str(run) == "engine memory"
        assert run.arguments == (
            *("--s3-reader", "a:b", "--s3-reader", "c:d", "--s3-writer", "e:f"),
            *("--s3-slack", "1KiB", "--s3-engine", "memory"),
        )

    def test_the_command_line_can_be_told_again(self) -> None:
        settings = Settings(readers=("a:b",), engine="boto3", laws=("x",), bucket="my bucket", endpoint="http://h")
        assert settings.command(laws=["y"]) == (
            "s3torch conform --reader a:b --engine boto3 --endpoint http://h --bucket 'my bucket' --law y"
        )
        assert Settings(server="swift", timeout=300).command() == "s3torch conform --server swift --timeout 300"

    @pytest.mark.parametrize("text", ["test_reads_all", "reads-all", "reads_all", " test-reads-all "])
    def test_a_law_has_several_spellings(self, text: str) -> None:
        assert law_name(text) == "reads_all"

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ([], "say what to test"),
            (["--law", "x"], "say what to test"),
            (["--reader", "no_colon"], "--reader must be module:name"),
            (["--reader", "a:b", "--slack", "much"], "--slack must be a count of bytes"),
            (["--engine", "boto3", "--slack", "1"], "--slack is about readers"),
            (["--writer", ":x"], "--writer must be module:name"),
            (["--engine", "curl"], "--engine must be direct, boto3, memory or module:factory, got 'curl'"),
            (["--engine", "a.b:"], "--engine must be module:name"),
            (["--engine", "memory", "--server", "moto"], "it excludes --server and --endpoint"),
            (["--server", "minio"], "--server must be moto or swift, got 'minio'"),
            (["--endpoint", "nowhere"], "--endpoint must be a URL"),
            (["--endpoint", "http://h", "--server", "moto"], "it excludes --server"),
            (["--engine", "direct", "--bucket", "b"], "--bucket needs --endpoint"),
            (["--engine", "direct", "--timeout", "0"], "--timeout must be 1 to 3600 seconds, got 0"),
            (["--engine", "direct", "--timeout", "soon"], "--timeout"),
            (["--no-such-option"], "--no-such-option"),
        ],
    )
    def test_a_bad_argument_is_one_line_and_status_2(
        self, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["conform", *options]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert said in printed.err
        assert printed.err.count("\n") == 1


class TestEvents:
    @pytest.mark.parametrize(
        "event",
        [
            Collected([Case("id", "reader x", "law", "A sentence.")]),
            Started("id"),
            Ended("id", "broken", "why", "two\nlines"),
            Stopped("ü"),
        ],
    )
    def test_they_travel_as_lines(self, event: Any) -> None:
        line = encode(event)
        assert line.count("\n") == 1
        # Whatever the code under test has printed without ending its line.
        assert decode("noise" + line) == decode(line) == event

    def test_what_is_no_event_is_none(self) -> None:
        assert decode('["Started", {"id": "x"}]\n') is None

    def test_what_was_cut_short_is_none(self) -> None:
        assert decode(encode(Started("id"))[:-5]) is None


def verdicts(**laws: list[str | None]) -> Verdicts:
    """Verdicts on laws, each with its cases' verdicts."""
    found = Verdicts()
    for law, cases in laws.items():
        for number, verdict in enumerate(cases):
            found.expect([Case(f"{law}{number}", "s", law, "Says.")])
            if verdict is not None:
                found.judge(Ended(f"{law}{number}", verdict, f"why {number}", "report" if verdict == "broken" else ""))
    return found


class TestVerdicts:
    @pytest.mark.parametrize(
        ("cases", "expected"),
        [
            (["held", "held"], "held"),
            (["held", "broken", "skipped"], "broken"),
            (["held", None], "not run"),
            (["skipped", "held"], "held"),
            (["skipped", "skipped"], "skipped"),
            ([None, "broken"], "broken"),
        ],
    )
    def test_a_law_is_as_good_as_its_worst_case(self, cases: list[str | None], expected: str) -> None:
        [law] = verdicts(a=cases).laws
        assert law.verdict == expected
        assert verdicts(a=cases).is_broken is (expected in ("broken", "not run"))

    def test_reason_and_details_are_those_of_the_case_at_fault(self) -> None:
        [law] = verdicts(a=["held", "broken"]).laws
        assert (law.reason, law.details) == ("why 1", ["report"])

    def test_a_clean_up_that_fails_breaks_the_law_and_nothing_mends_it(self) -> None:
        found = verdicts(a=["held"])
        found.judge(Ended("a0", "broken", "teardown"))
        found.judge(Ended("a0", "held"))
        assert found.laws[0].verdict == "broken"
        assert found.judged == ["a0"]

    def test_the_store_lacks_what_no_engine_gets(self) -> None:
        first = verdicts(a=["broken"], b=["broken"], c=["skipped"], d=["held"])
        second = verdicts(a=["broken"], b=["held"], c=["skipped"], d=["broken"])
        assert [law.name for law in lacking([first, second])] == ["a", "c"]
        assert lacking([first]) == []


@pytest.mark.usefixtures("dummy_aws_env")
class TestCommand:
    pytestmark = runs_it

    def test_what_hangs_and_what_crashes_is_broken_and_the_others_are_judged(self, readers: Path) -> None:
        named = ["--reader", "odd_readers:Hangs", "--reader", "odd_readers:Crashes"]
        laws = ["--law", "lines_come_whole", "--law", "refuses_wrong_types"]
        finished = conform(*named, *laws, "--engine", "memory", "--timeout", "8", cwd=readers)
        assert finished.returncode == 1, finished.stdout + finished.stderr
        assert "hangs: no answer within 8 s" in finished.stdout
        assert "its process ended with status 7" in finished.stdout
        assert finished.stdout.count(": 2 laws: 1 held, 1 broken, 0 skipped") == 2
        assert "Lines of any length are read as from a file." in finished.stdout
        # Laws were chosen, so reports are shown: the stacks tell where it hangs.
        assert "odd_readers.py" in finished.stdout

    def test_the_users_bucket_is_emptied_behind_what_crashes(self, readers: Path, moto_server: MotoServer) -> None:
        name = moto_server.create_bucket(f"mine-{uuid.uuid4().hex}")
        finished = conform(
            *("--reader", "odd_readers:Crashes", "--law", "lines_come_whole", "--law", "refuses_wrong_types"),
            *("--endpoint", moto_server.endpoint, "--bucket", name),
            cwd=readers,
            env={**os.environ, **moto_server.env()},
        )
        assert finished.returncode == 1, finished.stdout + finished.stderr
        assert ": 2 laws: 1 held, 1 broken, 0 skipped" in finished.stdout
        client = moto_server.boto3_client()
        assert "Contents" not in client.list_objects_v2(Bucket=name)
        client.close()

    @posix_only
    def test_what_hangs_may_clean_up(self, tmp_path: Path) -> None:
        (tmp_path / "engines.py").write_text(ENGINES, encoding="utf-8")
        law = ["--law", "head_tells_what_a_response_tells"]
        finished = conform("--engine", "engines:Sluggish", *law, "--timeout", "25", cwd=tmp_path)
        assert finished.returncode == 1, finished.stdout + finished.stderr
        assert "hangs: no answer within 25 s" in finished.stdout
        assert (tmp_path / "has-closed").exists()

    def test_a_process_that_does_not_end_is_told_as_that(self, readers: Path) -> None:
        law = ["--law", "lines_come_whole"]
        finished = conform("--reader", "odd_readers:Lingers", *law, "--engine", "memory", "--timeout", "8", cwd=readers)
        assert finished.returncode == 1, finished.stdout + finished.stderr
        assert "the laws have been tried, and their process does not end" in " ".join(finished.stdout.split())
        assert "hangs" not in finished.stdout

    def test_what_is_known_is_shown_when_the_others_cannot_be_tried(self, tmp_path: Path) -> None:
        (tmp_path / "breaks_for_good.py").write_text(BREAKS_FOR_GOOD, encoding="utf-8")
        laws = ["--law", "lines_come_whole", "--law", "refuses_wrong_types"]
        finished = conform("--reader", "breaks_for_good:Reader", *laws, "--engine", "memory", cwd=tmp_path)
        assert finished.returncode == 1, finished.stdout + finished.stderr
        assert "its process ended with status 7" in finished.stdout
        assert ": 2 laws: 0 held, 1 broken, 0 skipped, 1 not run" in finished.stdout
        assert "cannot go on: --reader breaks_for_good:Reader: cannot import" in finished.stderr

    def test_what_reads_past_the_client_is_not_counted(self, readers: Path) -> None:
        finished = conform(
            "--reader", "odd_readers:Aside", "--law", "reads_no_byte_twice", "--law", "serves_archives", cwd=readers
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        assert "the bytes fetched cannot be counted here" in finished.stdout
        assert "2 laws: 1 held, 0 broken, 1 skipped" in finished.stdout

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--reader", "odd_readers:Missing"], "--reader odd_readers:Missing: the module 'odd_readers' has no"),
            (["--engine", "memory", "--law", "reads_a_hole_object"], "did you mean reads_a_whole_object"),
            (["--endpoint", "http://127.0.0.1:1"], "--endpoint: the store at http://127.0.0.1:1 does not answer"),
        ],
    )
    def test_what_shows_later_is_one_line_and_status_2_too(self, readers: Path, options: list[str], said: str) -> None:
        finished = conform(*options, cwd=readers)
        assert finished.returncode == 2, finished.stdout + finished.stderr
        assert finished.stdout == ""
        assert said in finished.stderr.splitlines()[-1]
        assert "Traceback" not in finished.stderr

    def test_a_server_alone_is_told_what_it_lacks_and_left_as_it_was(self, moto_server: MotoServer) -> None:
        client = moto_server.boto3_client()
        before = client.list_buckets()["Buckets"]
        laws = [
            "--law",
            "a_copy_is_bound_to_its_source",
            "--law",
            "reads_a_range",
            "--law",
            "wrong-credentials-have-their-error",
        ]
        finished = conform(
            "--endpoint", moto_server.endpoint, *laws, cwd=EXAMPLES, env={**os.environ, **moto_server.env()}
        )
        assert finished.returncode == 1, finished.stdout + finished.stderr
        last = finished.stdout.partition(f"{moto_server.endpoint}, whatever engine talks to it:")[2]
        assert "broken: a_copy_is_bound_to_its_source: A source with another ETag" in last
        assert "not tried: wrong_credentials_have_their_error: this store takes any credentials" in last
        assert client.list_buckets()["Buckets"] == before
        client.close()

    @posix_only
    @pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
    def test_a_signal_leaves_no_process(self, readers: Path, sent: signal.Signals, status: int) -> None:
        with running("--reader", "odd_readers:Slow", cwd=readers) as (process, below):
            process.send_signal(sent)
            assert process.wait(60) == status
            assert still_there(below, 45) == []
            assert "Traceback" not in process.stderr.read()


@contextlib.contextmanager
def running(*options: str, cwd: Path) -> Iterator[tuple[Any, list[Any]]]:
    """Start the command and wait until its server runs; yield it and all processes below it."""
    process = psutil.Popen(
        [sys.executable, "-m", "s3torch.cli", "conform", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        start_new_session=True,
    )
    below: list[Any] = []
    try:
        deadline = time.monotonic() + 120
        while not any("_moto_process" in word for one in below for word in command_of(one)):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.1)
            below = process.children(recursive=True)
        yield process, below
    finally:
        for left in [process, *below]:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
        process.wait(10)
        process.stderr.close()


def command_of(process: Any) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return list(process.cmdline())
    return []
