"""The laws of stores can be broken: each planted defect is found by the law it breaks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pytest
from harness.tests.conformance.holding import Good, hold
from hypothesis import Phase, settings

from s3torch.client import (
    GetInfo,
    GetRequest,
    GetResult,
    HeadObjectResult,
    ObjectNotFoundError,
    PartResult,
    PutOptions,
    PutResult,
    S3Exception,
)
from s3torch.client.transfers import DoneTransfer
from s3torch.harness.conformance import StoreConformance, _store_model, law_settings

pytestmark = [pytest.mark.conformance, pytest.mark.usefixtures("in_continuous_integration")]

MIB = 1024 * 1024


class IgnoresETags(Good):
    """Sends no ``If-Match``, and does not look at what comes."""

    def start_get(self, request: GetRequest, into: Any = None) -> DoneTransfer[GetResult]:
        return super().start_get(replace(request, etag=None, size=None), into)


class ReadsOneByteOn(Good):
    """A mistake in a part's arithmetic, far from the start only."""

    def start_get(self, request: GetRequest, into: Any = None) -> DoneTransfer[GetResult]:
        if request.start is not None and request.end is not None and request.start > 4000:
            request = replace(request, start=request.start - 1, end=request.end - 1)
        return super().start_get(request, into)


class TakesTheEndIn(Good):
    """Reads ``end`` as the last byte, as HTTP has it."""

    def start_get(self, request: GetRequest, into: Any = None) -> DoneTransfer[GetResult]:
        if request.end is not None and into is None:
            return super().start_get(replace(request, end=request.end + 1), into)
        return super().start_get(request, into)


class ReadsSuffixesFromTheStart(Good):
    def start_get(self, request: GetRequest, into: Any = None) -> DoneTransfer[GetResult]:
        if request.start is not None and request.start < 0:
            return super().start_get(replace(request, start=0, end=-request.start), into)
        return super().start_get(request, into)


class GivesWhatThereIs(Good):
    """Answers a range behind the end with no bytes."""

    def start_get(self, request: GetRequest, into: Any = None) -> DoneTransfer[GetResult]:
        transfer = super().start_get(request, into)
        try:
            return DoneTransfer(transfer.result())
        except S3Exception as error:
            if error.status == 416:
                return DoneTransfer(GetResult(request, b"", GetInfo(request.start or 0, 0, 0, "")))
            return DoneTransfer(error=error)


class FillsHalf(Good):
    """Takes a connection that ends early for the end of the body."""

    def start_get(self, request: GetRequest, into: Any = None) -> DoneTransfer[GetResult]:
        result = super().start_get(request).result() if isinstance(into, memoryview) else None
        if result is None or into is None:
            return super().start_get(request, into)
        half = len(result.data) // 2
        into[:half] = result.data[:half]
        return DoneTransfer(GetResult(request, into, result.info))


class AcceptsShortObjects(Good):
    """Fills what it can of the caller's memory, and says nothing of the rest."""

    def start_get(self, request: GetRequest, into: Any = None) -> DoneTransfer[GetResult]:
        if isinstance(into, memoryview):
            result = super().start_get(request).result()
            into[: len(result.data)] = result.data[: into.nbytes]
            return DoneTransfer(GetResult(request, into, replace(result.info, length=into.nbytes)))
        return super().start_get(request, into)


class AsksForMemoryTwice(Good):
    def start_get(self, request: GetRequest, into: Any = None) -> DoneTransfer[GetResult]:
        if callable(into):
            into(super().start_get(request).result().info)
        return super().start_get(request, into)


