"""Counterfactuals beside steps in pixels of equal effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lis.quantify.measures import MEASURES
from lis.report.layouts import mosaic
from lis.report.marks import diagonal, dots, picture, write
from lis.report.section import Picture, Section, Table, crossed, metrics, prefixed, section
from lis.report.source import Source
from lis.report.style import INK, MUTED, PAIRING, SERIES, WIDE, plain, sheet
from lis.report.tables import column, known, mean, records, where
from lis.report.wording import arrow, changed, counted, number, share, words
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
COLUMNS = ("original", "counterfactual", "its change", "steps in pixels", "their change", "as the link sees it")
_NAME, _HEAD, _CELL = 1.15, 0.3, 1.45


@section(470, "adversarial", "adversarial", "measures", "facts")
def contrast(source: Source) -> Section:
    """What a person would see of both."""
    table = source.table("adversarial", "adversarial")
    if table.empty:
        return Section(_TITLE, _NOTHING, finding="No counterfactual to hold steps in pixels against")
    examples, facts = source.table("adversarial", "examples"), source.json("adversarial", "facts")
    coarse = (share(mean(table, f"coarse_{kind}")) for kind in _KINDS)
    told = "Coarser than 4 pixels are {} of what counterfactuals change, and {} of what steps in pixels do.".format(
        *coarse
    )
    alt = f"Counterfactuals change the pixels {number(_ratio(table), 2)} times as much in the median."
    figures = [
        Picture("adversarial", contrasts(_rows(source, table)), _CAPTION, "photo", examples, told),
        Picture("adversarial-sizes", sizes(table), _SIZES, data=table, alt=alt),
    ]
    return Section(_TITLE, _lead(table, facts), figures, _tables(source), finding=_finding(table, facts))


def _finding(table: pd.DataFrame, facts: dict[str, Any]) -> str:
    """How much less steps in pixels change for the same answer."""
    if not facts["reached"]:
        return "Steps in pixels reach the target of no counterfactual"
    return f"Steps in pixels give {share(facts['reached'])} of the answers, {_times(_ratio(table))}"


def _times(ratio: float) -> str:
    """How many times smaller or larger steps in pixels are, of a counterfactual's change over theirs.

    Example:
        >>> _times(40.0), _times(0.5), _times(1.0)
        ('40 times smaller', '2.0 times larger', 'equally large')
    """
    if ratio == 1:
        return "equally large"
    return f"{number(max(ratio, 1 / ratio), 2)} times {'smaller' if ratio > 1 else 'larger'}"


def _ratio(table: pd.DataFrame) -> float:
    """Median over counterfactuals of their squared change over that of the steps in pixels."""
    return float(np.nanmedian(table["mse_counterfactual"] / table["mse_adversarial"].clip(lower=1e-30)))


def _rows(source: Source, table: pd.DataFrame) -> list[Contrast]:
    arrays, rows = source.arrays("adversarial", "examples"), []
    for k, row in enumerate(records(source.table("adversarial", "examples"))):
        step = table.iloc[row["row"]]
        detail = f"p = {step['goal']:.2f}, {step['probability']:.2f}\nlast: {words(str(step['cycled']))}"
        name = arrow(row["origin"], row["target"]).replace(" →", "\n→")
        rows.append(Contrast(name, detail, arrays["image"][k], arrays["difference"][k]))
    return rows


def _lead(table: pd.DataFrame, facts: dict[str, Any]) -> str:
    coarse = [share(mean(table, f"coarse_{kind}")) for kind in _KINDS]
    return (
        f"Steps in pixels reach the target's probability of {counted(len(table), 'counterfactual')} in "
        f"{share(facts['reached'])} of the cases, with a mean squared change {_times(_ratio(table))} "
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
        numbers["adversarial/mse_ratio"] = _ratio(table)
    return numbers


@dataclass(frozen=True)
class Contrast:
    """One counterfactual."""

    name: str
    detail: str
    image: np.ndarray
    """Original, counterfactual, adversarial, the link's picture of that: `[4, h, w, 3]` uint8."""
    difference: np.ndarray
    """Counterfactual and adversarial minus the original, `[2, h, w, 3]`; images lie in [-1, 1]."""


