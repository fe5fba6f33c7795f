"""The next page of a listing is on its way while the one before it is being used."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest

from s3torch.client import AccessDeniedError, EngineContext, S3Client, S3ClientConfig
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torch.client.transfers import DoneTransfer
from s3torch.datasets._listing import list_ahead

if TYPE_CHECKING:
    from libs.datasets.tests.conftest import Place


class ListingEngine(MemoryEngine):
    """Notes each page that it is asked for; the third one is refused."""

    def __init__(self, context: EngineContext, store: MemoryStore, asked: list[str | None]) -> None:
        super().__init__(context, store)
        self.asked = asked

    def start_list_page(self, bucket: str, prefix: str, **options: Any) -> DoneTransfer[Any]:
        self.asked.append(options["token"])
        if len(self.asked) == 3:
            return DoneTransfer(error=AccessDeniedError("the third page"))
        return super().start_list_page(bucket, prefix, **options)


def make(memory: Place, count: int) -> tuple[S3Client, list[str | None]]:
    memory.fill({f"k/{index:05}": b"x" * (index % 7) for index in range(count)})
    asked: list[str | None] = []
    config = S3ClientConfig(engine=lambda context: ListingEngine(context, memory.store, asked))
    return S3Client("us-east-1", s3client_config=config), asked


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 1500, 2000])
def test_all_objects_come_in_key_order_as_a_listing_has_them(memory: Place, count: int) -> None:
    client, asked = make(memory, count)
    memory.fill({"other": b""})
    found = list(list_ahead(client, "bucket", "k/"))
    assert [item.object_info for item in found] == [
        info for page in client.list_objects("bucket", "k/") for info in page.object_info
    ]
    assert [item.key for item in found] == [f"k/{index:05}" for index in range(count)]
    assert {item.bucket for item in found} <= {"bucket"}
    assert len(asked) <= 2


def test_the_next_page_is_asked_for_in_the_middle_of_one(memory: Place) -> None:
    client, asked = make(memory, 1500)
    source = list_ahead(client, "bucket", "k/")
    assert asked == []
    next(source)
    assert len(asked) == 1
    list(islice(source, 600))
    assert len(asked) == 2
    source.close()


def test_an_error_comes_after_the_pages_before_it(memory: Place) -> None:
    client, _ = make(memory, 2500)
    source = list_ahead(client, "bucket", "k/")
    assert len(list(islice(source, 2000))) == 2000
    with pytest.raises(AccessDeniedError):
        next(source)
