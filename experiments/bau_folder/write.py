"""Renderings of part world with their masks in folders, as a user would bring pictures.

    python experiments/bau_folder/write.py FOLDER [--set dogs] [--samples 60] [--side 128] [--seed 0]

Writes FOLDER/pictures/<class>/<k>.png and FOLDER/masks/<class>/<k>.mask.png (value k: the k-th of the labels, which are
printed as the setting `classes.labels`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from lis.generators.partworld import PartWorld
from lis.generators.partworld.world import SETS
from lis.images import to_uint8
from lis.labels.labelled import exact_masks
from lis.streams import Stream


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where both folders are made")
    parser.add_argument("--set", default="dogs", choices=list(SETS), help="class set")
    for name, value in {"samples": 60, "side": 128, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    names = list(SETS[options.set].classes)
    world = PartWorld(names)
    for index, name in enumerate(names):
        w = world.sample(index, torch.arange(options.samples), Stream("labels", options.seed))
        mask = exact_masks(world, w, world.labels, world.resolution)
        write(options.folder, name, world.synthesize(w), mask, options.side)
    print(f"classes.labels=[{','.join(world.labels)}]")


def write(folder: Path, name: str, image: Tensor, mask: Tensor, side: int) -> None:
    """Write the pictures `[n, 3, H, H]` of a class and their masks `[n, H, H]`, enlarged to `side` pixels."""
    pictures, masks = folder / "pictures" / name, folder / "masks" / name
    for each in (pictures, masks):
        each.mkdir(parents=True, exist_ok=True)
    large = to_uint8(F.interpolate(image, side, mode="bilinear", antialias=True)).permute(0, 2, 3, 1).numpy()
    labels = F.interpolate(mask[:, None].float(), side, mode="nearest")[:, 0].to(torch.uint8).numpy()
    for k, (picture, parts) in enumerate(zip(large, labels, strict=True)):
        Image.fromarray(picture).save(pictures / f"{k:03}.png")
        Image.fromarray(parts).save(masks / f"{k:03}.mask.png")


if __name__ == "__main__":
    main()
