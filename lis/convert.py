"""`python -m lis.convert in.pkl out/` turns a published checkpoint of StyleGAN-XL into safetensors and JSON.

The result holds nothing that could be executed, takes the room of one network instead of a whole training, and loads
at once.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":  # importing takes seconds, in which Ctrl-C ends the program without a word
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lis.generators.stylegan_xl.checkpoint import (
    ENTRY,
    WEIGHTS,
    Origin,
    read_checkpoint,
    require_free,
    write_checkpoint,
)
from lis.plain import print_anywhere
from lis.progress import say
from lis.stopping import stop
from lis.store import check_writable, sha256


def convert(source: Path, folder: Path, entry: str = ENTRY) -> Path:
    """Write one network of a checkpoint as safetensors and JSON, and say on the way what is being done.

    A signal to stop is heeded between two steps.

    Args:
        source: a published pickle.
        folder: takes the two files; made when needed.
        entry: the network's name in the pickle.

    Returns:
        the safetensors file.

    Raises:
        ValueError: the pickle cannot be read, the folder cannot be written, or it holds such files already.
    """
    require_free(folder)
    say(f"reading {entry} of {source}")
    generator = read_checkpoint(source, entry)
    stop.check()
    check_writable(folder, "out")
    say(f"adding up the checksum of {source.stat().st_size / 2**20:,.0f} MB")
    origin = Origin(source.name, sha256(source), entry)
    stop.check()
    count = sum(value.numel() for value in generator.parameters())
    say(f"writing {count / 1e6:.2f} million parameters, {generator.num_ws} ws, {generator.resolution} px")
    write_checkpoint(generator, folder, origin)
    return folder / WEIGHTS


def main(arguments: Sequence[str] | None = None) -> None:
    """Convert a file; the exit code is 1 where that is not possible, and 130 or 143 where a signal stopped it."""
    print_anywhere()
    parser = argparse.ArgumentParser(prog="python -m lis.convert", description="A published checkpoint as safetensors.")
    parser.add_argument("source", type=Path, help="a .pkl file of StyleGAN-XL; nothing in it is executed")
    parser.add_argument("folder", type=Path, help=f"where {WEIGHTS} and its description go; nothing is overwritten")
    parser.add_argument("--entry", default=ENTRY, help="the network in the file (default: %(default)s)")
    options = parser.parse_args(arguments)
    with stop.listen(f"of a file that is not whole nothing is kept in {options.folder}; the same command begins anew"):
        try:
            say(f"done: {convert(options.source, options.folder, options.entry)}")
        except (ValueError, OSError) as error:
            say(str(error), "bold red")
            sys.exit(1)


if __name__ == "__main__":
    main()
