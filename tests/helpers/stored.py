"""What lies in a store, in folders or in packs."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

from lis.store.artifacts import Damaged, read_artifact
from lis.store.packs import PACKS, Packs

MANIFEST = "manifest.json"


def entries(store: Path) -> dict[str, dict[str, Any]]:
    """The manifest of each artifact by `<stage>/<key>`; a run may be at work in this store."""
    result = {}
    for name, _, files in os.walk(store):  # which passes over folders that vanish while it looks
        folder = Path(name).relative_to(store)
        if folder.parts[:1] in (("set-aside",), ("drafts",)):
            continue
        if folder.name == PACKS:
            result |= _packed(Path(name), folder.parent)
        elif MANIFEST in files:
            try:
                result[str(folder)] = json.loads(Path(name, MANIFEST).read_text())
            except FileNotFoundError:  # packed in this moment
                result |= _packed(Path(name).parent / PACKS, folder.parent)
    return result


def _packed(folder: Path, stage: Path) -> dict[str, dict[str, Any]]:
    result = {}
    for file in folder.glob("*.zip"):
        with zipfile.ZipFile(file) as pack:
            names = [name for name in pack.namelist() if name.endswith(MANIFEST)]
            result |= {str(stage / Path(name).parent): json.loads(pack.read(name)) for name in names}
    return result


def manifests(store: Path) -> dict[str, str]:
    """When each artifact of a store was made, by its stage and key."""
    return {name: manifest["created"] for name, manifest in entries(store).items()}


def count(store: Path, stage: str) -> int:
    """Artifacts of a stage."""
    return sum(name.startswith(f"{stage}/") for name in entries(store))


def numbers(store: Path) -> dict[str, dict[str, str]]:
    """Checksums of the tensors and tables of each artifact; the store has verified them.

    Pages are left out: they tell when all else was made.
    """
    return {
        name: {file: facts["sha256"] for file, facts in entry["files"].items() if not file.endswith(".json")}
        for name, entry in entries(store).items()
        if name.partition("/")[0] not in ("report", "comparison")
    }


def damaged(store: Path) -> list[str]:
    """The artifacts that are not what was written; a run may be at work in this store, and pack them."""
    packs, result = Packs(store), []
    for name in entries(store):
        try:
            read_artifact(store / name)
        except Damaged:
            if packs.find(*name.rsplit("/", 1)) is None:
                result.append(name)
    return result
