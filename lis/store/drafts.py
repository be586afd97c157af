"""Drafts: folders in which artifacts and packs are made, named by whose they are."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from lis.lock import abandoned, owner
from lis.store.artifacts import DRAFTS, KEY


def draft_path(root: Path, stage: str, key: str) -> Path:
    """A name that says whose draft it is, so that it is removed when its owner is gone."""
    return root / DRAFTS / stage / f"{key}@{owner()}@{uuid.uuid4().hex[:8]}"


def drafts(folder: Path) -> Iterator[Path]:
    """Every draft beneath a folder of drafts, `<key>@<owner>@<number>`."""
    for path, names, _ in os.walk(folder):
        for name in sorted(names):
            if "@" in name and KEY.fullmatch(name.partition("@")[0]):
                names.remove(name)
                yield Path(path, name)


def is_abandoned(draft: Path) -> bool:
    """Whether the owner of a draft is gone."""
    try:
        return abandoned(draft.name.partition("@")[2].rpartition("@")[0], draft)
    except OSError:  # it has just been published
        return False
