"""Runs scenarios: starts servers, lays out objects, lets the subjects take turns, and compares every byte."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from s3torch.harness.bench.environments import WORKSPACE, PeerEnvironmentError, interpreter
from s3torch.harness.bench.process import SubjectError, SubjectProcess, subject_path
from s3torch.harness.bench.results import Measured, Outcome
from s3torch.harness.bench.scenarios import MIB, TENSORS, Content, Entry, Scenario, Server
from s3torch.harness.bench.subjects.measure import Run
from s3torch.harness.bench.subjects.task import Task
from s3torch.harness.servers import MotoServer, Origin, OriginUnavailableError
from s3torch.harness.servers._address import dummy_environment, foreign_variables
from s3torch.harness.servers._content import write_content

_BUCKET = "bench"
_RUN_SECONDS = 300.0
_QUICK_SIZE, _QUICK_COUNT = 32 * MIB, 100
_LOCAL_HEADER_BYTES = 30


class WrongBytesError(RuntimeError):
    """A subject returned or stored something other than what was asked of it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to measure."""

    repeat: int = 5
    """Measured runs of each subject, after one warm-up."""
    quick: bool = False
    """Small objects and few of them: shows that everything works, measures nothing."""
    peers: bool = True
    """Whether the peers are measured beside us."""


def scaled(scenario: Scenario, settings: Settings) -> Scenario:
    """Return the scenario at the size that the settings ask for."""
    if not settings.quick:
        return scenario
    if scenario.count > 1:
        return replace(scenario, count=min(scenario.count, _QUICK_COUNT))
    return replace(scenario, size=min(scenario.size, _QUICK_SIZE))


class Runner:
    """Runs scenarios against servers that it starts when first needed; a context manager.

    Args:
        settings: How to measure.
        report: Told what happens, one line at a time.
    """

    def __init__(self, settings: Settings, report: Callable[[str], None] = lambda _: None) -> None:
        self._settings = settings
        self._report = report
        self._stack = ExitStack()
        self._origin: Origin | None = None
        self._moto: MotoServer | None = None
        self._subjects = ""
        self._stored: dict[tuple[bool, Content, int, int], Stored] = {}

    def __enter__(self) -> Runner:
        self._subjects = self._stack.enter_context(subject_path())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, scenario: Scenario) -> Outcome:
        """Run one scenario.

        Args:
            scenario: Which; it is scaled to the settings.

        Returns:
            What it gave; with the reason where it cannot be run here.

        Raises:
            WrongBytesError: If a subject's bytes are wrong.
        """
        scenario = scaled(scenario, self._settings)
        try:
            place = self._place(scenario.server)
        except OriginUnavailableError as error:
            return Outcome(scenario, skipped=str(error))
        stored = self._store(scenario, place)
        with ExitStack() as stack:
            players: list[Player] = []
            failed: dict[str, str] = {}
            for entry in scenario.entries:
                if not self._settings.peers and entry.environment != WORKSPACE:
                    continue
                try:
                    players.append(self._prepare(stack, scenario, entry, place, stored))
                except (PeerEnvironmentError, SubjectError) as error:
                    self._report(f"  {entry.name}: {error}")
                    failed[entry.name] = str(error)
            self._take_turns(players)
        measured = {player.entry.name: player.result() for player in players}
        return Outcome(
            scenario,
            [
                measured.get(entry.name) or Measured(entry, failure=failed.get(entry.name, "left out"))
                for entry in scenario.entries
            ],
        )

    @contextmanager
    def player(self, scenario: Scenario, entry: Entry) -> Iterator[Player]:
        """Set up one subject alone, warm and checked, for whoever measures it in another way.

        Args:
            scenario: Its scenario; it is scaled to the settings.
            entry: One of the scenario's.

        Raises:
            OriginUnavailableError: Where nginx is missing.
            PeerEnvironmentError: If the subject's environment cannot be made.
            SubjectError: If the subject fails.
            WrongBytesError: If its bytes are wrong.
        """
        scenario = scaled(scenario, self._settings)
        place = self._place(scenario.server)
        with ExitStack() as stack:
            yield self._prepare(stack, scenario, entry, place, self._store(scenario, place))

    def _take_turns(self, players: list[Player]) -> None:
        for number in range(self._settings.repeat):
            for player in players:
                if player.failure is not None:
                    continue
                try:
                    player.play()
                except SubjectError as error:
                    self._report(f"  {player.entry.name}: {error}")
                    player.failure = str(error)
            self._report(f"  round {number + 1} of {self._settings.repeat}")

    def _prepare(self, stack: ExitStack, scenario: Scenario, entry: Entry, place: Place, stored: Stored) -> Player:
        self._report(f"  {entry.name}")
        python = interpreter(entry.environment)
        count = min(entry.objects or scenario.count, scenario.count)
        task = Task(
            endpoint=place.endpoint,
            bucket=_BUCKET,
            keys=stored.keys[:count],
            size=stored.size,
            ca_bundle=place.ca_bundle,
            window=scenario.window,
            options={**stored.options, **entry.options},
        )
        env = self._environment(entry, place)

        def start(task: Task) -> SubjectProcess:
            return SubjectProcess(python, entry.subject, task, env=env, timeout=_RUN_SECONDS)

        if scenario.content is Content.UPLOAD and place.check_endpoint:
            _check_upload(start, replace(task, endpoint=place.check_endpoint, keys=["uploaded"]), place)
        process = stack.enter_context(start(task))
        expected = None if scenario.content in (Content.UPLOAD, Content.UPLOAD_BYTES) else stored.checksum(count)
        player = Player(entry, process, scenario, count, stored.total(count), expected)
        with place.counting() as requests:
            player.warm_up()
        player.requests = requests() if requests else None
        return player

    def _environment(self, entry: Entry, place: Place) -> dict[str, str]:
        foreign = {*foreign_variables(list(os.environ)), "PYTHONPATH", "VIRTUAL_ENV"}
        env = {name: value for name, value in os.environ.items() if name not in foreign}
        env |= dummy_environment()
        # Set, not only removed: unset they mean the files in the home folder.
        env["AWS_CONFIG_FILE"] = env["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
        if entry.environment != WORKSPACE:
            env["PYTHONPATH"] = self._subjects
        if place.ca_bundle:
            # boto3's name and that of most others.
            env["AWS_CA_BUNDLE"] = env["SSL_CERT_FILE"] = place.ca_bundle
        return env

    def _place(self, server: Server) -> Place:
        if server is Server.NONE:
            return Place("http://127.0.0.1:1")
        if server is Server.MOTO:
            if self._moto is None:
                self._moto = self._stack.enter_context(MotoServer())
                self._moto.create_bucket(_BUCKET)
            return Place(self._moto.endpoint, moto=self._moto)
        if self._origin is None:
            self._origin = self._stack.enter_context(Origin())
            self._origin.create_bucket(_BUCKET)
        origin, root = self._origin, self._origin.root / _BUCKET
        if server is Server.TLS:
            return Place(origin.tls_endpoint, root=root, ca_bundle=origin.ca_bundle)
        if server is Server.DISCARD:
            return Place(origin.discard_endpoint, root=root, check_endpoint=origin.endpoint)
        return Place(origin.latency_endpoint if server is Server.LATENCY else origin.endpoint, root=root)

    def _store(self, scenario: Scenario, place: Place) -> Stored:
        """Lay out the scenario's objects, once for all scenarios that share them."""
        if scenario.server is Server.NONE:
            return Stored(["-"], 0, {}, [], 0)
        # The origin's endpoints share their objects.
        key = (place.moto is not None, scenario.content, scenario.size, scenario.count)
        if key not in self._stored:
            self._stored[key] = _store(scenario, place)
        return self._stored[key]


