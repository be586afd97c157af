"""What a run would do: passes, time, memory and disk of every stage, of which nothing is computed."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from lis.context import Context
from lis.peaks import Peak, peaks
from lis.planning.calibration import Calibration
from lis.planning.stored import is_stored, recipes, stored_shards
from lis.report.work import PAGE, page_work
from lis.stage import Stage, closure, requested
from lis.store import Recipe
from lis.workload import STORED, Blocks, Expected, Load, Workload

log = logging.getLogger(__name__)

DEVICES = (1, 2, 4, 8)
"""Numbers of devices that a time is told for."""
_MANIFEST = 1500
"""Bytes of a manifest, in which every file stands with its checksum."""
_FILES, _SHARD_FILES = 7, 4
"""Files and folders of an artifact and of a shard: its folder, its manifest, tensors and tables."""
_FOLDERS = 3
"""Folders and files beside them: that of a stage, that of its packs, and a pack."""


@dataclass(frozen=True)
class Planned:
    """What a stage would do."""

    name: str
    stored: bool = False
    """Whether its artifact is in the store: then nothing is left to do."""
    there: int = 0
    """Shards that are in the store."""
    shards: int = 0
    """Shards in all."""
    work: Workload | None = None
    """What is left to do; None: it is not known."""
    serial: float | None = 0.0
    """Seconds that one device takes, however many there are; None: they are not known."""
    shared: float | None = 0.0
    """Seconds of one device for the shards that are missing."""
    peak: Peak | None = None
    """Memory; None where it is not known."""
    size: int = 0
    """Bytes that it adds to the store."""
    transient: int = 0
    """Bytes beside these while its shards are packed."""
    inodes: int = 0
    """Files and folders that it adds to the store."""
    loose: int = 0
    """Files and folders beside these until its shards are packed."""
    reason: str = ""
    """Why something is not known."""

    def count(self, name: str) -> int | None:
        """Sum over operations of `passes`, `reads` or `backwards`; None where it is not known."""
        if self.stored:
            return 0
        if self.work is None:
            return None
        return round(sum(load.count * getattr(load.operation, name) for load in self.work.loads))

    def seconds(self, devices: int = 1) -> float | None:
        """Time on so many devices: shards are spread evenly, and the last round of them may be a part of one."""
        if self.serial is None or self.shared is None:
            return None
        left = self.shards - self.there
        rounds = math.ceil(left / devices) / left if left else 1 / devices
        return self.serial + self.shared * rounds


@dataclass(frozen=True)
class Plan:
    """What a run would do."""

    stages: tuple[Planned, ...]
    expected: Expected
    device: str
    engine: str
    """Name of its class."""
    store: str
    notes: tuple[str, ...] = field(default_factory=tuple)
    """Assumptions, bounds, and what is not known."""
    startup: float = 0.0
    """Seconds before the first image, on every device."""

    def seconds(self, devices: int = 1) -> float:
        """Of all stages whose time is known, and before the first of them."""
        return self.startup + sum(each.seconds(devices) or 0.0 for each in self.stages)

    def count(self, name: str) -> int:
        """As of `Planned.count`, over all stages where it is known."""
        return sum(each.count(name) or 0 for each in self.stages)

    @property
    def size(self) -> int:
        """Bytes that the run adds to its store."""
        return sum(each.size for each in self.stages)

    @property
    def largest(self) -> int:
        """Bytes that it needs there at once, while shards are packed."""
        return self.size + max((each.transient for each in self.stages), default=0)

    @property
    def inodes(self) -> int:
        """Files and folders that it adds to its store."""
        return sum(each.inodes for each in self.stages)

    @property
    def most_inodes(self) -> int:
        """Files and folders that it needs there at once, before shards are packed."""
        return self.inodes + max((each.loose for each in self.stages), default=0)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Stages of which the time is not known."""
        return tuple(each.name for each in self.stages if each.seconds() is None)


