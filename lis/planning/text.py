"""A plan in words and columns: a table on a terminal, aligned text anywhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from lis.planning.plan import DEVICES, Plan, Planned

COLUMNS = ("stage", "in the store", "generator", "classifier", "backward", "time", "memory", "disk", "files")
UNKNOWN = "?"
"""In place of a number that is not known."""
_STEPS = (("days", 86400.0), ("h", 3600.0), ("min", 60.0))
_SIZES = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6))
_GIB = 2**30
_TOLD = 1.0
"""Seconds of a start that are worth a line."""
_TEXT = 2
"""Columns that are no numbers."""


def duration(seconds: float | None) -> str:
    """A time in its largest unit.

    Example:
        >>> duration(7.2), duration(200), duration(9000), duration(1.4e7), duration(None)
        ('7.2 s', '3.3 min', '2.5 h', '162 days', '?')
    """
    if seconds is None:
        return UNKNOWN
    unit, size = next(((unit, size) for unit, size in _STEPS if seconds >= 1.5 * size), ("s", 1.0))
    number = seconds / size
    return f"{number:.0f} {unit}" if number >= 100 else f"{number:.1f} {unit}"


def storage(size: float) -> str:
    """Bytes in powers of 1000.

    Example:
        >>> storage(1.5e9), storage(20_000)
        ('1.5 GB', '0.02 MB')
    """
    unit, factor = next(((unit, factor) for unit, factor in _SIZES if size >= factor), _SIZES[-1])
    number = size / factor
    return f"{number:.0f} {unit}" if number >= 10 else f"{number:.2g} {unit}"


def rows(plan: Plan) -> list[tuple[str, ...]]:
    """The cells of every stage, and of all together, in the order of `COLUMNS`."""
    return [*map(_row, plan.stages), _total(plan)]


def _row(stage: Planned) -> tuple[str, ...]:
    counts = [_count(stage.count(name)) for name in ("passes", "reads", "backwards")]
    known = stage.stored or stage.work is not None
    written = (storage(stage.size), f"{stage.inodes:,}") if known else (UNKNOWN, UNKNOWN)
    memory = "" if stage.peak is None else f"{stage.peak.total / _GIB:.1f} GiB"
    if stage.stored:
        return (stage.name, "yes", *[""] * (len(COLUMNS) - 2))
    return (stage.name, _stored(stage), *counts, duration(stage.seconds()), memory, *written)


def _stored(stage: Planned) -> str:
    return f"{stage.there:,} of {stage.shards:,} shards" if stage.shards else "no"


def _count(count: int | None) -> str:
    return UNKNOWN if count is None else f"{count:,}" if count else ""


def _total(plan: Plan) -> tuple[str, ...]:
    beside = ", more" if plan.unknown else ""
    counts = [f"{plan.count(name):,}" for name in ("passes", "reads", "backwards")]
    memory = max((stage.peak.total for stage in plan.stages if stage.peak and not stage.stored), default=None)
    return (
        "all" + beside,
        "",
        *counts,
        duration(plan.seconds()),
        "" if memory is None else f"{memory / _GIB:.1f} GiB",
        storage(plan.size),
        f"{plan.inodes:,}",
    )


def remarks(plan: Plan) -> list[str]:
    """What is said below the table."""
    times = ", ".join(f"{devices}: {duration(plan.seconds(devices))}" for devices in DEVICES)
    lines = [
        f"measured on {plan.device}; by devices, with engine=local or engine=ray (now {plan.engine}): {times}",
        f"store {plan.store}: {storage(plan.largest)} and {plan.most_inodes:,} files at most while shards are packed",
    ]
    if plan.startup > _TOLD:
        lines.append(f"{duration(plan.startup)} of this before the first image, on every device")
    if plan.unknown:
        lines.append(f"the time of {', '.join(plan.unknown)} is not known, and is not in the sums")
    return [*lines, *plan.notes]


def shown(plan: Plan, console: Console) -> None:
    """Print a plan."""
    if console.is_terminal:
        console.print(_table(rows(plan)))
    else:
        for line in aligned([COLUMNS, *rows(plan)]):
            console.print(line, soft_wrap=True, markup=False, highlight=False)
    for line in remarks(plan):
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def lines(plan: Plan) -> list[str]:
    """A plan as text, for the log."""
    return [*aligned([COLUMNS, *rows(plan)]), *remarks(plan)]


def facts(plan: Plan) -> dict[str, float]:
    """The sums of a plan, for the sum over the jobs of a sweep."""
    counts = {name: plan.count(name) for name in ("passes", "reads", "backwards")}
    return {**counts, "seconds": plan.seconds(), "bytes": plan.size, "inodes": plan.inodes}


def sum_of_jobs(jobs: Sequence[Mapping[str, Any]]) -> str:
    """The sum of `facts` over jobs, in words."""
    total = {name: sum(job[name] for job in jobs) for name in ("passes", "seconds", "bytes")}
    return (
        f"{len(jobs)} plans together: {total['passes']:,} generator passes, {duration(total['seconds'])}, "
        f"{storage(total['bytes'])}; what several jobs share is made once, and counts here for each of them"
    )


def _table(cells: Iterable[Sequence[str]]) -> Table:
    table = Table()
    for k, name in enumerate(COLUMNS):
        table.add_column(name, justify="left" if k < _TEXT else "right")
    for row in cells:
        table.add_row(*row)
    return table


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns of equal width: the first two to the left, numbers to the right.

    Example:
        >>> aligned([("stage", "in the store", "time"), ("link", "no", "2.0 s")])
        ['stage  in the store   time', 'link   no            2.0 s']
    """
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    return [
        "  ".join(
            cell.ljust(width) if k < _TEXT else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