@dataclass(frozen=True, slots=True)
class Place:
    """A server as a scenario sees it."""

    endpoint: str
    """Where the subjects go."""
    root: Path | None = None
    """The bucket's folder, where it is one."""
    check_endpoint: str | None = None
    """Where uploads are kept, if ``endpoint`` drops them."""
    ca_bundle: str | None = None
    """What to trust."""
    moto: MotoServer | None = None
    """The server, if it is moto."""

    @contextmanager
    def counting(self) -> Iterator[Callable[[], int] | None]:
        """Count requests within the block, where the server can; yields who tells the number afterwards."""
        with self.moto.recording() if self.moto else nullcontext() as found:
            yield (lambda: len(found)) if found is not None else None


@dataclass(frozen=True, slots=True)
class Stored:
    """Objects that lie on a server."""

    keys: list[str]
    """Their names."""
    size: int
    """Bytes of each."""
    options: Mapping[str, Any]
    """What subjects must know of them."""
    checksums: list[int]
    """CRC-32 of what the first one, two, ... deliver, in order."""
    payload: int
    """Bytes that each delivers."""

    def checksum(self, count: int) -> int | None:
        """Return the checksum of what the first ``count`` deliver; None if nothing is delivered."""
        return self.checksums[count - 1] if self.checksums else None

    def total(self, count: int) -> int:
        """Return the bytes that the first ``count`` deliver."""
        return self.payload * count


