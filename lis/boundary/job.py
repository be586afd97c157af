"""What every search and every path of a run share: link, loss, metric, and how an image is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from lis.boundary.rules import OPTIMIZERS, data_metric
from lis.boundary.search import Landscape, Settings
from lis.config import CounterfactualConfig
from lis.context import Context
from lis.linking.fit import link, load_link
from lis.linking.pairs import pairs
from lis.look import Looker
from lis.peaks import FLOAT, width
from lis.types import Link


@dataclass(frozen=True)
class Job:
    """Shared by all shards of a run."""

    ctx: Context
    link: Link
    """On the run's device."""
    metric: Tensor | None
    """As in `Landscape`."""
    spread: Tensor
    """Standard deviation of each unit over the training pairs, `[units]`."""
    nonnegative: bool
    """No activation of a training pair is below 0."""
    looker: Looker
    """Reads activations and answers."""
    inputs: tuple[str, ...]
    """Keys of the artifacts that it follows from."""

    @classmethod
    def of(cls, ctx: Context) -> Self:
        """The job of a run."""
        linked, train, device = link(ctx), pairs(ctx, "train"), ctx.device
        units, r = linked.table("units"), train.tensors("pairs")["r"]
        by_pairs = OPTIMIZERS[ctx.config.counterfactual.optimizer].metric == "pairs"
        model = load_link(linked).to(device)
        spread = torch.tensor(np.asarray(units["std"]), dtype=torch.float32, device=device)
        nonnegative = bool((units["minimum"] >= 0).all())
        metric = data_metric(r).to(device, torch.float64) if by_pairs else None  # in which products are summed
        return cls(ctx, model, metric, spread, nonnegative, Looker.tuned(ctx), (linked.key, train.key))

    def land(self, settings: Settings) -> Landscape:
        """Where the searches go down."""
        return Landscape(self.link, self.ctx.classifier.head, self.metric, self.spread, self.nonnegative, settings)

    def codes(self, r: Tensor) -> Tensor:
        """f(r): w̃ `[n, w_dim]` on the run's device of `r [n, units]`."""
        with torch.inference_mode():
            return self.link(r.to(self.ctx.device))

    def predict(self, r: Tensor) -> Tensor:
        """Class of the image of f(r) among the classifier's, `[n]` int64 where `r [n, units]` is."""
        return self.answers(r).argmax(1)

    def answers(self, r: Tensor) -> Tensor:
        """Logarithm of the probability of each of the classifier's classes for the image of f(r), `[n, known]`."""
        known = len(self.ctx.classifier.class_names)
        answers = self.looker(self.codes(r)).softmax if len(r) else r.new_empty(0, known)
        return answers.to(r.device).clamp(min=torch.finfo(torch.float32).tiny).log()

    def along(self, r: Tensor, shift: Tensor, position: Tensor) -> Tensor:
        """r + t Δr `[n, units]` at positions t `[n]`, not below 0 where R is non-negative."""
        moved = r + position.to(r)[:, None] * shift
        return moved.clamp(min=0) if self.nonnegative else moved


def search_arrays(ctx: Context) -> int:
    """Bytes of a block of searches and its gradients, and of what is kept of all of them."""
    config, classes = ctx.config.counterfactual, len(ctx.class_names)
    every = classes * max(classes - 1, 1) * config.samples
    return (16 * config.sample_block * config.initialisations + 6 * every) * width(ctx) * FLOAT


def search_settings(config: CounterfactualConfig) -> Settings:
    """The settings of a search, with the optimizer's own learning rate where none is given."""
    own = OPTIMIZERS[config.optimizer].learning_rate
    return Settings(
        optimizer=config.optimizer,
        learning_rate=own if config.learning_rate is None else config.learning_rate,
        max_steps=config.max_steps,
        check_every=config.check_every,
        lambda1=config.lambda1,
        lambda2=config.lambda2,
        l1=config.l1,
    )


def start_bound(config: CounterfactualConfig) -> float:
    """Bound of the uniform start."""
    return OPTIMIZERS[config.optimizer].start if config.start is None else config.start
