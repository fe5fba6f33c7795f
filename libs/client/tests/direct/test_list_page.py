"""Pages of lists in columns: the pattern and the parser make the same of any document."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from s3torch.client import ObjectInfo, ProtocolError, RestoreStatus
from s3torch.client.direct import list_page
from s3torch.client.direct.list_page import parse_page
from s3torch.client.direct.xml import parse_list
from s3torch.client.listing import ListPage

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
OPEN = '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
CLOSE = "</ListBucketResult>"
ETAGS = ("&quot;{}&quot;", '"{}"', "&#34;{}&#34;", "{}", "&quot;{}", "&amp;{}", "")
TIMES = (
    "2026-01-02T03:04:05.678Z",
    "2026-01-02T03:04:05Z",
    "1970-01-01T00:00:07Z",
    "2026-13-02T03:04:05.000Z",
    "x",
    "",
)
KEYS = ("a", "a%20b+c", "%E6%97%A5", "%FF%", "a&amp;b", "é", "a]b", "a/b/c.jpg", "", " a ", "a\nb", "&#x41;")


@st.composite
def entries(draw: st.DrawFn) -> str:
    """Entries as some store may write them, in one form or several."""
    space = draw(st.sampled_from(["", "", "\n  "]))
    made = []
    for _ in range(draw(st.integers(1, 3))):
        kinds = draw(
            st.permutations(
                [
                    "<Key>{key}</Key>",
                    "<LastModified>{time}</LastModified>",
                    "<ETag>{etag}</ETag>",
                    "<Size>{size}</Size>",
                    *draw(
                        st.lists(
                            st.sampled_from(
                                [
                                    "<StorageClass>STANDARD</StorageClass>",
                                    "<StorageClass/>",
                                    "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm>",
                                    "<Owner><ID>1</ID><DisplayName>x</DisplayName></Owner>",
                                    "<Owner><Key>inner</Key></Owner>",
                                    "<RestoreStatus><IsRestoreInProgress>true</IsRestoreInProgress></RestoreStatus>",
                                    "<Size>7</Size>",
                                    "<!-- -->",
                                    "text",
                                ]
                            ),
                            max_size=2,
                        )
                    ),
                ]
            )
        )
        drop = draw(st.sampled_from(["", "", "", "<ETag>", "<Last", "<Key>"]))
        form = space.join(kind for kind in kinds if not drop or not kind.startswith(drop))
        etag, time = draw(st.sampled_from(ETAGS)), draw(st.sampled_from(TIMES))
        for _ in range(draw(st.integers(0, 3))):
            values = {
                "key": draw(st.sampled_from(KEYS)),
                "time": draw(st.sampled_from([time, time, *TIMES])),
                "etag": draw(st.sampled_from([etag, etag, *ETAGS])).format("0" * draw(st.integers(0, 3))),
                "size": draw(st.sampled_from(["0", "12", "5368709121"])),
            }
            made.append(f"<Contents>{space}{form.format(**values)}{space}</Contents>{space}")
    return "".join(made)


@st.composite
def pages(draw: st.DrawFn) -> str:
    frame = [
        draw(st.sampled_from(["", "<EncodingType>url</EncodingType>"])),
        draw(st.sampled_from(["<IsTruncated>false</IsTruncated>", "<IsTruncated>true</IsTruncated>"])),
        draw(st.sampled_from(["", "<NextContinuationToken>next</NextContinuationToken>"])),
        draw(st.sampled_from(["", "<CommonPrefixes><Prefix>a%2B/</Prefix></CommonPrefixes>", "<Entries/>", "<!--"])),
        draw(entries()),
        draw(st.sampled_from(["", "-->", "<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>", "<Contents/>"])),
        draw(st.sampled_from(["", "", draw(entries())])),
    ]
    opening = draw(
        st.sampled_from([DECLARATION, "", '<?xml version="1.0" encoding="iso-8859-1"?>', "<!DOCTYPE l>", " "])
    )
    return opening + OPEN + "".join(frame) + draw(st.sampled_from([CLOSE, CLOSE, CLOSE, "", "</a>"]))


def same(body: bytes) -> None:
    """Hold the columns to what the parser reads."""
    try:
        expected: tuple[object, object] | None = parse_list(body)
    except ProtocolError:
        expected = None
    try:
        page = parse_page(body)
    except ProtocolError:
        assert expected is None
    else:
        assert (page.result(), page.token) == expected


@given(pages())
@example(f"{OPEN}<!--<Contents><Key>k</Key><LastModified/><ETag/><Size>1</Size></Contents>-->{CLOSE}")
def test_a_page_is_what_the_parser_makes_of_it(page: str) -> None:
    same(page.encode())


@given(st.data())
def test_so_is_one_that_was_damaged(data: st.DataObject) -> None:
    body = bytearray(plain(3))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 9))] = data.draw(
            st.sampled_from([b"", b"<", b"&", b"\x00", b"-->"])
        )
    same(bytes(body))
    same(bytes(body[: data.draw(st.integers(0, len(body)))]))


def plain(count: int) -> bytes:
    """A page as Amazon's store writes it."""
    made = "".join(
        f"<Contents><Key>train/folder%2B/{n:08}.jpg</Key><LastModified>2026-01-02T03:{n % 60:02}:05.000Z</LastModified>"
        f"<ETag>&quot;{n:032x}&quot;</ETag>"
        + ("<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>" if n % 7 else "")
        + f"<Size>{n * 1000}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for n in range(count)
    )
    frame = "<Name>b</Name><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
    token = "<NextContinuationToken>t</NextContinuationToken>"
    return f"{DECLARATION}{OPEN}{frame}{token}{made}{CLOSE}".encode()


def test_the_usual_page_is_read_by_the_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what makes a page cheap: were it not to match, all would work, slowly."""
    expected = ListPage.of(*parse_list(plain(1000)))
    monkeypatch.setattr(list_page, "parse_list", None)
    page = parse_page(plain(1000))
    assert page == ListPage(
        expected.keys,
        expected.sizes,
        expected.etags,
        expected.last_modified,
        expected.storage_classes,
        common_prefixes=[],
        token="t",
    )
    assert page.keys[8] == b"train/folder+/00000008.jpg"


def test_a_page_of_objects_in_columns_and_back() -> None:
    infos = [
        ObjectInfo("é", '"a"', 1, 2, "X"),
        ObjectInfo("k", "", 0, 0, None, RestoreStatus(in_progress=True)),
    ]
    result, token = parse_list(b"<ListBucketResult/>")
    result.object_info.extend(infos)
    result.common_prefixes.append("p/")
    page = ListPage.of(result, token)
    assert page.keys == ["é".encode(), b"k"]
    assert (page.restore_statuses, page.token) == ({1: RestoreStatus(in_progress=True)}, None)
    assert page.result() == result
