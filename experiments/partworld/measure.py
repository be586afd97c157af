"""Measure the embedded models and draw the sheet of part world: `python experiments/partworld/measure.py`.

Writes `measured.json` beside this file (PSNR part by part, accuracy beside the Bayes accuracy) and `sheet.png` beside
part world's README.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from lis.classifiers.partnet import TASKS, PartNet
from lis.generators.partworld import SETS, PartWorld
from lis.generators.partworld.training import fidelity
from lis.streams import Stream

HERE = Path(__file__).parent
SHEET = HERE.parents[1] / "lis/generators/partworld/sheet.png"
COLOURS = np.array([
    [0.85, 0.37, 0.01], [0.12, 0.47, 0.71], [0.46, 0.44, 0.70], [0.91, 0.16, 0.54], [0.40, 0.65, 0.12],
    [0.20, 0.20, 0.20], [0.90, 0.67, 0.01], [0.11, 0.62, 0.47], [0.65, 0.46, 0.11],
])  # fmt: skip


@torch.no_grad()
def measure(name: str, n: int = 1000) -> dict:
    """PSNR on held-out samples; accuracies on generated test pictures beside that of Bayes' rule."""
    generator = PartWorld(list(SETS[name].classes))
    nets = {"bayes": None} | {f"partnet_{task}": PartNet(task) for task in TASKS}
    right: dict[str, list[float]] = {key: [] for key in nets}
    for c, label in enumerate(generator.class_names):
        w = generator.sample(c, torch.arange(n), Stream("test pairs"))
        image = torch.cat([generator.synthesize(part) for part in w.split(100)])
        for key, net in nets.items():
            truth = c if net is None else net.class_names.index(label)
            found = (
                generator.world.bayes_class(generator.true_factors(w))
                if net is None
                else torch.cat([net(part).argmax(1) for part in image.split(100)])
            )
            right[key].append((found == truth).float().mean().item())
    accuracy = {key: {"all": round(float(np.mean(v)), 4)} | _by_class(generator, v) for key, v in right.items()}
    return {
        "parameters": sum(p.numel() for p in generator.network.parameters()),
        "psnr_db": fidelity(generator.network, generator.world, n=2000, seed=2),
        "accuracy": accuracy,
    }


def _by_class(generator: PartWorld, values: list[float]) -> dict[str, float]:
    return {label: round(value, 3) for label, value in zip(generator.class_names, values, strict=True)}


@torch.no_grad()
def draw_sheet(columns: int = 3) -> Figure:
    """Per class: rendered, generated, masks."""
    figure = Figure(figsize=(13, 15.6), dpi=110)
    rows = sum(len(figures.classes) for figures in SETS.values())
    axes = figure.subplots(rows, columns * 3, gridspec_kw={"wspace": 0.04, "hspace": 0.06})
    row = 0
    for figures in SETS.values():
        generator = PartWorld(list(figures.classes))
        for c, label in enumerate(generator.class_names):
            w = generator.sample(c, torch.arange(columns), Stream("test pairs"))
            rendered, masks = generator.render(w)
            pictures = [_rgb(rendered), _rgb(generator.synthesize(w)), _paint(masks)]
            for kind, batch in enumerate(pictures):
                for k in range(columns):
                    axes[row, kind * columns + k].imshow(batch[k], interpolation="nearest")
            axes[row, 0].set_ylabel(label.replace("_", " "), rotation=0, ha="right", va="center", fontsize=10)
            row += 1
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for kind, title in enumerate(("rendered", "generated", "masks")):
        axes[0, kind * columns + columns // 2].set_title(title, fontsize=13)
    figure.subplots_adjust(left=0.1, right=0.995, top=0.975, bottom=0.005)
    return figure


def _rgb(image: torch.Tensor) -> np.ndarray:
    return (image.permute(0, 2, 3, 1).numpy() + 1) / 2


def _paint(masks: torch.Tensor) -> np.ndarray:
    parts = np.einsum("nkhw,kc->nhwc", masks.numpy(), COLOURS[: masks.shape[1]])
    return parts + (1 - masks.numpy().sum(1))[..., None]


def main() -> None:
    """Measure every set and draw the sheet."""
    torch.set_num_threads(1)
    measured = {name: measure(name) for name in SETS}
    (HERE / "measured.json").write_text(json.dumps(measured, indent=1) + "\n")
    draw_sheet().savefig(SHEET)


if __name__ == "__main__":
    main()
