"""Content-addressed artifacts on disk: what was computed once is read from then on, by every run on the same store.

An artifact's key is the hash of everything that it depends on (its `Recipe`). It is written into a folder of its own
and published with one rename, so that a half-written artifact is never read; checksums are verified before an artifact
is used, and a damaged one is set aside and made again. A lock keeps two jobs from doing the same work, and only that:
of two that do it nevertheless, as after a pause, both read what the first one published.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

import lis
from lis.lock import Lease, abandoned, owner, sweep

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
_KEY = re.compile(r"[0-9a-f]{32}")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Recipe:
    """Everything that an artifact is made from.

    Args:
        stage: the stage's name; `/` makes subfolders.
        version: the version of the stage's code; raise it when the same inputs give another result.
        config: the part of the configuration that the stage reads.
        inputs: keys of the artifacts that it reads.
        weights: fingerprints of the models that it uses, by name.

    Example:
        >>> Recipe("link", 1, {"ridge": 0.0}).key == Recipe("link", 1, {"ridge": 0.1}).key
        False
    """

    stage: str
    version: int
    config: Mapping[str, Any]
    inputs: tuple[str, ...] = ()
    weights: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """32 hexadecimal digits of the SHA-256 of the recipe's canonical JSON.

        Raises:
            ValueError: the recipe holds something that JSON cannot express exactly.
        """
        try:
            return _digest(asdict(self))[:32]
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"recipe of stage {self.stage!r}: {error}; use numbers, strings, lists and dicts"
            ) from error


@dataclass(frozen=True)
class Artifact:
    """A finished, verified, immutable folder of tensors, tables and JSON files."""

    path: Path
    key: str
    manifest: Mapping[str, Any]
    """Recipe, versions, creation time, duration in seconds, device, and size and SHA-256 of every file."""

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of `<name>.safetensors`, on the CPU."""
        return load_file(self.path / f"{name}.safetensors")

    def table(self, name: str) -> pd.DataFrame:
        """The table of `<name>.parquet`."""
        return pd.read_parquet(self.path / f"{name}.parquet")

    def json(self, name: str) -> dict[str, Any]:
        """The object of `<name>.json`."""
        return json.loads((self.path / f"{name}.json").read_text())

    def has(self, name: str) -> bool:
        """Whether the artifact holds tensors, a table or an object of this name."""
        return any(f"{name}{suffix}" in self.manifest["files"] for suffix in (".safetensors", ".parquet", ".json"))


