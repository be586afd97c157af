"""Plans a run: instead of it (`plan=true`), and before one that will be long or has no room."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from lis.context import Context
from lis.planning.acceptance import expected
from lis.planning.calibration import Calibration
from lis.planning.models import readied
from lis.planning.plan import Plan, counted, timed, with_peaks
from lis.planning.stored import Room
from lis.planning.text import duration, lines, storage
from lis.stage import Stage
from lis.workload import Expected, images

log = logging.getLogger(__name__)

TOLD = 600.0
"""Seconds from which on a run prints its plan by itself."""
_POSSIBLE = 120.0
"""Seconds of images alone from which on all operations are timed: others may take as long again."""
_FEWEST = 60
"""Images below which a run is not long, whatever the generator."""


def whole_plan(
    ctx: Context, trained: bool = True, notes: Sequence[str] = (), clock: Callable[[], float] = time.perf_counter
) -> Plan:
    """The plan of a run with times and memory.

    Args:
        ctx: the run, its settings checked.
        trained: whether its models have the weights that they will be used with.
        notes: what is said below it besides.
        clock: of the calibration.
    """
    ctx, before = readied(ctx)
    return _whole(Calibration(ctx, clock), before, trained, notes)


def _whole(calibration: Calibration, before: Sequence[Stage], trained: bool = True, notes: Sequence[str] = ()) -> Plan:
    """The plan of the run of a calibration, whose models are ready."""
    ctx = calibration.ctx
    of_pairs, source = expected(ctx, calibration, trained and not before)
    plan = timed(counted(ctx, of_pairs, before), calibration)
    pairs = [source] if source and plan.count("reads") else []
    return with_peaks(replace(plan, notes=(*notes, *pairs, *plan.notes)), ctx)


def announce(ctx: Context) -> None:
    """Refuse a run that its store has no room for; write the plan of a long one into the log.

    For a short one that takes the time of counting, which may look at layers, and of an image. A model of the user's
    that cannot be timed is no reason not to run.

    Raises:
        ValueError: the disk of the store has too little room.
    """
    try:
        checked, before = readied(ctx)
        plan, room = counted(checked, Expected(), before), Room.of(ctx.store.root)
    except Exception as error:
        log.warning("the work of this run cannot be counted: %s", error, exc_info=log.isEnabledFor(logging.DEBUG))
        return
    require_room(plan, room)
    try:
        _tell_long(plan, Calibration(checked), before)
    except Exception as error:
        log.warning("how long this run takes is not known: %s", error, exc_info=log.isEnabledFor(logging.DEBUG))


def _tell_long(counted: Plan, calibration: Calibration, before: Sequence[Stage]) -> None:
    """Write the plan of a long run into the log."""
    if not _may_be_long(counted, calibration):
        return
    plan = _whole(calibration, before)
    if plan.seconds() >= TOLD:
        log.info(
            "this run will take about %s (plan=true prints this alone):\n%s",
            duration(plan.seconds()),
            "\n".join(lines(plan)),
        )


def _may_be_long(plan: Plan, calibration: Calibration) -> bool:
    """Whether the images alone would take some minutes, each as long as the first one or, if need be, the second."""
    count = max(plan.count("passes"), plan.count("reads"))
    if count < _FEWEST:
        return False
    operations = [load.operation for load in images(calibration.ctx, 1)]
    first = {operation: calibration.glance(operation) for operation in operations}
    if count * sum(first.values()) < _POSSIBLE:
        return False
    again = [one if calibration.is_dear(one) else calibration.glance(operation) for operation, one in first.items()]
    return count * sum(again) >= _POSSIBLE


def require_room(plan: Plan, room: Room) -> None:
    """Check that the disk of the store has room for what a run writes there.

    Raises:
        ValueError: for its bytes, or for its files, there is not.
    """
    remedy = (
        "give another store (store=<folder>), take fewer samples (size=…), or remove old work (python -m lis.store)"
    )
    if plan.largest > room.size:
        raise ValueError(
            f"store={plan.store}: this run needs {storage(plan.largest)} there, and its disk has {storage(room.size)} "
            f"left; expected room for all of it: {remedy}"
        )
    if room.inodes is not None and plan.most_inodes > room.inodes:
        raise ValueError(
            f"store={plan.store}: this run needs {plan.most_inodes:,} files and folders there, and its file system has "
            f"{room.inodes:,} left; expected room for all of them: {remedy}"
        )
