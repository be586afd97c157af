"""Fitting the style network to the renderer, and measuring the fit part by part."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path

import pytorch_lightning as pl
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lis.generators.partworld.network import CHANNELS, StyleNetwork
from lis.generators.partworld.world import World

DETAIL_WEIGHT = {
    "tongue": 3.0, "white of the eye": 3.0, "pupil": 3.0, "nose": 3.0, "tail": 2.0, "snout": 1.5, "near ear": 2.0,
    "far ear": 2.0, "near leg": 1.5, "far leg": 1.5, "head": 1.3, "spot": 2.5, "gills": 2.0, "beak": 2.5, "leg": 3.0,
    "wing": 1.5, "belly": 1.3, "stem": 1.2, "cap": 1.2, "body": 1.2,
}  # fmt: skip
"""How much a pixel of a detail counts: small parts more, background 1."""
_WIDE, _WIDENING = 0.25, 0.7
"""Share of the samples whose factors get extra noise, and its scale: perturbed w must stay sensible too."""


def draw_rendered(world: World, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Factors `[n, factors]`, images in [-1, 1] and masks of details: a batch drawn by the renderer."""
    u, wide = draw_factors(world, n, rng), int(_WIDE * n)
    u[:wide] += _WIDENING * torch.randn(wide, u.shape[1], generator=rng)
    return u, *world.figures.render(u, by_detail=True)


def draw_factors(world: World, n: int, rng: torch.Generator) -> Tensor:
    """Factors `[n, factors]` of random classes."""
    classes = torch.randint(len(world.class_names), (n,), generator=rng)
    z = torch.randn(n, len(world.figures.factor_names), generator=rng)
    return world.factors_of(z, classes)


def fit_loss(image: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted L1 + L2, L1 of the gradients, and L1 at 16 px.

    Args:
        image, target: `[n, 3, h, w]`, in [0, 1] units.
        weight: `[n, 1, h, w]`, how much each pixel counts.
    """
    error = image - target
    slopes = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    coarse = F.avg_pool2d(error, 4).abs().mean()
    return (weight * error.abs()).mean() + 2 * (weight * error.square()).mean() + 0.5 * slopes + 0.5 * coarse


class GeneratorFit(pl.LightningModule):
    """Adam with a warm-up and a cosine, an exponential moving average, and an auxiliary part head on the 32-px map.

    Args:
        world: the set to fit.
        steps: optimiser steps.
        out: where the averaged weights are written (half precision), every 500 steps and at the end.
        learning_rate: peak of the schedule.
        compiled: run the network through `torch.compile`.
    """

    weight: Tensor

    def __init__(self, world: World, steps: int, out: Path, learning_rate: float = 3e-3, compiled: bool = True) -> None:
        super().__init__()
        self.world, self.steps, self.out, self.learning_rate = world, steps, out, learning_rate
        self.network = StyleNetwork(len(world.figures.factor_names))
        self.parts = nn.Conv2d(CHANNELS[3], len(world.figures.details) + 1, 1)
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(0.998))
        self._forward = torch.compile(self.network) if compiled else self.network
        self.register_buffer("weight", torch.tensor([DETAIL_WEIGHT[name] for name in world.figures.details]) - 1)
        self.log_rows: list[dict[str, float]] = []

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], _: int) -> Tensor:
        """One batch of rendered figures."""
        u, target, masks = batch
        image, maps = self._forward(u)
        pixel = 1 + torch.einsum("nkhw,k->nhw", masks, self.weight)[:, None]
        loss = fit_loss(image / 2, target / 2, pixel)
        small = F.avg_pool2d(masks, 2)
        share = torch.cat([1 - small.sum(1, keepdim=True), small], 1)
        importance = torch.cat([torch.ones(1), self.weight + 1])[None, :, None, None]
        parts = -(importance * share * F.log_softmax(self.parts(maps["b32.1"]), 1)).sum(1).mean()
        return loss + 0.2 * parts

    def configure_optimizers(self):
        """Adam, warmed up over 100 steps, then a cosine to 2 %."""
        parameters = [*self.network.parameters(), *self.parts.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=self.learning_rate, betas=(0.9, 0.99))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self, step: int) -> float:
        return min(1.0, (step + 1) / 100) * (0.02 + 0.49 * (1 + math.cos(math.pi * min(1.0, step / self.steps))))

    def on_train_batch_end(self, *_) -> None:
        """Average the weights; every 500 steps save and measure them."""
        self.average.update_parameters(self.network)
        if self.global_step % 500 == 0 or self.global_step == self.steps:
            save_network(self.average.module, self.out)
            report = fidelity(self.average.module, self.world, n=256, seed=1)
            self.log_rows.append({"step": self.global_step, **report})


def save_network(network: nn.Module, path: Path) -> None:
    """Write weights in half precision; the file appears whole or not at all."""
    tensors = {name: value.detach().half().contiguous() for name, value in network.state_dict().items()}
    draft = path.with_suffix(".tmp")
    save_file(tensors, draft)
    draft.replace(path)


@torch.no_grad()
def fidelity(network: nn.Module, world: World, n: int, seed: int) -> dict[str, float]:
    """PSNR in dB of generated against rendered pictures on held-out samples: `all`, and inside every detail and label.

    The peak is the image range; inside a part the squared error is averaged with the exact mask as weight.
    """
    rng = torch.Generator().manual_seed(10**6 + seed)
    total: defaultdict[str, float] = defaultdict(float)
    pixels: defaultdict[str, float] = defaultdict(float)
    for start in range(0, n, 64):
        u = draw_factors(world, min(64, n - start), rng)
        target, labels = world.figures.render(u)
        details = world.figures.render(u, by_detail=True)[1]
        error = ((network(u)[0].clamp(-1, 1) - target) / 2).square().mean(1)
        masks = {"all": torch.ones_like(error)}
        masks |= dict(zip(world.figures.labels, labels.unbind(1), strict=True))
        masks |= {f"detail {k}": m for k, m in zip(world.figures.details, details.unbind(1), strict=True)}
        for name, mask in masks.items():
            total[name] += (error * mask).sum().item()
            pixels[name] += mask.sum().item()
    return {name: round(-10 * math.log10(total[name] / pixels[name]), 2) for name in total}
