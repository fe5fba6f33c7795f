"""Lays out what subjects read, and looks at what they have written."""

from __future__ import annotations

import io
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from s3torch.harness.bench.lister import FOLDER, PREFIX, first_keys, key_name
from s3torch.harness.bench.place import Place
from s3torch.harness.bench.scenario import Content, Scenario, Server
from s3torch.harness.servers._content import write_content

_LOCAL_HEADER_BYTES = 30
UPLOADED = "uploaded"
"""Key of what a subject saves while it is measured, or what its keys begin with."""
TRIED = "tried"
"""Key of what a subject saves for ``check_uploaded``."""


class WrongBytesError(RuntimeError):
    """A subject returned or stored something other than what was asked of it."""


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
    step: int = 1
    """How many objects more each of the checksums covers."""

    def asked(self, count: int) -> list[str]:
        """Return what to ask for of the first ``count``."""
        if self.step == 1 or count > self.step * (len(self.checksums) - 1):
            return self.keys[:count]
        return [first_keys(count)]

    def checksum(self, count: int) -> int | None:
        """Return the checksum of what the first ``count`` deliver; None if nothing is delivered."""
        # Of what is delivered only as a whole there is but one.
        return self.checksums[min(-(-count // self.step), len(self.checksums)) - 1] if self.checksums else None

    def total(self, count: int) -> int:
        """Return the bytes that the first ``count`` deliver."""
        return self.payload * count


def lay_out(scenario: Scenario, place: Place, save_ours: Callable[[str, Mapping[str, Any]], None]) -> Stored:
    """Store a scenario's objects.

    Args:
        scenario: Says which.
        place: Where.
        save_ours: Saves a distributed checkpoint by this project; called with the key and the options of the task.
    """
    if scenario.server is Server.NONE:
        return Stored(["-"], 0, {}, [], 0)
    if scenario.content is Content.KEYS:
        checksums, size = [0], 0
        for first in range(0, scenario.count, FOLDER):
            numbers = range(first, min(first + FOLDER, scenario.count))
            names = "".join(f"{key_name(number)}\n" for number in numbers).encode()
            checksums.append(zlib.crc32(names, checksums[-1]))
            size += len(names)
        return Stored([PREFIX], 0, {}, checksums[1:], size // scenario.count, step=FOLDER)
    if scenario.content is Content.BYTES:
        return _store_bytes(scenario, place)
    if scenario.content is Content.UPLOAD_BYTES:
        return Stored([UPLOADED], scenario.size, {}, [], scenario.size)
    options: dict[str, Any] = {
        "tensors": scenario.tensors,
        "tensor_size": scenario.size // scenario.tensors // 4 * 4,
        "chosen": list(range(scenario.tensors)),
        "is_one_file": scenario.is_one_file,
    }
    payload: int = options["tensor_size"] * scenario.tensors
    if scenario.content is Content.UPLOAD:
        return Stored([UPLOADED], payload, options, [], payload)
    with place.scratch() as folder:
        if scenario.content is Content.STATE:
            return _store_state(folder, place, options, payload)
        return _store_checkpoint(folder, place, options, payload, save_ours)


def _store_bytes(scenario: Scenario, place: Place) -> Stored:
    keys = [f"{scenario.size}/{number:05d}" for number in range(scenario.count)]
    checksums, checksum = [], 0
    with place.scratch() as folder:
        for number, key in enumerate(keys):
            path = (place.root or folder) / key
            write_content(path, scenario.size, seed=number)
            checksum = zlib.crc32(path.read_bytes(), checksum)
            checksums.append(checksum)
            place.put(path, key)
    return Stored(keys, scenario.size, {}, checksums, scenario.size)


def _store_state(folder: Path, place: Place, options: Mapping[str, Any], payload: int) -> Stored:
    import torch

    state = _make_state(options)
    path, key = folder / "state.pt", f"state-{payload}.pt"
    torch.save(state, path)
    place.put(path, key)
    with path.open("rb") as file:
        offsets = _payload_offsets(file, options["tensors"])
    return Stored([key], path.stat().st_size, {**options, "offsets": offsets}, [_checksum(state.values())], payload)


def _store_checkpoint(
    folder: Path,
    place: Place,
    options: Mapping[str, Any],
    payload: int,
    save_ours: Callable[[str, Mapping[str, Any]], None],
) -> Stored:
    import torch.distributed.checkpoint as dcp

    state = _make_state(options)
    key = f"checkpoint-{payload}-{options['tensors']}{'' if options['is_one_file'] else '-files'}"
    writer = dcp.FileSystemWriter(folder, single_file_per_rank=options["is_one_file"], sync_files=False)
    with _single_process():
        metadata = dcp.save(state, storage_writer=writer)
    for path in folder.iterdir():
        place.put(path, f"{key}/stock/{path.name}")
    save_ours(f"{key}/ours", options)
    stored = {index.fqn: info for index, info in metadata.storage_data.items()}
    places = []
    for name in state:
        info = stored[name]
        with (folder / info.relative_path).open("rb") as file:
            file.seek(info.offset)
            (offset,) = _payload_offsets(io.BytesIO(file.read(info.length)), 1)
        places.append((f"{key}/stock/{info.relative_path}", info.offset + offset))
    return Stored([key], payload, {**options, "places": places}, [_checksum(state.values())], payload)


def choose(stored: Stored, chosen: Sequence[int]) -> Stored:
    """Return a stored distributed checkpoint of which only some tensors are loaded.

    Args:
        stored: The checkpoint.
        chosen: The tensors' numbers.
    """
    state = _make_state(stored.options)
    places = [stored.options["places"][number] for number in chosen]
    return replace(
        stored,
        options={**stored.options, "chosen": list(chosen), "places": places},
        checksums=[_checksum(state[f"layer.{number}.weight"] for number in chosen)],
        payload=stored.options["tensor_size"] * len(chosen),
    )


@contextmanager
def _single_process() -> Iterator[None]:
    """Let torch not warn that there is no process group."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _make_state(options: Mapping[str, Any]) -> dict[str, Any]:
    from s3torch.harness.bench.subjects.state import make_state

    return make_state(options["tensors"], options["tensor_size"])


def _checksum(tensors: Iterable[Any]) -> int:
    checksum = 0
    for tensor in tensors:
        checksum = zlib.crc32(tensor.numpy().data.cast("B"), checksum)
    return checksum


def _payload_offsets(file: Any, count: int) -> Sequence[int]:
    """Return where each storage's bytes start in a file of ``torch.save``, by the zip format's local headers."""
    found = {}
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            folder, _, name = info.filename.rpartition("/")
            if not folder.endswith("/data") or not name.isdigit():
                continue
            file.seek(info.header_offset)
            header = file.read(_LOCAL_HEADER_BYTES)
            name_length, extra_length = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
            found[int(name)] = info.header_offset + _LOCAL_HEADER_BYTES + name_length + extra_length
    return [found[number] for number in range(count)]


def check_uploaded(place: Place, options: Mapping[str, Any]) -> None:
    """Compare what a subject has saved as ``TRIED`` with what it was told to save, and remove it.

    Args:
        place: Where it is kept.
        options: The task's.

    Raises:
        WrongBytesError: If it is not the same.
    """
    import torch
    import torch.distributed.checkpoint as dcp

    expected = _make_state(options)
    with place.scratch() as folder:
        path = place.take(TRIED, folder)
        try:
            if path.is_dir():
                found = {name: torch.zeros_like(tensor) for name, tensor in expected.items()}
                with _single_process():
                    dcp.load(found, storage_reader=dcp.FileSystemReader(path))
            else:
                found = torch.load(path, weights_only=True, mmap=True)
        except Exception as error:
            raise WrongBytesError(f"what was stored cannot be loaded ({_look_at(path)}): {error}") from error
        if found.keys() != expected.keys() or not all(torch.equal(found[name], expected[name]) for name in expected):
            raise WrongBytesError("the checkpoint that was stored is not the one that was saved")


def _look_at(path: Path) -> str:
    """Say what lies there, as far as it helps to find out why."""
    if not path.exists():
        return "there is nothing"
    if path.is_dir():
        return ", ".join(f"{file.name}: {file.stat().st_size} bytes" for file in sorted(path.iterdir()))
    with path.open("rb") as file:
        return f"{path.stat().st_size} bytes, the first of them {file.read(16)!r}"
