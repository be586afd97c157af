"""The same z in another class: what the generator changes, and which units tell (supplement S8, Fig. S20)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lis.quantify.measures import MEASURES
from lis.report.layouts import changed
from lis.report.marks import TWO_SIDED, facets, heat, matrix
from lis.report.pictures import Block, Row, trajectories
from lis.report.section import Picture, Section, by_pair, means_as_metrics, section
from lis.report.source import Source
from lis.report.style import class_colours, label_colours, plain, styled
from lis.report.tables import column, records, where
from lis.report.trajectories import Crossing, crossings
from lis.report.wording import arrow, counted, listing, number, offset, share, words

_WAYS = (
    "The same z, from one class to another along a straight line in W. In the corner: the probability of the target; "
    "the frame has the colour of the answer, and a dashed line stands where it becomes the target for good."
)
_PARTS = (
    "Mean change of every part over the samples of a pair, from the first image to the last: each measure is "
    "coloured on a scale of its own. A dash: in no sample both images have the part."
)
_UNITS = (
    "The units that change most on the ways above, the largest change first, tuned from their smallest to their "
    "largest activation in the first image. Outlined is the part that changes most in area, luminance or entropy; "
    "the curve is that change, on a scale of its own."
)
_TABLE = "Units that change most from a sample to its counterpart: mean change, also in standard deviations."
_LISTED = 5
"""Units per pair in the table."""


@section(580, "gan_counterfactuals", "samples", "measures", "units", "examples", "tuned", "facts")
def gan_counterfactuals(source: Source) -> Section:
    """Ways, parts and units."""
    tables = {
        name: source.table("gan_counterfactuals", name)
        for name in ("samples", "measures", "units", "examples", "tuned")
    }
    selected = records(tables["examples"])
    pictures = [Picture("gan-counterfactuals", _ways(source, selected, tables["samples"]), _WAYS, "photo")]
    pictures += [*_parts(source, tables["measures"], selected), *_units(source, selected, tables["tuned"])]
    pairs = [(row["origin"], row["target"]) for row in selected]
    first = pd.DataFrame(tables["units"].groupby(["origin", "target"], sort=False).head(_LISTED))
    table = by_pair(_TABLE, "units", first, pairs, _changed_unit)
    return Section("Another class from the same z", _lead(tables, selected), pictures, [table])


def _lead(tables: dict[str, pd.DataFrame], selected: list[dict[str, Any]]) -> str:
    samples, first = tables["samples"], selected[0]
    pair = {"origin": first["origin"], "target": first["target"]}
    top = [_largest(where(tables["measures"], measure=name, **pair)) for name in ("area", "luminance")]
    parts = [
        f"{row['measure']} of the {words(row['label'])} ({changed(row['measure'], row['change'])})"
        for row in top
        if row
    ]
    units = records(where(tables["units"], **pair))[:2]
    told = [f"{row['unit']} ({offset(row['change'])})" for row in units]
    lead = (
        f"{share(column(samples, 'arrived').mean())} of {counted(len(samples), 'sample')} are called by their new "
        "class when the generator gets another class with the same z"
    )
    changes = (
        f"what differs most is the {listing(parts)}, and the units that differ most are" if parts else "the units are"
    )
    return f"{lead}. From {words(first['origin'])} to {words(first['target'])} {changes} {listing(told)}."


def _largest(table: pd.DataFrame) -> dict[str, Any] | None:
    """The row of the first rank."""
    return next(iter(records(where(table, rank=1))), None)


def _tensors(source: Source, name: str) -> dict[str, np.ndarray]:
    return {key: x.numpy() for key, x in source.tensors("gan_counterfactuals", name).items()}


def _ways(source: Source, selected: list[dict[str, Any]], samples: pd.DataFrame) -> Any:
    """Fig. S20, top left."""
    looks, names = _tensors(source, "examples"), source.facts.class_names
    position = _tensors(source, "paths")["position"]
    rows = []
    for k, row in enumerate(selected):
        p = looks["probability"][k]
        at = float(samples["boundary"].iloc[row["row"]])
        rows.append(
            Crossing(
                row["origin"],
                row["target"],
                looks["image"][k].transpose(0, 2, 3, 1),
                p[:, names.index(row["target"])],
                [names[c] for c in p.argmax(1)],
                boundary=int(np.searchsorted(position, at)) if np.isfinite(at) else None,
            )
        )
    heads = [number(float(x), 2) if x else "0" for x in position]
    return crossings(rows, heads, class_colours(names))


def _parts(source: Source, table: pd.DataFrame, selected: list[dict[str, Any]]) -> list[Picture]:
    """Fig. S20, right; none where no label is large enough, or none is in both images of any sample."""
    labels = [name for name in source.json("gan_counterfactuals", "facts")["labels"] if _seen(table, name)]
    result = {}
    for row in selected:
        subset = where(table, origin=row["origin"], target=row["target"])
        title = plain(arrow(row["origin"], row["target"]))
        result[title] = matrix(subset, ("label", labels), ("measure", MEASURES), "change")
    if not any(np.isfinite(values).any() for values in result.values()):
        return []
    return [Picture("gan-counterfactuals-parts", part_changes(result, labels), _PARTS)]


def _seen(table: pd.DataFrame, label: str) -> bool:
    return bool(where(table, label=label)["interpreted"].any())


def _units(source: Source, selected: list[dict[str, Any]], tuned: pd.DataFrame) -> list[Picture]:
    """Fig. S20, bottom: a block per pair, a row per unit; none where no unit is tuned."""
    if tuned.empty:
        return []
    looks, labels = _tensors(source, "tuned"), source.json("gan_counterfactuals", "facts")["labels"]
    colours, blocks = label_colours(labels), []
    for k, pair in enumerate(selected):
        rows = [
            _unit(row, index, looks, labels, colours) for index, row in enumerate(records(tuned)) if row["example"] == k
        ]
        blocks.append(Block(plain(arrow(pair["origin"], pair["target"])), "", rows))
    figure = trajectories([block for block in blocks if block.rows])
    return [Picture("gan-counterfactuals-units", figure, _UNITS, "photo")]


def _unit(
    row: dict[str, Any], index: int, looks: dict[str, np.ndarray], labels: list[str], colours: dict[str, str]
) -> Row:
    image, name = looks["image"][index].transpose(0, 2, 3, 1), f"unit {row['unit']}"
    flat = np.zeros(len(image))
    if not row["label"]:
        return Row(name, "", image, None, flat, "–", "#9aa4ae")
    label = labels.index(row["label"])
    values = looks["measures"][index][:, label, MEASURES.index(row["measure"])]
    told = f"{plain(row['label'])}\n{row['measure']}"
    mask = looks["mask"][index] == 1 + label
    curve = values - values[0] if np.isfinite(values[0]) else flat
    scale = np.nanmax(np.abs(curve))
    return Row(
        name, told, image, mask, curve / (scale or 1.0), changed(row["measure"], row["measured"]), colours[row["label"]]
    )


def _changed_unit(row: dict[str, Any]) -> str:
    return f"{row['unit']} ({offset(row['change'])}; {offset(row['standard'])} sd)"


means_as_metrics("gan_counterfactuals", "samples", "arrived", "w_distance", "r_distance")


@styled
def part_changes(result: Mapping[str, np.ndarray], labels: Sequence[str]) -> Figure:
    """A matrix per pair, labels down and measures across, with its numbers.

    Args:
        result: title to changes `[labels, measures]`, NaN where there is none; each measure is coloured from minus to
            plus the largest |change| that it has in any of the matrices. One or more.
        labels: rows, one or more.
    """
    most = np.nanmax(np.abs([np.nan_to_num(values) for values in result.values()]), axis=(0, 1))
    figure, panels = facets(result.items(), 2, 0.7 + 0.25 * len(labels), 0, least=1)
    for axis, (title, values) in panels:
        shade = values / np.where(most > 0, most, 1)
        heat(axis, values, labels, MEASURES, (-1, 1), str, TWO_SIDED, shade)
        for text, (_, index), value in zip(axis.texts, np.ndindex(*values.shape), values.ravel(), strict=True):
            text.set_text(changed(MEASURES[index], float(value)))
        axis.set_title(title, pad=10)
    return figure
