"""Counterfactuals beside steps in pixels of equal effect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lis.quantify.measures import MEASURES
from lis.report.figures.contrast import Contrast, contrasts, sizes
from lis.report.frames import column, known, mean, records, where
from lis.report.labels import counted, number, share, words
from lis.report.measures import changed
from lis.report.sections import Picture, Section, Table, crossed, metrics, prefixed, section
from lis.report.source import Source
from lis.store import Artifact

_TITLE = "Steps in pixels"
_KINDS = {"counterfactual": "counterfactual", "adversarial": "steps in pixels"}
_NOTHING = "No counterfactual reached its target, so that there is none to hold steps in pixels against."
_CAPTION = (
    "Original and counterfactual are generated. Steps in pixels move the original straight up the target's probability "
    "until it is as large as that of the counterfactual. Differences are drawn on grey, multiplied as written. Last: "
    "the picture that the link makes of what the classifier encodes of the image with the steps in pixels."
)
_SIZES = (
    "A dot is one counterfactual. Left: mean squared change of the pixels (images lie in [−1, 1]) of both; on the line "
    "they are equal. Right: share of that change that is left in means over 4 × 4 pixels."
)


@section(570, "adversarial", "adversarial", "measures", "facts")
def contrast(source: Source) -> Section:
    """What a person would see of both."""
    table = source.table("adversarial", "adversarial")
    if table.empty:
        return Section(_TITLE, _NOTHING)
    figures = [
        Picture("adversarial", contrasts(_rows(source, table)), _CAPTION, "photo"),
        Picture("adversarial-sizes", sizes(table), _SIZES),
    ]
    return Section(_TITLE, _lead(table, source.json("adversarial", "facts")), figures, _tables(source))


def _rows(source: Source, table: pd.DataFrame) -> list[Contrast]:
    shown = records(source.table("adversarial", "shown"))
    tensors = {name: x.numpy() for name, x in source.tensors("adversarial", "shown").items()}
    rows = []
    for k, row in enumerate(shown):
        own = table.iloc[row["row"]]
        detail = f"p = {own['goal']:.2f}, {own['probability']:.2f}\nlast: {words(str(own['cycled']))}"
        image, difference = (tensors[name][k].transpose(0, 2, 3, 1) for name in ("image", "difference"))
        rows.append(Contrast(f"{words(row['origin'])}\n→ {words(row['target'])}", detail, image, difference))
    return rows


def _lead(table: pd.DataFrame, facts: dict[str, Any]) -> str:
    both = (column(table, "mse_counterfactual"), column(table, "mse_adversarial"))
    ratio = float(np.median(both[0] / np.maximum(both[1], 1e-30)))
    coarse = [share(mean(table, f"coarse_{kind}")) for kind in _KINDS]
    return (
        f"Steps in pixels reach the target's probability of {counted(len(table), 'counterfactual')} in "
        f"{share(facts['reached'])} of the cases, with a mean squared change {number(ratio, 2)} times smaller "
        f"(median); {coarse[1]} of it is coarser than 4 pixels, of a counterfactual's {coarse[0]}. What the link "
        f"makes of them is called the target in {share(facts['seen'])}."
    )


def _tables(source: Source) -> list[Table]:
    """What becomes of the parts in both; no table where no part is seen."""
    table, kinds = source.table("adversarial", "measures"), {head: kind for kind, head in _KINDS.items()}
    if known(table, "counterfactual").empty and known(table, "adversarial").empty:
        return []
    caption = (
        "Mean |change| of a part over all counterfactuals and labels. A picture without w has no feature maps to "
        "find its parts in: those of the original are taken, so that with steps in pixels no part can change its shape."
    )

    def size(measure: str, head: str) -> str:
        return changed(measure, mean(where(table, measure=measure), kinds[head])).removeprefix("+")

    return [crossed(caption, MEASURES, kinds, size)]


@metrics("adversarial")
def adversarial_numbers(artifact: Artifact) -> dict[str, float]:
    """`adversarial/{reached, seen, mse_ratio}`."""
    facts, table = artifact.json("facts"), artifact.table("adversarial")
    numbers = prefixed("adversarial", {name: facts.get(name) for name in ("reached", "seen")})
    if numbers:
        ratio = table["mse_counterfactual"] / table["mse_adversarial"].clip(lower=1e-30)
        numbers["adversarial/mse_ratio"] = float(np.median(ratio.to_numpy()))
    return numbers
