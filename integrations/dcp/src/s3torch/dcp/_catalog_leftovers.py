"""Which objects belong to no committed checkpoint.

Only what a save alone can have written is ever taken for a leftover: data files and half renamed metadata. What a user
or a framework keeps beside them stays.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from s3torch.client import ObjectInfo
from s3torch.dcp._folder import METADATA

__all__ = ["Manifest", "choose_contents", "find_leftovers", "find_manifests", "is_data", "is_manifest"]

# Safetensors only by the name that an attempt gives them: others are models that somebody keeps here.
_DATA = re.compile(r".*(\.distcp|[0-9a-f]{16}_[0-9]+\.safetensors)", re.DOTALL)
_RANK_MANIFEST = re.compile(r"__[0-9]+" + re.escape(METADATA))
_TEMPORARY = METADATA + ".tmp"


@dataclass(frozen=True, slots=True)
class Manifest:
    """An object that says which others make a checkpoint."""

    folder: str
    """What the keys of its checkpoint begin with: empty, or with a slash at its end."""
    modified: int
    """When it was written, in seconds since the epoch."""
    references: frozenset[str] | None
    """The keys it refers to, relative to its folder; None where it could not be read."""


def is_manifest(key: str) -> bool:
    """Tell whether an object commits a checkpoint: of the whole job, or of one rank that saves for itself."""
    name = key.rpartition("/")[2]
    return name == METADATA or _RANK_MANIFEST.fullmatch(name) is not None


def is_data(key: str) -> bool:
    """Tell whether an object is one of those that a save writes before it commits."""
    return _DATA.fullmatch(key) is not None


def choose_contents(objects: Collection[ObjectInfo], folder: str, committed: int) -> list[str] | None:
    """Return the keys that go when a checkpoint is deleted.

    Args:
        objects: Everything in its folder.
        folder: What their keys begin with, with a slash at its end.
        committed: When it was committed, in seconds since the epoch.

    Returns:
        All but the data that were written later, which are another save's, and checkpoints of their own that lie
        further down. None if the checkpoint was committed again: it is another one.
    """
    manifest = next((item for item in objects if item.key == folder + METADATA), None)
    if manifest is not None and manifest.last_modified > committed:
        return None
    nested = tuple(_folder(item.key) for item in objects if is_manifest(item.key) and _folder(item.key) != folder)
    return [
        item.key
        for item in objects
        if not item.key.startswith(nested) and not (is_data(item.key) and item.last_modified > committed)
    ]


def find_manifests(objects: Iterable[ObjectInfo], since: float | None) -> list[ObjectInfo]:
    """Return the manifests without which nobody knows whether some object is a leftover.

    Args:
        objects: Everything there is.
        since: Time from which on objects may belong to a save under way, in seconds since the epoch; None for no such
            time.
    """
    found = list(objects)
    folders = {
        folder
        for item in found
        if is_data(item.key) and _is_old(item.last_modified, since)
        for folder in _folders(item.key)
    }
    return [item for item in found if is_manifest(item.key) and _folder(item.key) in folders]


def find_leftovers(
    objects: Iterable[ObjectInfo], manifests: Collection[Manifest], since: float | None
) -> list[ObjectInfo]:
    """Return the objects that no manifest refers to.

    Args:
        objects: Everything there is.
        manifests: All those in whose folders it lies.
        since: Objects written since are left out, and so is a checkpoint that was committed since: somebody may still
            read what it replaced. In seconds since the epoch; None leaves out nothing.
    """
    by_folder: dict[str, list[Manifest]] = {}
    for manifest in manifests:
        by_folder.setdefault(manifest.folder, []).append(manifest)

    def is_left(item: ObjectInfo) -> bool:
        if not _is_old(item.last_modified, since):
            return False
        if item.key.endswith(_TEMPORARY):
            return True
        above = [manifest for folder in _folders(item.key) for manifest in by_folder.get(folder, ())]
        return is_data(item.key) and not any(_holds(manifest, item.key, since) for manifest in above)

    return [item for item in objects if is_left(item)]


def _holds(manifest: Manifest, key: str, since: float | None) -> bool:
    """Whether a manifest keeps an object, or may keep it."""
    if manifest.references is None or not _is_old(manifest.modified, since):
        return True
    return key[len(manifest.folder) :] in manifest.references


def _folder(key: str) -> str:
    return key[: key.rfind("/") + 1]


def _folders(key: str) -> list[str]:
    """Return the folders that a key lies in, the outermost first."""
    return [key[:end] for end in [0, *(match.end() for match in re.finditer("/", key))]]


def _is_old(modified: int, since: float | None) -> bool:
    return since is None or modified <= since
