"""Which artifacts and shards of a run lie in its store already, without reading any."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lis.context import Context
from lis.stage import Stage
from lis.store import MANIFEST, Artifact, Damaged, Recipe, Store
from lis.workload import Blocks


def recipes(ctx: Context, stages: Iterable[Stage]) -> dict[str, Recipe]:
    """What the artifact of every stage follows from, by the stage's name; nothing is made.

    Args:
        ctx: the run, its classifier as it will be used.
        stages: each behind its inputs.
    """
    result: dict[str, Recipe] = {}
    for stage in stages:
        keys = [result[each.name].key for each in stage.inputs if each.applies(ctx)]
        result[stage.name] = stage.recipe(ctx, [Artifact(Path(), key, {}) for key in keys])
    return result


def is_stored(store: Store, recipe: Recipe) -> bool:
    """Whether the artifact lies in a folder or a pack; its checksums are not verified."""
    if (store.root / recipe.stage / recipe.key / MANIFEST).is_file():
        return True
    return any(recipe.key in pack.members for pack in store.packs.of_stage(recipe.stage))


def stored_shards(store: Store, blocks: Blocks, inputs: frozenset[str]) -> int:
    """How many shards of a kind are there.

    Args:
        store: where they would lie.
        blocks: the kind; where it does not say what its shards are made from, those count that follow from artifacts of
            the run alone, so that a run with other samples may count too many.
        inputs: keys of the run's artifacts.
    """
    if blocks.recipes is not None:
        return sum(is_stored(store, recipe) for recipe in blocks.recipes())
    of_run = sum(_follows(manifest, inputs) for manifest in _manifests(store, blocks.stage))
    return min(of_run, blocks.count)


def _follows(manifest: Mapping[str, Any], inputs: frozenset[str]) -> bool:
    stated = manifest["recipe"]["inputs"]
    return bool(stated) and inputs.issuperset(stated)


def _manifests(store: Store, stage: str) -> Iterator[Mapping[str, Any]]:
    """Of all artifacts of a stage, in folders and in packs; a damaged one is left out, as it is made again."""
    for file in (store.root / stage).glob(f"*/{MANIFEST}"):
        with suppress(OSError, ValueError):
            yield json.loads(file.read_bytes())
    for pack in store.packs.of_stage(stage):
        for key in pack.members:
            with suppress(OSError, Damaged):
                yield pack.manifest(key)


@dataclass(frozen=True)
class Room:
    """What a disk has left."""

    size: int
    """Bytes."""
    inodes: int | None
    """Files and folders; None on a file system that does not count them."""

    @classmethod
    def of(cls, folder: Path) -> Room:
        """Of the disk that a folder lies on."""
        status = os.statvfs(folder)
        return cls(status.f_bavail * status.f_frsize, status.f_favail if status.f_files else None)
