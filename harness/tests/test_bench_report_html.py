"""The report is one document that needs nothing else, says what was measured, and looks right in a browser."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3torch.harness.bench import figures
from s3torch.harness.bench.history import Record, ScenarioRecord, SubjectRecord, VerdictRecord
from s3torch.harness.bench.html import render
from s3torch.harness.bench.html._charts import GLANCE, make_bars, make_line, make_trend
from s3torch.harness.bench.html._table import make_table
from s3torch.harness.bench.machine import Machine
from s3torch.harness.bench.regressions import compare
from s3torch.harness.bench.scenario import GIB, Role

MACHINE = Machine("A processor", 2, 8 * GIB, "Linux 6.1 x86_64", "3.11.1", {"torch": "2.13"})
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
NASTY = '<script>alert("x")</script> & \'"'


def make_subject(name: str, role: Role, seconds: float, cpu: float, spread: float = 0.1) -> SubjectRecord:
    factors = (1 - spread / 2, 1.0, 1 + spread / 2)
    return SubjectRecord(
        name,
        role,
        seconds=tuple(seconds * each for each in factors),
        cpu_seconds=tuple(cpu * each for each in factors),
        extra_memory=GIB,
        bytes=GIB,
    )


def make_record(ours: float = 0.5, day: int = 9) -> Record:
    read = ScenarioRecord(
        "get-read",
        "1 GiB, read()",
        GIB,
        subjects=(
            make_subject("plain sockets", Role.FLOOR, 0.4, 0.2),
            make_subject("s3torch", Role.OURS, ours, 0.25),
            make_subject("s3torchconnector", Role.ORIGINAL, 2.0, 3.0, spread=0.6),
            make_subject("obstore", Role.PEER, 0.45, 0.9),
            SubjectRecord("s3fs", Role.PEER, failure=f"it broke: {NASTY}"),
            SubjectRecord("WebDataset", Role.PEER, absence="it reads tar shards"),
            SubjectRecord("unwanted", Role.PEER, failure="left out"),
        ),
        verdicts=(
            VerdictRecord("s3torch", "rate", 0.85, "floor", 0.8, met=False),
            VerdictRecord("s3torch", "rate", 2.5, "original", 4.0, met=True),
            VerdictRecord("s3torch", "memory", 1.1, None, None, met=None),
        ),
    )
    many = replace(read, scenario="many", title="many objects", count=100, subjects=tuple(
        replace(each, objects=100) for each in read.subjects
    ), verdicts=())  # fmt: skip
    timed = replace(read, scenario="import", title="import", timed=True, subjects=read.subjects[1:4], verdicts=())
    skipped = ScenarioRecord("tls", "over TLS", skipped="there is no nginx here")
    return Record(f"2026-01-{day:02}T00:00:00Z", MACHINE, 3, (read, many, timed, skipped))


class Outline(HTMLParser):
    """Checks that elements nest, and collects what tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.loads: list[str] = []
        self.unnamed: list[str] = []
        self.headings: list[int] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if found.get("id"):
            self.ids.append(found["id"] or "")
        if tag == "a":
            self.links.append(found.get("href") or "")
        elif found.get("href") or found.get("src") or tag in ("img", "iframe", "object"):
            self.loads.append(f"{tag} {found.get('href') or found.get('src')}")
        if tag == "svg" and not ((found.get("aria-label") and found.get("role") == "img") or found.get("aria-hidden")):
            self.unnamed.append(str(found))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split()).replace("\N{MULTIPLICATION SIGN}", "x")


def test_says_everything_that_was_measured() -> None:
    text = Outline(render(make_record())).text
    for said in (
        "A processor, 2 cores", "Python 3.11.1", "2026-01-09 00:00:00 UTC", "1 of 2 requirements met", "2.15 GB/s",
        "0.25 s/GiB", "✗ missed: rate ≥ 0.85 x floor: 0.80 x", "? unknown: memory",
        "Not run. there is no nginx here", "it broke", "cannot take part: it reads tar shards",
        "obstore is 1.11 x as fast", "80%", "500 ms",
    ):  # fmt: skip
        assert said in text, said
    assert "unwanted" not in text
    assert "left out" not in text


def test_is_one_document_that_loads_nothing() -> None:
    page = render(make_record(), [make_record(day=1)])
    outline = Outline(page)
    assert outline.loads == ["link data:,"]
    assert "http:" not in page.replace("plain HTTP", "")
    assert "https:" not in page
    assert "default-src 'none'" in page
    assert len(page) < 300_000


