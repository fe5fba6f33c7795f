"""Runs scenarios: starts servers, lays out objects, lets the subjects take turns, and compares every byte."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from s3torch.harness.bench.contents import TRIED, UPLOADED, Stored, WrongBytesError, check_uploaded, choose, lay_out
from s3torch.harness.bench.counting import CountingProxy, Counts
from s3torch.harness.bench.environments import WORKSPACE, PeerEnvironmentError, interpreter
from s3torch.harness.bench.fresh_memory import recall, reread
from s3torch.harness.bench.lister import ListingServer
from s3torch.harness.bench.place import BUCKET, Place
from s3torch.harness.bench.player import Player
from s3torch.harness.bench.process import Launched, SubjectError, SubjectProcess, subject_path
from s3torch.harness.bench.results import CANNOT, LEFT_OUT, Measured, Outcome
from s3torch.harness.bench.scaling import resized
from s3torch.harness.bench.scenario import MIB, Content, Entry, Role, Scenario, Server, ours
from s3torch.harness.bench.subjects.task import Task
from s3torch.harness.servers import MotoServer, Origin, OriginUnavailableError, Sink
from s3torch.harness.servers._address import own_environment

_RUN_SECONDS = 300.0
_QUICK_SIZE = 32 * MIB
# Scenarios of less are about something else than size.
_LARGE = 64 * MIB
# A run that begins workers takes new memory for them, whatever the size of its objects: the most hungry ones 846 MiB.
_WORKERS = 320 * MIB
_SAVE_OURS = ours("a checkpoint of s3torch's", "connector_dcp:save")


@dataclass(frozen=True, slots=True)
class Settings:
    """How to measure."""

    repeat: int = 5
    """Measured runs of each subject, after one warm-up."""
    quick: bool = False
    """Small objects and few of them: shows that everything works, measures nothing."""
    peers: bool = True
    """Whether the peers are measured beside us."""
    size: int | None = None
    """Bytes of each large object, or of all tensors of a checkpoint of large ones; None takes the scenario's."""


def scaled(scenario: Scenario, settings: Settings) -> Scenario:
    """Return the scenario at the size that the settings ask for."""
    if settings.size is not None and scenario.count == 1 and scenario.size >= _LARGE:
        scenario = resized(scenario, size=settings.size)
    if not settings.quick:
        return scenario
    if scenario.count > 1:
        return resized(scenario, count=min(scenario.count, scenario.quick_count))
    return resized(scenario, size=min(scenario.size, _QUICK_SIZE))


