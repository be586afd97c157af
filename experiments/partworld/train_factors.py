"""Train what reads the factors off a picture: `python experiments/partworld/train_factors.py dogs --steps 6000`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F
from trainer import begin, train
from trainer import options as command_line

from lis.classifiers.factors import FactorNetwork, determination, standard, weights_path
from lis.classifiers.partnet_training import save_classifier
from lis.generators.partworld.world import SETS, World, world

HERE = Path(__file__).parent
_NOISE = 0.05
"""Largest standard deviation of the noise on an image in [-1, 1]: about as much as the generator differs."""
_WIDE = 1.5
"""Of every fourth figure, how many times farther from its class it lies: tuned images leave the classes too."""


class FactorFit(pl.LightningModule):
    """AdamW with a one-cycle schedule on the squared error of the standardised factors."""

    def __init__(self, factors: int, steps: int, rate: float) -> None:
        super().__init__()
        self.steps, self.rate, self.network = steps, rate, FactorNetwork(factors)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """One batch of rendered figures."""
        image, target = batch
        loss = F.mse_loss(self.network(image), target)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        """AdamW with weight decay 0.01, one cycle."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.rate, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.rate, total_steps=self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def draw(here: World, count: int, rng: torch.Generator, noise: float = _NOISE, wide: float = _WIDE) -> tuple:
    """Rendered figures of a set `[count, 3, 64, 64]` with noise, and their standardised factors `[count, factors]`."""
    which = torch.randint(len(here.class_names), (count,), generator=rng)
    z = torch.randn(count, len(here.figures.factor_names), generator=rng)
    z[::4] *= wide
    u = here.factors_of(z, which)
    image = here.figures.render(u)[0]
    scale = noise * torch.rand(count, 1, 1, 1, generator=rng)
    mean, std = standard(here)
    return (image + scale * torch.randn(image.shape, generator=rng)).clamp(-1, 1), (u - mean) / std


def main() -> None:
    """Train one set; weights go into the package, the log beside this file."""
    options = command_line(__doc__, SETS, steps=6000, rate=4e-3, batch=64)
    begin(options.seed)
    here = world(options.figures)
    fit = FactorFit(len(here.figures.factor_names), options.steps, options.rate)
    facts = train(fit, partial(draw, here, options.batch), options.steps, options.seed)
    save_classifier(fit.network, weights_path(options.figures))
    run = {"steps": options.steps, "rate": options.rate, "images": options.steps * options.batch}
    run |= {**facts, "r2": _accuracy(fit.network.eval(), here)}
    (HERE / f"factors_{options.figures}.json").write_text(json.dumps(run, indent=1) + "\n")


@torch.no_grad()
def _accuracy(network: FactorNetwork, here: World) -> dict[str, float]:
    """R² of every factor on 2,000 held-out rendered figures, without noise and from within the classes."""
    rng = torch.Generator().manual_seed(10**6)
    parts = [draw(here, 100, rng, noise=0, wide=1) for _ in range(20)]
    predicted, true = torch.cat([network(image) for image, _ in parts]), torch.cat([u for _, u in parts])
    r2 = determination(predicted, true)
    return {name: round(value, 3) for name, value in zip(here.figures.factor_names, r2.tolist(), strict=True)}


if __name__ == "__main__":
    main()
