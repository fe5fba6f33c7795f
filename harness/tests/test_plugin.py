"""The options of the plugin, and the fixtures that follow them."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

import s3torch.harness.conformance  # noqa: F401  # with torch, which cannot be imported again once pytester forgets it
from s3torch.harness._options import Options, load_options, parse_size
from s3torch.harness.conformance._known_servers import ServerFacts, facts_of
from s3torch.harness.servers import MotoServer, ServerError
from s3torch.harness.servers.endpoint import BucketLentError, EndpointServer, is_amazon
from s3torch.harness.servers.scripted import Request, ScriptedServer, Wire

if TYPE_CHECKING:
    from s3torch.client import EngineContext

pytest_plugins = ["pytester"]

READS = """
    import pytest

    def test_reads(s3_client, s3_arrangement, s3_bucket):
        s3_arrangement.put(s3_bucket, "key", b"bytes")
        assert s3_client.read(s3_bucket, "key") == b"bytes"
        assert s3_arrangement.keys(s3_bucket) == {"key"}
        s3_client.put(s3_bucket, "other", b"more")

    def test_finds_an_empty_bucket(s3_client, s3_bucket):
        assert next(s3_client.list_objects(s3_bucket)).object_info == []
"""


def reader(bucket: str, key: str, get_object_info: object, get_stream: object) -> io.BytesIO:
    """What a reader constructor looks like."""
    return io.BytesIO()


def make_constructor(buffer_size: int = 0) -> Callable[..., object]:
    """Makes one, and is none."""
    return reader


def writer(client: object, bucket: str, key: str) -> io.BytesIO:
    return io.BytesIO()


def engine(context: EngineContext) -> Any:
    raise NotImplementedError


HERE = __name__


class TestOptions:
    def test_without_any_nothing_is_tested_and_moto_is_used(self) -> None:
        assert load_options() == Options()
        assert (Options().server, Options().engine, Options().subjects) == ("moto", "direct", frozenset())

    def test_names_are_imported(self) -> None:
        options = load_options(readers=(f"{HERE}:reader",), writer=f"{HERE}:writer", engine=f"{HERE}:engine")
        assert options.readers == ((f"{HERE}:reader", reader),)
        assert options.writer == (f"{HERE}:writer", writer)
        assert options.engine is engine

    @pytest.mark.parametrize(
        ("given", "subjects"),
        [
            ({"readers": (f"{HERE}:reader",)}, {"reader"}),
            ({"readers": (f"{HERE}:reader",), "engine": "boto3"}, {"reader"}),
            ({"writer": f"{HERE}:writer", "endpoint": "http://localhost:9"}, {"writer"}),
            ({"readers": (f"{HERE}:reader",), "writer": f"{HERE}:writer"}, {"reader", "writer"}),
            ({"engine": "boto3"}, {"engine"}),
            ({"endpoint": "http://localhost:9"}, {"engine"}),
            ({"server": "swift"}, {"engine"}),
        ],
    )
    def test_what_is_tested_is_what_is_given(self, given: dict[str, Any], subjects: set[str]) -> None:
        assert load_options(**given).subjects == subjects

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"server": "minio"}, "--s3-server must be moto or swift, got 'minio'"),
            ({"engine": "curl"}, "--s3-engine must be direct, boto3, memory or module:factory, got 'curl'"),
            ({"engine": "memory", "server": "moto"}, "it excludes --s3-server and --s3-endpoint"),
            ({"engine": f"{HERE}:uuid.uuid4"}, "it is called with an EngineContext"),
            ({"endpoint": "localhost:9000"}, "--s3-endpoint must be a URL such as http://localhost:9000"),
            ({"endpoint": "http://localhost:port"}, "--s3-endpoint 'http://localhost:port' is no URL"),
            ({"endpoint": "http://me:secret@localhost"}, "--s3-endpoint must not contain credentials"),
            ({"endpoint": "http://localhost:9", "server": "moto"}, "it excludes --s3-server"),
            ({"bucket": "b"}, "--s3-bucket needs --s3-endpoint"),
            ({"readers": ("reader",)}, "--s3-reader must be module:name"),
            ({"readers": ("no_such_module:Reader",)}, "cannot import 'no_such_module': ModuleNotFoundError"),
            ({"readers": (f"{HERE}:raeder",)}, "did you mean 'reader'?"),
            ({"readers": (f"{HERE}:HERE",)}, "a str cannot be called"),
            ({"readers": (f"{HERE}:writer",)}, "missing a required argument"),
            ({"readers": (f"{HERE}:make_constructor",)}, "put `constructor = make_constructor()` into a module"),
            ({"writer": f"{HERE}:reader"}, "it is called with a client and a bucket and a key: missing"),
            ({"slack": "some"}, "--s3-slack must be a count of bytes"),
        ],
    )
    def test_a_wrong_value_is_one_line_that_names_the_option(self, given: dict[str, Any], said: str) -> None:
        with pytest.raises(ValueError) as caught:
            load_options(**given)
        assert said in str(caught.value)
        assert str(caught.value).startswith("--s3-")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("0", 0),
            ("65536", 65536),
            ("64KiB", 65536),
            ("8 MiB", 8 * 1024**2),
            ("1gib", 1024**3),
            ("1.5MiB", 3 << 19),
            ("2 MB", 2_000_000),
        ],
    )
    def test_sizes(self, text: str, size: int) -> None:
        assert parse_size("--slack", text) == size

    @pytest.mark.parametrize("text", ["", "-1", "MiB", "1.5", "1.5 B", "1 TB", "0x10", ".5MiB"])
    def test_what_is_no_size(self, text: str) -> None:
        with pytest.raises(ValueError, match="--slack"):
            parse_size("--slack", text)


@pytest.fixture
def as_user(moto_server: MotoServer, dummy_aws_env: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of somebody whose own store moto is, but for its address."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "user")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "users-secret")


@pytest.fixture
def buckets(moto_server: MotoServer) -> Iterator[Callable[[], set[str]]]:
    """Asks for the buckets that have come since the test began."""
    client = moto_server.boto3_client()
    before = names_of_buckets(client)
    yield lambda: names_of_buckets(client) - before
    client.close()


def names_of_buckets(client: Any) -> set[str]:
    return {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}


@pytest.mark.usefixtures("as_user")
class TestEndpointServer:
    def test_it_takes_identity_and_region_from_the_environment(
        self, moto_server: MotoServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
        with EndpointServer(moto_server.endpoint) as server:
            assert (server.access_key, server.secret_key, server.region) == ("user", "users-secret", "eu-west-1")
            env = server.env()
            assert (env["AWS_SESSION_TOKEN"], env["AWS_REGION"]) == ("token", "eu-west-1")
            assert env["AWS_ENDPOINT_URL_S3"] == moto_server.endpoint
            assert "users-secret" not in repr(server)
            # Elsewhere than in us-east-1 a bucket's region has to be named.
            assert server.create_bucket(f"b-{uuid.uuid4().hex}")

    def test_buckets_go_with_what_is_in_them(self, moto_server: MotoServer, buckets: Callable[[], set[str]]) -> None:
        with EndpointServer(moto_server.endpoint) as server:
            first, second = (server.create_bucket(f"b-{uuid.uuid4().hex}") for _ in range(2))
            client = server.boto3_client()
            client.put_object(Bucket=first, Key="a b/ü", Body=b"x")
            client.create_multipart_upload(Bucket=second, Key="k")
            client.close()
            server.release(first)
            assert buckets() == {second}
        assert buckets() == set()

    def test_one_bucket_is_lent_once_at_a_time_and_stays(
        self, moto_server: MotoServer, buckets: Callable[[], set[str]]
    ) -> None:
        name = moto_server.create_bucket(f"mine-{uuid.uuid4().hex}")
        with EndpointServer(moto_server.endpoint, name) as server:
            for _ in range(2):
                assert server.create_bucket("whatever") == name
                client = server.boto3_client()
                assert "Contents" not in client.list_objects_v2(Bucket=name)
                client.put_object(Bucket=name, Key="k", Body=b"x")
                with pytest.raises(BucketLentError):
                    server.create_bucket("another")
                server.release(name)
                client.close()
        assert buckets() == {name}

    def test_a_bucket_with_something_in_it_is_left_alone(self, moto_server: MotoServer) -> None:
        name = moto_server.create_bucket(f"mine-{uuid.uuid4().hex}")
        client = moto_server.boto3_client()
        client.put_object(Bucket=name, Key="precious", Body=b"x")
        with pytest.raises(ServerError, match="is not empty"):
            EndpointServer(moto_server.endpoint, name).start()
        assert client.get_object(Bucket=name, Key="precious")["Body"].read() == b"x"
        client.close()

    def test_a_bucket_whose_store_counts_no_keys_is_left_alone(self) -> None:
        entry = "<Contents><Key>precious</Key><Size>1</Size></Contents>"
        listing = f"<ListBucketResult><Name>mine</Name><IsTruncated>false</IsTruncated>{entry}</ListBucketResult>"
        with ScriptedServer(lambda _, wire: wire.respond(body=listing.encode())) as store:
            with pytest.raises(ServerError, match="is not empty"):
                EndpointServer(store.endpoint, "mine").start()
            assert [request.method for request in store.requests] == ["GET"]

    def test_a_bucket_that_is_not_there_is_an_error(self, moto_server: MotoServer) -> None:
        with pytest.raises(ServerError, match="NoSuchBucket"):
            EndpointServer(moto_server.endpoint, "never-made").start()

    def test_nobody_listens(self) -> None:
        with pytest.raises(ServerError, match="does not answer"):
            EndpointServer("http://127.0.0.1:1").start()

    def test_without_credentials_it_says_so(self, moto_server: MotoServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        with pytest.raises(ServerError, match="set AWS_ACCESS_KEY_ID"):
            EndpointServer(moto_server.endpoint).start()

    def test_moto_takes_any_credentials(self, moto_server: MotoServer) -> None:
        with EndpointServer(moto_server.endpoint) as server:
            assert server.checks_credentials() is False

    def test_moto_lists_uploads(self, moto_server: MotoServer, buckets: Callable[[], set[str]]) -> None:
        with EndpointServer(moto_server.endpoint) as server:
            assert facts_of(server) == ServerFacts(checks_credentials=False, lists_uploads=True)
            assert buckets() == set()

    def test_a_store_may_list_no_uploads(self) -> None:
        def answer(request: Request, wire: Wire) -> None:
            if "uploads" in request.query:
                wire.respond(501, b"<Error><Code>NotImplemented</Code></Error>")
            else:
                wire.respond(200 if request.method != "DELETE" else 204)

        with ScriptedServer(answer) as store:
            with EndpointServer(store.endpoint) as server:
                assert facts_of(server).lists_uploads is False
            assert store.requests[-1].method == "DELETE"  # of the bucket that it was tried on

    @pytest.mark.parametrize(
        ("endpoint", "expected"),
        [
            ("https://s3.eu-west-1.amazonaws.com", True),
            ("https://s3.cn-north-1.amazonaws.com.cn", True),
            ("http://localhost:9000", False),
            ("https://amazonaws.com.example.org", False),
        ],
    )
    def test_whose_endpoint(self, endpoint: str, expected: bool) -> None:
        assert is_amazon(endpoint) is expected


class TestFixtures:
    @pytest.mark.parametrize("engine", ["direct", "boto3", "memory"])
    def test_they_follow_the_engine(self, pytester: pytest.Pytester, engine: str) -> None:
        pytester.makepyfile(
            READS
            + f"""
    def test_engine(s3_client, s3_connect):
        assert s3_client.s3client_config.engine == {engine!r}
        assert s3_connect(part_size=6 * 1024 * 1024).s3client_config.part_size == 6 * 1024 * 1024
