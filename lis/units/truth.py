"""Measured against true change, where the generator knows the true picture of any w (part world)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from lis.context import Context
from lis.labels.labelled import without_parts
from lis.linking.link import link
from lis.quantify.change import change, relative
from lis.quantify.measures import MEASURES, measure
from lis.shards import Shards
from lis.stage import stage
from lis.statistics import HEAD, spearman
from lis.store import Artifact, Draft
from lis.types import Generator
from lis.units.directions import directions, load_directions
from lis.units.ends import Ends
from lis.units.perturbation import Perturbation
from lis.units.ranking import top
from lis.units.tuned import Tuned, average, long_table
from lis.units.tuning import perturbations, tuned_arrays, tuning
from lis.units.work import truth_work

VERSION = 5
COMPARED = ("extent", "relative", *MEASURES)
"""What is compared, the angle last. `extent` is the difference of areas in fractions of the frame, where an absent
label has none: it is known of every sample. `relative` is the paper's change of area, of which `area` is the logarithm:
a part that nearly vanishes at one end makes it huge."""
Array = NDArray[np.floating]
Statistic = Callable[[Tensor, Tensor], Array]


@runtime_checkable
class Renderer(Protocol):
    """A generator that knows the true picture of every style code."""

    labels: tuple[str, ...]
    """Names of the parts."""

    def render(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Image `[n, 3, H, W]` in [-1, 1] and the share of every pixel that each part covers `[n, labels, H, W]`."""
        ...


Block = tuple[Perturbation, ...]
"""Some of the tuned units."""


def validate_truth(generator: Generator) -> Renderer:
    """The generator, as one that knows the truth.

    Raises:
        ValueError: it does not.
    """
    if not isinstance(generator, Renderer):
        raise ValueError(
            f"{type(generator).__name__} has no `render`: the truth behind a change is known only where the generator "
            "can draw every w exactly; use gan=partworld, or leave truth out of analysis.stages"
        )
    return generator


def validate_parts(ctx: Context) -> None:
    """Checks, before any work, that there are changes of parts and the truth about them.

    Raises:
        ValueError: the generator does not know the truth, or the class set names no parts.
    """
    renderer = validate_truth(ctx.generator)
    if not ctx.config.classes.labels:
        raise ValueError(
            f"classes.labels is empty: name the parts whose changes are held against the true ones, some of "
            f"{', '.join(renderer.labels)}, or leave truth out of analysis.stages"
        )


def without_truth(ctx: Context) -> str | None:
    """Why a run does without the truth; None: it can have it."""
    if isinstance(ctx.generator, Renderer):
        return without_parts(ctx)
    return f"{type(ctx.generator).__name__} does not know the true picture of a w"


@stage(
    "truth",
    version=VERSION,
    inputs=(tuning, link, directions),
    models=("generator",),
    check=validate_parts,
    omitted=without_truth,
    arrays=tuned_arrays,
    work=truth_work,
)
def truth(ctx: Context, artifact: Artifact, linked: Artifact, way: Artifact, draft: Draft) -> None:
    """Part world: how far the measured changes of all tuned units are the true ones.

    For every unit and sample w̃ at the first and the last step is drawn exactly, and measured in the true masks (the
    part that covers most of a pixel) and the true image.

    Tables "agreement" and "units" (see `Recovery`), json "summary" ({measure: {spearman, overlap}}, means over the
    interpreted labels).

    Raises:
        ValueError: the generator does not know the truth, or knows none of the labels.
    """
    renderer, tuned = validate_truth(ctx.generator), Tuned.of(artifact)
    known = [label for label in tuned.labels if label in renderer.labels]
    if not known:
        raise ValueError(
            f"the segmenter's labels ({', '.join(tuned.labels)}) are none of those whose truth is known: expected some "
            f"of {', '.join(renderer.labels)}; label these parts, or leave truth out of analysis.stages"
        )
    index = [tuned.labels.index(label) for label in known]
    measured = compared(tuned.measures[:, :, 0], tuned.measures[:, :, -1])[:, :, index]
    inputs = (artifact.key, linked.key, way.key)
    job = Job(ctx, renderer, Ends.of(artifact, load_directions(ctx, linked, way)), inputs)
    table, size = artifact.table("units"), ctx.config.tuning.unit_block
    units = perturbations(pd.DataFrame(table[table["tuned"]]))
    blocks = [tuple(units[start : start + size]) for start in range(0, len(units), size)]
    true = SHARDS.tensors(job, blocks, "true changes", "change")["change"]
    true = true[:, :, [renderer.labels.index(label) for label in known]]
    recovery = Recovery(tuned.unit, tuple(known), tuned.interpreted[index], measured, true)
    agreement = recovery.agreement
    draft.table("agreement", agreement)
    draft.table("units", recovery.units)
    draft.json("summary", summary(agreement))


@torch.inference_mode()
def true_measures(renderer: Renderer, w: Tensor) -> Tensor:
    """Measures `[n, labels, 5]` of the true pictures of `w [n, w_dim]`, in the order of the renderer's labels."""
    image, cover = renderer.render(w)
    background = 1 - cover.sum(1, keepdim=True)
    masks = torch.cat([background, cover], 1).argmax(1)
    return measure(masks, image, len(renderer.labels)).cpu()


