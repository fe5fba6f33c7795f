"""Subjects with a cache: what they read they read again, and what is in the cache at the end has to be right.

A fault of requests strikes while the cache is filled, and again when half of what it holds has been removed. After each
of the two comes a pass without a fault: what it gets is right, and what was kept before is not asked for again.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from s3torch.client import CacheConfig, S3Exception
from s3torch.client.cache import cache_for
from s3torch.harness._typed_errors import find_typed_error
from s3torch.harness.faults import _reading
from s3torch.harness.faults._cache_faults import (
    Losing,
    damage,
    die_at,
    die_halfway,
    drafts,
    entries,
    etag_of,
    limit_files,
    unwritable,
    wrong_entries,
)
from s3torch.harness.faults.contents import LARGE, MIB, SMALL, objects_to_read
from s3torch.harness.faults.place import Controls, Place
from s3torch.harness.faults.plan import FaultPlan, make_replacement

__all__ = ["datasets", "processes", "read"]

_Step = Callable[[Place], None]

_BOUND = 1024 * MIB
_MOMENTS = 9  # a draft, its time and its name, three times over
_PROCESSES = 4
_PROCESS_S = 60.0
_BETWEEN_S = 0.03  # from one damage or kill to the next


def read(place: Place) -> None:
    """A large object in parts and in ranges and tar shards, through a cache, again and again."""
    steps: tuple[_Step, ...] = (_reading.read, _reading.ranged)
    # Tar shards that are replaced are none any more.
    _go_through(place, steps if place.may_be_replaced else (*steps, _reading.tar_dataset), (LARGE,))


def datasets(place: Place) -> None:
    """Datasets and many small objects, through a cache, again and again."""
    _go_through(place, (_reading.iterable_dataset, _reading.map_dataset, _reading.get_many), SMALL)


def processes(place: Place) -> None:
    """Four processes that share a cache, which was used before they were forked."""
    passes = _Passes(place, (_reading.get_many, _reading.read), SMALL, "shared")
    fault = passes.controls.cache_fault
    passes.follow(is_struck=False)
    passes.look_only(_reading.get_many)
    passes.follow(is_struck=fault is None)
    passes.look_in_processes()
    passes.settle(may_fetch=True)
    passes.end()


def _go_through(place: Place, steps: Sequence[_Step], names: Sequence[str]) -> None:
    controls = place.controls
    assert controls is not None
    if controls.cache_fault is not None:
        passes = _Passes(place, steps, names, controls.cache_fault)
        _CACHE_FAULTS[controls.cache_fault](passes)
        passes.end()
        return
    passes = _Passes(place, steps, names, "requests")
    passes.go(is_struck=True)
    # An object that is replaced after it was read is another one for the next pass.
    passes.settle(may_fetch=place.may_be_replaced)
    passes.restore()
    if not passes.may_be_flipped:
        _remove_half(passes)
    passes.go(is_struck=True)
    passes.settle(may_fetch=place.may_be_replaced)
    passes.end()


class _Passes:
    """Passes over the same objects, through a cache of their own.

    Args:
        place: As the subject was given it.
        steps: Subjects without a cache, one after the other.
        names: The objects that may be replaced.
        name: Of the cache.
    """

    def __init__(self, place: Place, steps: Sequence[_Step], names: Sequence[str], name: str) -> None:
        assert place.controls is not None
        self.place = place
        self.controls: Controls = place.controls
        self.directory = self.controls.folder / f"cache-{name}"
        self.errors: list[BaseException] = []
        self.chance = random.Random(f"{self.controls.seed}/{name}")
        self._steps = steps
        self.names = names
        self._title = name
        self._count = 0
        self._is_struck = False
        self.restore()

    @property
    def may_be_flipped(self) -> bool:
        """Whether a bit may flip in what no checksum guards."""
        return any(fault.name == "flip" for fault in self.controls.plan.faults) and _reading.read in self._steps

    def restore(self) -> None:
        """Write the objects as they were, if they may be replaced."""
        if self.place.may_be_replaced:
            self.put({name: objects_to_read()[name] for name in self.names})

    def put(self, objects: dict[str, bytes]) -> None:
        """Write objects, past the cache and the fault."""
        for name, data in objects.items():
            self.controls.put(self.place.key(name), data)

    def note(self, count: int) -> None:
        """Count how often a cache fault has taken effect."""
        self._add({f"cache-{self.controls.cache_fault}": count})

    def follow(self, *, is_struck: bool) -> None:
        """Let the requests that come be struck, or not."""
        self._add(self.controls.follow(self.controls.plan if is_struck else FaultPlan()))
        self._is_struck = is_struck

    def go(self, *, is_struck: bool = False, bound: int = _BOUND) -> None:
        """Read everything, through the cache."""
        self.follow(is_struck=is_struck)
        self.look(bound)

    def look(self, bound: int = _BOUND) -> None:
        """Read everything; what goes wrong is noted."""
        self._count += 1
        for step in self._steps:
            self.look_only(step, bound)

    def look_only(self, step: _Step, bound: int = _BOUND) -> None:
        """Read what one step reads."""
        seen = replace(self.place, config=replace(self.place.config, cache=self.config(bound)), wrong=[])
        seen.possible = self._possible()
        try:
            step(seen)
        except Exception as error:
            if find_typed_error(error, S3Exception) is None:
                raise
            self.errors.append(error)
            if not self._is_struck:
                self.place.wrong.append(f"{self._said()}: an error without a fault: {error}")
        self.place.wrong += [f"{self._said()}: {told}" for told in seen.wrong]

    def settle(self, *, may_fetch: bool = False) -> None:
        """Read without faults until all has been kept, by somebody who uses the directory for the first time."""
        self.go(bound=2 * _BOUND)
        if may_fetch or self.errors:
            self.go(bound=2 * _BOUND)
        if count := self.controls.proxy.objects():
            self.place.wrong.append(f"{self._said()}: the store sent {count} times what the cache should have")
        if not self.may_be_flipped:
            self.place.wrong += wrong_entries(self.directory, self._versions)

    def end(self) -> None:
        """Raise the first of the errors."""
        if self.errors:
            raise self.errors[0]

    def config(self, bound: int = _BOUND) -> CacheConfig:
        """Return the cache's options."""
        return CacheConfig(self.directory, bound, min_free_bytes=0)

    def kill(self, die: Callable[[], None], number: int) -> int:
        """Read in a process that dies; return 1 if it did by that signal, else 0."""

        def work() -> None:
            die()
            self.look()
            os._exit(1 if self.place.wrong else 0)

        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        process.join(_PROCESS_S)
        if process.exitcode not in (0, -number):
            self.place.wrong.append(f"{self._said()}: a process that was to be killed ended with {process.exitcode}")
        return int(process.exitcode == -number)

    def look_in_processes(self) -> None:
        """Read everything twice in some processes; do to them, or to the files, what the cache fault says."""
        context: Any = multiprocessing.get_context("fork")
        fault = self.controls.cache_fault
        pairs = [context.Pipe(duplex=False) for _ in range(_PROCESSES)]
        children = [context.Process(target=self._look_and_tell, args=(pair[1],)) for pair in pairs]
        for child in children:
            child.start()
        for _, sending in pairs:
            sending.close()
        until = time.monotonic() + _PROCESS_S
        killed: set[Any] = set()
        while any(child.is_alive() for child in children) and time.monotonic() < until:
            if fault == "flip":
                self.note(damage(self.directory, fault, self.chance))
            elif fault == "kill" and len(killed) < _PROCESSES - 1:
                child = children[len(killed)]
                os.kill(child.pid, signal.SIGKILL)
                killed.add(child)
                self.note(1)
            time.sleep(_BETWEEN_S)
        for (receiving, _), child in zip(pairs, children, strict=True):
            if child in killed:
                continue
            if not receiving.poll(0):
                raise RuntimeError(f"a process told nothing within {_PROCESS_S:g} s, its status is {child.exitcode}")
            wrong, errors, lost = receiving.recv()
            child.join(_PROCESS_S)
            self.place.wrong += wrong
            self.errors += errors
            if lost:
                self.note(lost)

    def _look_and_tell(self, pipe: Any) -> None:
        losing = Losing(self.directory) if self.controls.cache_fault == "lost" else None
        self.place.wrong = []
        try:
            self.look()
            self.look()
        except BaseException as caught:  # noqa: BLE001  # sent to who started this
            self.errors.append(caught)
        pipe.send((self.place.wrong, self.errors, 0 if losing is None else losing.lost))
        pipe.close()

    def _possible(self) -> dict[str, list[bytes]]:
        """Return of which versions an object may be, where that is not what the place says itself."""
        if self.place.may_be_replaced and not self._is_struck:
            return {name: [self.place.fetch(self.place.key(name))] for name in self.names}
        if self.may_be_flipped:
            right = objects_to_read()[LARGE]
            flipped = bytearray(right)
            flipped[self.controls.plan.faults[0].at] ^= 1
            return {LARGE: [right, bytes(flipped)]}
        return {}

    def _versions(self, key: str) -> dict[str, bytes]:
        right = objects_to_read()[key.removeprefix(self.place.prefix)]
        return {etag_of(each): each for each in (right, make_replacement(len(right)))}

    def _add(self, counts: dict[str, int]) -> None:
        injected = self.place.injected
        for name, count in counts.items():
            injected[name] = injected.get(name, 0) + count

    def _said(self) -> str:
        return f"{self._title}, pass {self._count}"


