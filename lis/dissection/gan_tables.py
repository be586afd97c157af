"""Tables of the stage "dissect_gan"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.dissection.agreement import label_units
from lis.dissection.insertion import Insertions
from lis.dissection.painting import concept_fraction_change, insertion_by_context
from lis.dissection.removal import Removal, matched_p
from lis.labels.manifest import BACKGROUND
from lis.statistics import RANGE, q_values
from lis.units.tuned import long_table


@dataclass(frozen=True)
class Agreement:
    """How the U units of a layer agree with C parts, on both halves of the samples."""

    labels: tuple[str, ...]
    iou_fit: Tensor
    """`[U, C]`, of the half that thresholds are from: units are ranked by it."""
    iou: Tensor
    """`[U, C]`, of the other half."""
    thresholds: Tensor
    """`[U]`."""
    variance: Tensor
    """`[U]`."""

    @property
    def order(self) -> Tensor:
        """Units by descending `iou_fit` with each part, those without one last: `[C, U]` int64."""
        return self.iou_fit.T.nan_to_num(-1.0).argsort(dim=1, descending=True, stable=True)


def units_table(layer: str, agreement: Agreement, min_iou: float) -> pd.DataFrame:
    """Table "units": the part of the highest IoU of each unit."""
    labelled = label_units(agreement.iou, min_iou)
    names = np.array(["", *agreement.labels])[labelled.best_concept.numpy() + 1]
    columns = {
        "layer": layer,
        "unit": range(len(names)),
        "part": names,
        "iou": labelled.best_iou.numpy(),
        "detector": labelled.detector.numpy(),
        "threshold": agreement.thresholds.numpy(),
        "variance": agreement.variance.numpy(),
    }
    return pd.DataFrame(columns)


def agreement_table(agreement: Agreement) -> pd.DataFrame:
    """Table "agreement": a row per unit and part."""
    rank = agreement.order.argsort(dim=1).T + 1
    columns = {"iou": agreement.iou, "iou_fit": agreement.iou_fit, "rank": rank}
    return long_table({"unit": range(len(rank)), "part": agreement.labels}, columns)


def curves_table(removal: Removal, labels: tuple[str, ...]) -> pd.DataFrame:
    """Table "curves": what of each part its best units take, by their number."""
    base = removal.base.expand(len(removal.counts), *removal.base.shape)
    changes = [concept_fraction_change(base[:, :, c + 1].T, removal.best[c, :, :, c + 1].T) for c in range(len(labels))]
    columns = {name: torch.stack([getattr(c, name) for c in changes]) for name in ("change", "low", "high")}
    return long_table({"part": labels, "units": removal.counts}, columns)


def removal_table(removal: Removal, labels: tuple[str, ...]) -> pd.DataFrame:
    """Table "removal": what of each part its best units take, beside random units of the same variance."""
    parts = torch.arange(len(labels))
    change, control = removal.change[parts, :, parts + 1], removal.control[parts, :, :, parts + 1]
    p = matched_p(change, control.movedim(2, 0))
    low, high = (control.quantile(level, dim=2) for level in RANGE)
    columns = {"change": change, "control": control.mean(2), "low": low, "high": high, "p": p, "q": q_values(p)[0]}
    columns |= {"variance": removal.variance[..., 0], "control_variance": removal.variance[..., 1]}
    columns |= {"baseline": removal.base.mean(0)[1:, None]}
    return long_table({"part": labels, "units": removal.tested}, columns)


def side_effects_table(removal: Removal, labels: tuple[str, ...]) -> pd.DataFrame:
    """Table "side_effects": what the removal of the best units of a part takes of every label."""
    columns = {"change": removal.change, "control": removal.control.mean(2)}
    axes = {"part": labels, "units": removal.tested, "label": (BACKGROUND, *labels)}
    return long_table(axes, columns)


def insertion_table(insertions: Insertions, labels: tuple[str, ...], min_count: int) -> pd.DataFrame:
    """Table "insertion": pixels that each part gains where it is inserted, by what was there."""
    rows: list[dict[str, Any]] = []
    for c, part in enumerate(labels):
        context = insertions.context[c]
        best, random = (
            insertion_by_context(gained[c, :, c + 1 : c + 2], context, min_count)
            for gained in (insertions.best, insertions.random)
        )
        for k, label in enumerate(best.context.tolist()):
            told = {"part": part, "context": (BACKGROUND, *labels)[label], "insertions": int(best.count[k])}
            told |= {"gained": best.mean[k].item(), "variance": best.variance[k].item()}
            rows.append(told | {"control": random.mean[k].item()})
    return pd.DataFrame(rows)


def location_maps(insertions: Insertions, size: tuple[int, int]) -> Tensor:
    """Mean pixels that each part gains by insertion at each cell: `[C, h, w]` float32; NaN without an insertion."""
    maps = []
    for c, cell in enumerate(insertions.cell):
        zeros = torch.zeros(size[0] * size[1], dtype=torch.float64)
        total = zeros.index_add(0, cell, insertions.best[c, :, c + 1].double())
        count = zeros.index_add(0, cell, torch.ones(len(cell), dtype=torch.float64))
        maps.append((total / count.where(count > 0, torch.nan)).view(size))
    return torch.stack(maps).float()
