"""What single units of a layer respond to (Bau et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from lis.api import notebook
from lis.context import Context
from lis.dissection.dissect import DissectConfig, dissect
from lis.dissection.top_images import masked_pictures
from lis.report.atlas import ranked
from lis.report.tables import records
from lis.report.wording import counted, number, probability, words


@dataclass(frozen=True, eq=False, repr=False)
class DissectionResult:
    """The concept that each unit agrees with most, beside masks of other images of the same class.

    IoU > 0.04 alone says little where a concept is large or stands at one position: `layers` has as many such units at
    chance (`control`), beside those of the same images (`same_images_detectors`). The q of `units` holds the best
    concept of a unit against its best one in each permutation, over the units of a layer; that of `agreement` holds the
    IoU of one unit and concept against that of permuted images, over all units and concepts of a layer.

    Example:
        >>> import lis
        >>> d = lis.study(size="smoke", **{"dissect.permutations": 199}).dissect(layer="body.2")
        >>> d.units.columns[:8].tolist()
        ['layer', 'unit', 'concept', 'kind', 'iou', 'control', 'p', 'q']
        >>> len(d.units), d.images(7).shape
        (16, torch.Size([5, 3, 64, 64]))
    """

    units: pd.DataFrame
    """A row per unit: layer, unit, concept (empty: none), kind, iou, control, p, q, same_images_iou, threshold,
    active, detector, auprc, pearson, images_met, specific, specific_iou, specific_control, specific_q, above_chance,
    correlated, dead; see the stage `dissect`."""
    agreement: pd.DataFrame
    """A row per unit and concept: layer, unit, concept, kind, iou, control, p, q, same_images_iou, auprc, pearson,
    auc, images_met."""
    layers: pd.DataFrame
    """A row per layer: units, dead, concepts, detectors, same_images_detectors, control, low, high,
    above_chance, both."""
    facts: dict[str, Any]
    """Images, concepts, and settings."""
    top: dict[str, Tensor]
    """image `[n, 3, s, s]` uint8; index `[rows, 5]` into it and mask `[rows, 5, s, s]` bool of each row of `units`."""

    def images(self, unit: int, layer: str | None = None) -> Tensor:
        """The images in which a unit is most active, darkened outside its mask: `[5, 3, s, s]` uint8.

        Args:
            unit: its number.
            layer: None: the only one.

        Raises:
            ValueError: no such unit, or the layer is not said where there are several.
        """
        known = list(self.facts["layers"])
        if layer is None and len(known) > 1:
            raise ValueError(f"images({unit}): expected a layer too, one of {', '.join(known)}")
        chosen = (self.units["layer"] == (layer or known[0])) & (self.units["unit"] == unit)
        rows = np.flatnonzero(chosen)
        if not len(rows):
            shapes = "; ".join(f"{name}: 0 to {units - 1}" for name, (units, _, _) in self.facts["layers"].items())
            raise ValueError(f"images({unit}, layer={layer!r}): expected a unit of a layer, of {shapes}")
        row = int(rows[0])
        return masked_pictures(self.top["image"][self.top["index"][row]], self.top["mask"][row])

    def __repr__(self) -> str:
        return f"DissectionResult of {'; '.join(_told(row, self.facts['min_iou']) for row in records(self.layers))}"

    def _repr_html_(self) -> str:
        best = ranked(self.units).head(notebook.ROWS)
        rows = []
        for row in records(best):
            name = f"{row['layer']} {row['unit']}\n{words(row['concept']) or 'no concept'}"
            name += f"\nIoU {number(row['iou'], 2)}\nat chance {number(row['control'], 2)}\nq {probability(row['q'])}"
            images = [notebook.pixels(image) for image in self.images(row["unit"], row["layer"])]
            rows.append((name, images, [""] * len(images)))
        told = (
            f"The {len(best)} units of the highest IoU of {len(self.units)}, in the images in which each is most active"
        )
        return notebook.page(repr(self), notebook.text(told), notebook.gallery(rows))


def _told(layer: dict[str, Any], min_iou: float) -> str:
    return (
        f"{layer['layer']}, {counted(layer['units'], 'unit')}: {layer['above_chance']} agree with a concept above "
        f"chance, {layer['same_images_detectors']} have IoU > {min_iou:g} "
        f"({number(layer['control'], 2)} at chance)"
    )


def dissected(ctx: Context, layer: str | None) -> DissectionResult:
    """What the stage `dissect` holds.

    Args:
        ctx: the run.
        layer: None: the layers of its settings.

    Raises:
        ValueError: as the stage.
    """
    settings: DissectConfig = vars(ctx.config)["dissect"]
    if layer is not None:
        settings = replace(settings, layers=[layer])
    changed: dict[str, Any] = {"dissect": settings}
    artifact = dissect(replace(ctx, config=replace(ctx.config, **changed)))
    tables = {name: artifact.table(name) for name in ("units", "agreement", "layers")}
    return DissectionResult(**tables, facts=artifact.json("facts"), top=artifact.tensors("top"))
