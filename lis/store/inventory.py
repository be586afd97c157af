"""What lies in a store: its artifacts, in folders and in packs, what they follow from, and which runs name them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lis.store.artifacts import DRAFTS, KEY, LOCKS, MANIFEST, PACKS, SET_ASIDE, Damaged, parse_manifest, read_artifact
from lis.store.packs import Pack

SHARD = "-shard"
"""End of the name of a stage of shards. Which artifact was assembled from which shards is written nowhere."""
SUMMARY, SWEEP = "summary.json", "sweep.json"
"""Files of a run and of a sweep that name their artifacts."""
_DEEPEST = 3
"""Levels of folders above an artifact."""
_LARGEST_SUMMARY = 4 * 2**20
"""Bytes."""


@dataclass(frozen=True)
class Entry:
    """An artifact as it lies in a store; its checksums are not verified."""

    stage: str
    key: str
    path: Path
    """Its folder; of one in a pack, the pack's file and the folder's name in it."""
    pack: Pack | None
    """In which it lies."""
    size: int
    """Bytes of its files."""
    inodes: int
    """Files and folders that it takes; none of a packed one."""
    changed: float
    """When its folder or pack was last changed, in seconds since 1970."""

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        """Its manifest; empty where that is damaged."""
        try:
            if self.pack is not None:
                return self.pack.manifest(self.key)
            return parse_manifest((self.path / MANIFEST).read_bytes(), self.path / MANIFEST)
        except (Damaged, OSError):
            return {}

    @property
    def inputs(self) -> tuple[str, ...]:
        """Keys of the artifacts that it follows from."""
        return tuple(self.manifest.get("recipe", {}).get("inputs", ()))

    @property
    def is_shard(self) -> bool:
        """Whether it is a block of a stage's work."""
        return self.stage.endswith(SHARD)

    def verify(self) -> None:
        """Read all of it.

        Raises:
            Damaged: a file is not what was written.
        """
        if self.pack is not None:
            self.pack.verify(self.key)
        else:
            read_artifact(self.path)


class Inventory:
    """The artifacts of a store, in the order of stage and key; nothing is written there.

    Args:
        root: of the store.

    Raises:
        ValueError: it is no store.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.packs: list[Pack] = []
        self.damaged: dict[Path, str] = {}
        """Packs that cannot be read, and why."""
        loose = [_loose(root, folder) for folder in _artifacts(root)]
        for file in _pack_files(root):
            try:
                self.packs.append(Pack(file))
            except Damaged as damage:
                self.damaged[file] = str(damage)
        packed = [entry for pack in self.packs for entry in _packed(root, pack)]
        self.entries = sorted(loose + packed, key=lambda entry: (entry.stage, entry.key))
        self._require_store()

    def _require_store(self) -> None:
        """Raise `ValueError` where artifacts were written for another root, or there is nothing of a store."""
        if not self.entries and not any((self.root / name).is_dir() for name in (DRAFTS, LOCKS)):
            raise ValueError(
                f"{self.root} is no store: expected the folder that runs write to, which `store=…` names there and "
                "--store names here"
            )
        for stage, entry in {entry.stage: entry for entry in self.entries}.items():
            written = str(entry.manifest["recipe"]["stage"]) if entry.manifest else stage
            if written != stage:
                store = self.root / stage.removesuffix(written)
                raise ValueError(f"{self.root} is no store, but one may lie in it: expected --store {store}")

    @cached_property
    def by_key(self) -> dict[str, Entry]:
        """One entry for every key."""
        return {entry.key: entry for entry in self.entries}

    @cached_property
    def digits(self) -> int:
        """How many digits of a key tell all apart, 8 at least."""
        return next(n for n in range(8, 33) if len({key[:n] for key in self.by_key}) == len(self.by_key))

    def select(self, name: str | None) -> list[Entry]:
        """The entries of a stage, or of the artifact whose key begins so; without a name all that are no shards.

        Raises:
            ValueError: there is none, or the key is that of several.
        """
        if name is None:
            return [entry for entry in self.entries if not entry.is_shard]
        if result := [entry for entry in self.entries if entry.stage == name]:
            return result
        keys = [key for key in sorted(self.by_key) if key.startswith(name)]
        if not keys:
            stages = ", ".join(sorted({entry.stage for entry in self.entries})) or "none"
            raise ValueError(f"{name!r} is no stage of {self.root}, and no key begins so; stages: {stages}")
        if len(keys) > 1:
            examples = ", ".join(f"{self.by_key[key].stage} {key[: self.digits]}" for key in keys[:3])
            raise ValueError(f"{len(keys)} keys begin with {name!r}: expected more digits of one, as of {examples}")
        return [entry for entry in self.entries if entry.key == keys[0]]

    def users(self) -> dict[str, list[Entry]]:
        """By key, the artifacts that are made from it."""
        result: dict[str, list[Entry]] = {}
        for entry in self.by_key.values():
            for key in entry.inputs:
                result.setdefault(key, []).append(entry)
        return result

    def ancestors(self, keys: Iterable[str]) -> set[str]:
        """These keys, and all that their artifacts follow from."""
        result, new = set[str](), list(keys)
        while new:
            if (key := new.pop()) not in result:
                result.add(key)
                new += self.by_key[key].inputs if key in self.by_key else ()
        return result


def _artifacts(root: Path) -> Iterator[Path]:
    """Folders of artifacts, `<stage>/<key>`."""
    for folder, names in _folders(root):
        yield from (folder / name for name in names if KEY.fullmatch(name) and folder != root)


def _pack_files(root: Path) -> Iterator[Path]:
    for folder, names in _folders(root):
        if PACKS in names and folder != root:
            yield from sorted((folder / PACKS).glob("*.zip"))


def _folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every folder that may hold artifacts, and the names of the folders in it."""
    for path, names, _ in os.walk(root):
        folder = Path(path)
        if folder == root:
            names[:] = [name for name in names if name not in (DRAFTS, LOCKS, SET_ASIDE)]
        yield folder, sorted(names)
        depth = len(folder.relative_to(root).parts)
        names[:] = [name for name in names if depth < _DEEPEST and not KEY.fullmatch(name) and name != PACKS]