class ReadsStale(Good):
    """Caches by key."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.cache: dict[Any, GetResult] = {}

    def start_get(self, request: GetRequest, into: Any = None) -> DoneTransfer[GetResult]:
        if into is not None or request.etag is not None:
            return super().start_get(request, into)
        name = request.bucket, request.key, request.start, request.end
        if name not in self.cache:
            transfer = super().start_get(request, into)
            try:
                self.cache[name] = transfer.result()
            except S3Exception as error:
                return DoneTransfer(error=error)
        return DoneTransfer(replace(self.cache[name], request=request))


class RemembersHeads(Good):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.heads: dict[tuple[str, str], HeadObjectResult] = {}

    def head(self, bucket: str, key: str) -> HeadObjectResult:
        if (bucket, key) not in self.heads:
            self.heads[bucket, key] = super().head(bucket, key)
        return self.heads[bucket, key]


class MixesAnswers(Good):
    """Gives a request the answer to the one before, as a connection that was left in the middle does."""

    last: GetRequest | None = None

    def start_get(self, request: GetRequest, into: Any = None) -> DoneTransfer[GetResult]:
        answered, self.last = self.last or request, request
        return super().start_get(answered, into)


class ForgetsTheKind(Good):
    """Raises one error for everything."""

    def start_get(self, request: GetRequest, into: Any = None) -> DoneTransfer[GetResult]:
        try:
            return DoneTransfer(super().start_get(request, into).result())
        except S3Exception as error:
            return DoneTransfer(error=S3Exception(error.message, bucket=error.bucket, key=error.key))


class NamesNothing(Good):
    def start_get(self, request: GetRequest, into: Any = None) -> DoneTransfer[GetResult]:
        try:
            return DoneTransfer(super().start_get(request, into).result())
        except ObjectNotFoundError:
            return DoneTransfer(error=ObjectNotFoundError("not found", status=404, remedy="Look elsewhere."))
        except S3Exception as error:
            return DoneTransfer(error=error)


class TellsAnotherSize(Good):
    def head(self, bucket: str, key: str) -> HeadObjectResult:
        found = super().head(bucket, key)
        return replace(found, size=found.size + 1)


class StripsQuotes(Good):
    def head(self, bucket: str, key: str) -> HeadObjectResult:
        found = super().head(bucket, key)
        return replace(found, etag=found.etag.strip('"'))


class TruncatesPages(Good):
    """Loses the last key of a full page."""

    def list_page(self, *arguments: Any, **options: Any) -> Any:
        page, token = super().list_page(*arguments, **options)
        return (replace(page, object_info=page.object_info[:-1]), token) if token else (page, token)


class ListsOnePage(Good):
    def list_page(self, *arguments: Any, **options: Any) -> Any:
        return super().list_page(*arguments, **options)[0], None


class BeginsPagesAgain(Good):
    """Starts a page with the key that ended the one before."""

    def list_page(self, bucket: str, prefix: str, **options: Any) -> Any:
        page, token = super().list_page(bucket, prefix, **options)
        if options["token"] and self.last is not None:
            page.object_info.insert(0, self.last)
            del page.object_info[options["max_keys"] :]
        self.last = page.object_info[-1] if page.object_info else None
        return page, token

    last: Any = None


class SortsAsText(Good):
    """Sorts by UTF-16, as some languages do."""

    def list_page(self, *arguments: Any, **options: Any) -> Any:
        page, token = super().list_page(*arguments, **options)
        return replace(page, object_info=sorted(page.object_info, key=lambda i: i.key.encode("utf-16-be"))), token


class ListsFromTheKeyOn(Good):
    """Takes ``start_after`` for the first key."""

    def list_page(self, bucket: str, prefix: str, **options: Any) -> Any:
        after = options["start_after"]
        return super().list_page(bucket, prefix, **{**options, "start_after": after and after[:-1]})


class TakesPrefixesForFolders(Good):
    def list_page(self, bucket: str, prefix: str, **options: Any) -> Any:
        folder = f"{prefix.rstrip('/')}/" if prefix else ""
        return super().list_page(bucket, folder, **options)


class DecodesKeys(Good):
    def start_put(self, bucket: str, key: str, *arguments: Any) -> DoneTransfer[PutResult]:
        return super().start_put(bucket, unquote(key), *arguments)


class DecodesPlus(Good):
    def start_get(self, request: GetRequest, into: Any = None) -> DoneTransfer[GetResult]:
        return super().start_get(replace(request, key=request.key.replace("+", " ")), into)


class ResolvesDots(Good):
    def start_put(self, bucket: str, key: str, *arguments: Any) -> DoneTransfer[PutResult]:
        return super().start_put(bucket, key.replace("./", ""), *arguments)


class OverwritesAlways(Good):
    """Does not send ``If-None-Match``."""

    def start_put(self, bucket: str, key: str, body: Any, options: PutOptions) -> DoneTransfer[PutResult]:
        return super().start_put(bucket, key, body, replace(options, if_none_match=False))


class SendsTheFirstPiece(Good):
    def start_put(self, bucket: str, key: str, body: Any, options: PutOptions) -> DoneTransfer[PutResult]:
        return super().start_put(bucket, key, [piece for piece in body if piece.nbytes][:1], options)


class ForgetsMetadata(Good):
    def start_put(self, bucket: str, key: str, body: Any, options: PutOptions) -> DoneTransfer[PutResult]:
        return super().start_put(bucket, key, body, replace(options, metadata={}))


class ReturnsAnotherETag(Good):
    def start_put(self, *arguments: Any) -> DoneTransfer[PutResult]:
        super().start_put(*arguments).result()
        return DoneTransfer(PutResult('"of the request"'))


class DropsTheLastPart(Good):
    def complete_multipart(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartResult], options: PutOptions
    ) -> PutResult:
        return super().complete_multipart(bucket, key, upload_id, parts[:-1] or parts, options)


class NumbersPartsAsTheyCome(Good):
    def start_part(self, bucket: str, key: str, upload_id: str, number: int, body: Any) -> DoneTransfer[PartResult]:
        came = len(self.store._upload(bucket, key, upload_id).parts) + 1
        return super().start_part(bucket, key, upload_id, came, body)


class PublishesParts(Good):
    def start_part(self, bucket: str, key: str, upload_id: str, number: int, body: Any) -> DoneTransfer[PartResult]:
        self.store.write(bucket, key, b"".join(body), PutOptions())
        return super().start_part(bucket, key, upload_id, number, body)


class AbortsNothing(Good):
    def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        pass


class FailsToAbortTwice(Good):
    def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        self.store._upload(bucket, key, upload_id)
        super().abort_multipart(bucket, key, upload_id)


class ListsUploadsOfOneKeyOnce(Good):
    def list_uploads(self, bucket: str, prefix: str, *, after: Any) -> Any:
        found, following = super().list_uploads(bucket, prefix, after=after)
        return list({item.key: item for item in found}.values()), following


class DeletesAFolder(Good):
    def delete(self, bucket: str, key: str) -> None:
        self.store.remove(bucket, [name for name in self.store.objects(bucket) if name.startswith(key)])
        super().delete(bucket, key)


class DeletesTheFirstHundred(Good):
    def delete_many(self, bucket: str, keys: Sequence[str]) -> Any:
        return super().delete_many(bucket, keys[:100])


class MovesForCopies(Good):
    def copy(self, source: GetRequest, bucket: str, key: str, options: PutOptions) -> Any:
        result = super().copy(source, bucket, key, options)
        self.store.remove(source.bucket, [source.key])
        return result


class CopiesBare(Good):
    """Leaves the metadata behind."""

    def copy(self, source: GetRequest, bucket: str, key: str, options: PutOptions) -> Any:
        data = self.store.find(source.bucket, source.key).data
        return super().start_put(bucket, key, [memoryview(data)], options).result()


class CopiesWhatIsThere(Good):
    """Does not bind a copy to its source."""

    def copy(self, source: GetRequest, bucket: str, key: str, options: PutOptions) -> Any:
        return super().copy(replace(source, etag=None), bucket, key, options)


class ClosesForGood(Good):
    is_closed = False

    def close(self) -> None:
        self.is_closed = True

    def start_get(self, request: GetRequest, into: Any = None) -> DoneTransfer[GetResult]:
        if self.is_closed:
            return DoneTransfer(error=S3Exception("closed"))
        return super().start_get(request, into)


class KeepsOneAnswerForAll(Good):
    """Reads into a buffer of the engine's own."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.buffer = bytearray(16 * MIB)

    def start_get(self, request: GetRequest, into: Any = None) -> DoneTransfer[GetResult]:
        if isinstance(into, memoryview):
            return super().start_get(request, into)
        return super().start_get(request, lambda info: memoryview(self.buffer)[: info.length])