@dataclass(frozen=True)
class Draft:
    """An artifact while it is being made; `path` takes any other files."""

    path: Path

    def tensors(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Write `<name>.safetensors`."""
        ready = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        save_file(ready, self.path / f"{name}.safetensors")

    def table(self, name: str, table: pd.DataFrame) -> None:
        """Write `<name>.parquet`, without the index."""
        table.to_parquet(self.path / f"{name}.parquet", index=False)

    def json(self, name: str, value: Any) -> None:
        """Write `<name>.json`."""
        (self.path / f"{name}.json").write_text(json.dumps(value, indent=1))


class Damaged(Exception):
    """An artifact on disk is not what was written; the message names the file."""


class Store:
    """All artifacts under one folder, which may be moved and shared between runs. What killed runs left there, drafts
    and locks, is removed first.

    Args:
        root: the folder; made when needed.
        device: what the artifacts are computed on, for their manifests.
        lease: seconds after which the lock of a silent owner is taken over.

    Raises:
        ValueError: the folder cannot be written.
    """

    def __init__(self, root: Path, device: str = "cpu", lease: float = 30.0) -> None:
        self.root, self.device, self.lease = Path(root), device, lease
        self._verified: dict[str, Artifact] = {}
        check_writable(self.root, "store")
        self._sweep_drafts(self.root / "drafts")
        for folder, _, _ in os.walk(self.root / "locks"):
            if _KEY.fullmatch(Path(folder).name):
                sweep(Path(folder))

    def find(self, recipe: Recipe) -> Artifact | None:
        """The finished artifact of a recipe, verified once per process; None where it is missing or damaged."""
        try:
            return self._load(recipe)
        except Damaged:
            return None

    def make(self, recipe: Recipe, build: Callable[[Draft], None]) -> Artifact:
        """The artifact of a recipe: read if it exists, otherwise built, under a lock, and published whole.

        Whatever `build` raises is passed on, and nothing is published. A job that stood still for longer than its lease
        goes on; if another one has published the artifact meanwhile, that one is read.
        """
        artifact = self.find(recipe)
        if artifact is not None:
            sweep(self._lock(recipe))  # of a job that was killed between publishing and clearing it
        while artifact is None:
            artifact = self._make(recipe, build)
        return artifact

    def _make(self, recipe: Recipe, build: Callable[[Draft], None]) -> Artifact | None:
        """One attempt; None where another job that has taken the lock over is to be waited for."""
        with Lease(self._lock(recipe), self.lease, recipe.stage) as lease:
            artifact = self._load_or_set_aside(recipe, lease)  # another job may have been faster
            if artifact is None and lease.owned:
                log.debug("making %s (%s)", recipe.stage, recipe.key[:8])
                artifact = self._attempt(recipe, build, lease)
            if artifact is not None:
                lease.clear()
            return artifact

    def _folder(self, recipe: Recipe) -> Path:
        return self.root / recipe.stage / recipe.key

    def _lock(self, recipe: Recipe) -> Path:
        return self.root / "locks" / recipe.stage / recipe.key

    def _load(self, recipe: Recipe) -> Artifact | None:
        """Verify and open; None where there is nothing.

        Raises:
            Damaged: the artifact is there, and something in it is wrong.
        """
        folder = self._folder(recipe)
        if not folder.is_dir():
            return None
        if recipe.key not in self._verified:
            self._verified[recipe.key] = read_artifact(folder)
        return self._verified[recipe.key]

    def _load_or_set_aside(self, recipe: Recipe, lease: Lease) -> Artifact | None:
        """As `_load`, and whoever has the lock moves a damaged artifact away with a warning."""
        try:
            return self._load(recipe)
        except Damaged as damage:
            if lease.owned:  # otherwise another job may have made it again by now
                self._set_aside(recipe, damage)
            return None

    def _set_aside(self, recipe: Recipe, damage: Damaged) -> None:
        aside = self.root / "set-aside" / f"{recipe.stage.replace('/', '-')}-{recipe.key}-{uuid.uuid4().hex[:8]}"
        log.warning("%s; it is set aside as %s and made again", damage, aside)
        aside.parent.mkdir(exist_ok=True)
        self._folder(recipe).replace(aside)

    def _attempt(self, recipe: Recipe, build: Callable[[Draft], None], lease: Lease) -> Artifact | None:
        """Build and publish; None where another job has taken the draft for abandoned, or its own is damaged."""
        self._sweep_drafts(self.root / "drafts" / recipe.stage)
        draft = Draft(self._new_draft(recipe.stage, recipe.key))
        draft.path.mkdir(parents=True)
        lease.touch(draft.path)
        try:
            self._fill(recipe, build, draft)
            published = self._publish(recipe, draft.path)
        except Exception as error:
            # Without its lock and the artifact as well, the store has gone away.
            if draft.path.is_dir() or not (lease.folder.is_dir() or self._folder(recipe).is_dir()):
                raise
            log.info("%s: its draft was taken for abandoned while this job stood still (%s)", recipe.stage, error)
            return None
        finally:
            shutil.rmtree(draft.path, ignore_errors=True)
        if published:
            lease.clear()  # those who wait verify it at the same time
        return self._load(recipe) if published else self.find(recipe)

    def _fill(self, recipe: Recipe, build: Callable[[Draft], None], draft: Draft) -> None:
        """Make everything, the manifest last."""
        start = time.perf_counter()
        build(draft)
        manifest = self._manifest(recipe, draft.path, time.perf_counter() - start)
        (draft.path / MANIFEST).write_text(json.dumps(manifest | {"sha256": _digest(manifest)}, indent=1))

    def _new_draft(self, stage: str, key: str) -> Path:
        """A name that says whose draft it is."""
        return self.root / "drafts" / stage / f"{key}@{owner()}@{uuid.uuid4().hex[:8]}"

    def _sweep_drafts(self, root: Path) -> None:
        """Remove the drafts beneath a folder whose owners are gone."""
        for folder, names, _ in os.walk(root):
            for name in [name for name in names if _KEY.fullmatch(name.partition("@")[0])]:
                names.remove(name)
                with suppress(OSError):  # its owner has just published it
                    if abandoned(name.partition("@")[2].rpartition("@")[0], Path(folder, name)):
                        self._discard(Path(folder, name))

    def _discard(self, draft: Path) -> None:
        """Remove a draft: first its name, at once, so that an owner who lives after all cannot publish a part."""
        stage = draft.parent.relative_to(self.root / "drafts")
        renamed = self._new_draft(str(stage), draft.name.partition("@")[0])
        draft.replace(renamed)
        shutil.rmtree(renamed, ignore_errors=True)

    def _manifest(self, recipe: Recipe, folder: Path, seconds: float) -> dict[str, Any]:
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        return {
            "recipe": asdict(recipe),
            "versions": {"lis": lis.__version__, "torch": torch.__version__, "numpy": np.__version__},
            "created": datetime.now(UTC).isoformat(),
            "seconds": round(seconds, 3),
            "device": self.device,
            "files": {str(f.relative_to(folder)): {"size": f.stat().st_size, "sha256": sha256(f)} for f in files},
        }

    def _publish(self, recipe: Recipe, draft: Path) -> bool:
        """Give a complete draft its final name; False when a job that took the lock over was faster."""
        folder = self._folder(recipe)
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.replace(folder)
        except OSError:
            if not folder.is_dir():
                raise
            return False
        return True


def read_artifact(folder: Path) -> Artifact:
    """The artifact in a folder of a store, verified; nothing is written there.

    Raises:
        Damaged: it is not what was written, or is not there.
    """
    return Artifact(folder, folder.name, _verify(folder))


def _verify(folder: Path) -> dict[str, Any]:
    """The manifest, when every file that it lists is there with its size and checksum.

    Raises:
        Damaged: naming the first file that is not.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        intact = manifest.pop("sha256") == _digest(manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{folder / MANIFEST} cannot be read ({error})") from error
    if not intact:
        raise Damaged(f"{folder / MANIFEST} does not have the checksum it was written with")
    for name, expected in manifest["files"].items():
        _verify_file(folder / name, expected["size"], expected["sha256"])
    return manifest


def _verify_file(file: Path, size: int, checksum: str) -> None:
    """Raise `Damaged` where a file is not what was written."""
    try:
        if file.stat().st_size != size:
            raise Damaged(f"{file} has {file.stat().st_size} bytes, not {size}")
        if sha256(file) != checksum:
            raise Damaged(f"{file} does not have the checksum it was written with")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:  # also: set aside in this moment
        raise Damaged(f"{file} is missing") from error


def _digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256(file: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def disk_fault(error: BaseException, root: Path) -> str | None:
    """What a person can do about a disk that is full or a store that is gone, in one line; None for any other error,
    and for a `ValueError`, which says that itself.

    Args:
        error: as a run raised it. What safetensors and pyarrow raise has the system's number in its text only.
        root: of the store.
    """
    causes = [] if isinstance(error, ValueError) else list(_causes(error))
    for cause in causes:
        if _number(cause) in _FULL:
            return (
                f"no space left to write to ({cause}): free some, or choose store=… or hydra.run.dir=… elsewhere; what "
                f"is finished is kept in {root}, and the same command goes on from there"
            )
    for cause in causes:
        if _is_of_store(cause, root):
            return (
                f"the store {root} was changed or went away during the run ({cause}): bring it back, or choose "
                "store=… elsewhere; the same command makes again what is missing"
            )
    return None


def _is_of_store(error: BaseException, root: Path) -> bool:
    """Whether the system refused a file of the store; safetensors names none, and writes nowhere else."""
    if isinstance(error, SafetensorError):
        return _number(error) is not None
    if not isinstance(error, OSError):
        return False
    names = [name for name in (error.filename, error.filename2) if isinstance(name, (str, bytes, os.PathLike))]
    if not names:  # pyarrow's, whose text has the path
        return f"{root}{os.sep}" in str(error) or not root.is_dir()
    files = [path for name in names if (path := Path(os.fsdecode(name))).is_relative_to(root)]
    return any(_is_made(file.relative_to(root)) or not root.is_dir() for file in files)


def _is_made(file: Path) -> bool:
    """Whether a file of the store's folder is of an artifact or a lock; a person may keep others there."""
    return file.parts[:1] in (("drafts",), ("locks",), ("set-aside",)) or any(map(_KEY.fullmatch, file.parts))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _number(error: BaseException) -> int | None:
    """The system's number of an error, such as `errno.ENOSPC`; None where it has none."""
    number = getattr(error, "errno", None)
    result = re.search(r"\b(?:os error|errno) (\d+)", str(error), re.IGNORECASE)
    return number if number is not None else int(result[1]) if result else None


def check_writable(folder: Path, name: str) -> None:
    """Make a folder and a file in it.

    Raises:
        ValueError: that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:  # without a name, which a killed run would leave behind
            probe.write(bytes(4096))  # an empty file fits on a full disk
    except OSError as error:
        raise ValueError(f"{name}: the folder {folder} cannot be written ({error}); choose another") from error
