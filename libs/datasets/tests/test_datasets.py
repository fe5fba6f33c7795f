"""What both styles of dataset promise; each test runs with both."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from s3torch.client import (
    ObjectInfo,
    ObjectNotFoundError,
    S3BucketKeyData,
    S3Client,
    S3ClientConfig,
    S3NotFoundError,
)
from s3torch.datasets import S3IterableDataset, S3MapDataset, identity
from s3torch.readers import S3Reader, S3ReaderConstructor, SequentialS3Reader

if TYPE_CHECKING:
    from libs.datasets.tests.conftest import Place

Style = type[S3MapDataset] | type[S3IterableDataset]
OBJECTS = {f"a/{index:02}": f"object {index}".encode() * index for index in range(12)}


@pytest.fixture(params=[S3MapDataset, S3IterableDataset])
def style(request: pytest.FixtureRequest) -> Style:
    found: Style = request.param
    return found


def read(reader: S3Reader) -> tuple[str, bytes]:
    return reader.key, reader.read()


def samples(dataset: S3MapDataset | S3IterableDataset) -> list[Any]:
    if isinstance(dataset, S3MapDataset):
        return [dataset[index] for index in range(len(dataset))]
    return list(dataset)


def test_a_prefix_gives_all_objects_in_key_order(style: Style, memory: Place) -> None:
    memory.fill({**OBJECTS, "a": b"before", "b": b"after"})
    dataset = style.from_prefix("s3://bucket/a/", region="us-east-1", transform=read, s3client_config=memory.config())
    assert samples(dataset) == list(OBJECTS.items())


def test_a_prefix_is_a_plain_one_and_folder_keys_are_objects(style: Style, memory: Place) -> None:
    objects = {"train": b"1", "train/": b"", "train/a": b"2", "training": b"3"}
    memory.fill({**objects, "t": b"no"})
    dataset = style.from_prefix(
        "s3://bucket/train", region="us-east-1", transform=read, s3client_config=memory.config()
    )
    assert samples(dataset) == list(objects.items())


def test_a_bucket_is_the_prefix_of_all(style: Style, memory: Place) -> None:
    memory.fill({"a": b"1", "b/c": b"2"})
    for uri in ("s3://bucket", "s3://bucket/"):
        dataset = style.from_prefix(uri, region="us-east-1", transform=read, s3client_config=memory.config())
        assert samples(dataset) == [("a", b"1"), ("b/c", b"2")]


def test_listings_of_many_pages_are_complete(style: Style, memory: Place) -> None:
    memory.fill({f"{index:05}": b"x" for index in range(2345)})
    dataset = style.from_prefix(
        "s3://bucket", region="us-east-1", transform=lambda reader: reader.key, s3client_config=memory.config()
    )
    assert samples(dataset) == [f"{index:05}" for index in range(2345)]


def test_objects_come_in_the_order_given(style: Style, memory: Place) -> None:
    memory.fill(OBJECTS)
    keys = ["a/07", "a/00", "a/03", "a/07"]
    uris = (f"s3://bucket/{key}" for key in keys)  # an iterator: it can be read once only
    dataset = style.from_objects(uris, region="us-east-1", transform=read, s3client_config=memory.config())
    for _ in range(2):
        assert samples(dataset) == [(key, OBJECTS[key]) for key in keys]


def test_one_object_may_be_a_string(style: Style, memory: Place) -> None:
    memory.fill(OBJECTS)
    dataset = style.from_objects(
        "s3://bucket/a/05", region="us-east-1", transform=read, s3client_config=memory.config()
    )
    assert samples(dataset) == [("a/05", OBJECTS["a/05"])]


def test_no_objects_are_an_empty_dataset(style: Style, memory: Place) -> None:
    assert samples(style.from_objects([], region="us-east-1", s3client_config=memory.config())) == []
    assert samples(style.from_prefix("s3://bucket/no", region="us-east-1", s3client_config=memory.config())) == []


def test_keys_are_taken_byte_for_byte(style: Style, memory: Place) -> None:
    objects = {"a b": b"1", "a%20b": b"2", "ä/../?#": b"3", "x//y": b"4"}
    memory.fill(objects)
    dataset = style.from_objects(
        [f"s3://bucket/{key}" for key in objects],
        region="us-east-1",
        transform=read,
        s3client_config=memory.config(),
    )
    assert samples(dataset) == list(objects.items())


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        ("bucket/key", ValueError),
        ("https://b/k", ValueError),
        ("s3://", ValueError),
        ("s3:///k", ValueError),
        (7, TypeError),
    ],
)
def test_malformed_uris_fail_before_any_request(style: Style, uri: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        style.from_prefix(uri, region="us-east-1")
    with pytest.raises(error):
        style.from_objects(uri, region="us-east-1")
    with pytest.raises(error):
        style.from_objects(["s3://bucket/key", uri], region="us-east-1")


def test_an_object_needs_a_key(style: Style) -> None:
    for uri in ("s3://bucket", "s3://bucket/"):
        with pytest.raises(ValueError):
            style.from_objects(uri, region="us-east-1")


@pytest.mark.parametrize(
    "options",
    [
        {"s3client_config": {"part_size": 2**23}},
        {"transform": None},
        {"transform": "read"},
        {"region": 7},
        {"endpoint": b"http://x"},
        {"reader_constructor": "seq"},
    ],
)
def test_options_of_the_wrong_type_fail_at_once(style: Style, options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        style.from_prefix("s3://bucket/a/", **{"region": "us-east-1", **options})
    with pytest.raises(TypeError):
        style("us-east-1", "s3://bucket/a/")  # type: ignore[arg-type]  # the mistake under test


def test_making_a_dataset_makes_no_engine(style: Style, memory: Place) -> None:
    dataset = style.from_prefix("s3://bucket/a/", region="us-east-1", s3client_config=memory.config())
    pickle.loads(pickle.dumps(style.from_prefix("s3://bucket/a/", region="us-east-1")))
    assert memory.engines == []
    assert dataset.region == "us-east-1"
    assert dataset.endpoint is None


def test_region_and_endpoint(style: Style, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = style.from_prefix("s3://bucket", region="eu-west-1", endpoint="http://127.0.0.1:1")
    assert (dataset.region, dataset.endpoint) == ("eu-west-1", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert style.from_prefix("s3://bucket", s3client_config=S3ClientConfig(engine="memory")).region == "eu-north-1"


def test_any_function_may_name_the_objects(style: Style, memory: Place) -> None:
    memory.fill(OBJECTS)
    clients = []

    def choose(client: S3Client) -> Iterable[S3BucketKeyData]:
        clients.append(client)
        for page in client.list_objects("bucket", "a/"):
            for info in page.object_info:
                if info.size % 2:
                    yield S3BucketKeyData("bucket", info.key, info)

    dataset = style("us-east-1", choose, None, read, memory.config())
    assert clients == []
    assert samples(dataset) == [(key, data) for key, data in OBJECTS.items() if len(data) % 2]
    assert len(clients) == 1


def test_without_a_transform_the_reader_is_the_sample(style: Style, memory: Place) -> None:
    memory.fill(OBJECTS)
    dataset = style.from_prefix("s3://bucket/a/", region="us-east-1", s3client_config=memory.config(window=3))
    readers = samples(dataset)
    assert all(isinstance(reader, SequentialS3Reader) for reader in readers)
    assert {reader.key: reader.read() for reader in readers} == OBJECTS
    reader = readers[5]
    assert reader.seek(0) == 0
    assert reader.read(3) == OBJECTS[reader.key][:3]
    assert identity(reader) is reader


def test_readers_of_ranges_fetch_only_the_ranges(style: Style, memory: Place) -> None:
    memory.fill({f"a/{index}": bytes(100_000) for index in range(5)})
    dataset = style.from_prefix(
        "s3://bucket/a/",
        region="us-east-1",
        transform=lambda reader: (reader.seek(500), reader.read(10)),
        s3client_config=memory.config(),
        reader_constructor=S3ReaderConstructor.range_based(buffer_size=0),
    )
    assert samples(dataset) == [(500, bytes(10))] * 5
    requests = [request for engine in memory.engines for request in engine.requests]
    assert [(request.start, request.end) for request in requests] == [(500, 510)] * 5


class OwnReader(SequentialS3Reader):
    """A user's own reader type."""


