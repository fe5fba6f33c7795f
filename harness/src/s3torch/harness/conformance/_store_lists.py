"""Laws of keys and listings."""

from __future__ import annotations

import pytest

from s3torch.client import BucketNotFoundError, S3Client
from s3torch.harness.conformance._store_laws import StoreLaws
from s3torch.harness.conformance.arrangement import Arrangement

__all__ = ["ODD_KEYS", "ListLaws"]

ODD_KEYS = (
    "a b",
    "a+b",
    "a%20b",
    "a%b",
    "100%",
    "q?x=1&y=2#f",
    "'quotes\" <&>",
    "semi;colon,comma:at@eq=",
    "back\\slash`^{}|~[]",
    "star*(paren)!$",
    "/leading",
    "//two/leading",
    "double//slash",
    "trailing/",
    "dot/./dot",
    "up/../up",
    "..",
    "ümläut/ß",
    "日本語/鍵",
    "emoji/😀",
    "e\u0301 is not \u00e9",
    "edge/\ud7ff\ue000\ufffd",
    "control/\x01\x1f\x7f",
    "tab/\t",
    "newline/\n",
    "carriage/\r",
    "x" * 1024,
    "ä" * 512,
)


class ListLaws(StoreLaws):
    """List: pages, order, prefixes, delimiters; and every valid key is taken for what it is."""

    @pytest.mark.parametrize("key", ODD_KEYS, ids=ascii)
    def test_any_key_names_its_object(self, client: S3Client, arrangement: Arrangement, bucket: str, key: str) -> None:
        """A key is any string of up to 1,024 bytes of UTF-8; every verb takes it byte for byte."""
        if key in self.refused_keys:
            pytest.skip("this store cannot keep such a key")
        data = key.encode() * 2
        client.put(bucket, key, data)
        assert arrangement.get(bucket, key) == data
        assert client.read(bucket, key) == data
        assert client.head_object(bucket, key).size == len(data)
        assert [[info.key for info in page.object_info] for page in client.list_objects(bucket)] == [[key]]
        assert [[info.key for info in page.object_info] for page in client.list_objects(bucket, key)] == [[key]]
        copy = key[:500] + ".copy"
        client.copy_object(bucket, key, bucket, copy)
        assert arrangement.get(bucket, copy) == data
        client.delete_object(bucket, copy)
        assert arrangement.keys(bucket) == {key}
        assert client.delete_objects(bucket, [key]) == []
        assert arrangement.keys(bucket) == set()

    def test_keys_that_differ_slightly_are_different(self, client: S3Client, arrangement: Arrangement) -> None:
        """Nothing is decoded, normalised or resolved: keys that a file system would take for one are many."""
        bucket = arrangement.create_bucket()
        keys = ["a", "A", "a/", "./a", "b/../a", "a ", " a", "%61", "é", "e\u0301", "a+b", "a b", "a%20b"]
        for key in keys:
            client.put(bucket, key, key.encode())
        assert {key: client.read(bucket, key) for key in keys} == {key: key.encode() for key in keys}
        assert arrangement.keys(bucket) == set(keys)

    def test_an_empty_bucket_lists_as_one_empty_page(self, client: S3Client, bucket: str) -> None:
        """A listing has a page even where there is nothing to list."""
        [page] = client.list_objects(bucket)
        assert (page.object_info, page.common_prefixes) == ([], [])

    def test_lists_in_pages(self, client: S3Client, arrangement: Arrangement, bucket: str) -> None:
        """Pages hold ``max_keys`` at most, in the order of the keys' UTF-8 bytes, each key once."""
        keys = [f"k{number:02}" for number in range(23)] + ["é", "😀", "\uffee", "a b", "z/1", "z/2"]
        for key in keys:
            arrangement.put(bucket, key, b"x")
        pages = list(client.list_objects(bucket, max_keys=5))
        listed = [info.key for page in pages for info in page.object_info]
        assert listed == sorted(keys, key=str.encode)
        assert all(len(page.object_info) <= 5 for page in pages)

    def test_lists_a_prefix_and_from_a_key_on(self, client: S3Client, arrangement: Arrangement, bucket: str) -> None:
        """A prefix is plain text, not a folder; ``start_after`` is itself left out."""
        for key in ("a", "ab", "ab/c", "abc", "b", "ab c", "ab+c", "ab%"):
            arrangement.put(bucket, key, b"x")

        def listed(prefix: str = "", start_after: str | None = None) -> list[str]:
            pages = client.list_objects(bucket, prefix, max_keys=2, start_after=start_after)
            return [info.key for page in pages for info in page.object_info]

        assert listed("ab") == ["ab", "ab c", "ab%", "ab+c", "ab/c", "abc"]
        assert listed("ab ") == ["ab c"]
        assert listed("ab+") == ["ab+c"]
        assert listed("nothing") == []
        assert listed(start_after="ab/c") == ["abc", "b"]
        assert listed("ab", start_after="ab+c") == ["ab/c", "abc"]

    @pytest.mark.parametrize("max_keys", [1, 3, 1000])
    def test_a_delimiter_folds_keys(
        self, client: S3Client, arrangement: Arrangement, bucket: str, max_keys: int
    ) -> None:
        """Keys with the delimiter behind the prefix are one common prefix, told once, however pages fall."""
        for key in ("a/1", "a/2", "b", "c/x/1", "c/y", "d", "a/3/4", "e f/1"):
            arrangement.put(bucket, key, b"x")

        def listed(prefix: str) -> tuple[list[str], list[str]]:
            pages = list(client.list_objects(bucket, prefix, "/", max_keys))
            assert all(len(page.object_info) + len(page.common_prefixes) <= max_keys for page in pages)
            keys = [info.key for page in pages for info in page.object_info]
            return keys, [common for page in pages for common in page.common_prefixes]

        assert listed("") == (["b", "d"], ["a/", "c/", "e f/"])
        assert listed("c/") == (["c/y"], ["c/x/"])
        assert listed("a") == ([], ["a/"])

    def test_a_missing_bucket_has_its_error(self, client: S3Client, bucket: str) -> None:
        """Listing what is not there is `BucketNotFoundError`, raised when the first page is asked for."""
        pages = client.list_objects(f"{bucket}-absent")
        with pytest.raises(BucketNotFoundError) as caught:
            next(pages)
        assert caught.value.bucket == f"{bucket}-absent"
