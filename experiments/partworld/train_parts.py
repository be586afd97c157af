"""Train what segments part world's parts in RGB images: `python experiments/partworld/train_parts.py dogs`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor
from trainer import begin, train
from trainer import options as command_line

from lis.classifiers.partnet_training import save_classifier
from lis.generators.partworld import PartWorld
from lis.generators.partworld.part_network import PartUNet, part_index, part_iou, weights_path
from lis.generators.partworld.world import SETS

HERE = Path(__file__).parent
_NOISE = 0.05
"""Largest standard deviation of the noise on an image in [-1, 1]."""
_WIDE = 1.5
"""Factor on the distance of every fourth figure from its class mean: edited images leave the classes too."""


class PartFit(pl.LightningModule):
    """AdamW with a one-cycle schedule on the cross-entropy with the shares of every pixel."""

    def __init__(self, labels: tuple[str, ...], steps: int, rate: float) -> None:
        super().__init__()
        self.steps, self.rate, self.network = steps, rate, PartUNet(labels)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """One batch of rendered and generated figures."""
        image, masks = batch
        share = torch.cat([1 - masks.sum(1, keepdim=True), masks], 1)
        loss = -(share * self.network(image).log_softmax(1)).sum(1).mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        """AdamW with weight decay 0.01, one cycle."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.rate, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.rate, total_steps=self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@torch.no_grad()
def draw(generator: PartWorld, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noisy images `[count, 3, 64, 64]`, every second one generated, and the renderer's masks of all."""
    image, masks, u = rendered(generator, count, rng, _WIDE)
    image[::2] = generator.network(u[::2])[0].clamp(-1, 1)
    scale = _NOISE * torch.rand(count, 1, 1, 1, generator=rng)
    return (image + scale * torch.randn(image.shape, generator=rng)).clamp(-1, 1), masks


def rendered(generator: PartWorld, count: int, rng: torch.Generator, wide: float) -> tuple[Tensor, Tensor, Tensor]:
    """Rendered figures `[count, 3, 64, 64]`, their part masks and their factors `[count, factors]`."""
    world = generator.world
    classes = torch.randint(len(world.class_names), (count,), generator=rng)
    z = torch.randn(count, len(generator.factor_names), generator=rng)
    z[::4] *= wide
    u = world.factors_of(z, classes)
    return *world.figures.render(u), u


def main() -> None:
    """Train one set; weights go into the package, the log beside this file."""
    options = command_line(__doc__, SETS, steps=2000, rate=6e-3, batch=16)
    begin(options.seed)
    generator = PartWorld([], conditional=False, figures=options.figures)
    fit = PartFit(generator.labels, options.steps, options.rate)
    facts = train(fit, partial(draw, generator, options.batch), options.steps, options.seed)
    save_classifier(fit.network, weights_path(options.figures))
    run = {"steps": options.steps, "rate": options.rate, "images": options.steps * options.batch}
    run |= {**facts, **_accuracy(fit.network.eval(), generator)}
    (HERE / f"parts_{options.figures}.json").write_text(json.dumps(run, indent=1) + "\n")


@torch.no_grad()
def _accuracy(network: PartUNet, generator: PartWorld) -> dict[str, dict[str, float]]:
    """IoU of every part on 1,000 held-out figures without noise: as rendered and as generated."""
    rng = torch.Generator().manual_seed(10**6)
    predicted, true = {"rendered": [], "generated": []}, []
    for _ in range(20):
        image, masks, u = rendered(generator, 50, rng, wide=1)
        true.append(part_index(masks))
        predicted["rendered"].append(network.segment(image))
        predicted["generated"].append(network.segment(generator.network(u)[0].clamp(-1, 1)))
    names, result = ("background", *network.labels), {}
    for kind, indices in predicted.items():
        iou = part_iou(torch.cat(indices), torch.cat(true), len(network.labels))
        result[f"iou_{kind}"] = {name: round(value, 3) for name, value in zip(names, iou.tolist(), strict=True)}
    return result


if __name__ == "__main__":
    main()