def test_can_be_read_without_seeing_it() -> None:
    outline = Outline(render(make_record(), [make_record(day=1)]))
    assert outline.unnamed == []
    assert len(set(outline.ids)) == len(outline.ids)
    assert {link[1:] for link in outline.links} <= set(outline.ids)
    assert outline.headings[0] == 1
    assert all(after - before <= 1 for before, after in zip(outline.headings, outline.headings[1:], strict=False))


def test_nothing_measured_can_break_the_page() -> None:
    record = make_record()
    names = [replace(each, name=NASTY) for each in record.scenarios[0].subjects]
    scenario = replace(record.scenarios[0], title=NASTY, subjects=tuple(names))
    page = render(replace(record, scenarios=(scenario,), store=NASTY, machine=replace(MACHINE, cpu=NASTY)))
    assert Outline(page).tags.count("script") == 1
    assert NASTY not in page


def test_says_what_has_changed_and_shows_how_it_went() -> None:
    history = [make_record(day=day) for day in (1, 2, 3)]
    slower = make_record(ours=1.0)
    outline = Outline(render(slower, history, compare(slower, history)))
    assert "get-read s3torch: speed worse: 0.40 x the floor's, before 0.80 x (0.80 to 0.80)" in outline.text
    assert "worse than in 3 earlier runs" in outline.text
    assert "0.40 of the floor's speed now, 0.80 in 3 before" in outline.text
    quiet = Outline(render(make_record(), history)).text
    assert "none worse than in 3 earlier runs" in quiet
    assert "Changed since" not in quiet
    assert "earlier runs" not in Outline(render(make_record())).text


@pytest.mark.parametrize("scenarios", [(), (ScenarioRecord("tls", "over TLS", skipped="no nginx"),)])
def test_a_run_without_figures_is_a_page(scenarios: tuple[ScenarioRecord, ...]) -> None:
    page = Outline(render(replace(make_record(), scenarios=scenarios, quick=True)))
    assert "figures mean nothing" in page.text


# ------------------------------------------------------------------------------------------------------------ geometry

TIMES = st.lists(st.floats(1e-6, 1e4), min_size=1, max_size=7).map(tuple)


@st.composite
def subjects(draw: st.DrawFn) -> SubjectRecord:
    seconds = draw(TIMES)
    cpu = draw(st.tuples(*[st.floats(0.0, 1e4)] * len(seconds)))
    role = draw(st.sampled_from(Role))
    objects, size = draw(st.integers(1, 10**6)), draw(st.integers(0, 10**13))
    return SubjectRecord(
        f"{role.value} {draw(st.integers(0, 99))}",
        role,
        seconds=seconds,
        cpu_seconds=cpu,
        objects=objects,
        bytes=size,
    )


SCENARIOS = st.builds(
    ScenarioRecord,
    scenario=st.just("name"),
    title=st.text(),
    count=st.sampled_from([1, 100]),
    timed=st.booleans(),
    subjects=st.lists(subjects(), max_size=6, unique_by=lambda each: each.name).map(tuple),
)


@settings(max_examples=40, deadline=None)
@given(SCENARIOS, SCENARIOS)
def test_whatever_was_measured_stays_within_its_chart(scenario: ScenarioRecord, earlier: ScenarioRecord) -> None:
    _, _, rows, _ = make_bars(scenario)
    for row in rows:
        for bar in (row.speed, row.cpu):
            if bar is not None:
                assert 0 <= bar.low <= bar.length <= bar.high <= 1 + 1e-9
    line = make_line(scenario)
    if line is not None:
        assert all(0 <= dot.x <= 1 for dot in line.dots)
        assert line.dots[-1].role == "ours"
    records = [replace(make_record(day=day), scenarios=(each,)) for day, each in enumerate((scenario, earlier), 1)]
    trend = make_trend(scenario, records)
    if trend is not None:
        for point in trend.points:
            assert -1e-9 <= point.high <= point.y <= point.low <= 1 + 1e-9
            assert 0 < point.x < 1
    headings, table = make_table([scenario])
    assert all(len(row) == len(headings) for row in table)
    Outline(render(records[1], records[:1]))


