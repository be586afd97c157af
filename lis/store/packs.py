"""Shards in packs: once a stage is assembled, the folders of its shards become one uncompressed zip.

A shard has two or three small files, and a stage thousands of shards: a pack is one file in their stead. It is written
as a draft, closed, and published with one rename; only then does each folder go, with one rename as well. Whoever is
killed between two of these steps leaves a shard in both, which is harmless: the next pack removes the folder.
"""

from __future__ import annotations

import logging
import os
import shutil
import struct
import weakref
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache, cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from lis.store.artifacts import KEY, MANIFEST, PACKS, Artifact, Damaged, digest, parse_manifest
from lis.store.drafts import draft_path

log = logging.getLogger(__name__)

_LOCAL_HEADER = struct.Struct("<26xHH")
"""What stands before the content of a member ends in the lengths of its name and of an extra field, which follow."""

Version = tuple[Path, int, int, int]
"""A file: path, inode, bytes, and nanoseconds of its last change."""


class Pack:
    """An uncompressed zip of artifacts, whose members are `<key>/<file>`.

    It is read at given positions through one handle, which threads and forked processes may share.

    Args:
        path: the file.

    Raises:
        Damaged: it is no zip, is torn, or is compressed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.members = _members(path)
        """By key and name: where the member begins, and the bytes of its content."""

    def verify(self, key: str) -> dict[str, Any]:
        """The manifest of an artifact, when every file that it lists is there with its size and checksum.

        Raises:
            Damaged: naming the first file that is not.
        """
        manifest = self.manifest(key)
        for name, expected in manifest["files"].items():
            _verify_content(self.read(key, name), expected, self.path / key / name)
        return manifest

    def manifest(self, key: str) -> dict[str, Any]:
        """The manifest of an artifact.

        Raises:
            Damaged: it is not what was written.
        """
        return parse_manifest(self.read(key, MANIFEST), self.path / key / MANIFEST)

    def read(self, key: str, name: str) -> bytes:
        """The content of a file.

        Raises:
            Damaged: it is not there, or the pack ends within it.
        """
        if name not in self.members[key]:
            raise Damaged(f"{self.path / key / name} is missing")
        start, size = self.members[key][name]
        header = self._read_at(start, _LOCAL_HEADER.size)
        return self._read_at(start + _LOCAL_HEADER.size + sum(_LOCAL_HEADER.unpack(header)), size)

    def _read_at(self, start: int, size: int) -> bytes:
        parts: list[bytes] = []
        while size and (part := os.pread(self._handle, size, start)):
            parts.append(part)
            start, size = start + len(part), size - len(part)
        if size:
            raise Damaged(f"{self.path} ends too early")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @cached_property
    def _handle(self) -> int:
        handle = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, handle)
        return handle


def _members(path: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """Start and size of every member, by key and name, from the directory at the end of a zip."""
    result: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        end = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                key, _, name = info.filename.partition("/")
                if info.compress_type != zipfile.ZIP_STORED or not 0 <= info.header_offset + info.file_size <= end:
                    raise Damaged(f"{path}: {info.filename} is compressed, or lies outside of it")
                if name and KEY.fullmatch(key):
                    result.setdefault(key, {})[name] = (info.header_offset, info.file_size)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
        raise Damaged(f"{path} cannot be read ({error})") from error
    return result


def _verify_content(content: bytes, expected: Mapping[str, Any], file: Path) -> None:
    """Raise `Damaged` where a file is not what was written."""
    if len(content) != expected["size"]:
        raise Damaged(f"{file} has {len(content)} bytes, not {expected['size']}")
    if sha256(content).hexdigest() != expected["sha256"]:
        raise Damaged(f"{file} does not have the checksum it was written with")


class Packs:
    """The packs of a store, each read once per process; one that is damaged counts as absent, with a warning.

    Args:
        root: of the store.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._packs: dict[str, dict[Version, Pack | None]] = {}
        self._verified: dict[tuple[str, str], tuple[Pack, Artifact]] = {}

    def __reduce__(self) -> tuple[Callable[[Path], Packs], tuple[Path]]:
        """Another process opens its own, once for all artifacts that it is sent."""
        return _packs_of, (self.root,)

    def find(self, stage: str, key: str) -> Artifact | None:
        """A packed artifact, verified once per process; None where no pack has it, or what they have is damaged."""
        result = self._find(stage, key)
        return result[1] if result else None

    def read(self, stage: str, key: str, name: str) -> bytes | None:
        """The content of a file of a packed artifact; None where there is none."""
        result = self._find(stage, key)
        return result[0].read(key, name) if result and name in result[0].members[key] else None

    def of_stage(self, stage: str) -> list[Pack]:
        """The packs of a stage that can be read, the damaged ones named in the log; those that are new are opened."""
        known = self._packs.get(stage, {})
        if (versions := _versions(self.root / stage / PACKS)) != known.keys():
            known = {version: known[version] if version in known else _open(version[0]) for version in versions}
            self._packs[stage] = known
        return [pack for pack in known.values() if pack]

    def _find(self, stage: str, key: str) -> tuple[Pack, Artifact] | None:
        if (stage, key) not in self._verified:
            packs = [pack for pack in self.of_stage(stage) if key in pack.members]
            for pack in packs:
                try:
                    artifact = Artifact(pack.path / key, key, pack.verify(key), partial(self.read, stage, key))
                except (Damaged, OSError) as damage:
                    log.warning("%s; this artifact of the pack counts as absent", damage)
                    pack.members.pop(key, None)
                else:
                    self._verified[stage, key] = pack, artifact
                    break
        return self._verified.get((stage, key))


