"""What may be removed from a store: what no run names, and what killed runs left behind."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path

from lis.lock import is_free, sweep
from lis.store.artifacts import DRAFTS, INPUTS, KEY, LOCKS, SET_ASIDE
from lis.store.drafts import drafts, is_abandoned
from lis.store.inventory import Entry, Inventory, measure
from lis.store.packs import Packs, discard

DAY = 86400.0
"""Seconds."""
UNUSED, OLD = "no run names it, nor anything made from it", "old enough"
SHARD_OF_GONE = "shard of something that is gone"
SPARE_SHARD = "shard: only a run that goes on or wants more would read it"
COPY = "copy of a packed shard"
TORN = "pack that cannot be read"
DRAFT, LOCK, DAMAGED = "draft of a killed run", "lock that nobody holds", "set aside, as it was damaged"


@dataclass(frozen=True)
class Removal:
    """What may go."""

    stage: str
    """Or the folder of the store for what is no artifact."""
    path: Path
    reason: str
    size: int
    """Bytes."""
    inodes: int
    artifacts: int = 1
    """How many it holds."""


@dataclass(frozen=True)
class Rules:
    """What may be removed, and what must stay.

    Args:
        used: keys that runs name; they stay, with all that their artifacts follow from. None: that does not count.
        days: what was changed within so many stays, with all that it follows from.
        shards: whether shards may go whose stages may be finished.
    """

    used: Set[str] | None
    days: float = 1.0
    shards: bool = False
    now: float = field(default_factory=time.time)
    """Seconds since 1970."""

    def is_young(self, changed: float) -> bool:
        """Whether something was changed so late that a run may be at work with it."""
        return self.now - changed < self.days * DAY


def removals(inventory: Inventory, rules: Rules) -> list[Removal]:
    """All that may go; nothing is changed.

    Nothing goes that a living lock or draft is of, nor what young artifacts follow from. A shard goes when something
    that it follows from goes or is not there any more, or with all others of its kind: those of its stage that follow
    from the same; they stay while one of them is young.
    """
    living = _living(inventory.root)
    young = {entry.key for entry in inventory.entries if rules.is_young(entry.changed)}
    needed = inventory.ancestors(living | young | (rules.used or set()))
    reasons = {
        entry.key: OLD if rules.used is None else UNUSED
        for entry in inventory.entries
        if not entry.is_shard and entry.manifest and entry.key not in needed
    }
    reasons |= _shards(inventory, rules, reasons.keys(), living | young)
    copies = {entry.path: entry for entry in _copies(inventory)}
    return [
        *(_removal(entry, COPY) for entry in copies.values()),
        *(
            _removal(entry, reasons[entry.key])
            for entry in inventory.entries
            if entry.key in reasons and not entry.pack and entry.path not in copies
        ),
        *_packs(inventory, rules, reasons),
        *leftovers(inventory.root, rules),
    ]


def remove(root: Path, proposed: Iterable[Removal]) -> list[Path]:
    """Remove from a store what may go; what stays, because the system refuses it."""
    proposed = list(proposed)
    locks = [removal.path for removal in proposed if removal.reason == LOCK]
    for lock in locks:
        sweep(lock)
    return discard(root, [removal.path for removal in proposed if removal.reason != LOCK])


def _shards(inventory: Inventory, rules: Rules, removed: Set[str], protected: Set[str]) -> dict[str, str]:
    """Keys of the shards that may go, and why.

    Args:
        inventory: of the store.
        rules: what may go.
        removed: keys of artifacts that go.
        protected: keys that stay, and with them all shards of their kind.
    """
    kinds: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for entry in inventory.entries:
        if entry.is_shard and entry.manifest:
            kinds.setdefault((entry.stage, entry.inputs), []).append(entry.key)
    result: dict[str, str] = {}
    for (_, inputs), keys in kinds.items():
        is_orphan = any(key in removed or key not in inventory.by_key for key in inputs)
        if (is_orphan or rules.shards) and protected.isdisjoint(keys):
            result |= dict.fromkeys(keys, SHARD_OF_GONE if is_orphan else SPARE_SHARD)
    return result


def _copies(inventory: Inventory) -> Iterator[Entry]:
    """Folders of artifacts that are intact in a pack as well."""
    packed, packs = {entry.key for entry in inventory.entries if entry.pack}, Packs(inventory.root)
    for entry in inventory.entries:
        if not entry.pack and entry.key in packed and packs.find(entry.stage, entry.key):
            yield entry


def _packs(inventory: Inventory, rules: Rules, reasons: dict[str, str]) -> Iterator[Removal]:
    """Packs all of whose artifacts may go, and those that cannot be read."""
    for pack in inventory.packs:
        if pack.members and pack.members.keys() <= reasons.keys():
            stage = str(pack.path.parent.parent.relative_to(inventory.root))
            reason = reasons[next(iter(pack.members))]
            yield Removal(stage, pack.path, reason, *measure(pack.path), artifacts=len(pack.members))
    for file in inventory.damaged:
        if not rules.is_young(file.stat().st_mtime):
            yield Removal(str(file.parent.parent.relative_to(inventory.root)), file, TORN, *measure(file))


def _removal(entry: Entry, reason: str) -> Removal:
    return Removal(entry.stage, entry.path, reason, entry.size, entry.inodes)


def leftovers(root: Path, rules: Rules) -> Iterator[Removal]:
    """Drafts and locks whose owners are gone, and what was set aside."""
    for draft in drafts(root / DRAFTS):
        if is_abandoned(draft):
            yield Removal(DRAFTS, draft, DRAFT, *measure(draft))
    for lock in locks(root):
        if is_free(lock):
            yield Removal(LOCKS, lock, LOCK, *measure(lock))
    for path in sorted((root / SET_ASIDE).glob("*")):
        if not rules.is_young(path.lstat().st_mtime):
            yield Removal(SET_ASIDE, path, DAMAGED, *measure(path))


def _living(root: Path) -> set[str]:
    """Keys of the artifacts that somebody is making, and of what these are made from."""
    making = [draft for draft in drafts(root / DRAFTS) if not is_abandoned(draft)]
    inputs = {key for draft in making for key in _inputs(draft)}
    return (
        inputs
        | {draft.name.partition("@")[0] for draft in making}
        | {lock.name for lock in locks(root) if not is_free(lock)}
    )


def _inputs(draft: Path) -> list[str]:
    """What is read while a draft is made; nothing where it has just been published."""
    try:
        return json.loads((draft / INPUTS).read_text())
    except (OSError, ValueError):
        return []


def locks(root: Path) -> Iterator[Path]:
    """Every lock of a store, `<stage>/<key>`."""
    for folder, names, _ in os.walk(root / LOCKS):
        yield from (Path(folder, name) for name in sorted(names) if KEY.fullmatch(name))