LAWS = StoreConformance()
MODEL = LAWS.test_any_sequence_of_verbs_equals_a_dictionary
BROKEN: list[tuple[type[Good], Callable[..., None], tuple[Any, ...]]] = [
    (IgnoresETags, LAWS.test_an_etag_pins_the_object, ()),
    (IgnoresETags, LAWS.test_a_stream_never_mixes_two_objects, ()),
    (ReadsOneByteOn, LAWS.test_reads_a_large_object_in_parts, ()),
    (TakesTheEndIn, LAWS.test_get_many_reads_ranges, ()),
    (ReadsSuffixesFromTheStart, LAWS.test_reads_a_suffix, (10,)),
    (GivesWhatThereIs, LAWS.test_a_range_behind_the_end_is_an_error, (100,)),
    (FillsHalf, LAWS.test_reads_a_large_object_in_parts, ()),
    (FillsHalf, LAWS.test_fills_the_buffer_given_and_nothing_else, ()),
    (AcceptsShortObjects, LAWS.test_a_buffer_longer_than_the_object_is_an_error, ()),
    (AsksForMemoryTwice, LAWS.test_asks_for_memory_when_the_head_is_there, ()),
    (ReadsStale, MODEL, (200,)),
    (RemembersHeads, MODEL, (200,)),
    (MixesAnswers, LAWS.test_get_many_keeps_the_order, ()),
    (MixesAnswers, LAWS.test_threads_share_a_client, ()),
    (MixesAnswers, MODEL, (200,)),
    (ForgetsTheKind, LAWS.test_missing_objects_and_buckets_have_their_errors, ()),
    (ForgetsTheKind, LAWS.test_get_many_can_go_on_after_a_failure, ()),
    (NamesNothing, LAWS.test_missing_objects_and_buckets_have_their_errors, ()),
    (NamesNothing, LAWS.test_get_many_raises_at_the_place_of_the_failure, ()),
    (TellsAnotherSize, LAWS.test_head_tells_what_a_response_tells, ()),
    (StripsQuotes, LAWS.test_head_tells_what_a_response_tells, ()),
    (TruncatesPages, LAWS.test_lists_in_pages, ()),
    (TruncatesPages, MODEL, (200,)),
    (ListsOnePage, LAWS.test_lists_in_pages, ()),
    (BeginsPagesAgain, LAWS.test_lists_in_pages, ()),
    (SortsAsText, LAWS.test_lists_in_pages, ()),
    (ListsFromTheKeyOn, LAWS.test_lists_a_prefix_and_from_a_key_on, ()),
    (TakesPrefixesForFolders, LAWS.test_lists_a_prefix_and_from_a_key_on, ()),
    (TakesPrefixesForFolders, LAWS.test_a_delimiter_folds_keys, (3,)),
    (DecodesKeys, LAWS.test_any_key_names_its_object, ("a%20b",)),
    (DecodesKeys, LAWS.test_keys_that_differ_slightly_are_different, ()),
    (DecodesPlus, LAWS.test_keys_that_differ_slightly_are_different, ()),
    (ResolvesDots, LAWS.test_any_key_names_its_object, ("dot/./dot",)),
    (OverwritesAlways, LAWS.test_create_only, ()),
    (SendsTheFirstPiece, LAWS.test_a_body_may_come_in_pieces, ()),
    (ForgetsMetadata, LAWS.test_put_keeps_metadata, ()),
    (ReturnsAnotherETag, LAWS.test_put_writes_the_bytes, (1,)),
    (DropsTheLastPart, LAWS.test_an_upload_is_its_parts_in_order, ()),
    (DropsTheLastPart, LAWS.test_an_upload_stream_publishes_when_closed, (6 * MIB,)),
    (NumbersPartsAsTheyCome, LAWS.test_an_upload_is_its_parts_in_order, ()),
    (PublishesParts, LAWS.test_an_upload_is_its_parts_in_order, ()),
    (PublishesParts, LAWS.test_an_upload_stream_that_fails_leaves_nothing, (6 * MIB,)),
    (AbortsNothing, LAWS.test_an_aborted_upload_leaves_nothing, ()),
    (AbortsNothing, LAWS.test_an_upload_stream_that_fails_leaves_nothing, (6 * MIB,)),
    (FailsToAbortTwice, LAWS.test_an_aborted_upload_leaves_nothing, ()),
    (ListsUploadsOfOneKeyOnce, LAWS.test_unfinished_uploads_are_listed, ()),
    (DeletesAFolder, LAWS.test_deletes_one, ()),
    (DeletesTheFirstHundred, LAWS.test_deletes_many, ()),
    (MovesForCopies, LAWS.test_copies, ()),
    (CopiesBare, LAWS.test_copies, ()),
    (CopiesWhatIsThere, LAWS.test_a_copy_is_bound_to_its_source, ()),
    (ClosesForGood, LAWS.test_a_closed_client_opens_again, ()),
    (KeepsOneAnswerForAll, LAWS.test_get_many_keeps_the_order, ()),
]


def test_the_good_one_holds_the_model() -> None:
    assert hold(MODEL, Good, (20,)) is None


@pytest.fixture(autouse=True)
def _no_shrinking(monkeypatch: pytest.MonkeyPatch) -> None:
    """That a defect is found is enough: the least example of it takes long to find."""

    def settings_without(max_examples: int, **others: Any) -> settings:
        return settings(law_settings(max_examples, **others), phases=[Phase.generate])

    monkeypatch.setattr(_store_model, "law_settings", settings_without)


@pytest.mark.parametrize(("defect", "law", "arguments"), BROKEN, ids=lambda item: getattr(item, "__name__", None))
def test_a_defect_is_found(defect: type[Good], law: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    if law is not MODEL:
        assert hold(law, Good, arguments) is None
    assert hold(law, defect, arguments) is not None, f"{law.__name__} does not notice {defect.__name__}"