@cache
def _packs_of(root: Path) -> Packs:
    return Packs(root)


def _versions(folder: Path) -> set[Version]:
    """The packs of a folder as they are now; none where there is no folder."""
    result: set[Version] = set()
    with suppress(FileNotFoundError, NotADirectoryError):
        for file in folder.iterdir():
            if file.suffix == ".zip":
                with suppress(FileNotFoundError):  # removed in this moment
                    status = file.stat()
                    result.add((file, status.st_ino, status.st_size, status.st_mtime_ns))
    return result


def _open(path: Path) -> Pack | None:
    try:
        return Pack(path)
    except Damaged as damage:
        log.warning("%s; this pack counts as absent", damage)
        return None


def pack(root: Path, artifacts: Sequence[Artifact]) -> Path | None:
    """Move the artifacts of a stage that lie in folders into one pack; whoever holds one of them reads on from there.

    A folder whose artifact is in a pack already is removed. One that is damaged stays as it is, and so do all where
    writing fails, as on a full disk: the log says so.

    Args:
        root: of the store.
        artifacts: of one stage.

    Returns:
        the pack; None where fewer than two were there to be packed, or writing failed.

    Raises:
        ValueError: they are of several stages.
    """
    stages = {str(artifact.manifest["recipe"]["stage"]) for artifact in artifacts}
    if len(stages) > 1:
        raise ValueError(f"artifacts of {', '.join(sorted(stages))}: expected those of one stage; pack each by itself")
    folders = {root / stage / artifact.key: None for stage in stages for artifact in artifacts}
    loose = remove_copies(root, filter(Path.is_dir, folders))
    if len(loose) < 2:
        return None
    try:
        target, packed = _publish(root, loose)
    except OSError as error:
        log.warning("%s artifacts stay in folders of their own: they cannot be packed (%s)", len(loose), error)
        return None
    discard(root, packed)
    return target


def remove_copies(root: Path, folders: Iterable[Path]) -> list[Path]:
    """Remove the folders whose artifacts are intact in a pack; the others."""
    packs = Packs(root)
    by_packed: dict[bool, list[Path]] = {True: [], False: []}
    for folder in folders:
        by_packed[packs.find(_stage(root, folder), folder.name) is not None].append(folder)
    discard(root, by_packed[True])
    return by_packed[False]


def _publish(root: Path, folders: Sequence[Path]) -> tuple[Path | None, list[Path]]:
    """The pack of the intact ones of some folders, and these; no pack where they are fewer than two.

    Raises:
        OSError: it cannot be written; there is no part of it.
    """
    stage = folders[0].parent
    draft = draft_path(root, _stage(root, folders[0]), _name(folders))
    draft.mkdir(parents=True)
    try:
        packed = _write(draft / "pack.zip", folders)
        if len(packed) < 2:
            return None, []
        target = stage / PACKS / f"{_name(packed)}.zip"
        target.parent.mkdir(exist_ok=True)
        (draft / "pack.zip").replace(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    _flush_folder(target.parent)
    return target, packed


def _stage(root: Path, folder: Path) -> str:
    return str(folder.parent.relative_to(root))


def _name(folders: Sequence[Path]) -> str:
    """32 hexadecimal digits that stand for a set of artifacts."""
    return digest(sorted(folder.name for folder in folders))[:32]


def _write(file: Path, folders: Sequence[Path]) -> list[Path]:
    """Write a zip that is on the disk when this returns; the folders that it holds, which are those intact."""
    packed: list[Path] = []
    with file.open("wb") as stream:
        with zipfile.ZipFile(stream, "w") as archive:
            for folder in folders:
                try:
                    contents = _contents(folder)
                except Damaged as damage:
                    if folder.is_dir():  # and not packed by another run in this moment
                        log.warning("%s; it is not packed", damage)
                    continue
                for name, content in contents.items():
                    archive.writestr(zipfile.ZipInfo(f"{folder.name}/{name}"), content)
                packed.append(folder)
        stream.flush()
        os.fsync(stream.fileno())
    return packed


def _contents(folder: Path) -> dict[str, bytes]:
    """The verified content of every file of an artifact, by name.

    Raises:
        Damaged: naming the first file that is not what was written.
    """
    try:
        result = {MANIFEST: (folder / MANIFEST).read_bytes()}
        for name, expected in parse_manifest(result[MANIFEST], folder / MANIFEST)["files"].items():
            result[name] = (folder / name).read_bytes()
            _verify_content(result[name], expected, folder / name)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise Damaged(f"{error.filename} is missing") from error
    return result


def _flush_folder(folder: Path) -> None:
    """Have a new name in a folder on the disk before an older one goes."""
    with suppress(OSError):  # some file systems do not know it of folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def discard(root: Path, folders: Sequence[Path]) -> list[Path]:
    """Remove folders of a store: first the name of each, at once, so that nobody sees a part of it.

    Returns:
        those that stay, because the system refuses it, as for another user's; the log says so.
    """
    if not folders:
        return []
    draft = draft_path(root, "removed", _name(folders))
    try:
        draft.mkdir(parents=True)
        return [folder for index, folder in enumerate(folders) if not _move(folder, draft / str(index))]
    except OSError as error:  # a full disk
        log.warning("%s: nothing can be removed there (%s)", root, error)
        return [*folders]
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _move(folder: Path, target: Path) -> bool:
    """Whether a folder has left its name."""
    try:
        folder.replace(target)
    except FileNotFoundError:  # another run was faster
        return True
    except OSError as error:
        log.warning("%s cannot be removed (%s)", folder, error)
        return False
    return True