def test_own_readers_are_made_of_the_usual_parts(style: Style, memory: Place) -> None:
    memory.fill(OBJECTS)
    parts: list[Any] = []

    def construct(
        bucket: str, key: str, get_object_info: Callable[[], Any], get_stream: Callable[..., Any]
    ) -> S3Reader:
        parts.append((bucket, key, get_object_info(), b"".join(get_stream()), bytes(get_stream(1, 3).read())))
        return OwnReader(bucket, key, get_object_info, get_stream)

    dataset = style.from_prefix(
        "s3://bucket/a/", region="us-east-1", s3client_config=memory.config(), reader_constructor=construct
    )
    for reader in samples(dataset):
        assert isinstance(reader, OwnReader)
        assert reader.read() == OBJECTS[reader.key]
    for bucket, key, info, data, piece in parts:
        assert (bucket, info.size, data, piece) == ("bucket", len(OBJECTS[key]), OBJECTS[key], OBJECTS[key][1:3])
        assert isinstance(info, ObjectInfo)


def test_a_transform_may_handle_the_error_of_one_object(style: Style, memory: Place) -> None:
    memory.fill(OBJECTS)

    def lenient(reader: S3Reader) -> bytes | None:
        try:
            return reader.read()
        except ObjectNotFoundError:
            return None

    uris = ["s3://bucket/a/01", "s3://bucket/missing", "s3://bucket/a/02"]
    dataset = style.from_objects(uris, region="us-east-1", transform=lenient, s3client_config=memory.config())
    assert samples(dataset) == [OBJECTS["a/01"], None, OBJECTS["a/02"]]