def test_bars_are_as_long_as_their_figures() -> None:
    scenario = make_record().scenarios[0]
    rows = {row.name: row for row in make_bars(scenario)[2]}
    for name, subject in ((each.name, each) for each in scenario.subjects if each.seconds):
        bar, fastest = rows[name].speed, rows["plain sockets"].speed
        assert bar is not None
        assert fastest is not None
        assert bar.length / fastest.length == pytest.approx(0.4 / median(subject.seconds))
    assert max(row.speed.high for row in rows.values() if row.speed) == pytest.approx(1.0)


def test_the_overview_is_a_scale_from_nothing_to_beyond_the_floor() -> None:
    line = make_line(make_record().scenarios[0])
    assert line is not None
    by_role = {dot.role: dot.x for dot in line.dots}
    assert by_role["floor"] == pytest.approx(1 / GLANCE)
    assert by_role["ours"] == pytest.approx(0.8 / GLANCE)
    assert line.text == "80%"


def test_figures_are_read_in_their_own_units() -> None:
    assert figures.seconds(2.5) == "2.50 s"
    assert figures.seconds(0.0125) == "12.5 ms"
    assert figures.seconds(0.00047) == "470 \N{MICRO SIGN}s"
    assert figures.rate(2.5e9, is_of_objects=False) == "2.50 GB/s"
    assert figures.rate(5e7, is_of_objects=False) == "50.0 MB/s"
    assert figures.rate(18500, is_of_objects=True) == "18,500/s"
    assert figures.cpu(float("nan"), is_of_objects=False) == figures.MISSING
    assert figures.size(3 * GIB) == "3.00 GiB"


# ------------------------------------------------------------------------------------------------------------- browser

CHECK = """
<script>
addEventListener("load", () => {
  const button = (name) => [...document.querySelectorAll("th button")].find((each) => each.textContent === name);
  const column = (at) => [...document.querySelectorAll("tbody tr")].map((row) => row.cells[at].textContent);
  const found = {wide: document.documentElement.scrollWidth, screen: innerWidth};
  found.before = column(1);
  button("speed").click();
  found.fastest = column(1);
  button("speed").click();
  found.slowest = column(1);
  found.sorted = document.querySelector("th[aria-sort]").getAttribute("aria-sort");
  found.light = getComputedStyle(document.body).backgroundColor;
  document.getElementById("theme").click();
  found.dark = getComputedStyle(document.body).backgroundColor;
  const bars = [...document.querySelectorAll(".bar .fill")].map((each) => each.getBoundingClientRect().width);
  found.bars = Math.min(...bars) >= 0 && Math.max(...bars);
  const note = document.createElement("pre");
  note.id = "found";
  note.textContent = JSON.stringify(found);
  document.body.append(note);
});
</script>
"""


@pytest.fixture(scope="module")
def chromium() -> str:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs a browser: on Debian and Ubuntu `apt-get install chromium`")
    return program


def browse(program: str, folder: Path, width: int, *options: str) -> str:
    return subprocess.run(
        [program, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
         f"--window-size={width},900", *options],
        capture_output=True, text=True, encoding="utf-8", timeout=60, check=True,
    ).stdout  # fmt: skip


@pytest.mark.parametrize("width", [1280, 500])  # a window of a headless browser is no narrower
def test_works_in_a_browser(chromium: str, tmp_path: Path, width: int) -> None:
    page = tmp_path / "report.html"
    text = render(make_record(), [make_record(day=1)])
    page.write_text(text.replace("</body>", f"{CHECK}</body>"), encoding="utf-8")
    shown = browse(chromium, tmp_path, width, "--dump-dom", page.as_uri())
    found = json.loads(re.search(r'<pre id="found">(.*?)</pre>', shown, re.DOTALL)[1])  # type: ignore[index]
    assert found["wide"] <= found["screen"], "the page scrolls sideways"
    assert found["fastest"] != found["before"]
    assert sorted(found["fastest"]) == sorted(found["before"])
    assert found["slowest"][0] == "s3torchconnector"
    assert found["sorted"] == "ascending"
    assert found["light"] != found["dark"]
    assert found["bars"] > 40


def test_draws_a_picture_in_a_browser(chromium: str, tmp_path: Path) -> None:
    page, picture = tmp_path / "report.html", tmp_path / "report.png"
    page.write_text(render(make_record()), encoding="utf-8")
    browse(chromium, tmp_path, 800, f"--screenshot={picture}", page.as_uri())
    data = picture.read_bytes()
    assert struct.unpack(">II", data[16:24]) == (800, 900)
    assert len(data) > 20_000, "an empty page makes a small picture"
