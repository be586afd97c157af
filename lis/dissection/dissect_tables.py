"""Tables of the stage "dissect"."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.dissection.agreement import AgreementCounts, UnitLabels
from lis.dissection.concepts import ConceptSet
from lis.dissection.permutation import PermutationTest
from lis.statistics import SIGNIFICANT
from lis.units.tuned import long_table


@dataclass(frozen=True)
class Scores:
    """How the units of a layer agree with concepts."""

    layer: str
    concepts: ConceptSet
    counts: AgreementCounts
    null: PermutationTest
    labels: UnitLabels

    @cached_property
    def columns(self) -> dict[str, Tensor]:
        """What is known of each unit and concept, `[units, concepts]`; NaN of dead units and absent concepts."""
        counts, null = self.counts, self.null
        columns = {"iou": counts.iou, "control": null.mean, "p": null.p, "q": null.q}
        columns |= {"auprc": counts.auprc, "pearson": counts.pearson, "auc": counts.auc}
        live = (~counts.iou.isnan()).cpu()
        columns = {name: values.cpu().where(live, torch.nan) for name, values in columns.items()}
        return columns | {"images_met": counts.images_met.cpu()}


def agreement_table(scores: Scores) -> pd.DataFrame:
    """Table "agreement": a row per unit and concept."""
    names, kinds = scores.concepts.names, np.array(scores.concepts.kinds)
    table = long_table({"unit": range(len(scores.labels.best_iou)), "concept": names}, scores.columns)
    table.insert(2, "kind", np.tile(kinds, len(scores.labels.best_iou)))
    table.insert(0, "layer", scores.layer)
    return table


def units_table(scores: Scores) -> pd.DataFrame:
    """Table "units": each unit with the concept that labels it, if any."""
    best = scores.labels.best_concept.cpu()
    known = best >= 0
    rows, column = torch.arange(len(best)), best.clamp(min=0)
    picked = {name: values[rows, column] for name, values in scores.columns.items()}
    picked = {name: v.where(known, 0 if name == "images_met" else torch.nan) for name, v in picked.items()}
    q = picked["q"].numpy()
    names, kinds = (
        np.array(["", *values])[best.numpy() + 1] for values in (scores.concepts.names, scores.concepts.kinds)
    )
    columns = {
        "layer": scores.layer,
        "unit": rows.numpy(),
        "concept": names,
        "kind": kinds,
        **{name: picked[name].numpy() for name in ("iou", "control", "p", "q")},
        "threshold": scores.counts.thresholds.cpu().numpy(),
        "detector": scores.labels.detector.cpu().numpy(),
        "above_chance": q <= SIGNIFICANT,
        **{name: picked[name].numpy() for name in ("auprc", "pearson", "images_met")},
        "dead": (scores.counts.area_unit == 0).cpu().numpy(),
    }
    return pd.DataFrame(columns)


def layers_table(scores: Scores) -> pd.DataFrame:
    """Table "layers": the numbers of units of the layer."""
    units = units_table(scores)
    concepts = {*units["concept"][units["detector"]]}
    counts = {"units": len(units), "dead": np.count_nonzero(units["dead"])}
    counts |= {"detectors": np.count_nonzero(units["detector"]), "concepts": len(concepts)}
    counts |= {"above_chance": np.count_nonzero(units["above_chance"])}
    return pd.DataFrame([{"layer": scores.layer} | counts])