"""
        )
        pytester.runpytest_inprocess("-p", "no:cacheprovider", f"--s3-engine={engine}").assert_outcomes(passed=3)

    def test_the_memory_engine_has_no_server(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile("def test_it(s3_server): ...")
        pytester.runpytest_inprocess("--s3-engine=memory").assert_outcomes(skipped=1)

    def test_by_default_they_are_on_moto(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(
            """
    import os

    def test_it(s3_server, moto_server, s3_environment, s3_bucket):
        assert s3_server is moto_server
        assert os.environ["AWS_ENDPOINT_URL"] == moto_server.endpoint
        client = moto_server.boto3_client()
        client.head_bucket(Bucket=s3_bucket)
        client.close()
"""
        )
        pytester.runpytest_inprocess().assert_outcomes(passed=1)

    @pytest.mark.usefixtures("as_user")
    def test_a_users_store_is_left_as_it_was(
        self, pytester: pytest.Pytester, moto_server: MotoServer, buckets: Callable[[], set[str]]
    ) -> None:
        pytester.makepyfile(READS)
        pytester.runpytest_inprocess(f"--s3-endpoint={moto_server.endpoint}").assert_outcomes(passed=2)
        assert buckets() == set()

    @pytest.mark.usefixtures("as_user")
    def test_a_users_bucket_serves_one_after_the_other(
        self, pytester: pytest.Pytester, moto_server: MotoServer, buckets: Callable[[], set[str]]
    ) -> None:
        name = moto_server.create_bucket(f"mine-{uuid.uuid4().hex}")
        pytester.makepyfile(
            READS
            + f"""
    def test_name(s3_bucket):
        assert s3_bucket == {name!r}

    def test_two(s3_arrangement):
        s3_arrangement.put(s3_arrangement.create_bucket(), "k", b"x")
        s3_arrangement.create_bucket()
