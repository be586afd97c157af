"""Tables of the stage "dissect"."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, wraps

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.dissection.agreement import AgreementCounts, UnitLabels
from lis.dissection.concepts import ConceptSet
from lis.dissection.permutation import PermutationTest
from lis.statistics import RANGE, SIGNIFICANT, q_values
from lis.units.tuned import long_table


@dataclass(frozen=True)
class Scores:
    """How the units of a layer agree with concepts."""

    layer: str
    concepts: ConceptSet
    counts: AgreementCounts
    control: PermutationTest
    labels: UnitLabels

    @cached_property
    def columns(self) -> dict[str, Tensor]:
        """What is known of each unit and concept, `[units, concepts]`; NaN of dead units and absent concepts."""
        counts, control = self.counts, self.control
        columns = {"iou": counts.iou, "control": control.mean, "p": control.p, "q": control.q}
        columns |= {"same_images_iou": control.iou}
        columns |= {"auprc": counts.auprc, "pearson": counts.pearson, "auc": counts.auc}
        live = (~counts.iou.isnan()).cpu()
        columns = {name: values.cpu().where(live, torch.nan) for name, values in columns.items()}
        return columns | {"images_met": counts.images_met.cpu()}


def _of_layers(table: Callable[[Scores], pd.DataFrame]) -> Callable[[Iterable[Scores]], pd.DataFrame]:
    """The tables of several layers, one behind the other, with the layer as the first column."""

    @wraps(table)
    def of_layers(scores: Iterable[Scores]) -> pd.DataFrame:
        return pd.concat([table(each).assign(layer=each.layer) for each in scores], ignore_index=True).pipe(_first)

    def _first(joined: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame(joined, columns=["layer", *(name for name in joined if name != "layer")])

    return of_layers


@_of_layers
def agreement_table(scores: Scores) -> pd.DataFrame:
    """Table "agreement": a row per unit and concept."""
    names, kinds = scores.concepts.names, np.array(scores.concepts.kinds)
    table = long_table({"unit": range(len(scores.labels.best_iou)), "concept": names}, scores.columns)
    table.insert(2, "kind", np.tile(kinds, len(scores.labels.best_iou)))
    return table


def _units(scores: Scores) -> pd.DataFrame:
    labels = scores.labels
    picked = {name: labels.of_best(values) for name, values in scores.columns.items() if name != "images_met"}
    picked["p"] = labels.of_best(scores.control.p_label)
    picked["q"] = q_values(picked["p"])[0]
    picked["images_met"] = labels.of_best(scores.columns["images_met"], 0)
    columns = {
        "unit": range(len(labels.best_concept)),
        "concept": labels.names(scores.concepts.names),
        "kind": labels.names(scores.concepts.kinds),
        **{name: picked[name].numpy() for name in ("iou", "control", "p", "q", "same_images_iou")},
        "threshold": scores.counts.thresholds.cpu().numpy(),
        "detector": labels.detector.cpu().numpy(),
        "above_chance": picked["q"].numpy() <= SIGNIFICANT,
        **{name: picked[name].numpy() for name in ("auprc", "pearson", "images_met")},
        "dead": (scores.counts.area_unit == 0).cpu().numpy(),
    }
    return pd.DataFrame(columns)


@_of_layers
def units_table(scores: Scores) -> pd.DataFrame:
    """Table "units": each unit with the concept that labels it, if any."""
    return _units(scores)


@_of_layers
def histogram_table(scores: Scores) -> pd.DataFrame:
    """Table "histogram": the numbers of units that each concept labels, but for the background."""
    units, control = _units(scores), scores.control.detectors.double().cpu()
    low, high = torch.quantile(control, torch.tensor(RANGE, dtype=torch.float64), dim=0)
    rows = []
    for k, (name, kind) in enumerate(zip(scores.concepts.names, scores.concepts.kinds, strict=True)):
        subset = units[units["concept"] == name]
        numbers = float(control[:, k].mean()), float(low[k]), float(high[k])
        same_images = int(scores.control.observed_detectors[k])
        rows.append({"concept": name, "kind": kind} | _numbers(pd.DataFrame(subset), same_images, numbers))
    table = pd.DataFrame(rows)
    return pd.DataFrame(table[table["kind"] != "background"])


@_of_layers
def layers_table(scores: Scores) -> pd.DataFrame:
    """Table "layers": the numbers of units of the layer."""
    units, control = _units(scores), scores.control.detectors.double().sum(1)
    low, high = torch.quantile(control, torch.tensor(RANGE, dtype=torch.float64)).tolist()
    counts = {"units": len(units), "dead": np.count_nonzero(units["dead"])}
    concepts = {"concepts": len({*units["concept"][units["detector"]]})}
    same_images = int(scores.control.observed_detectors.sum())
    return pd.DataFrame([counts | concepts | _numbers(units, same_images, (float(control.mean()), low, high))])


def _numbers(units: pd.DataFrame, same_images: int, control: tuple[float, float, float]) -> dict[str, float]:
    """Units that meet each criterion; detectors on the images of the control, and at chance: mean, low and high."""
    detector, above = (np.asarray(units[name], dtype=bool) for name in ("detector", "above_chance"))
    at_chance = dict(zip(("control", "low", "high"), control, strict=True))
    counts = {"above_chance": int(above.sum()), "both": int((detector & above).sum())}
    return {"detectors": int(detector.sum()), "same_images_detectors": same_images, **at_chance, **counts}
