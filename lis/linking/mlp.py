"""The fully connected links FC-L1 and FC-L2: one hidden ReLU layer, trained on the pairs (supplement S2)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lis.config import MLPConfig
from lis.lightning import one_process
from lis.linking.components import principal_components
from lis.linking.linear import LinkModule
from lis.linking.projection import require_components
from lis.linking.training import Batches, FittedLink, Settings, TrainingPairs
from lis.rounding import linear
from lis.streams import Stream

Loss = Callable[..., Tensor]
"""Of what the link predicts from r, w, and what it predicts from r_U where there is one."""
TARGETS = ("projection", "prediction")
"""What `pc_target` may be."""


class MLPLink(LinkModule):
    """w̃ = w̄ + σ_w ⊙ (B₂·relu(B₁·(r − r̄)/σ_r + b₁) + b₂): takes r and gives w̃ as they are, not standardised.

    Args:
        units: width of r.
        w_dim: width of w.
        hidden: width of the hidden layer.
    """

    r_mean: Tensor
    r_gain: Tensor
    """1/σ_r, `[units]`; 0 for dead units, which have no say."""
    w_mean: Tensor
    w_std: Tensor

    def __init__(self, units: int, w_dim: int, hidden: int) -> None:
        super().__init__(units=units, w_dim=w_dim, hidden=hidden)
        self.network = nn.Sequential(nn.Linear(units, hidden), nn.ReLU(), nn.Linear(hidden, w_dim))
        self.register_buffer("r_mean", torch.zeros(units))
        self.register_buffer("r_gain", torch.ones(units))
        self.register_buffer("w_mean", torch.zeros(w_dim))
        self.register_buffer("w_std", torch.ones(w_dim))

    def forward(self, r: Tensor) -> Tensor:
        """w̃ `[..., w_dim]` of r `[..., units]`; once trained, the same for a row whatever the others are."""
        scaled = (r - self.r_mean) * self.r_gain
        return (self.network(scaled) if self.training else self._rounded(scaled)) * self.w_std + self.w_mean

    def _rounded(self, x: Tensor) -> Tensor:
        for layer in self.network:
            x = linear(x, layer.weight, layer.bias) if isinstance(layer, nn.Linear) else layer(x)
        return x

    def standardise(self, training: TrainingPairs) -> None:
        """Takes means and scales of r and w from the pairs."""
        units, w = training.moments.statistics(), training.w
        self.r_mean.copy_(units.mean)
        self.r_gain.copy_(torch.where(units.dead, 0.0, 1 / units.std))
        self.w_mean.copy_(w.mean(0))
        self.w_std.copy_(w.std(0, correction=0).clamp(min=torch.finfo(w.dtype).tiny))


class Training(pl.LightningModule):
    """Adam on a loss of the link's predictions and w; batches are (r, w) or (r, w, r_U)."""

    def __init__(self, link: MLPLink, loss: Loss, learning_rate: float, weight_decay: float) -> None:
        super().__init__()
        self.link, self.loss = link, loss
        self.learning_rate, self.weight_decay = learning_rate, weight_decay

    def training_step(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Loss of a batch."""
        r, w, *projected = batch
        return self.loss(self.link(r), w, *map(self.link, projected))

    def validation_step(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Loss of the held-out pairs, which are one batch."""
        return self.training_step(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, in its fused implementation."""
        weights, rate, decay = self.link.parameters(), self.learning_rate, self.weight_decay
        return torch.optim.Adam(weights, lr=rate, weight_decay=decay, fused=True)


class EarlyStopping(pl.Callback):
    """Stops after `patience` epochs without a better validation loss, and puts the best epoch back. Keeps the curve."""

    def __init__(self, patience: int, epochs: Iterator[int]) -> None:
        self.patience, self.epochs = patience, epochs
        self.curve: list[tuple[int, float, float]] = []
        self.best = -1
        """Epoch with the lowest validation loss."""
        self._state: dict[str, Tensor] = {}
        self._train: list[tuple[Tensor, int]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Collects the training loss."""
        self._train.append((outputs["loss"], len(batch[0])))

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        """Judges an epoch, which ends with the one validation batch."""
        epoch, loss = trainer.current_epoch, float(outputs)
        train = sum(float(value) * n for value, n in self._train) / sum(n for _, n in self._train)
        self._train.clear()
        self.curve.append((epoch, train, loss))
        next(self.epochs, None)
        if self.best < 0 or loss < self.curve[self.best][2]:
            self.best = epoch
            self._state = {name: value.clone() for name, value in pl_module.link.state_dict().items()}
        trainer.should_stop = trainer.should_stop or epoch - self.best >= self.patience

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Restores the best epoch."""
        pl_module.link.load_state_dict(self._state)


@dataclass(frozen=True)
class MLPFit:
    """Fits FC-L1 (`pc_weight` 0) or FC-L2; the arguments are those of `lis.config.MLPConfig`.

    Raises:
        ValueError: `validation` is not between 0 and 1, or an unknown `pc_target`.
    """

    hidden: int = MLPConfig.hidden
    learning_rate: float = MLPConfig.learning_rate
    weight_decay: float = MLPConfig.weight_decay
    batch_size: int = MLPConfig.batch_size
    max_epochs: int = MLPConfig.max_epochs
    patience: int = MLPConfig.patience
    validation: float = MLPConfig.validation
    pc_weight: float = MLPConfig.pc_weight
    pc_target: str = MLPConfig.pc_target
    components: int = MLPConfig.components

    def __post_init__(self) -> None:
        if not 0 < self.validation < 1:
            raise ValueError(
                f"validation={self.validation}: expected a fraction between 0 and 1, both excluded; set link.validation"
            )
        if self.pc_target not in TARGETS:
            raise ValueError(f"pc_target={self.pc_target!r}: expected one of {', '.join(TARGETS)}; set link.pc_target")

    @property
    def projected(self) -> int | None:
        """Principal components of W that FC-L2's samples are projected onto; None where the loss reads none of them."""
        return self.components if self.pc_weight and self.pc_target == "projection" else None

    def fit(self, training: TrainingPairs, settings: Settings) -> FittedLink:
        """Trains until the loss on held-out pairs stops to fall.

        Raises:
            ValueError: fewer than two pairs, more components than w has dimensions, or no activations of the projected
                samples where the loss reads them.
        """
        start, stream = time.perf_counter(), Stream("link fit", settings.seed)
        held_out, rest = self._split(len(training.r), stream)
        tensors = [tensor.to(settings.device) for tensor in self._tensors(training)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream.torch_seed)
            link = MLPLink(training.r.shape[1], training.w.shape[1], self.hidden)
        link.standardise(training)
        batches = Batches(tensors, rest, self.batch_size, stream.torch_seed)
        module = Training(link, self._loss(training.w, settings.device), self.learning_rate, self.weight_decay)
        epochs = settings.progress.track(range(self.max_epochs), label="fitting the link (epochs, at most)")
        stopping = EarlyStopping(self.patience, iter(epochs))
        with one_process(settings.device) as options:
            trainer = pl.Trainer(max_epochs=self.max_epochs, callbacks=[stopping], **options)
            trainer.fit(module, batches, Batches(tensors, held_out, len(held_out)))
        facts = {"epochs": len(stopping.curve), "best_epoch": stopping.best, "seconds": time.perf_counter() - start}
        facts |= {"training_pairs": len(rest), "validation_pairs": len(held_out), "pc_weight": self.pc_weight}
        facts |= {"pc_target": self.pc_target if self.pc_weight else None}
        curve = pd.DataFrame(stopping.curve, columns=["epoch", "train_loss", "validation_loss"])
        link = link.cpu().eval().requires_grad_(False)
        return FittedLink("fc_l2" if self.pc_weight else "fc_l1", link, facts, {"curve": curve})

    def _split(self, n: int, stream: Stream) -> tuple[Tensor, Tensor]:
        if n < 2:
            raise ValueError(f"{n} training pairs: expected 2 or more, to hold some out; raise pairs.train")
        order = torch.from_numpy(stream.rng().permutation(n))
        count = min(max(1, round(self.validation * n)), n - 1)
        return order[:count].sort().values, order[count:].sort().values

    def _tensors(self, training: TrainingPairs) -> list[Tensor]:
        """What batches are made of: r, w and, where the loss reads it, r_U."""
        if self.projected is None:
            return [training.r, training.w]
        if training.r_projected is None:
            raise ValueError(
                "no activations of projected samples: expected TrainingPairs with r_projected, as the "
                "stage `link` makes them; or set link.pc_target=prediction"
            )
        return [training.r, training.w, training.r_projected]

    def _loss(self, w: Tensor, device: torch.device) -> Loss:
        if not self.pc_weight:
            return l1_loss
        require_components(self.components, w.shape[1])
        axes = principal_components(w, self.components).axes.to(device, w.dtype)
        loss = partial(l2_loss, axes=axes, weight=self.pc_weight)
        return loss if self.projected else lambda predicted, w: loss(predicted, w, predicted)


def l1_loss(predicted: Tensor, w: Tensor) -> Tensor:
    """ℒ₁ = ‖w* − w‖², averaged over the batch (supplement Eq. 1). The name is the paper's: it is not an L1 norm.

    Args:
        predicted: w*, `[batch, w_dim]`.
        w: `[batch, w_dim]`.

    Example:
        >>> import torch
        >>> float(l1_loss(torch.zeros(2, 3), torch.ones(2, 3)))
        3.0
    """
    return (predicted - w).square().sum(1).mean()


def l2_loss(predicted: Tensor, w: Tensor, projected: Tensor, axes: Tensor, weight: float) -> Tensor:
    """ℒ₂ = ℒ₁ + λ‖(wᵀU)* − wᵀU‖², averaged over the batch (supplement Eq. 2), with (wᵀU)* = Uᵀ f(r_U).

    f is the link, and r_U are the classifier's features of the image of w_U = w̄ + UUᵀ(w − w̄): "each sample is then
    projected onto the first 10 PCs U and mapped through the GAN, classifier, and linking network" (supplement S2). As
    `projected` goes in what the link predicts from r_U; with `predicted` in its place the second term only weighs the
    first components of the first one more.

    What the supplement leaves open, and how it is read here:

    - (wᵀU)* is compared with wᵀU, which has ten numbers, while the link predicts all of w: its prediction is projected
      onto U. The whole of w_U could be compared too; what f(r_U) is outside U costs nothing here.
    - A projection wᵀU has to become a code before the generator takes it. PCA is about a mean, so the mean w̄ of the
      training codes fills what lies outside U; UUᵀw alone would be a code far from all that the generator is asked
      for. In the second term the mean cancels.
    - All ten components are kept at once, not one image for each; and every sample counts, whatever the classifier
      calls the image of w_U.
    - Eq. 2 alone, without the sentence quoted above, can be read as the error of `predicted` along U: that is
      `link.pc_target=prediction`.
    - λ is not given: it is `link.pc_weight`.

    Args:
        predicted: w* = f(r), `[batch, w_dim]`.
        w: `[batch, w_dim]`.
        projected: f(r_U), `[batch, w_dim]`.
        axes: U, the first principal axes of W as orthonormal columns, `[w_dim, components]`.
        weight: λ.

    Example:
        >>> import torch
        >>> w, axes = torch.ones(2, 3), torch.eye(3)[:, :1]
        >>> float(l2_loss(torch.zeros(2, 3), w, projected=torch.full((2, 3), 3.0), axes=axes, weight=10.0))
        43.0
    """
    return l1_loss(predicted, w) + weight * ((projected - w) @ axes).square().sum(1).mean()