@dataclass(frozen=True)
class Job:
    """What all shards of a run share."""

    ctx: Context
    renderer: Renderer
    ends: Ends
    """Of the units in the samples that were tuned."""
    inputs: tuple[str, ...]
    """Keys of the artifacts of the tuning, of the link and of the directions."""


def _config(job: Job, block: Block) -> dict[str, Any]:
    return {"units": [[p.unit, p.low, p.high] for p in block]}


def _change(job: Job, block: Block, draft: Draft) -> None:
    """True changes of the units of a block, in the samples that were tuned."""
    changes, at_once = [], job.ctx.images()
    for unit in block:
        w = job.ends(unit)
        parts = at_once.map(lambda some: true_measures(job.renderer, some.to(job.ctx.device)), w.flatten(0, 1))
        first, last = torch.cat(list(parts)).unflatten(0, w.shape[:2]).unbind(1)
        changes.append(compared(first, last))
    draft.tensors("change", {"change": torch.stack(changes)})


def _weights(job: Job, block: Block) -> dict[str, str]:
    return {"generator": job.ctx.generator.fingerprint}


SHARDS = Shards("truth-shard", VERSION, _config, _change, _weights)
"""Tensors "change": change `[U, S, labels, 7]` of a block of U units."""


@dataclass(frozen=True)
class Recovery:
    """Measured and true changes of P units in S samples, in the M things `COMPARED` of K labels."""

    unit: Tensor
    """`[P]` int64."""
    labels: tuple[str, ...]
    interpreted: Tensor
    """Which labels are large enough to be interpreted, `[K]` bool."""
    measured: Tensor
    """`[P, S, K, M]`, NaN where a label is absent."""
    true: Tensor
    """`[P, S, K, M]`, likewise."""

    @cached_property
    def means(self) -> tuple[Tensor, Tensor]:
        """Measured and true effect `[P, K, M]` on average over the samples that have both.

        NaN where either has no mean angle: such a unit is not ranked.
        """
        known = ~(self.measured.isnan() | self.true.isnan())
        measured, true = (average(x.where(known, torch.nan)).ranked for x in (self.measured, self.true))
        known = ~(measured.isnan() | true.isnan())
        return measured.where(known, torch.nan), true.where(known, torch.nan)

    @property
    def agreement(self) -> pd.DataFrame:
        """How far the measured ranking is the true one.

        label, measure, spearman (of the signed effects, over units), overlap (units among the `HEAD` largest
        |effect| in both), spearman_seed and overlap_seed (the same of changes within a sample, mean over samples),
        units, ranked (units with an effect: fewer where angles have no mean), seeds, interpreted.
        """
        columns = {
            "spearman": rank_correlation(*self.means),
            "overlap": head_overlap(*self.means),
            "spearman_seed": self._by_sample(rank_correlation),
            "overlap_seed": self._by_sample(head_overlap),
            "units": len(self.unit),
            "ranked": (~self.means[0].isnan()).sum(0),
            "seeds": self.measured.shape[1],
            "interpreted": self.interpreted[:, None],
        }
        return long_table({"label": self.labels, "measure": COMPARED}, columns)

    @property
    def units(self) -> pd.DataFrame:
        """unit, label, measure, measured and true (effects)."""
        axes = {"unit": self.unit, "label": self.labels, "measure": COMPARED}
        return long_table(axes, dict(zip(("measured", "true"), self.means, strict=True)))

    def _by_sample(self, statistic: Statistic) -> Array:
        """Mean of a statistic over the samples where there is one, `[K, M]`."""
        pairs = zip(self.measured.unbind(1), self.true.unbind(1), strict=True)
        values = [torch.from_numpy(statistic(measured, true)) for measured, true in pairs]
        return torch.stack(values).nanmean(0).numpy()


def compared(first: Tensor, last: Tensor) -> Tensor:
    """Changes `[..., K, M]`, in the order of `COMPARED`, between measures `[..., K, 5]`.

    Example:
        >>> none, some = torch.full((1, 5), torch.nan), torch.tensor([[0.25, 0.5, 1.0, 0.5, 10.0]])
        >>> compared(none, some).tolist()[0][:2]
        [0.25, nan]
    """
    extent = (last[..., :1].nan_to_num(0) - first[..., :1].nan_to_num(0)).to(last.dtype)
    changes = change(first, last)
    return torch.cat([extent, relative(changes[..., :1]), changes], -1)


def rank_correlation(measured: Tensor, true: Tensor) -> Array:
    """Spearman's correlation over units `[K, M]` of changes `[P, K, M]`; NaN for fewer than three, or constant ones."""
    return spearman(measured.numpy(), true.numpy())


def head_overlap(measured: Tensor, true: Tensor) -> Array:
    """How many of the `HEAD` largest |changes| `[P, K, M]` over units are so in both, `[K, M]`; NaN where none is."""
    heads = [top(values.movedim(0, -1), HEAD) for values in (measured, true)]
    known = heads[0].any(-1) & heads[1].any(-1)
    return (heads[0] & heads[1]).sum(-1).double().where(known, torch.nan).numpy()


def summary(agreement: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Mean spearman and overlap over the interpreted labels by measure, of `Recovery.agreement`."""
    rows = agreement[agreement["interpreted"]]
    means = {name: rows.loc[rows["measure"] == name, ["spearman", "overlap"]].mean() for name in COMPARED}
    return {name: {str(column): float(value) for column, value in row.items()} for name, row in means.items()}