def _store(scenario: Scenario, place: Place) -> Stored:
    if scenario.content is Content.UPLOAD_BYTES:
        return Stored(["uploaded"], scenario.size, {}, [], scenario.size)
    tensors = {"tensors": TENSORS, "tensor_size": scenario.size // TENSORS}
    if scenario.content is Content.UPLOAD:
        return Stored(["uploaded"], scenario.size, tensors, [], scenario.size)
    if scenario.content is Content.STATE:
        assert place.root is not None
        return _store_state(place.root / "state.pt", scenario.size, tensors)
    keys = [f"{scenario.size}/{number:05d}" for number in range(scenario.count)]
    checksums, checksum = [], 0
    client = place.moto.boto3_client() if place.moto else None
    with TemporaryDirectory(prefix="s3torch-bench-") as folder:
        for number, key in enumerate(keys):
            path = (place.root or Path(folder)) / key
            write_content(path, scenario.size, seed=number)
            checksum = zlib.crc32(path.read_bytes(), checksum)
            checksums.append(checksum)
            if client:
                client.put_object(Bucket=_BUCKET, Key=key, Body=path.read_bytes())
    return Stored(keys, scenario.size, {}, checksums, scenario.size)


def _store_state(path: Path, size: int, tensors: Mapping[str, int]) -> Stored:
    import torch

    from s3torch.harness.bench.subjects.state import buffers, make_state

    state = make_state(tensors["tensors"], tensors["tensor_size"])
    torch.save(state, path)
    checksum = 0
    for buffer in buffers(state):
        checksum = zlib.crc32(buffer, checksum)
    options = {**tensors, "offsets": _payload_offsets(path, tensors["tensors"])}
    return Stored([path.name], path.stat().st_size, options, [checksum], size)


def _payload_offsets(path: Path, count: int) -> list[int]:
    """Return where each storage's bytes start in a file of ``torch.save``, by the zip format's local headers."""
    found = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for info in archive.infolist():
            folder, _, name = info.filename.rpartition("/")
            if not folder.endswith("/data") or not name.isdigit():
                continue
            file.seek(info.header_offset)
            header = file.read(_LOCAL_HEADER_BYTES)
            name_length, extra_length = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
            found[int(name)] = info.header_offset + _LOCAL_HEADER_BYTES + name_length + extra_length
    return [found[number] for number in range(count)]


def _check_upload(start: Callable[[Task], SubjectProcess], task: Task, place: Place) -> None:
    """Let the subject save once to where it is kept, and compare what arrived."""
    import torch

    from s3torch.harness.bench.subjects.state import make_state

    assert place.root is not None
    path = place.root / task.keys[0]
    try:
        with start(task) as process:
            process.run()
        found = torch.load(path, weights_only=True, mmap=True)
        expected = make_state(task.options["tensors"], task.options["tensor_size"])
        if found.keys() != expected.keys() or not all(torch.equal(found[name], expected[name]) for name in expected):
            raise WrongBytesError("the checkpoint that was stored is not the one that was saved")
    finally:
        path.unlink(missing_ok=True)


class Player:
    """A subject in its process, and the runs it has had; made by ``Runner``."""

    def __init__(
        self, entry: Entry, process: SubjectProcess, scenario: Scenario, count: int, size: int, expected: int | None
    ) -> None:
        self.entry = entry
        self.failure: str | None = None
        self.requests: int | None = None
        self._process = process
        self._scenario = scenario
        self._count = count
        self._size = size
        self._expected = expected
        self._runs: list[Run] = []

    def warm_up(self) -> None:
        """Run once, with everything checked."""
        self._check(self._process.run(check=True))

    def play(self) -> Run:
        """Run once and keep the figures.

        Raises:
            SubjectError: If the subject fails.
            WrongBytesError: If its bytes are wrong.
        """
        run = self._process.run(spend=self._scenario.spend)
        if run.crc:
            self._check(run)
        self._runs.append(run)
        return run

    def result(self) -> Measured:
        """Return what it gave."""
        return Measured(
            self.entry,
            [] if self.failure else self._runs,
            self._process.resident,
            self._count,
            self._size,
            self.requests,
            self.failure,
        )

    def _check(self, run: Run) -> None:
        if self._expected is not None and (run.crc, run.size) != (self._expected, self._size):
            raise WrongBytesError(
                f"{self.entry.name} in {self._scenario.name}: {run.size} bytes with CRC-32 {run.crc:08x}, "
                f"not {self._size} with {self._expected:08x}"
            )
