"""Listings of datasets end, whatever a store answers: with all objects, or with an error that says what is wrong."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from libs.client.tests.listings import (
    Script,
    drop_the_token,
    go_in_a_circle,
    list_with_gaps,
    listed_by,
    repeat_empty_pages,
    repeat_everything,
    say_no_token,
)

from s3torch.client import ProtocolError, S3Client
from s3torch.datasets import S3MapDataset, list_index
from s3torch.datasets._listing import list_ahead

pytestmark = pytest.mark.usefixtures("dummy_aws_env")

on_each_engine = pytest.mark.parametrize("engine", ["direct", "boto3", "memory"])


def ahead(client: S3Client) -> list[str]:
    return [item.key for item in itertools.islice(list_ahead(client, "bucket", "p/"), 100)]


def index(client: S3Client) -> list[str]:
    return [item.key for item in list_index(client, "s3://bucket/p/", connections=4)]


def dataset(client: S3Client) -> list[str]:
    made = S3MapDataset.from_prefix(
        "s3://bucket/p/",
        region="us-east-1",
        endpoint=client.endpoint,
        s3client_config=client.s3client_config,
        transform=lambda reader: reader.key,
    )
    return [made[place] for place in range(len(made))]


each_way = pytest.mark.parametrize("list_keys", [ahead, index, dataset], ids=lambda way: way.__name__)


@on_each_engine
@each_way
@pytest.mark.parametrize(
    "make", [repeat_everything, repeat_empty_pages, drop_the_token, go_in_a_circle], ids=lambda make: make.__name__
)
def test_a_list_that_goes_on_where_it_has_been_is_an_error(
    engine: str, list_keys: Callable[[S3Client], list[str]], make: Callable[[], Script]
) -> None:
    with (
        listed_by(engine, make()) as client,
        pytest.raises(ProtocolError, match=r"s3://bucket: the list of prefix 'p/' goes on where it has been"),
    ):
        list_keys(client)


@on_each_engine
@each_way
def test_a_list_that_goes_on_but_does_not_say_where_is_an_error(
    engine: str, list_keys: Callable[[S3Client], list[str]]
) -> None:
    with (
        listed_by(engine, say_no_token) as client,
        pytest.raises(ProtocolError, match="s3://bucket: the list of prefix 'p/' goes on but does not say where"),
    ):
        list_keys(client)


@on_each_engine
@pytest.mark.parametrize("list_keys", [ahead, index], ids=lambda way: way.__name__)
def test_pages_without_keys_are_passed_over_while_tokens_are_new(
    engine: str, list_keys: Callable[[S3Client], list[str]]
) -> None:
    with listed_by(engine, list_with_gaps) as client:
        assert list_keys(client) == ["p/3", "p/7"]