class Runner:
    """Runs scenarios against servers that it starts when first needed; a context manager.

    Args:
        settings: How to measure.
        report: Told what happens, one line at a time.
        place: Where every scenario runs, in place of servers of its own.
        launch: How a subject is started: ``SubjectProcess``, or ``SubjectHere``.
    """

    def __init__(
        self,
        settings: Settings,
        report: Callable[[str], None] = lambda _: None,
        *,
        place: Place | None = None,
        launch: Callable[..., Launched] = SubjectProcess,
    ) -> None:
        self._settings = settings
        self._only_place = place
        self._launch = launch
        self._report = report
        self._stack = ExitStack()
        self._origin: Origin | None = None
        self._sink: Sink | None = None
        self._moto: Place | None = None
        self._listers: dict[int, ListingServer] = {}
        self._subjects = ""
        self._stored: dict[tuple[Server, tuple[object, ...]], Stored] = {}

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
            WrongBytesError: If the bytes of one of ours are wrong; a peer has failed then, and the others go on.
        """
        scenario = scaled(scenario, self._settings)
        try:
            place = self._place(scenario)
        except OriginUnavailableError as error:
            return Outcome(scenario, skipped=str(error))
        stored = self._store(scenario, place)
        with ExitStack() as stack:
            players: list[Player] = []
            failed: dict[str, str] = {}
            for entry in scenario.entries:
                if not self._settings.peers and entry.environment != WORKSPACE:
                    continue
                if entry.absence is not None:
                    failed[entry.name] = f"{CANNOT}: {entry.absence}"
                    continue
                try:
                    players.append(self._prepare(stack, scenario, entry, place, stored))
                except (PeerEnvironmentError, SubjectError, WrongBytesError) as error:
                    failed[entry.name] = self._outlive(entry, error)
            self._take_turns(players, scenario, [place.root / key for key in stored.keys] if place.root else [])
        measured = {player.entry.name: player.result() for player in players}
        gc.collect()  # torch leaves whole states in cycles, and the next scenario wants their memory
        return Outcome(
            scenario,
            [
                measured.get(entry.name) or Measured(entry, failure=failed.get(entry.name, LEFT_OUT))
                for entry in scenario.entries
            ],
        )

    def keep_for(self, following: Iterable[Scenario]) -> None:
        """Remove the objects on the origin that no further scenario reads: they lie in memory.

        Args:
            following: The scenarios that are still to run.
        """
        if self._origin is None:
            return
        layouts = {scaled(each, self._settings).layout for each in following}
        over = [key for key in self._stored if key[0] is Server.PLAIN and key[1] not in layouts]
        removed = {name for key in over for name in self._stored.pop(key).keys}
        # Scenarios of fewer objects share the first of those that have more.
        kept = {name for stored in self._stored.values() for name in stored.keys}
        for name in removed - kept:
            path = self._origin.root / BUCKET / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

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
        place = self._place(scenario)
        with ExitStack() as stack:
            yield self._prepare(stack, scenario, entry, place, self._store(scenario, place))

    def _take_turns(self, players: list[Player], scenario: Scenario, files: list[Path]) -> None:
        for number in range(self._settings.repeat):
            for player in players:
                if player.failure is not None:
                    continue
                if scenario.size >= _LARGE:
                    reread(files)
                    recall(scenario.size)
                elif player.entry.options.get("workers"):
                    recall(_WORKERS)
                try:
                    player.play()
                except (SubjectError, WrongBytesError) as error:
                    player.failure = self._outlive(player.entry, error)
            self._report(f"  round {number + 1} of {self._settings.repeat}")

    def _outlive(self, entry: Entry, error: Exception) -> str:
        """Report what has ended one subject, and return it; where ours has wrong bytes, nothing else matters."""
        if isinstance(error, WrongBytesError) and entry.environment == WORKSPACE:
            raise error
        self._report(f"  {entry.name}: {error}")
        return str(error)

    def _prepare(self, stack: ExitStack, scenario: Scenario, entry: Entry, place: Place, stored: Stored) -> Player:
        self._report(f"  {entry.name}")
        count = scenario.objects_of(entry)
        scratch = str(stack.enter_context(place.scratch()))
        task = Task(
            endpoint=place.endpoint,
            bucket=place.bucket,
            keys=[_address(entry, scenario, place, key) for key in stored.asked(count)],
            size=stored.size,
            region=place.region,
            ca_bundle=place.ca_bundle,
            window=scenario.window,
            options={**_options(entry, place, stored), **entry.options, "scratch": scratch},
        )
        counts = None
        if entry.is_remote and (scenario.is_counted or scenario.content is Content.UPLOAD):
            counts = self._try_out(scenario, entry, place, task)
        process = stack.enter_context(self._start(entry, place, task))
        player = Player(entry, process, scenario, count, stored.total(count), stored.checksum(count), counts)
        player.warm_up()
        return player

    def _start(self, entry: Entry, place: Place, task: Task) -> Launched:
        env = self._environment(entry, place)
        return self._launch(interpreter(entry.environment), entry.subject, task, env=env, timeout=_RUN_SECONDS)

    def _try_out(self, scenario: Scenario, entry: Entry, place: Place, task: Task) -> Counts | None:
        """Let a subject run once in a process that is not measured, to count its requests and see what it stores."""
        is_upload = scenario.content is Content.UPLOAD
        endpoint, keys = (place.endpoint, task.keys)
        if is_upload:
            endpoint, keys = (place.keep_endpoint, [_address(entry, scenario, place, TRIED)])
        with ExitStack() as stack:
            proxy = stack.enter_context(CountingProxy(endpoint)) if scenario.is_counted else None
            process = stack.enter_context(
                self._start(entry, place, replace(task, endpoint=proxy.endpoint if proxy else endpoint, keys=keys))
            )
            process.run()
            counts = proxy.counts if proxy else None
        if is_upload:
            check_uploaded(place, task.options)
        return counts

    def _environment(self, entry: Entry, place: Place) -> dict[str, str]:
        env = {name: value for name, value in own_environment().items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        env |= place.identity()
        # Set, not only removed: unset they mean the files in the home folder.
        env["AWS_CONFIG_FILE"] = env["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
        if entry.environment != WORKSPACE:
            env["PYTHONPATH"] = self._subjects
        if place.ca_bundle:
            # boto3's name and that of most others.
            env["AWS_CA_BUNDLE"] = env["SSL_CERT_FILE"] = place.ca_bundle
        return env

    def _place(self, scenario: Scenario) -> Place:
        server = scenario.server
        if self._only_place is not None:
            return self._only_place
        if server is Server.NONE:
            return Place("http://127.0.0.1:1", "http://127.0.0.1:1")
        if server is Server.MOTO:
            return self._moto_place()
        if server is Server.LISTING:
            if scenario.count not in self._listers:
                self._listers[scenario.count] = self._stack.enter_context(ListingServer(scenario.count))
            endpoint = self._listers[scenario.count].endpoint
            return Place(endpoint, endpoint)
        if self._origin is None:
            try:
                self._origin = self._stack.enter_context(Origin())
            except OriginUnavailableError:
                if self._settings.quick and server is not Server.TLS:
                    # Its figures mean nothing anyway.
                    return self._moto_place()
                raise
            self._origin.create_bucket(BUCKET)
        origin = self._origin
        endpoints = {
            Server.PLAIN: origin.endpoint,
            Server.LATENCY: origin.latency_endpoint,
            Server.TLS: origin.tls_endpoint,
        }
        endpoint = self._sink_endpoint() if server is Server.DISCARD else endpoints[server]
        ca_bundle = origin.ca_bundle if server is Server.TLS else None
        return Place(endpoint, origin.endpoint, root=origin.root / BUCKET, ca_bundle=ca_bundle)

    def _sink_endpoint(self) -> str:
        if self._sink is None:
            # The original commits by copying what it has just uploaded, and asks first whether it is there.
            self._sink = self._stack.enter_context(Sink(present=[f"{BUCKET}/{UPLOADED}/.metadata.tmp"]))
        return self._sink.endpoint

    def _moto_place(self) -> Place:
        if self._moto is None:
            moto = self._stack.enter_context(MotoServer())
            moto.create_bucket(BUCKET)
            client = self._stack.enter_context(closing(moto.boto3_client()))
            self._moto = Place(moto.endpoint, moto.endpoint, client=client)
        return self._moto

    def _store(self, scenario: Scenario, place: Place) -> Stored:
        """Lay out the scenario's objects, once for all scenarios that share them."""
        # The origin's endpoints share their objects.
        server = scenario.server if scenario.server is Server.NONE else Server.MOTO if place.client else Server.PLAIN
        key = (server, scenario.layout)
        if key not in self._stored:
            self._stored[key] = lay_out(scenario, place, lambda key, options: self._save_ours(place, key, options))
        stored = self._stored[key]
        return stored if scenario.chosen is None else choose(stored, scenario.chosen)

    def _save_ours(self, place: Place, key: str, options: Mapping[str, Any]) -> None:
        task = Task(place.keep_endpoint, place.bucket, [place.key(key)], 0, place.region, options=dict(options))
        try:
            with self._start(_SAVE_OURS, place, task) as process:
                process.run()
        except SubjectError as error:
            # Who loads it will fail, and the others can be measured.
            self._report(f"  {_SAVE_OURS.name}: {error}")


def _address(entry: Entry, scenario: Scenario, place: Place, key: str) -> str:
    """Return what a subject asks for: floors do not sign."""
    if entry.role is not Role.FLOOR:
        return place.key(key)
    return place.unsigned_key(key, write=scenario.content in (Content.UPLOAD, Content.UPLOAD_BYTES))


def _options(entry: Entry, place: Place, stored: Stored) -> dict[str, Any]:
    options = dict(stored.options)
    if entry.role is Role.FLOOR and "places" in options:
        options["places"] = [(place.unsigned_key(key), offset) for key, offset in options["places"]]
    return options
