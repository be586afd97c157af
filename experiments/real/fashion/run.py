"""A GAN and a CNN that others trained on Fashion-MNIST: the link, counterfactuals in the generator, movement, units of
the generator.

    python experiments/real/fashion/run.py [--folder ../shared/real] [settings, as for python -m lis.run]

The networks are no part of the project: where their folder is missing, nothing is run, and that is said.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
CHAIN = (
    *("gan=fashion", "classifier=fashion", "pairs.train=640", "pairs.test=160"),
    *("classes=custom", "classes.names=[tshirt,trouser,pullover,dress,coat]"),
)
ANALYSES = {
    "link": (),
    "gan_counterfactuals": (),
    "motion": ("motion.units=4", "tuning.units=4", "tuning.seeds=2", "tuning.control_directions=8"),
    "dissect_gan": ("dissect_gan.concepts=brightness", "dissect_gan.layer=b7"),
}
"""Option of `analysis` → its further settings."""


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT.parent / "shared" / "real", help="fashion.py and conf/")
    parser.add_argument("settings", nargs="*", help="as for python -m lis.run")
    options = parser.parse_intermixed_args()
    if not (options.folder / "fashion.py").is_file():
        print(f"skipped: the networks are not in {options.folder} (--folder says where they are)")
        return
    for analysis, settings in ANALYSES.items():
        subprocess.run(
            command(options.folder, analysis, [*settings, *options.settings]),
            env=environment(options.folder),
            check=True,
        )


def command(folder: Path, analysis: str, settings: list[str]) -> list[str]:
    """What runs one analysis of the chain."""
    start = [sys.executable, "-m", "lis.run", "--config-dir", str(folder / "conf")]
    return [*start, *CHAIN, f"analysis={analysis}", *settings]


def environment(folder: Path) -> dict[str, str]:
    """With the folder on Python's path, where `fashion` is."""
    paths = [str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


if __name__ == "__main__":
    main()