def _remove_half(passes: _Passes) -> None:
    """Remove every other file, as if for want of room."""
    for file in entries(passes.directory)[::2]:
        file.unlink()


def _spoil(passes: _Passes) -> None:
    """Spoil each file between two passes."""
    fault = passes.controls.cache_fault
    assert fault is not None
    passes.go()
    passes.note(damage(passes.directory, fault, passes.chance))
    passes.go()
    passes.settle()


def _lose(passes: _Passes) -> None:
    """Remove files in the second pass when they are about to be opened."""
    passes.go()
    losing = Losing(passes.directory)
    passes.go()
    losing.is_on = False
    passes.note(losing.lost)
    passes.settle(may_fetch=True)


def _stop_writing(passes: _Passes) -> None:
    """Let the second pass find a part, and write nothing."""
    passes.go()
    _remove_half(passes)
    with unwritable(passes.directory):
        passes.go()
    passes.note(cache_for(passes.config()).stats().bypassed)
    passes.settle(may_fetch=True)


def _fill(passes: _Passes) -> None:
    """Let files end early, and then the whole cache hold hardly anything."""
    with limit_files():
        passes.go()
    passes.note(cache_for(passes.config()).stats().bypassed)
    if left := drafts(passes.directory):
        passes.place.wrong.append(f"{len(left)} drafts were left of what could not be written")
    passes.go(bound=1 * MIB)
    passes.settle(may_fetch=True)


def _kill(passes: _Passes) -> None:
    """Let processes die at each step of writing, and in the middle of a file."""
    passes.follow(is_struck=False)
    killed = sum(passes.kill(lambda at=moment: die_at(at), signal.SIGKILL) for moment in range(_MOMENTS))  # type: ignore[misc]  # a default
    killed += passes.kill(die_halfway, signal.SIGXFSZ)
    passes.note(killed)
    if killed != _MOMENTS + 1 or len(drafts(passes.directory)) < 2:
        passes.place.wrong.append(f"{killed} processes were killed, {len(drafts(passes.directory))} drafts were left")
    passes.settle(may_fetch=True)


def _replace(passes: _Passes) -> None:
    """Replace all objects between two passes: the second one must get the new ones alone."""
    passes.go()
    passes.put({name: make_replacement(len(objects_to_read()[name])) for name in passes.names})
    passes.note(len(passes.names))
    passes.go()
    passes.settle()


_CACHE_FAULTS: dict[str, Callable[[_Passes], None]] = {
    "flip": _spoil,
    "cut": _spoil,
    "other": _spoil,
    "lost": _lose,
    "unwritable": _stop_writing,
    "full": _fill,
    "kill": _kill,
    "replace": _replace,
}
