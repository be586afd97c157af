"""Training PartNet on rendered figures: what photographs are to an ImageNet classifier."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from lis.classifiers.partnet import PartNetwork
from lis.generators.partworld.world import SETS

_ATTRIBUTE_WEIGHT = 2.0


def attribute_loss(logits: Tensor, factors: Tensor, sets: Tensor) -> Tensor:
    """Binary cross-entropy of "is the factor above 0?", over the factors that a figure has.

    Args:
        logits: `[n, sets, factors]`, one group of attributes per set.
        factors: `[n, factors]`, NaN where a figure has none.
        sets: set of each figure `[n]`.
    """
    of_set = logits[torch.arange(len(sets)), sets]
    known = factors.isfinite()
    return F.binary_cross_entropy_with_logits(of_set[known], (factors[known] > 0).to(of_set))


class ClassifierFit(pl.LightningModule):
    """AdamW with a one-cycle schedule on cross-entropy; `attributes` adds the attribute loss.

    Args:
        task: `classes` or `attributes`.
        steps: optimiser steps.
        rate: peak of the learning rate.
    """

    def __init__(self, task: str, steps: int, rate: float = 6e-3) -> None:
        super().__init__()
        self.task, self.steps, self.rate = task, steps, rate
        self.network = PartNetwork()
        width = max(len(figures.factor_names) for figures in SETS.values())
        self.attributes = nn.Linear(self.network.head.in_features, len(SETS) * width)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor, Tensor], _: int) -> Tensor:
        """One batch of rendered figures."""
        image, label, factors, sets = batch
        r = self.network.features(image)
        loss = F.cross_entropy(self.network.head(r), label)
        if self.task == "attributes":
            logits = self.attributes(r).view(len(r), len(SETS), -1)
            loss = loss + _ATTRIBUTE_WEIGHT * attribute_loss(logits, factors, sets)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        """AdamW with weight decay 0.02, one cycle."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.rate, weight_decay=0.02)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.rate, total_steps=self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def save_classifier(network: nn.Module, path: Path) -> None:
    """Write weights in half precision."""
    state = network.state_dict().items()
    save_file({k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in state}, path)
