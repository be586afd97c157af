"""The store: what was computed once is read from then on, by every run on the same folder."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lis
from lis import passes
from lis.lock import Lease, is_absent, sweep
from lis.store.artifacts import (
    ARRIVAL,
    DRAFTS,
    INPUTS,
    KEY,
    LOCKS,
    MANIFEST,
    PAUSE,
    SET_ASIDE,
    Artifact,
    Damaged,
    Draft,
    Recipe,
    digest,
    read_artifact,
    sha256,
)
from lis.store.drafts import draft_path, drafts, is_abandoned
from lis.store.faults import check_writable
from lis.store.packs import Packs, pack

log = logging.getLogger(__name__)

_NEW = 7200.0
"""Seconds during which an artifact is new; clocks may be an hour apart."""


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
        self.packs = Packs(self.root)
        self._verified: dict[str, Artifact] = {}
        self._incomplete: dict[str, float] = {}
        self._thread = _Thread()
        self.made: set[str] = set()
        """Keys of what this process has made and published here."""
        self.version: str | None = None
        """Of `lis` that whoever makes the same must have; None: any."""
        check_writable(self.root, "store")
        self._sweep_drafts(self.root / DRAFTS)
        for folder, _, _ in os.walk(self.root / LOCKS):
            if KEY.fullmatch(Path(folder).name):
                sweep(Path(folder))

    def find(self, recipe: Recipe) -> Artifact | None:
        """The finished artifact of a recipe, verified once per process; None where it is missing or damaged."""
        try:
            return self._load(recipe)
        except Damaged:
            return None

    def opened(self, key: str) -> Artifact | None:
        """The artifact of a key, if this process has made or read it here from its folder."""
        return self._verified.get(key)

    def make(self, recipe: Recipe, build: Callable[[Draft], None]) -> Artifact:
        """The artifact of a recipe: read if it exists, otherwise built, under a lock, and published whole.

        Whatever `build` raises is passed on, and nothing is published. A job that stood still for longer than its lease
        goes on; if another one has published the artifact meanwhile, that one is read.
        """
        artifact = self._ready(recipe)
        while artifact is None:
            with self._lease(recipe) as lease:
                artifact = self._make(recipe, build, lease)
            if artifact is None:
                time.sleep(PAUSE)
        return artifact

    def attempt(self, recipe: Recipe, build: Callable[[Draft], None]) -> Artifact | None:
        """As `make`, but None at once where another job is making it now: there is other work to do meanwhile."""
        if (artifact := self._ready(recipe)) is not None:
            self._thread.busy.pop(recipe.key, None)
            return artifact
        lease = self._thread.busy.setdefault(recipe.key, self._lease(recipe))
        if not lease.attempt():
            return None
        del self._thread.busy[recipe.key]
        with lease:
            return self._make(recipe, build, lease)

    def shared(self, shards: Iterator[Artifact], total: int) -> Iterator[Artifact]:
        """The shards of what is being made here, during which other jobs may do the same: nobody waits for a stage
        while its shards are made, and all jobs share these.

        The locks are taken again before the last shard is given out: what follows is assembled by one job alone.

        Args:
            shards: made as they are asked for; they are packed when what is made of them is published.
            total: how many they are.

        Raises:
            Published: another job was faster; `make` gives what that one has published.
        """
        works = list(self._thread.works) if total else []
        for work in reversed(works):
            work.lease.release()
        for number, shard in enumerate(shards, 1):
            for work in works:
                work.touch()
            if number == total:
                for work in works:
                    self._resume(work)
            if works:
                works[-1].shards.append(shard)
            yield shard

    def _resume(self, work: _Work) -> None:
        """Take the lock again, behind whoever has it.

        Raises:
            Published: there is nothing left to do.
        """
        work.lease.acquire()
        if (artifact := self.find(work.recipe)) is not None:
            raise Published(work.recipe.key, artifact)

    def _ready(self, recipe: Recipe) -> Artifact | None:
        """The artifact if it is there; without a lock that a job left which was killed before it had cleared it."""
        if (artifact := self.find(recipe)) is not None:
            sweep(self._lock(recipe))
        return artifact

    def _make(self, recipe: Recipe, build: Callable[[Draft], None], lease: Lease) -> Artifact | None:
        """One attempt; None where another job that has taken the lock over, or the rest of an artifact, is to be waited
        for.
        """
        try:
            artifact = self._load(recipe)  # another job may have been faster
        except Damaged as damage:
            if not lease.owned or self._is_arriving(recipe, damage):  # another job may have made it again by now
                return None
            self._set_aside(recipe, damage)
            artifact = None
        if artifact is None and lease.owned:
            artifact = self._attempt(recipe, build, lease)
        if artifact is not None:
            lease.clear()
        return artifact

    def _lease(self, recipe: Recipe) -> Lease:
        return Lease(self._lock(recipe), self.lease, recipe.stage, self.version)

    def _folder(self, recipe: Recipe) -> Path:
        return self.root / recipe.stage / recipe.key

    def _lock(self, recipe: Recipe) -> Path:
        return self.root / LOCKS / recipe.stage / recipe.key

    def _load(self, recipe: Recipe) -> Artifact | None:
        """Verify and open the folder or, where it is missing or damaged, what a pack has; None where there is nothing.

        Raises:
            Damaged: the folder is there, something in it is wrong, and no pack has the artifact.
        """
        folder = self._folder(recipe)
        if not folder.is_dir():
            return self.packs.find(recipe.stage, recipe.key)
        if recipe.key not in self._verified:
            packed = partial(self.packs.read, recipe.stage, recipe.key)
            try:
                self._verified[recipe.key] = read_artifact(folder, packed)
            except (Damaged, OSError) as error:
                if (artifact := self.packs.find(recipe.stage, recipe.key)) is not None:
                    return artifact
                if isinstance(error, Damaged) or not is_absent(error):
                    raise
                raise Damaged(f"a file of {folder} was removed while it was read") from error
        return self._verified[recipe.key]

    def _is_arriving(self, recipe: Recipe, damage: Damaged) -> bool:
        """Whether what is missing of an artifact may have been published and not be seen here yet."""
        if not is_absent(damage.__cause__):
            return False
        since = self._incomplete.setdefault(recipe.key, time.monotonic())
        try:
            age = time.time() - self._folder(recipe).stat().st_mtime
        except OSError:  # set aside in this moment
            return True
        return age < _NEW and time.monotonic() - since < ARRIVAL

    def _set_aside(self, recipe: Recipe, damage: Damaged) -> None:
        aside = self.root / SET_ASIDE / f"{recipe.stage.replace('/', '-')}-{recipe.key}-{uuid.uuid4().hex[:8]}"
        log.warning("%s; it is set aside as %s and made again", damage, aside)
        self._incomplete.pop(recipe.key, None)
        aside.parent.mkdir(exist_ok=True)
        self._folder(recipe).replace(aside)

    def _attempt(self, recipe: Recipe, build: Callable[[Draft], None], lease: Lease) -> Artifact | None:
        """Build and publish; None where another job has taken the draft for abandoned, or its own is damaged."""
        self._sweep_drafts(self.root / DRAFTS / recipe.stage)
        draft = Draft(draft_path(self.root, recipe.stage, recipe.key))
        draft.path.mkdir(parents=True)
        lease.touch(draft.path)
        (draft.path / INPUTS).write_text(json.dumps(recipe.inputs))
        try:
            with self._thread.working(_Work(recipe, lease, draft)) as work:
                self._fill(recipe, build, draft)
            published = self._publish(recipe, draft.path)
        except Published as faster:
            if faster.key != recipe.key:
                raise
            return faster.artifact
        except Exception as error:
            # Without its lock and the artifact as well, the store has gone away.
            if draft.path.is_dir() or not (lease.folder.is_dir() or self._folder(recipe).is_dir()):
                raise
            log.info("%s: its draft was taken for abandoned while this job stood still (%s)", recipe.stage, error)
            return None
        finally:
            shutil.rmtree(draft.path, ignore_errors=True)
        if published:
            self.made.add(recipe.key)
            lease.clear()  # those who wait verify it at the same time
            log.debug("made %s (%s)", recipe.stage, recipe.key[:8])
            work.pack(self.root)
            if work.shards:  # of those who were killed while they shared them
                self._sweep_drafts(self.root / DRAFTS / recipe.stage)
        return self._load(recipe) if published else self.find(recipe)

    def _fill(self, recipe: Recipe, build: Callable[[Draft], None], draft: Draft) -> None:
        """Make everything, the manifest last."""
        start = time.perf_counter()
        build(draft)
        (draft.path / INPUTS).unlink()
        manifest = self._manifest(recipe, draft.path, time.perf_counter() - start)
        (draft.path / MANIFEST).write_text(json.dumps(manifest | {"sha256": digest(manifest)}, indent=1))

    def _sweep_drafts(self, root: Path) -> None:
        """Remove the drafts beneath a folder whose owners are gone."""
        for draft in drafts(root):
            if is_abandoned(draft):
                with suppress(OSError):  # another job was faster
                    self._discard(draft)

    def _discard(self, draft: Path) -> None:
        """Remove a draft: first its name, at once, so that an owner who lives after all cannot publish a part."""
        stage = draft.parent.relative_to(self.root / DRAFTS)
        renamed = draft_path(self.root, str(stage), draft.name.partition("@")[0])
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
            "threads": torch.get_num_threads(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "images": self._thread.works[-1].images,
            "files": {str(f.relative_to(folder)): {"size": f.stat().st_size, "sha256": sha256(f)} for f in files},
        }

    def _publish(self, recipe: Recipe, draft: Path) -> bool:
        """Give a complete draft its final name; False when a job that took the lock over was faster."""
        folder = self._folder(recipe)
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.replace(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) and not folder.is_dir():
                raise
            return False
        return True


class Published(BaseException):
    """Another job has published what this one has made the shards of; no error, so that no stage takes it for one."""

    def __init__(self, key: str, artifact: Artifact) -> None:
        super().__init__(key)
        self.key, self.artifact = key, artifact


@dataclass(frozen=True, eq=False)
class _Work:
    """What a thread is making."""

    recipe: Recipe
    lease: Lease
    draft: Draft
    shards: list[Artifact] = field(default_factory=list)
    """What it is assembled of."""
    start: int = field(default_factory=passes.made)
    """Images that were made before."""
    inner: list[int] = field(default_factory=list)
    """Images of each work inside of this one."""

    @property
    def images(self) -> int | None:
        """Images that it and its shards have taken so far; None where a shard is older than their count."""
        of_shards = [shard.manifest.get("images") for shard in self.shards]
        if None in of_shards:
            return None
        return passes.made() - self.start - sum(self.inner) + sum(filter(None, of_shards))

    def pack(self, root: Path) -> None:
        """Put the shards of each kind into one file."""
        by_stage: dict[str, list[Artifact]] = {}
        for shard in self.shards:
            by_stage.setdefault(shard.manifest["recipe"]["stage"], []).append(shard)
        for shards in by_stage.values():
            pack(root, shards)

    def touch(self) -> None:
        """Show that the draft is not abandoned, also while the lock is free."""
        with suppress(OSError):
            os.utime(self.draft.path)


class _Thread(threading.local):
    """What each thread is making, from the outermost artifact to the innermost, and what it waits for."""

    def __init__(self) -> None:
        self.works: list[_Work] = []
        self.busy: dict[str, Lease] = {}

    @contextmanager
    def working(self, work: _Work) -> Iterator[_Work]:
        """On this work inside of the block."""
        self.works.append(work)
        try:
            yield work
        finally:
            self.works.remove(work)
            if self.works:
                self.works[-1].inner.append(passes.made() - work.start)
