"""Makes the pictures of the documentation anew: runs `lis` on part world, and takes figures from the runs' folders.

    python docs/pictures.py [folder [name …]]

`folder` (by default `build/pictures`) gets the store and the runs; what is there already is not computed again. With
names, only these pictures are made. Without a store all take ten to fifteen minutes of one core, half of them for
planted units.
"""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import torch
from PIL import Image

from lis.generators.partworld import PartWorld
from lis.images import to_uint8
from lis.streams import Stream

ROOT = Path(__file__).parents[1]
HERE = ROOT / "docs" / "img"
BOUNDARY = (
    "counterfactuals, trajectories, gradcam, adversarial, initialisations, sparse_counterfactuals, boundary_truth"
)
RUNS: dict[str, list[str]] = {
    "demo": ["analysis=demo"],
    "traversal": ["analysis=traversal", "traversal.units=2", "traversal.examples=1"],
    "unit": ["analysis=unit", "unit=12", "class=pug"],
    "direction": ["analysis=direction", "direction=classes:pug-chihuahua", "class=pug"],
    "images": ["analysis=images", "images=my pictures"],
    "truth": ["analysis=truth"],
    "planted": ["analysis=planted", "classifier=planted", "tuning.units=null"],
    "matching": ["analysis=matching"],
    "dissect": ["analysis=dissect", "dissect.layers=[body.1,body.2,body.3]"],
    "bridge": ["analysis=bridge", "classifier=detectors", "pairs.accept=any", "tuning.units=null"],
    "dissect_gan": ["analysis=dissect_gan", "dissect_gan.draws=200"],
    "importance": ["analysis=importance", "pairs.accept=any"],
    "texture": ["analysis=texture"],
    "gan_counterfactuals": ["analysis=gan_counterfactuals", "gan_counterfactuals.examples=1"],
    "boundary": [
        "analysis=counterfactuals",
        f"analysis.stages=[pairs/train, pairs/test, link, segmenter, {BOUNDARY}]",
        "counterfactuals.samples=10",
    ],
}
"""What is run, by the name of its folder."""
PICTURES: dict[str, tuple[str, str]] = {
    "demo": ("demo", "schematic"),
    "link": ("demo", "distances"),
    "evaluation": ("demo", "reconstructions"),
    "similarity": ("demo", "similarity"),
    "directions": ("demo", "forward-model"),
    "segmenter": ("demo", "iou"),
    "segmentation": ("demo", "masks"),
    "tuning": ("demo", "unit-ranking"),
    "unit_statistics": ("demo", "relevance"),
    "faithfulness": ("demo", "faithfulness"),
    "pictures": ("demo", "unit-surface"),
    "truth": ("demo", "truth-units"),
    "intervention": ("truth", "intervention"),
    "planted": ("planted", "planted"),
    "traversal": ("traversal", "traversals"),
    "unit": ("unit", "unit"),
    "direction": ("direction", "direction"),
    "images": ("images", "images"),
    "motion": ("demo", "motion-fields"),
    "matching": ("matching", "matching-errors"),
    "dissect": ("dissect", "dissect-units"),
    "bridge": ("bridge", "bridge"),
    "dissect_gan": ("dissect_gan", "dissect-gan-removal"),
    "importance": ("importance", "removal-curves"),
    "texture": ("texture", "texture-extremes-factors"),
    "counterfactuals": ("boundary", "counterfactuals-reached"),
    "trajectories": ("boundary", "counterfactuals-evolution-0"),
    "gradcam": ("boundary", "gradcam"),
    "adversarial": ("boundary", "adversarial"),
    "initialisations": ("boundary", "directions-agreement"),
    "sparse_counterfactuals": ("boundary", "counterfactuals-l1"),
    "boundary_truth": ("boundary", "truth-boundaries"),
    "gan_counterfactuals": ("gan_counterfactuals", "gan-counterfactuals"),
}
"""What each picture is taken from: a run, and the name of a figure of it."""
SHEET = ROOT / "lis" / "generators" / "partworld" / "sheet.png"
"""All classes of part world, which `experiments/partworld/measure.py` draws."""
WIDEST, LARGEST = 1100, 46_000
"""Pixels, and bytes, that a picture may have."""
USER = {"pug": 7, "schnauzer": 3, "toucan": 1}
"""Class and sample of what stands for a user's own pictures; the bird is none of the dogs that the link knows."""


def main(folder: Path, *names: str) -> None:
    """Run what there is to run, and write the pictures of these names, or all.

    Raises:
        ValueError: there is no such picture.
    """
    if unknown := set(names) - PICTURES.keys():
        raise ValueError(f"no such picture: {', '.join(sorted(unknown))}; there are {', '.join(PICTURES)}")
    chosen = {name: PICTURES[name] for name in names} or PICTURES
    folder.mkdir(parents=True, exist_ok=True)
    draw_user(folder / "my pictures")
    for name in dict.fromkeys(run for run, _ in chosen.values()):
        places = [f"store={folder / 'store'}", f"hydra.run.dir={folder / name}", "threads=1"]
        subprocess.run([sys.executable, "-m", "lis.run", *RUNS[name], *places], cwd=folder, check=True)
    HERE.mkdir(exist_ok=True)
    for name, (run, figure) in chosen.items():
        content = shrunk(Image.open(folder / run / "figures" / f"{figure}.png"))
        (HERE / f"{name}.webp").write_bytes(content)
    if not names:
        (HERE / "partworld.webp").write_bytes(shrunk(Image.open(SHEET)))


def draw_user(folder: Path) -> None:
    """Pictures of the renderer's, which the generator has not made."""
    folder.mkdir(exist_ok=True)
    for name, index in USER.items():
        world = PartWorld([name])
        w = world.sample(world.class_names.index(name), torch.tensor([index]), Stream("views"))
        pixels = to_uint8(world.render(w)[0][0]).permute(1, 2, 0)
        Image.fromarray(pixels.numpy()).resize((256, 256), Image.Resampling.NEAREST).save(folder / f"{name}.png")


def shrunk(figure: Image.Image) -> bytes:
    """A figure as WebP, on white, in the best quality that fits.

    Raises:
        ValueError: none does.
    """
    image = Image.new("RGB", figure.size, "white")
    image.paste(figure, mask=figure.getchannel("A") if "A" in figure.getbands() else None)
    image.thumbnail((WIDEST, 10 * WIDEST), Image.Resampling.LANCZOS)
    for quality in range(90, 20, -5):
        stream = io.BytesIO()
        image.save(stream, "WEBP", quality=quality, method=6)
        if stream.tell() <= LARGEST:
            return stream.getvalue()
    raise ValueError(f"a figure of {image.size} pixels does not fit into {LARGEST:,} bytes: take one with fewer panels")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "pictures").resolve(), *sys.argv[2:])