def test_errors_come_at_their_object(style: Style, memory: Place) -> None:
    memory.fill(OBJECTS)
    uris = ["s3://bucket/a/01", "s3://bucket/a/02", "s3://bucket/missing", "s3://bucket/a/03"]
    dataset = style.from_objects(uris, region="us-east-1", transform=read, s3client_config=memory.config())
    source: Iterator[Any] = (
        (dataset[index] for index in range(4)) if isinstance(dataset, S3MapDataset) else iter(dataset)
    )
    assert [next(source)[0] for _ in range(2)] == ["a/01", "a/02"]
    with pytest.raises(FileNotFoundError, match="s3://bucket/missing"):
        next(source)


def test_a_missing_bucket_is_an_error_of_the_tree(style: Style, memory: Place) -> None:
    dataset = style.from_prefix("s3://no-such-bucket/a", region="us-east-1", s3client_config=memory.config())
    with pytest.raises(S3NotFoundError):
        samples(dataset)


def test_the_user_agent_names_style_and_reader(style: Style, memory: Place) -> None:
    memory.fill(OBJECTS)
    agents = []

    def engine(context: Any) -> Any:
        agents.append(context.user_agent)
        return memory.engine(context)

    for constructor in (None, S3ReaderConstructor.range_based(), OwnReader):
        dataset = style.from_prefix(
            "s3://bucket/a/",
            region="us-east-1",
            s3client_config=S3ClientConfig(engine=engine),
            reader_constructor=constructor,
        )
        samples(dataset)
    name = "map" if style is S3MapDataset else "iterable"
    assert [agent.partition(" (")[2] for agent in agents] == [
        f"md/dataset#{name} md/reader_type#{reader})" for reader in ("sequential", "range_based", "unknown")
    ]


def test_subclasses_keep_their_type(style: Style) -> None:
    own: Any = type("Own", (style,), {})
    assert type(own.from_prefix("s3://bucket", region="us-east-1")) is own
    assert type(own.from_objects([], region="us-east-1")) is own


def test_a_pickle_holds_no_engine(style: Style, memory: Place) -> None:
    dataset = style.from_prefix(
        "s3://bucket", region="us-east-1", transform=read, s3client_config=S3ClientConfig(engine="memory")
    )
    assert dataset.region == "us-east-1"
    dataset._client.engine  # noqa: B018  # made by being asked for
    again = pickle.loads(pickle.dumps(dataset))
    assert again._client._engine is None
    assert again._transform is read
