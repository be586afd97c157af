"""`python -m lis.labels export FOLDER` writes images to be labelled; `check FOLDER` shows what was understood."""

from __future__ import annotations

import signal

if __name__ == "__main__":  # importing takes seconds, in which Ctrl-C ends the program without a word
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lis.build import build, move, ready_device
from lis.compose import composed
from lis.config import RunConfig
from lis.labels.export import README, export
from lis.plain import print_anywhere
from lis.progress import say
from lis.report.labelled import FOLDER, Checked, check
from lis.stopping import stop
from lis.types import Generator
from lis.validation import check_config, check_labels

_ABOUT = """\
Labelled images for the segmenter.
export writes labels.train + labels.test images of each class, to be labelled as README.txt in the folder says;
check lists what is labelled, missing and wrong, and draws the masks on their images."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Export or check a folder.

    The exit code is 1 where that is not possible or the labels are not complete, and 130 or 143 where a signal came.
    """
    print_anywhere()
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m lis.labels", description=_ABOUT, formatter_class=formatter)
    parser.add_argument("command", choices=("export", "check"))
    parser.add_argument("folder", type=Path, help="of the images")
    parser.add_argument("override", nargs="*", help="with export: settings of the run, as classes=birds labels.train=5")
    parser.add_argument("--masks", action="store_true", help="with export: write the exact masks too (part world)")
    options = parser.parse_intermixed_args(arguments)
    if options.command == "check" and (options.override or options.masks):
        parser.error("check takes the folder alone: what was exported is written there")
    left = "of an export that is not whole nothing is kept" if options.command == "export" else "labels stay"
    with stop.listen(f"{left} in {options.folder}; the same command begins anew"):
        try:
            if options.command == "export":
                _export(options.folder, options.override, options.masks)
            elif not _complete(check(options.folder), options.folder):
                sys.exit(1)
        except (ValueError, OSError) as error:
            say(str(error), "bold red")
            sys.exit(1)


def configuration(overrides: Sequence[str]) -> RunConfig:
    """The configuration that `python -m lis.run` would have with these overrides.

    Raises:
        ValueError: a key or value that does not exist.
    """
    settings = composed(overrides, Path.cwd())
    check_config(settings, settings.analysis.stages)
    return settings


def _export(folder: Path, overrides: Sequence[str], masks: bool) -> None:
    settings = configuration(overrides)
    device = ready_device(settings)
    generator: Generator = build(settings.gan, class_names=settings.classes.names)
    move(generator, device)
    check_labels(settings.classes.labels, generator)
    manifest = export(folder, settings, generator, masks)
    say(f"{len(manifest.samples)} images of {manifest.size[1]} × {manifest.size[0]} pixels in {folder}")
    say(f"how to label them: {folder / README}")


def _complete(result: Checked, folder: Path) -> bool:
    """Print what was found; True where every image has a mask and nothing is wrong."""
    for line in result.problems:
        say(line, "red")
    for sample in result.missing:
        say(f"not labelled: {sample.file}", "yellow")
    for line in result.notes:
        say(line, "yellow")
    parts = ", ".join(f"{name} on {count}" for name, count in result.parts.items())
    say(f"{len(result.labelled)} labelled ({parts}), {len(result.missing)} missing, {len(result.problems)} wrong")
    if result.labelled:
        say(f"to look at: {folder / FOLDER}")
    return not result.missing and not result.problems


if __name__ == "__main__":
    main()