def counted(ctx: Context, expected: Expected, before: Sequence[Stage] = ()) -> Plan:
    """The plan of a run without times and memory: milliseconds, or an image where layers are looked at.

    Args:
        ctx: the run; its models may be without weights.
        expected: what only the work tells.
        before: stages that make the classifier ready, which are not in the store.
    """
    stages = [*before, *closure(requested(ctx), ctx)]
    known: dict[str, Recipe] = {} if before else recipes(ctx, stages)
    inputs = frozenset(recipe.key for recipe in known.values())
    page = Planned(PAGE, work=page_work(requested(ctx)), size=0, inodes=0)
    planned = (*(_counted(ctx, stage, expected, known.get(stage.name), inputs) for stage in stages), page)
    engine = type(ctx.engine).__name__
    return Plan(planned, expected, str(ctx.device), engine, str(ctx.store.root), _notes(planned))


def _counted(ctx: Context, stage: Stage, expected: Expected, recipe: Recipe | None, inputs: frozenset[str]) -> Planned:
    if recipe is not None and is_stored(ctx.store, recipe):
        return Planned(stage.name, stored=True)
    unknown = Planned(stage.name, serial=None, shared=None)
    if stage.work is None:
        return replace(unknown, reason="this stage does not say what it does")
    try:
        work = stage.work(ctx, expected)
    except Exception as error:  # of a model or a folder of the user's that is not what it should be
        log.debug("the work of %s cannot be counted", stage.name, exc_info=True)
        return replace(unknown, reason=str(error) or type(error).__name__)
    there = sum(stored_shards(ctx.store, blocks, inputs) for blocks in work.shards) if recipe else 0
    return _left(stage.name, work, there)


def _left(name: str, work: Workload, there: int) -> Planned:
    """What is left of a stage some of whose shards are there."""
    shards, size = sum(blocks.count for blocks in work.shards), sum(_size(blocks) for blocks in work.shards)
    left = 1 - there / shards if shards else 1.0
    missing = shards - there
    writes = (Load(STORED, 1), *([Load(STORED, missing, shared=True, calls=0)] if shards else []))
    loads = [replace(load, count=load.count * left) if load.shared else load for load in work.loads]
    return Planned(
        name,
        there=there,
        shards=shards,
        work=replace(work, loads=(*loads, *writes)),
        size=round(work.size + _MANIFEST + left * size),
        transient=size,
        inodes=_FILES + 1 + _FOLDERS * sum(blocks.count > 0 for blocks in work.shards),
        loose=_SHARD_FILES * missing,
    )


def _size(blocks: Blocks) -> int:
    return blocks.size + _MANIFEST * blocks.count


def _notes(planned: Sequence[Planned]) -> tuple[str, ...]:
    unknown = [f"{each.name} is not counted: {each.reason}" for each in planned if each.reason]
    stated = [note for each in planned if each.work for note in each.work.notes]
    return (*dict.fromkeys(stated), *unknown)


def timed(plan: Plan, calibration: Calibration) -> Plan:
    """The plan with times."""
    stages = tuple(_timed(each, calibration) for each in plan.stages)
    failed = [f"{operation.name} cannot be timed: {reason}" for operation, reason in calibration.failed.items()]
    startup = calibration.startup if plan.count("passes") or plan.count("reads") else 0.0
    return replace(plan, stages=stages, startup=startup, notes=(*plan.notes, *calibration.assumptions, *failed))


def _timed(planned: Planned, calibration: Calibration) -> Planned:
    if planned.work is None:
        return planned
    serial = calibration.seconds(load for load in planned.work.loads if not load.shared)
    shared = calibration.seconds(load for load in planned.work.loads if load.shared)
    return replace(planned, serial=serial, shared=shared)


def with_peaks(plan: Plan, ctx: Context) -> Plan:
    """The plan with the memory of its stages, where that can be told."""
    try:
        known = peaks(ctx, requested(ctx))
    except Exception as error:
        return replace(plan, notes=(*plan.notes, f"how much memory the stages take is not known: {error}"))
    return replace(plan, stages=tuple(replace(each, peak=known.get(each.name)) for each in plan.stages))
