"""The command line: compose → check → run the stages → report. `python -m lis.run --help` lists what can be chosen."""

from __future__ import annotations

import signal

if __name__ == "__main__":  # importing takes seconds, in which Ctrl-C ends the program without a word
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # as behind `nohup` or in a script's background
        signal.signal(signal.SIGINT, signal.SIG_DFL)

import logging
import sys
from contextlib import suppress
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from lis.callbacks import FAILURE
from lis.config import conf_folder
from lis.config.overrides import spelled
from lis.job import run, write_json
from lis.memory import keep_freed_memory
from lis.progress import print_anywhere
from lis.report.html import ReportError
from lis.stages import register, table
from lis.stopping import stop
from lis.store import disk_fault

log = logging.getLogger("lis.run")


def fail(error: Exception, out: Path, store: Path) -> None:
    """Log an error, keep it in the run's folder and end the program; a sweep goes on with its next job."""
    told = isinstance(error, ReportError)  # with a traceback per section
    if (fault := disk_fault(error, store)) is not None:
        log.error("%s", fault)
        log.debug("where that happened:", exc_info=error)  # into the file alone
    else:
        log.error("%s", error, exc_info=None if told else error)
    with suppress(OSError):  # the same disk may be full
        write_json(out / FAILURE, {"error": fault or str(error) or type(error).__name__, "type": type(error).__name__})
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        sys.exit(1)


register()


@hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")
def main(config: DictConfig) -> None:
    """Run one job; Hydra composes its configuration and makes its folder."""
    keep_freed_memory()
    out = Path(HydraConfig.get().runtime.output_dir)
    store = Path(HydraConfig.get().runtime.cwd) / Path(config.store).expanduser()
    stop.store = str(config.store)
    try:
        run(config, out)
        stop.check()  # a signal that came last still stops a sweep
    except Exception as error:
        fail(error, out, store)
    except BaseException:
        log.debug("stopped", exc_info=True)  # into the file alone
        raise


def command() -> None:
    """The command line, with `class=…` for the key `class_name`, paths as they are, and options anywhere.

    `--stages` prints the table of all stages instead of running any.
    """
    print_anywhere()
    if "--stages" in sys.argv[1:]:
        sys.stdout.write(f"{table()}\n")
        return
    try:
        sys.argv[1:] = spelled(sys.argv[1:])
    except ValueError as error:
        sys.exit(str(error))
    with stop.listen():
        main()


if __name__ == "__main__":
    command()
