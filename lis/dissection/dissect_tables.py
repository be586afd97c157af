"""Tables of the stage "dissect"."""

from __future__ import annotations

import math
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
    """By the highest IoU."""
    specific: UnitLabels
    """By the highest IoU over its control, `PermutationTest.excess`."""
    correlated: UnitLabels
    """By the highest Pearson's r."""

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
    p = scores.specific.of_best(scores.control.p_label, 1.0)  # none stands out of a live unit
    specific_q = q_values(p.where(scores.counts.area_unit.cpu() > 0, torch.nan))[0].numpy()
    columns = {
        "unit": range(len(labels.best_concept)),
        "concept": labels.names(scores.concepts.names),
        "kind": labels.names(scores.concepts.kinds),
        **{name: picked[name].numpy() for name in ("iou", "control", "p", "q", "same_images_iou")},
        "threshold": scores.counts.thresholds.cpu().numpy(),
        "active": (scores.counts.area_unit / scores.counts.pixels).cpu().numpy(),
        "detector": labels.detector.cpu().numpy(),
        **{name: picked[name].numpy() for name in ("auprc", "pearson", "images_met")},
        "specific": scores.specific.names(scores.concepts.names),
        "specific_iou": scores.specific.of_best(scores.columns["iou"]).numpy(),
        "specific_control": scores.specific.of_best(scores.columns["control"]).numpy(),
        "specific_q": specific_q,
        "above_chance": specific_q <= SIGNIFICANT,
        "correlated": scores.correlated.names(scores.concepts.names),
        "dead": (scores.counts.area_unit == 0).cpu().numpy(),
    }
    return pd.DataFrame(columns)


@_of_layers
def units_table(scores: Scores) -> pd.DataFrame:
    """Table "units": each unit with the concept that labels it, if any, and with those that other measures choose."""
    return _units(scores)


@_of_layers
def histogram_table(scores: Scores) -> pd.DataFrame:
    """Table "histogram": the numbers of units that each concept labels, but for the background; NaN without a pixel."""
    units, control = _units(scores), scores.control.detectors.double().cpu()
    low, high = torch.quantile(control, torch.tensor(RANGE, dtype=torch.float64), dim=0)
    rows = []
    for k, (name, kind) in enumerate(zip(scores.concepts.names, scores.concepts.kinds, strict=True)):
        if not int(scores.counts.area_concept[k]):
            rows.append({"concept": name, "kind": kind} | dict.fromkeys(_NUMBERS, math.nan))
            continue
        labelled, specific = ((units[column] == name).to_numpy() for column in ("concept", "specific"))
        numbers = float(control[:, k].mean()), float(low[k]), float(high[k])
        same_images = int(scores.control.observed_detectors[k])
        rows.append({"concept": name, "kind": kind} | _numbers(units, labelled, specific, same_images, numbers))
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
    every, chance = np.full(len(units), True), (float(control.mean()), low, high)
    return pd.DataFrame([counts | concepts | _numbers(units, every, every, same_images, chance)])


_NUMBERS = ("detectors", "same_images_detectors", "control", "low", "high", "above_chance", "both")


def _numbers(
    units: pd.DataFrame,
    labelled: np.ndarray,
    specific: np.ndarray,
    same_images: int,
    control: tuple[float, float, float],
) -> dict[str, float]:
    """Of a concept, or of all.

    Args:
        units: table "units".
        labelled: those that it labels.
        specific: those that it is specific to.
        same_images: detectors on the images of the control.
        control: detectors at chance: mean, low and high.
    """
    detector, above = (np.asarray(units[name], dtype=bool) for name in ("detector", "above_chance"))
    met = {
        "detectors": detector & labelled,
        "above_chance": above & specific,
        "both": detector & labelled & (units["q"].to_numpy() <= SIGNIFICANT),
    }
    numbers = {name: int(np.count_nonzero(rows)) for name, rows in met.items()}
    chance = dict(zip(("control", "low", "high"), control, strict=True))
    return {**numbers, "same_images_detectors": same_images, **chance}
