"""What the searches and the paths of a run share: models, activations and answers; paths in R and their boundaries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor

from lis.boundary.optimizers import OPTIMIZERS, data_metric
from lis.boundary.search import Judge, Landscape, Settings
from lis.context import Context
from lis.linking.link import link, load_link
from lis.linking.pairs import pairs
from lis.linking.region import ClassRegion, Region
from lis.look import Looker
from lis.types import Link, encode

TOLERANCE = 1e-3
"""Length of path within which a boundary is located, as a fraction of the path from the original to its end."""
STEPS = 10
"""Even steps at which a path is looked at first."""


@dataclass(frozen=True)
class Job:
    """Shared by all shards of a run."""

    ctx: Context
    link: Link
    """On the run's device."""
    metric: Tensor | None
    """As in `Landscape`."""
    std: Tensor
    """Standard deviation of each unit over the training pairs, `[units]`."""
    nonnegative: bool
    """No activation of a training pair is below 0."""
    region: Region
    """Where w of training samples lies."""
    looker: Looker
    """Reads activations and answers."""
    inputs: tuple[str, ...]
    """Keys of the artifacts that it follows from."""

    @classmethod
    def of(cls, ctx: Context) -> Self:
        """The job of a run."""
        linked, train, device = link(ctx), pairs(ctx, "train"), ctx.device
        units, samples = linked.table("units"), train.tensors("pairs")
        region = Region.around(samples["w"], samples["class_index"])
        by_pairs = OPTIMIZERS[ctx.config.counterfactuals.optimizer].metric == "pairs"
        model = load_link(linked).to(device)
        std = torch.tensor(np.asarray(units["std"]), dtype=torch.float32, device=device)
        nonnegative = bool((units["minimum"] >= 0).all())
        wide = torch.float64  # in which products are summed
        metric = data_metric(samples["r"]).to(device, wide) if by_pairs else None
        looker = Looker.tuned(ctx)
        return cls(ctx, model, metric, std, nonnegative, region, looker, (linked.key, train.key))

    def land(self, settings: Settings) -> Landscape:
        """Where the searches go down; raises with `near` as `ClassRegion.of`."""
        ctx, batches = self.ctx, self.ctx.batches(gradient=True)
        sight = self.link, ctx.classifier.head, self.see, batches
        regions = {} if settings.near is None else self.class_regions
        return Landscape(*sight, self.metric, self.std, self.nonnegative, settings, regions)

    @cached_property
    def class_regions(self) -> dict[int, ClassRegion]:
        """Where w of the training pairs of each class of the run lies, by its index among the classifier's."""
        names, known, train = self.ctx.class_names, self.ctx.classifier.class_names, pairs(self.ctx, "train")
        w, class_index = (train.tensors("pairs")[name] for name in ("w", "class_index"))
        device = self.ctx.device
        return {known.index(name): ClassRegion.of(w[class_index == k].to(device), name) for k, name in enumerate(names)}

    def judge(self, settings: Settings) -> Judge:
        """What the searches want."""
        return Judge(self.answers, self.slack, settings.until)

    def see(self, w: Tensor) -> Tensor:
        """Logits `[n, known]` of the images of `w [n, w_dim]`; differentiable."""
        ctx = self.ctx
        return ctx.classifier.head(encode(ctx.classifier, ctx.generator, w))

    def slack(self, r: Tensor) -> Tensor:
        """How far f(r) lies within the training samples, `[n]` where `r [n, units]` is: below 0 beyond 99 % of them."""
        return self.region.slack(self.codes(r).cpu()).to(r.device)

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


@dataclass(frozen=True, eq=False)
class Paths:
    """n paths r + t Δr from originals to counterfactuals and beyond."""

    r: Tensor
    """`[n, units]`."""
    shift: Tensor
    """Δr `[n, units]`."""
    target: Tensor
    """The class that each goes to among the classifier's, `[n]` int64."""

    def codes(self, job: Job, position: Tensor) -> Tensor:
        """w̃ `[n, T, w_dim]` at positions t `[n, T]`, on the CPU."""
        n, steps = position.shape
        path = torch.arange(n).repeat_interleave(steps)
        moved = job.along(self.r[path], self.shift[path], position.flatten())
        return job.codes(moved).float().cpu().unflatten(0, (n, steps))

    def boundary(self, job: Job, end: float = 1.0, steps: int = STEPS) -> Tensor:
        """Positions before and after the first entry into the target class, `[n, 2]`; see `enter`."""

        def inside(path: Tensor, position: Tensor) -> Tensor:
            moved = job.along(self.r[path], self.shift[path], position)
            return (job.predict(moved) == self.target[path]).cpu()

        return enter(inside, len(self.r), end, steps)


def enter(inside: Callable[[Tensor, Tensor], Tensor], n: int, end: float = 1.0, steps: int = STEPS) -> Tensor:
    """The last point before and the first point after n paths first enter a class.

    A path is looked at in even steps from 0 to `end`. Between the last step outside and the first one inside, the
    distance is halved until it is at most `TOLERANCE · end`. A path that leaves and enters again between two steps is
    taken as one that stayed.

    Args:
        inside: indices `[k]` of paths and positions `[k]` float64 on them → whether they are inside, `[k]` bool.
        n: paths.
        end: the last position.
        steps: the even ones.

    Returns:
        Positions before and after, `[n, 2]` float64; NaN where a path begins inside or is nowhere inside.

    Example:
        >>> before, after = enter(lambda path, t: t > 0.3, 1)[0].tolist()
        >>> before <= 0.3 < after, after - before < 1e-3
        (True, True)
    """
    grid, result = torch.linspace(0, end, steps + 1, dtype=torch.float64), torch.full((n, 2), torch.nan).double()
    paths = torch.arange(n).repeat_interleave(steps + 1)
    hits = inside(paths, grid.repeat(n)).unflatten(0, (n, steps + 1))
    first = hits.int().argmax(1)  # 0 where it begins inside, and where it is nowhere inside
    crossed = first.nonzero()[:, 0]
    result[crossed] = torch.stack([grid[first[crossed] - 1], grid[first[crossed]]], 1)
    while len(crossed) and float((result[crossed, 1] - result[crossed, 0]).max()) > TOLERANCE * end:
        middle = result[crossed].mean(1)
        result[crossed, inside(crossed, middle).long()] = middle
    return result
