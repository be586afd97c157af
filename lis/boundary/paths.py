"""The pictures along a path in R: parts, measures, answers, and distances to the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lis.boundary.crossing import enter
from lis.boundary.job import Job
from lis.linking.distances import ImageDistance
from lis.look import PICTURED, Looker
from lis.units.parts import Parts


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

    def boundary(self, job: Job, end: float, steps: int) -> Tensor:
        """Positions before and after the first entry into the target class, `[n, 2]`; see `enter`."""

        def inside(path: Tensor, position: Tensor) -> Tensor:
            return job.predict(job.along(self.r[path], self.shift[path], position)) == self.target[path]

        return enter(inside, len(self.r), end, steps)


def seen(job: Job, parts: Parts, w: Tensor) -> dict[str, Tensor]:
    """`lis.look.PICTURED` of the images of `w [n, T, w_dim]`, each `[n, T, …]`; and w itself."""
    return {"w": w} | Looker.pictured(job.ctx, parts.masks, parts.labels)(w).tensors(PICTURED)


@torch.inference_mode()
def distances(job: Job, metrics: Sequence[ImageDistance], w: Tensor) -> dict[str, Tensor]:
    """Distance of the images of `w [n, T, w_dim]` to the first one of their path: `[n, T]` by metric."""
    device, generator, rows = job.ctx.device, job.ctx.generator, []
    for path in w:
        first = generator.synthesize(path[:1].to(device))

        def apart(part: Tensor, first: Tensor = first) -> Tensor:
            image = generator.synthesize(part.to(device))
            return torch.stack([metric(image, first.expand_as(image)).float().cpu() for metric in metrics], 1)

        rows += job.looker.batches.map(apart, path)
    found = torch.cat(rows).unflatten(0, w.shape[:2]).unbind(2)
    return {metric.name: values for metric, values in zip(metrics, found, strict=True)}