def gains(rows: Sequence[Contrast]) -> tuple[float, float]:
    """By how much both differences are multiplied: so that 99.5 % of all values stay in [-1, 1], but not below 1."""
    parts = (np.stack([row.difference[k] for row in rows]) for k in (0, 1))
    large = (float(np.quantile(np.abs(part), 0.995)) for part in parts)
    first, second = (max(1.0, round(1 / value)) if value > 0 else 1.0 for value in large)
    return first, second


def contrasts(rows: Sequence[Contrast]) -> Figure:
    """A row per counterfactual, in the order of `COLUMNS`; differences on grey, multiplied as their heads say."""
    count, factor = len(COLUMNS), gains(rows)
    cell = min(_CELL, (WIDE - _NAME) / count)
    height = _HEAD + len(rows) * cell
    width = _NAME + count * cell
    figure = Figure(figsize=(width, height))
    axis = figure.add_axes((_NAME / width, 0, count * cell / width, len(rows) * cell / height))
    changes = [127.5 * (1 + np.reshape(factor, (2, 1, 1, 1)) * row.difference) for row in rows]
    pictures = [change.clip(0, 255).round().astype(np.uint8) for change in changes]
    picture(axis, mosaic([np.insert(row.image, [2, 3], drawn, 0) for row, drawn in zip(rows, pictures, strict=True)]))
    told = [f"{name} × {factor[COLUMNS.index(name) == 4]:.0f}" if "change" in name else name for name in COLUMNS]
    for index, text in enumerate(told):
        write(axis, (index + 0.5) / count, 1 + 0.07 / (len(rows) * cell), text, size=8.5, color=INK, ha="center")
    for at, row in enumerate(rows):
        y, x = 1 - (at + 0.5) / len(rows), -0.1 / (count * cell)
        write(axis, x, y, plain(row.name), size=9, va="bottom", ha="right", linespacing=1.1)
        below = y - 0.04 / len(rows)
        write(axis, x, below, row.detail, size=7.5, color=MUTED, va="top", ha="right", linespacing=1.2)
    return figure


def sizes(table: pd.DataFrame) -> Figure:
    """Left: the squared change of the pixels of both; right: how much of it is coarser than four pixels.

    Args:
        table: mse_counterfactual, mse_adversarial, coarse_counterfactual, coarse_adversarial.
    """
    figure, axes = sheet(WIDE, 3.0, 1, 2, lines="y")
    left, right = axes[0]
    x, y = (np.asarray(table[f"mse_{kind}"], dtype=float) for kind in ("counterfactual", "adversarial"))
    x, y = (values[(x > 0) & (y > 0)] for values in (x, y))
    left.set(xscale="log", yscale="log")
    dots(left, x, y, PAIRING["cycle"], alpha=0.6)
    if len(x):
        diagonal(left, min(*x, *y), max(*x, *y))
        write(left, 0.03, 0.95, f"median ratio {number(float(np.median(x / y)), 2)}", size=9, va="top", color=MUTED)
    left.set(xlabel="counterfactual: mean squared change", ylabel="in pixels: mean squared change")
    bins, tallest = np.linspace(0, 1, 26).tolist(), 1.0
    kinds = ("counterfactual", "counterfactual", SERIES[0]), ("adversarial", "steps in pixels", SERIES[4])
    for kind, name, colour in kinds:
        counts, *_ = right.hist(column(table, f"coarse_{kind}"), bins=bins, color=colour, alpha=0.75, label=name)
        tallest = max(tallest, float(np.max(counts)))
    right.set(xlabel="share of the change that is coarser than 4 pixels", ylabel="images", xlim=(0, 1))
    right.set_ylim(0, 1.3 * tallest)
    right.legend(loc="upper left", ncols=2)
    return figure
