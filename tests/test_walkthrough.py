"""The walkthrough of docs/imagenet.md, command by command, with a small checkpoint and a random ResNet-50."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.commandline import ROOT, SMALL
from helpers.pickled import packed
from PIL import Image

from lis.labels.png import label_palette, write_mask

pytestmark = pytest.mark.full

TEXT = (ROOT / "docs" / "imagenet.md").read_text().partition("\n## Which file")[0]
NAMES = [f"class_{i}" for i in range(10)]
LABELS = ("upper", "lower")
FEW = (
    *SMALL, "pairs.train=6", "pairs.test=4", "shard_size=4", "similarity.examples=3", "threads=1", "labels.train=2",
    "labels.test=1", "segmenter.epochs=2", "tuning.units=3", "tuning.seeds=2", "tuning.control_directions=2",
    "hydra.run.dir=run", "hydra.sweep.dir=sweep",
)  # fmt: skip
PLACES = {
    "gan=imagenet256": ["gan=file", "gan.weights=mine.pkl", "gan.compile=off", "gan.cache=."],
    "classes=dogs": ["classes=custom", "classes.names=[class_1,class_3]", f"classes.labels=[{','.join(LABELS)}]"],
    "classes=dogs,birds,fungi": ["classes=custom", "classes.names=[class_1,class_3],[class_2,class_4]"],
    "size=paper": [],
    "tuning.units=64": [],
    "tuning.seeds=4": [],
    "labels.folder=<folder>": ["labels.folder=labels"],
    "store=/shared/store": ["store=shared"],
    "engine.devices=[0,1,2,3,4,5,6,7]": ["engine.devices=[cpu,cpu]"],
    "hydra/launcher=slurm": ["hydra/launcher=submitit_local"],
    "hydra.launcher.partition=gpu": [],
}
"""What stands in the place of an argument."""
RANDOM = [
    "classifier.weights=random",
    "pairs.accept=any",
    "classifier.num_classes=10",
    f"classifier.class_names=[{','.join(NAMES)}]",
]


def commands() -> list[list[str]]:
    """Module and arguments of the commands on StyleGAN-XL, in their order."""
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)).replace("\\\n", " ")
    lines = [line.partition("python -m ")[2] for line in blocks.splitlines() if "python -m lis." in line]
    return [shlex.split(line, comments=True) for line in lines if "imagenet256" in line or "labels check" in line]


def replaced(module: str, *arguments: str) -> list[str]:
    """A command with the small models."""
    if module == "lis.labels":
        exported = [more for each in arguments for more in PLACES.get(each, [each])]
        return [module, *exported, *(["labels.train=2", "labels.test=1"] if "export" in arguments else [])]
    models = [more for each in arguments for more in PLACES.get(each, [each])]
    random = [chosen(each) for each in RANDOM] if "-m" in arguments else RANDOM
    return [module, *models, *random, *FEW]


def chosen(override: str) -> str:
    """A key of an option that is swept over, as docs/sweeps.md has it."""
    key, _, value = override.partition("=")
    return f"{key}=choice({value})" if key.startswith("classifier.") else override


def label(folder: Path) -> None:
    """Draw upper and lower half of a disc into every exported image, as a person would."""
    for file in folder.glob("*.png"):
        with Image.open(file) as image:
            side = image.width
        y, x = np.indices((side, side)) - side // 2
        mask = np.where(x**2 + y**2 < (side // 3) ** 2, 1 + (y > 0), 0).astype(np.uint8)
        write_mask(file.with_suffix(".mask.png"), mask, label_palette(LABELS))


def test_every_command_of_the_walkthrough_ends_well(tmp_path: Path) -> None:
    (tmp_path / "mine.pkl").write_bytes(packed("t_stem16_c10"))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    walked = commands()
    assert len(walked) == 12
    for module, *arguments in walked:
        command = [sys.executable, "-m", *replaced(module, *arguments)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=900)
        assert done.returncode == 0, shlex.join(command) + "\n" + done.stdout + done.stderr
        if "export" in arguments:
            label(tmp_path / "labels")
    assert (tmp_path / "run" / "report.html").is_file() and (tmp_path / "sweep" / "report.html").is_file()