def _loose(root: Path, folder: Path) -> Entry:
    size, inodes = measure(folder)
    changed = folder.stat().st_mtime if folder.is_dir() else 0.0
    return Entry(str(folder.parent.relative_to(root)), folder.name, folder, None, size, inodes, changed)


def _packed(root: Path, pack: Pack) -> Iterator[Entry]:
    changed = pack.path.stat().st_mtime
    for key, members in pack.members.items():
        size = sum(size for _, size in members.values())
        yield Entry(str(pack.path.parent.parent.relative_to(root)), key, pack.path / key, pack, size, 0, changed)


def measure(path: Path) -> tuple[int, int]:
    """Bytes and number of the files and folders at a path and beneath it; what goes meanwhile is not counted."""
    size = inodes = 0
    for file in (path, *path.rglob("*")) if path.exists() else ():
        with suppress(FileNotFoundError):
            status = file.lstat()
            inodes += 1
            size += 0 if file.is_dir() else status.st_size
    return size, inodes


def runs(folders: Sequence[Path], store: Path) -> dict[Path, set[str]]:
    """The keys of artifacts that every run and sweep beneath some folders names; the store may lie among them.

    Raises:
        ValueError: a folder is not there, or a summary cannot be read, so that nobody knows what it names.
    """
    result: dict[Path, set[str]] = {}
    for top in folders:
        if not top.is_dir():
            raise ValueError(f"{top} is not there: expected a folder with runs, as --runs outputs")
        for path, names, files in os.walk(top):
            names[:] = [n for n in names if not KEY.fullmatch(n) and Path(path, n).resolve() != store.resolve()]
            for name in {SUMMARY, SWEEP}.intersection(files):
                if (keys := _named(Path(path, name))) is not None:
                    result.setdefault(Path(path), set()).update(keys)
    return result


def _named(file: Path) -> set[str] | None:
    """The keys in the summary of a run or sweep; None where the file is of something else."""
    try:
        with file.open("rb") as stream:
            content = json.loads(stream.read(_LARGEST_SUMMARY))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{file} cannot be read ({error}): run the same command again, which writes it anew, or remove it"
        ) from error
    artifacts = content.get("artifacts") if isinstance(content, dict) else None
    if not isinstance(artifacts, dict):
        return None
    return {str(key) for key in (*artifacts.values(), content.get("report")) if key is not None}
