"""Passes over the same objects through one cache, and what has to be true of each, and of the cache at the end."""

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
from s3torch.harness._typed_errors import find_typed_error
from s3torch.harness.faults import _reading
from s3torch.harness.faults._cache_faults import Losing, damage, etag_of, wrong_entries
from s3torch.harness.faults.contents import LARGE, MIB, objects_to_read
from s3torch.harness.faults.place import Controls, Place
from s3torch.harness.faults.plan import FaultPlan, make_replacement

__all__ = ["Passes", "Step"]

Step = Callable[[Place], None]
"""A subject without a cache."""

_BOUND = 1024 * MIB
_PROCESSES = 4
_PROCESS_S = 60.0
_BETWEEN_S = 0.03  # from one damage or kill to the next


class Passes:
    """Passes over the same objects, through a cache of their own.

    Args:
        place: As the subject was given it.
        steps: Subjects without a cache, one after the other.
        names: The objects that may be replaced.
        name: Of the cache.
    """

    def __init__(self, place: Place, steps: Sequence[Step], names: Sequence[str], name: str) -> None:
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

    def look_only(self, step: Step, bound: int = _BOUND) -> None:
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
