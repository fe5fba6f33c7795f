"""The laws of started listings can be broken: each planted defect is found by the law it breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar
from urllib.parse import unquote_to_bytes

import pytest
from harness.tests.conformance.holding import Good, hold
from libs.client.tests.listings import LatePage

from s3torch.client import ListPage, S3Exception, S3TimeoutError, Transfer
from s3torch.client.memory import MemoryEngine
from s3torch.client.transfers import DoneTransfer
from s3torch.harness.conformance import StoreConformance, _store_started_lists

pytestmark = [pytest.mark.conformance, pytest.mark.usefixtures("in_continuous_integration")]

_COLUMNS = ("keys", "sizes", "etags", "last_modified", "storage_classes")


class AnswersLate(Good):
    """Obeys all laws; of the pages that are under way, the last one comes first."""

    kind: type[LatePage] = LatePage

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.flying: list[LatePage] = []
        self.cancelled = 0

    def start_list_page(self, bucket: str, prefix: str, **options: Any) -> LatePage:  # type: ignore[override]  # waits
        return self.kind(self, lambda: MemoryEngine.start_list_page(self, bucket, prefix, **options))

    def step(self) -> None:
        if self.flying:
            page = self.flying.pop()
            page.answer = page.ask()


# What is wrong in the page


class ChangesPages(Good):
    """Gives other pages to those who start listings than to those who wait."""

    def start_list_page(self, bucket: str, prefix: str, **options: Any) -> DoneTransfer[ListPage]:
        try:
            return DoneTransfer(self.change(super().start_list_page(bucket, prefix, **options).result()))
        except S3Exception as error:
            return DoneTransfer(error=error)

    def change(self, page: ListPage) -> ListPage:
        raise NotImplementedError


class ListsBackwards(ChangesPages):
    def change(self, page: ListPage) -> ListPage:
        return replace(page, **{name: getattr(page, name)[::-1] for name in _COLUMNS})


class ShiftsAColumn(ChangesPages):
    """Gives each object the size of the one before, as where an entry without one was passed over."""

    def change(self, page: ListPage) -> ListPage:
        return replace(page, sizes=[*page.sizes[-1:], *page.sizes[:-1]])


class StripsListedQuotes(ChangesPages):
    def change(self, page: ListPage) -> ListPage:
        return replace(page, etags=[etag.strip('"') for etag in page.etags])


class DecodesListedKeys(ChangesPages):
    def change(self, page: ListPage) -> ListPage:
        return replace(page, keys=[unquote_to_bytes(key) for key in page.keys])


class DropsTokens(ChangesPages):
    def change(self, page: ListPage) -> ListPage:
        return replace(page, token=None)


class DropsCommonPrefixes(ChangesPages):
    def change(self, page: ListPage) -> ListPage:
        return replace(page, common_prefixes=())


class HasTokensOfItsOwn(Good):
    """Its tokens go on with listings that are started, and no others."""

    def start_list_page(self, bucket: str, prefix: str, **options: Any) -> DoneTransfer[ListPage]:
        token = options["token"]
        page = super().start_list_page(bucket, prefix, **{**options, "token": token and token[2:]}).result()
        return DoneTransfer(replace(page, token=page.token and f"0-{page.token}"))


class ForgetsWhereToBegin(Good):
    def start_list_page(self, bucket: str, prefix: str, **options: Any) -> DoneTransfer[ListPage]:
        return super().start_list_page(bucket, prefix, **{**options, "start_after": None})


class ForgetsDelimiters(Good):
    def start_list_page(self, bucket: str, prefix: str, **options: Any) -> DoneTransfer[ListPage]:
        return super().start_list_page(bucket, prefix, **{**options, "delimiter": ""})


class FillsPages(Good):
    """Asks for a thousand keys, whatever is asked."""

    def start_list_page(self, bucket: str, prefix: str, **options: Any) -> DoneTransfer[ListPage]:
        return super().start_list_page(bucket, prefix, **{**options, "max_keys": 1000})


# What is wrong with errors


class RaisesAtStart(Good):
    def start_list_page(self, bucket: str, prefix: str, **options: Any) -> DoneTransfer[ListPage]:
        return DoneTransfer(super().start_list_page(bucket, prefix, **options).result())


class TakesMissingBucketsForEmpty(Good):
    def start_list_page(self, bucket: str, prefix: str, **options: Any) -> DoneTransfer[ListPage]:
        try:
            return DoneTransfer(super().start_list_page(bucket, prefix, **options).result())
        except S3Exception:
            return DoneTransfer(ListPage([], [], [], [], []))


class RaisesOnce(Good):
    """Gives nothing to those who ask again."""

    class Forgetful(DoneTransfer[ListPage]):
        def result(self) -> ListPage:
            error, self._error = self._error, None
            if error is not None:
                raise error
            return super().result()

    def start_list_page(self, bucket: str, prefix: str, **options: Any) -> DoneTransfer[ListPage]:
        transfer = super().start_list_page(bucket, prefix, **options)
        try:
            return self.Forgetful(transfer.result())
        except S3Exception as error:
            return self.Forgetful(error=error)


# What is wrong between listings


class GivesPagesAsTheyCome(AnswersLate):
    """Gives whoever asks first the page that came first."""

    class Mixed(LatePage):
        def wait(self, until: Callable[[], bool] | None = None) -> None:
            if not self.done():
                self.answer = self.engine.flying.pop(0).ask()

    kind = Mixed


class KeepsOnePage(AnswersLate):
    """Reads every page into the same memory."""

    class Shared(LatePage):
        memory: ClassVar[list[bytes]] = []

        def result(self) -> ListPage:
            page = super().result()
            self.memory[:] = page.keys
            return replace(page, keys=self.memory)

    kind = Shared


class AsksAgain(AnswersLate):
    """Asks anew each time that the result is."""

    class Asking(LatePage):
        def result(self) -> ListPage:
            return self.ask().result()

    kind = Asking


class AdvancesNothing(AnswersLate):
    class Idle(LatePage):
        def advance(self, seconds: float = 0.0) -> None:
            pass

    kind = Idle


class DrivesOneAlone(AnswersLate):
    """Whoever waits for one listing brings no other."""

    class Alone(LatePage):
        def wait(self, until: Callable[[], bool] | None = None) -> None:
            self.advance()

        def advance(self, seconds: float = 0.0) -> None:
            if self in self.engine.flying:
                self.engine.flying.remove(self)
                self.answer = self.ask()

    kind = Alone


class CancelsAll(AnswersLate):
    class All(LatePage):
        def cancel(self) -> None:
            for page in list(self.engine.flying):
                LatePage.cancel(page)

    kind = All


class CancelsWhatIsDone(AnswersLate):
    class Done(LatePage):
        def cancel(self) -> None:
            super().cancel()
            self.answer = DoneTransfer(error=S3Exception("cancelled"))

    kind = Done


class KeepsConnectionsOfTheCancelled(AnswersLate):
    """Has so many connections, and none for others once as many listings were cancelled."""

    def start_list_page(self, bucket: str, prefix: str, **options: Any) -> Transfer[ListPage]:  # type: ignore[override]  # likewise
        if self.cancelled >= 7:
            return DoneTransfer(error=S3TimeoutError("no connection is free"))
        return super().start_list_page(bucket, prefix, **options)


LAWS = StoreConformance()
PAGES = LAWS.test_a_started_listing_gives_the_page_that_list_page_gives
ORDER = LAWS.test_started_listings_are_answered_in_any_order
DRIVEN = LAWS.test_a_started_listing_comes_however_it_is_waited_for
ABANDONED = LAWS.test_a_started_listing_that_is_abandoned_harms_nothing
MISSING = LAWS.test_a_started_listing_of_a_missing_bucket_has_its_error
WHOLE: tuple[Any, ...] = ({"prefix": ""},)
SHORT: tuple[Any, ...] = ({"prefix": "", "max_keys": 5},)
FOLDED: tuple[Any, ...] = ({"prefix": "", "delimiter": "/", "max_keys": 2},)
AFTER: tuple[Any, ...] = ({"prefix": "a", "max_keys": 2, "start_after": "a b"},)
BROKEN: list[tuple[type[Good], Callable[..., None], tuple[Any, ...]]] = [
    (ListsBackwards, PAGES, WHOLE),
    (ShiftsAColumn, PAGES, WHOLE),
    (StripsListedQuotes, PAGES, WHOLE),
    (DecodesListedKeys, PAGES, WHOLE),
    (DropsTokens, PAGES, SHORT),
    (HasTokensOfItsOwn, PAGES, SHORT),
    (FillsPages, PAGES, SHORT),
    (DropsCommonPrefixes, PAGES, FOLDED),
    (ForgetsDelimiters, PAGES, FOLDED),
    (ForgetsWhereToBegin, PAGES, AFTER),
    (GivesPagesAsTheyCome, ORDER, ()),
    (KeepsOnePage, ORDER, ()),
    (AsksAgain, ORDER, ()),
    (AdvancesNothing, DRIVEN, ()),
    (DrivesOneAlone, DRIVEN, ()),
    (CancelsAll, ABANDONED, ()),
    (CancelsWhatIsDone, ABANDONED, ()),
    (KeepsConnectionsOfTheCancelled, ABANDONED, ()),
    (RaisesAtStart, MISSING, ()),
    (TakesMissingBucketsForEmpty, MISSING, ()),
    (RaisesOnce, MISSING, ()),
]


@pytest.fixture(autouse=True)
def _short_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """That a page does not come, is seen soon: in memory all others come at once."""
    monkeypatch.setattr(_store_started_lists, "_DEADLINE_S", 0.3)


@pytest.mark.parametrize("engine", [Good, AnswersLate])
@pytest.mark.parametrize(
    ("law", "arguments"),
    [
        *((PAGES, asked) for asked in (WHOLE, SHORT, FOLDED, AFTER)),
        *((law, ()) for law in (ORDER, DRIVEN, ABANDONED, MISSING)),
    ],
    ids=lambda item: getattr(item, "__name__", None),
)
def test_good_ones_hold(engine: type[Good], law: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Also one whose pages are not there as soon as they are asked for."""
    assert hold(law, engine, arguments) is None


@pytest.mark.parametrize(("defect", "law", "arguments"), BROKEN, ids=lambda item: getattr(item, "__name__", None))
def test_a_defect_is_found(defect: type[Good], law: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    assert hold(law, defect, arguments) is not None, f"{law.__name__} does not notice {defect.__name__}"
