"""The command line: compose → check → run the stages → report. `python -m lis.run --help` lists what can be chosen.

What is only asked, and what is refused, is answered from the declarations of the stages; a run alone imports what it
computes with, which takes seconds.
"""

from __future__ import annotations

import gc
import signal

if __name__ == "__main__":  # importing takes seconds, in which Ctrl-C ends the program without a word
    gc.disable()  # an answer leaves nothing to collect, and looking for it takes a tenth of its time
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # as behind `nohup` or in a script's background
        signal.signal(signal.SIGINT, signal.SIG_DFL)

import io
import os
import sys
from argparse import Namespace
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from lis.compose import REFUSED, composer, told
from lis.config import conf_folder
from lis.config.overrides import spelled
from lis.help import page
from lis.plain import print_anywhere
from lis.stages import Unread, discover, read, register, table
from lis.stopping import stop


def main() -> None:
    """Import everything that a run computes with, and run what `sys.argv` asks for, as Hydra composes it."""
    from lis.callbacks import ended
    from lis.job import main as run

    register()
    with ended():
        run()


def command() -> None:
    """The command line, with `class=…` for the key `class_name`, paths as they are, and options anywhere.

    `--stages` prints the table of all stages instead of running any. What does not fit is refused at once.
    """
    print_anywhere()
    try:
        if answered():
            return
    except SyntaxError as error:
        sys.exit(f"{error.filename}:{error.lineno}: {error.msg}")
    except (ImportError, ValueError) as error:
        sys.exit(str(error))
    try:
        discover()
    except Unread as error:
        sys.exit(str(error))
    import_module("lis.job")  # takes long, as what is above, and Ctrl-C still ends the program
    gc.freeze()  # what is imported stays: to look through it again and again takes a tenth of a sweep of finished jobs
    gc.enable()
    try:
        with stop.listen():
            main()
    finally:
        gc.unfreeze()  # libraries count at the end what is left of them


def answered() -> bool:
    """Answer what is only asked; check what is to be run, and leave it to run.

    Raises:
        ValueError: all that is wrong with what was typed.
        ImportError: a stage is declared where it is not read.
        SyntaxError: a file with a stage cannot be parsed.
        NotLight: the declaration of a stage uses what takes long to import.
    """
    read()
    if "--stages" in sys.argv[1:]:
        sys.stdout.write(f"{table()}\n")
        return True
    register()
    sys.argv[1:] = spelled(sys.argv[1:])
    options = get_args_parser().parse_args()
    if not options.help and (options.cfg or options.info or options.hydra_help or options.shell_completion):
        hydras_answer(options)
        return True
    if (file := options.experimental_rerun) and not Path(file).is_file():
        raise ValueError(f"--experimental-rerun {file}: no such file; expected the .hydra/config.pickle of a run")
    if not options.help and (options.config_path or options.config_name or file):  # another root: Hydra judges
        return False
    with composer(options.config_dir) as each:
        if options.help:
            sys.stdout.write(page(each, options.overrides))
        else:
            each.check(options.overrides, options.multirun)
    return options.help


@hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")
def nothing(config: DictConfig) -> None:
    """What Hydra does not call where it is asked for its own pages."""


def hydras_answer(options: Namespace) -> None:
    """What Hydra says to `--cfg`, `--info`, `--hydra-help` and the shell's completion.

    Raises:
        ValueError: all that is wrong with the overrides.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else it prints what it says, and advice that does not fit
    try:
        if options.shell_completion and any(each.startswith("query=") for each in options.overrides):
            complete()
        else:
            nothing()
    except REFUSED as error:
        if not options.shell_completion:
            with composer(options.config_dir) as each:
                each.check(options.overrides, options.multirun)
        raise ValueError(told(error)) from error


def complete() -> None:
    """What Hydra proposes for a line that the shell has begun, without the schemas that options begin with.

    Raises:
        ValueError: no shell asks.
    """
    if "COMP_LINE" not in os.environ:
        raise ValueError("-sc query=…: expected COMP_LINE in the environment, as a shell's completion sets it")
    _, module, typed = os.environ["COMP_LINE"].partition("-m lis.run")
    if module:  # which Hydra does not expect
        os.environ["COMP_LINE"] = f"lis{typed}"
    printed = io.StringIO()
    with redirect_stdout(printed):
        nothing()
    words = [word for word in printed.getvalue().split() if not word.partition("=")[2].startswith("base_")]
    sys.stdout.write(" ".join(words) + "\n")


if __name__ == "__main__":
    command()