"""
        )
        result = pytester.runpytest_inprocess(f"--s3-endpoint={moto_server.endpoint}", f"--s3-bucket={name}", "-rs")
        result.assert_outcomes(passed=3, skipped=1)
        result.stdout.fnmatch_lines([f"*this needs two buckets, and there is only '{name}'"])
        assert buckets() == {name}
        client = moto_server.boto3_client()
        assert "Contents" not in client.list_objects_v2(Bucket=name)
        client.close()

    @pytest.mark.usefixtures("as_user")
    def test_a_users_credentials_are_found_before_they_are_hidden(
        self, pytester: pytest.Pytester, moto_server: MotoServer
    ) -> None:
        pytester.makepyfile(
            """
    import os

    def test_it(dummy_aws_env, request):
        assert os.environ["AWS_ACCESS_KEY_ID"] == "testing"
        server = request.getfixturevalue("s3_server")
        assert (server.access_key, server.secret_key) == ("user", "users-secret")
"""
        )
        pytester.runpytest_inprocess(f"--s3-endpoint={moto_server.endpoint}").assert_outcomes(passed=1)

    @pytest.mark.usefixtures("as_user")
    def test_a_store_that_does_not_answer_ends_the_run(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(READS)
        result = pytester.runpytest_inprocess("--s3-endpoint=http://127.0.0.1:1")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stdout.fnmatch_lines(["*--s3-endpoint: the store at http://127.0.0.1:1 does not answer*"])

    def test_a_wrong_option_is_one_line(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile("def test_it(): ...")
        result = pytester.runpytest_inprocess("--s3-server=minio")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert [line for line in result.stderr.lines if line] == [
            "ERROR: --s3-server must be moto or swift, got 'minio'"
        ]


class TestGiven:
    GIVEN = ("--pyargs", "s3torch.harness.conformance.given")

    def test_it_needs_something_to_test(self, pytester: pytest.Pytester) -> None:
        result = pytester.runpytest_inprocess(*self.GIVEN)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: *given needs something to test: --s3-reader*"])

    def test_it_needs_to_be_found_in_its_namespace(self, pytester: pytest.Pytester) -> None:
        result = pytester.runpytest_inprocess(*self.GIVEN, "--s3-engine=memory")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: *add -o consider_namespace_packages=true*"])

    @pytest.mark.parametrize(
        ("options", "collected"),
        [
            (["--s3-reader=s3torch.readers:SequentialS3Reader"], {"TestGivenReader"}),
            (["--s3-writer=s3torch.writer:open_writer", "--s3-engine=memory"], {"TestGivenWriter"}),
            (["--s3-engine=memory"], {"TestGivenEngine"}),
        ],
    )
    def test_only_what_is_asked_for_is_collected(
        self, pytester: pytest.Pytester, options: list[str], collected: set[str]
    ) -> None:
        result = pytester.runpytest_inprocess(
            *self.GIVEN, "-o", "consider_namespace_packages=true", "--collect-only", "-q", *options
        )
        assert result.ret == 0
        assert {line.split("::")[1] for line in result.stdout.lines if "::" in line} == collected
