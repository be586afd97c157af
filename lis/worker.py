"""Makes shards for a run that was started elsewhere, until all of it is in the store.

`python -m lis.worker <the overrides of the run>`, on any machine that sees the run's store, at any moment, as often as
there are devices: by hand, by `srun`, by `torchrun` or in a job of submitit. Several workers alone do the run, too; the
report is what `python -m lis.run` with the same overrides then writes.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":  # importing takes seconds, in which Ctrl-C ends the program without a word
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import lis
from lis.compose import composed
from lis.engine import InProcess
from lis.memory import keep_freed_memory
from lis.plain import print_anywhere
from lis.progress import ConsoleHandler
from lis.stopping import stop

log = logging.getLogger("lis.worker")


def main(argv: Sequence[str] | None = None) -> int:
    """Work on the run that the overrides name.

    Args:
        argv: the overrides; None: those of the command line.

    Returns:
        0 when everything of the run is in the store, 1 after an error.
    """
    parser = argparse.ArgumentParser(prog="python -m lis.worker", description=__doc__)
    parser.add_argument("overrides", nargs="*", help="those of the run: gan=… classifier=… store=…")
    options = parser.parse_args(argv)
    keep_freed_memory()
    logging.basicConfig(level=logging.INFO, handlers=[ConsoleHandler()], format="%(message)s")
    try:
        work(options.overrides)
    except Exception as error:
        log.error("%s", error, exc_info=error)
        return 1
    return 0


def work(overrides: Sequence[str]) -> None:
    """Make what the run needs and nobody else is making.

    Raises:
        ValueError: bad input, as of the run; the overrides are those of a sweep; or a job with another version of `lis`
            works on it.
    """
    from lis.job import check_folders, prepared, ready, requested, run_stage

    settings = composed(overrides, Path.cwd(), single=True)
    stop.store = settings.store
    ctx = replace(prepared(settings), engine=InProcess())  # other devices have workers of their own
    check_folders(ctx)
    ctx.store.version = lis.__version__
    ctx, _ = ready(ctx)
    for name in requested(ctx):
        run_stage(name, ctx)
    stop.check()
    log.info("everything of this run is in %s", settings.store)


if __name__ == "__main__":
    print_anywhere()
    with stop.listen():
        sys.exit(main())
