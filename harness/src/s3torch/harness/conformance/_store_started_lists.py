"""Laws of listings that are started, as requests of objects are, and awaited later."""

from __future__ import annotations

import time
from typing import Any

import pytest

from s3torch.client import BucketNotFoundError, GetRequest, ListPage, S3Client, Transfer
from s3torch.harness.conformance._store_laws import StoreLaws
from s3torch.harness.conformance.arrangement import Arrangement, Connect

__all__ = ["StartedListLaws"]

_KEYS = ("a", "a b", "a+b", "a%20b", "a/1", "a/2/3", "b/1", "b/2", "z", "é", "日本語/鍵", "emoji/😀")
_ASKED: tuple[dict[str, Any], ...] = (
    {"prefix": ""},
    {"prefix": "", "max_keys": 5},
    {"prefix": "", "delimiter": "/", "max_keys": 2},
    {"prefix": "a", "delimiter": "/"},
    {"prefix": "a", "max_keys": 2, "start_after": "a b"},
    {"prefix": "日本語/"},
    {"prefix": "nothing"},
)
_DEADLINE_S = 30.0


def _options(
    *, delimiter: str = "", max_keys: int = 1000, token: str | None = None, start_after: str | None = None
) -> dict[str, Any]:
    return {"delimiter": delimiter, "max_keys": max_keys, "token": token, "start_after": start_after}


def _start(client: S3Client, bucket: str, prefix: str = "", **options: Any) -> Transfer[ListPage]:
    return client.engine.start_list_page(bucket, prefix, **_options(**options))


def _keys(page: ListPage) -> list[str]:
    return [key.decode() for key in page.keys]


def _columns(page: ListPage) -> dict[str, Any]:
    """What a page lists, whatever sequences its columns are."""
    return {
        "keys": list(page.keys),
        "sizes": list(page.sizes),
        "etags": list(page.etags),
        "last_modified": list(page.last_modified),
        "storage_classes": list(page.storage_classes),
        "restore_statuses": dict(page.restore_statuses),
        "common_prefixes": list(page.common_prefixes),
        "is_last": page.token is None,
    }


class StartedListLaws(StoreLaws):
    """Started listings: the same pages as those that are waited for, whenever and in whatever order they come."""

    @pytest.mark.parametrize("asked", _ASKED, ids=lambda asked: "-".join(map(ascii, asked.values())))
    def test_a_started_listing_gives_the_page_that_list_page_gives(
        self, client: S3Client, arrangement: Arrangement, bucket: str, asked: dict[str, Any]
    ) -> None:
        """A started listing and one that is waited for give the same pages, and each asks with the other's token."""
        for key in _KEYS:
            arrangement.put(bucket, key, key.encode() * 3)
        prefix, given = asked["prefix"], {name: value for name, value in asked.items() if name != "prefix"}
        listed: list[tuple[str, int]] = []
        folded: list[str] = []
        token = other_token = None
        for _ in range(2 * len(_KEYS)):
            page = _start(client, bucket, prefix, token=other_token, **given).result()
            other, token_of_other = client.engine.list_page(bucket, prefix, **_options(token=token, **given))
            assert _columns(page) == _columns(ListPage.of(other, token_of_other))
            listed += zip(_keys(page), page.sizes, strict=True)
            folded += page.common_prefixes
            if page.token is None:
                break
            token, other_token = page.token, token_of_other
            given.pop("start_after", None)
        else:
            pytest.fail("the pages do not end")
        cut, after = given.get("delimiter", ""), asked.get("start_after", "")
        expected = [key for key in sorted(_KEYS, key=str.encode) if key.startswith(prefix) and key > after]
        is_folded = {key: bool(cut) and cut in key[len(prefix) :] for key in expected}
        assert listed == [(key, 3 * len(key.encode())) for key in expected if not is_folded[key]]
        assert folded == list(
            dict.fromkeys(key[: key.index(cut, len(prefix)) + 1] for key in expected if is_folded[key])
        )

    def test_started_listings_are_answered_in_any_order(
        self, client: S3Client, arrangement: Arrangement, bucket: str
    ) -> None:
        """Listings and a GET are under way at once, and each gives its own, in whatever order they are awaited."""
        for number in range(5):
            arrangement.put(bucket, f"{number}/a", b"x" * number)
            arrangement.put(bucket, f"{number}/b", b"y")
        started = [_start(client, bucket, f"{number}/") for number in range(5)]
        got = client.engine.start_get(GetRequest(bucket, "3/a"))
        pages = {number: started[number].result() for number in (3, 0, 4, 1, 2)}
        assert bytes(got.result().data) == b"xxx"
        for number, page in pages.items():
            assert (_keys(page), list(page.sizes)) == ([f"{number}/a", f"{number}/b"], [number, 1])
            assert started[number].done()
            assert _columns(started[number].result()) == _columns(page)

    def test_a_started_listing_comes_however_it_is_waited_for(
        self, client: S3Client, arrangement: Arrangement, bucket: str
    ) -> None:
        """A listing is driven by `wait`, by `advance` and by whoever waits for another one, and never goes back."""
        for number in range(3):
            arrangement.put(bucket, f"{number}/a", b"x")
        waited = _start(client, bucket, "0/")
        waited.wait()
        assert waited.done()
        deadline = time.monotonic() + _DEADLINE_S
        advanced = _start(client, bucket, "1/")
        while not advanced.done():
            assert time.monotonic() < deadline, "advance() does not bring the page"
            advanced.advance(1.0)
        beside, last = _start(client, bucket, "2/"), _start(client, bucket, "0/")
        while not beside.done():
            assert time.monotonic() < deadline, "waiting for one listing does not bring another"
            last.wait(beside.done)
            last.advance(1.0)
        assert [_keys(transfer.result()) for transfer in (waited, advanced, beside, last)] == [
            ["0/a"],
            ["1/a"],
            ["2/a"],
            ["0/a"],
        ]

    def test_a_started_listing_that_is_abandoned_harms_nothing(
        self, connect: Connect, arrangement: Arrangement, bucket: str
    ) -> None:
        """Listings that are cancelled leave the others, the connections and those that were done as they are."""
        for number in range(8):
            arrangement.put(bucket, f"{number}/a", b"x" * number)
        with connect(max_connections=2) as client:
            for _ in range(3):
                done = _start(client, bucket, "0/")
                done.wait()
                started = [_start(client, bucket, f"{number}/") for number in range(8)]
                for transfer in (done, *started[:5], *started[6:]):
                    transfer.cancel()
                    transfer.cancel()
                assert _keys(done.result()) == ["0/a"], "it was done before it was cancelled"
                assert _keys(started[5].result()) == ["5/a"], "the others were cancelled"
            assert _keys(_start(client, bucket).result()) == [f"{number}/a" for number in range(8)]
            assert client.read(bucket, "7/a") == b"x" * 7

    def test_a_started_listing_of_a_missing_bucket_has_its_error(
        self, client: S3Client, arrangement: Arrangement, bucket: str
    ) -> None:
        """A start raises nothing: each `result` raises `BucketNotFoundError`, and what is under way beside it comes."""
        arrangement.put(bucket, "k", b"x")
        missing, good = _start(client, f"{bucket}-absent"), _start(client, bucket)
        missing.wait()
        assert missing.done()
        for _ in range(2):
            with pytest.raises(BucketNotFoundError) as caught:
                missing.result()
            assert caught.value.bucket == f"{bucket}-absent"
        missing.cancel()
        assert _keys(good.result()) == ["k"]
