"""Subjects with a cache: what they read they read again, and what is in the cache at the end has to be right.

A fault of requests strikes while the cache is filled, and again when half of what it holds has been removed. After each
of the two comes a pass without a fault: what it gets is right, and what was kept before is not asked for again.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence

from s3torch.client.cache import cache_for
from s3torch.harness.faults import _reading
from s3torch.harness.faults._cache_faults import (
    Losing,
    damage,
    die_at,
    die_halfway,
    drafts,
    entries,
    limit_files,
    unwritable,
)
from s3torch.harness.faults._passes import Passes, Step
from s3torch.harness.faults.contents import LARGE, MIB, SMALL, objects_to_read
from s3torch.harness.faults.place import Place
from s3torch.harness.faults.plan import make_replacement

__all__ = ["datasets", "processes", "read"]

_MOMENTS = 9  # a draft, its time and its name, three times over


def read(place: Place) -> None:
    """A large object in parts and in ranges and tar shards, through a cache, again and again."""
    steps: tuple[Step, ...] = (_reading.read, _reading.ranged)
    # Tar shards that are replaced are none any more.
    _go_through(place, steps if place.may_be_replaced else (*steps, _reading.tar_dataset), (LARGE,))


def datasets(place: Place) -> None:
    """Datasets and many small objects, through a cache, again and again."""
    _go_through(place, (_reading.iterable_dataset, _reading.map_dataset, _reading.get_many), SMALL)


def processes(place: Place) -> None:
    """Four processes that share a cache, which was used before they were forked."""
    passes = Passes(place, (_reading.get_many, _reading.read), SMALL, "shared")
    fault = passes.controls.cache_fault
    passes.follow(is_struck=False)
    passes.look_only(_reading.get_many)
    passes.follow(is_struck=fault is None)
    passes.look_in_processes()
    passes.settle(may_fetch=True)
    passes.end()


def _go_through(place: Place, steps: Sequence[Step], names: Sequence[str]) -> None:
    controls = place.controls
    assert controls is not None
    if controls.cache_fault is not None:
        passes = Passes(place, steps, names, controls.cache_fault)
        _CACHE_FAULTS[controls.cache_fault](passes)
        passes.end()
        return
    passes = Passes(place, steps, names, "requests")
    passes.go(is_struck=True)
    # An object that is replaced after it was read is another one for the next pass.
    passes.settle(may_fetch=place.may_be_replaced)
    passes.restore()
    if not passes.may_be_flipped:
        _remove_half(passes)
    passes.go(is_struck=True)
    passes.settle(may_fetch=place.may_be_replaced)
    passes.end()


def _remove_half(passes: Passes) -> None:
    """Remove every other file, as if for want of room."""
    for file in entries(passes.directory)[::2]:
        file.unlink()


def _spoil(passes: Passes) -> None:
    """Spoil each file between two passes."""
    fault = passes.controls.cache_fault
    assert fault is not None
    passes.go()
    passes.note(damage(passes.directory, fault, passes.chance))
    passes.go()
    passes.settle()


def _lose(passes: Passes) -> None:
    """Remove files in the second pass when they are about to be opened."""
    passes.go()
    losing = Losing(passes.directory)
    passes.go()
    losing.is_on = False
    passes.note(losing.lost)
    passes.settle(may_fetch=True)


def _stop_writing(passes: Passes) -> None:
    """Let the second pass find a part, and write nothing."""
    passes.go()
    _remove_half(passes)
    with unwritable(passes.directory):
        passes.go()
    passes.note(cache_for(passes.config()).stats().bypassed)
    passes.settle(may_fetch=True)


def _fill(passes: Passes) -> None:
    """Let files end early, and then the whole cache hold hardly anything."""
    with limit_files():
        passes.go()
    passes.note(cache_for(passes.config()).stats().bypassed)
    if left := drafts(passes.directory):
        passes.place.wrong.append(f"{len(left)} drafts were left of what could not be written")
    passes.go(bound=1 * MIB)
    passes.settle(may_fetch=True)


def _kill(passes: Passes) -> None:
    """Let processes die at each step of writing, and in the middle of a file."""
    passes.follow(is_struck=False)
    killed = sum(passes.kill(lambda at=moment: die_at(at), signal.SIGKILL) for moment in range(_MOMENTS))  # type: ignore[misc]  # a default
    killed += passes.kill(die_halfway, signal.SIGXFSZ)
    passes.note(killed)
    if killed != _MOMENTS + 1 or len(drafts(passes.directory)) < 2:
        passes.place.wrong.append(f"{killed} processes were killed, {len(drafts(passes.directory))} drafts were left")
    passes.settle(may_fetch=True)


def _replace(passes: Passes) -> None:
    """Replace all objects between two passes: the second one must get the new ones alone."""
    passes.go()
    passes.put({name: make_replacement(len(objects_to_read()[name])) for name in passes.names})
    passes.note(len(passes.names))
    passes.go()
    passes.settle()


_CACHE_FAULTS: dict[str, Callable[[Passes], None]] = {
    "flip": _spoil,
    "cut": _spoil,
    "other": _spoil,
    "lost": _lose,
    "unwritable": _stop_writing,
    "full": _fill,
    "kill": _kill,
    "replace": _replace,
}
