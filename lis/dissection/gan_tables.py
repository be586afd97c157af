"""Tables of the stage "dissect_gan"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from lis.dissection import dissect_tables
from lis.dissection.agreement import MIN_IMAGES, MIN_IOU, AgreementCounts, UnitLabels, label_units
from lis.dissection.concepts import ConceptSet
from lis.dissection.dissect_tables import Scores
from lis.dissection.insertion import Insertions
from lis.dissection.painting import concept_fraction_change, insertion_by_context
from lis.dissection.permutation import PermutationTest
from lis.dissection.removal import Removal, matched_p
from lis.labels.manifest import BACKGROUND
from lis.statistics import RANGE, SIGNIFICANT, q_values
from lis.units.tuned import long_table


@dataclass(frozen=True)
class Agreement:
    """How the U units of a layer agree with C parts, on both halves of the samples."""

    labels: tuple[str, ...]
    iou_fit: Tensor
    """`[U, C]`, of the half that thresholds are from: units are ranked by it."""
    counts: AgreementCounts
    """Of the other half."""
    control: PermutationTest
    """Of the same images, permuted within their classes."""
    variance: Tensor
    """`[U]`."""

    @property
    def unit_labels(self) -> UnitLabels:
        """The part that labels each unit: of those that it meets on `MIN_IMAGES` images, that of the highest IoU."""
        return label_units(self.counts.iou, MIN_IOU, self.counts.images_met, MIN_IMAGES)

    @property
    def measures(self) -> dict[str, Tensor]:
        """What units have with parts, beside chance, `[U, C]` by column; NaN of a dead unit and of an absent part."""
        counts, control = self.counts, self.control
        columns = {"iou": counts.iou, "control": control.mean, "p": control.p, "q": control.q}
        columns |= {"auprc": counts.auprc, "pearson": counts.pearson}
        columns |= {"share": (counts.area_concept / counts.pixels).expand_as(counts.iou)}
        return {name: values.where(~counts.iou.isnan(), torch.nan) for name, values in columns.items()}

    def scores(self, layer: str) -> Scores:
        """The same in the words of "dissect", parts being the only concepts."""
        concepts = ConceptSet(self.labels, ("part",) * len(self.labels), self.labels, ())
        labels = self.unit_labels  # no quadrant is among the parts, so that the label is what is held against chance
        return Scores(layer, concepts, self.counts, self.control, labels, labels, labels)

    @property
    def detectors_at_chance(self) -> dict[str, float]:
        """Units that have IoU > `MIN_IOU` with a part in a permutation: mean, and low and high of 95 % of these."""
        units = self.control.detectors.double().sum(1)
        low, high = (units.quantile(level).item() for level in RANGE)
        return {"mean": units.mean().item(), "low": low, "high": high}

    @property
    def order(self) -> Tensor:
        """Units by descending `iou_fit` with each part, those without one last: `[C, U]` int64."""
        return self.iou_fit.T.nan_to_num(-1.0).argsort(dim=1, descending=True, stable=True)


def units_table(layer: str, agreement: Agreement) -> pd.DataFrame:
    """Table "units": the part that labels each unit, if any, beside chance."""
    labels, counts = agreement.unit_labels, agreement.counts
    columns = {name: labels.of_best(values) for name, values in agreement.measures.items()}
    columns["p"] = labels.of_best(agreement.control.p_label)
    columns["q"] = q_values(columns["p"])[0]
    columns |= {"above_chance": columns["q"] <= SIGNIFICANT, "images_met": labels.of_best(counts.images_met, 0)}
    columns |= {"detector": labels.detector, "threshold": counts.thresholds}
    columns |= {"variance": agreement.variance, "dead": counts.area_unit == 0}
    first = {"layer": layer, "unit": range(len(labels.best_concept)), "part": labels.names(agreement.labels)}
    return pd.DataFrame(first | {name: x.numpy() for name, x in columns.items()})


def agreement_table(agreement: Agreement) -> pd.DataFrame:
    """Table "agreement": a row per unit and part."""
    rank = agreement.order.argsort(dim=1).T + 1
    columns = agreement.measures | {"images_met": agreement.counts.images_met}
    columns |= {"iou_fit": agreement.iou_fit, "rank": rank}
    return long_table({"unit": range(len(rank)), "part": agreement.labels}, columns)


def histogram_table(layer: str, agreement: Agreement) -> pd.DataFrame:
    """Table "histogram": units that each part labels, beside chance."""
    return dissect_tables.histogram_table([agreement.scores(layer)]).rename(columns={"concept": "part"})


def layers_table(layer: str, agreement: Agreement) -> pd.DataFrame:
    """Table "layers": the same of all parts, a single row."""
    return dissect_tables.layers_table([agreement.scores(layer)]).rename(columns={"concepts": "parts"})


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
    """Table "side_effects": what the removal of the best units of a part takes of every label, beside random units."""
    change, draws = removal.change, removal.control.movedim(2, 0)
    p = (2 * torch.minimum(matched_p(change, draws), matched_p(-change, -draws))).clamp(max=1)
    others = torch.arange(len(labels))[:, None] + 1 != torch.arange(1 + len(labels))
    q = q_values(p.where(others[:, None], torch.nan))[0]
    columns = {"change": change, "control": draws.mean(0), "p": p, "q": q}
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
            row = {"part": part, "context": (BACKGROUND, *labels)[label], "insertions": int(best.count[k])}
            row |= {"gained": best.mean[k].item(), "variance": best.variance[k].item()}
            rows.append(row | {"control": random.mean[k].item()})
    return pd.DataFrame(rows)


def location_maps(insertions: Insertions, gained: Tensor, size: tuple[int, int]) -> Tensor:
    """Mean pixels that each part gains by insertion at each cell: `[C, h, w]` float32; NaN without an insertion.

    Args:
        insertions: where.
        gained: by the units of the part, or by random ones, `[C, m, 1 + C]`.
        size: h and w.
    """
    maps = []
    for c, cell in enumerate(insertions.cell):
        zeros = torch.zeros(size[0] * size[1], dtype=torch.float64)
        total = zeros.index_add(0, cell, gained[c, :, c + 1].double())
        count = zeros.index_add(0, cell, torch.ones(len(cell), dtype=torch.float64))
        maps.append((total / count.where(count > 0, torch.nan)).view(size))
    return torch.stack(maps).float()
