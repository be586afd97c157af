"""The same z in another class: what the generator changes, and which units tell (supplement S8, Fig. S20)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lis.quantify.measures import MEASURES
from lis.report.arrival import dashes, each_arrived, verdicts, which_way_here
from lis.report.counterfactuals import ASK, SAID, others_agree, others_say
from lis.report.leaders import leaders_first
from lis.report.marks import TWO_SIDED, facets, heat, matrix
from lis.report.pictures import Block, Row, strip_words, trajectories
from lis.report.section import Picture, Section, by_pair, listed, means_as_metrics, metrics, prefixed, section
from lis.report.source import Source, colours, label_names
from lis.report.strips import VEILED, nearest_step, thinned, thinning, veiled
from lis.report.style import class_colours, plain
from lis.report.tables import column, pairs_of, records, where
from lis.report.trajectories import MOST, Crossing, crossings
from lis.report.wording import arrow, changed, counted, listing, number, offset, sentences, share, signed, words
from lis.store import Artifact

_WAYS = (
    "The same z, from one class to another along a straight line in W. In the corner: the probability of the target; "
    "the frame has the colour of the answer, and a dashed line stands where it becomes the target for good."
)
_PARTS = (
    "Mean change of every part over the samples of a pair, from the first image to the last: each measure is "
    "coloured on a scale of its own. A dash: in no sample both images have the part."
)
_UNITS = (
    "The units that change most on the ways above, the largest change first and those whose pictures say little of "
    "themselves last, tuned from their smallest to their "
    "largest activation in the first image. "
)
_OUTLINED = (
    "Outlined is the part that changes most in area, luminance or entropy; the curve is that change, on a scale of its "
    "own."
)
_ANSWERED = "In the corner: the probability of the target; the curve is its change."
_TABLE = "Units that change most from a sample to its counterpart: mean change, also in standard deviations."
_WITNESSED = (
    "What others than the classifier take the last images for: shares of all samples that are called by their new "
    "class, with w within 99 % of the training samples, with 95 % Wilson interval; beside them the same of the first."
)
_LISTED = 5
"""Units per pair in the table."""


@section(480, "gan_counterfactuals", "samples", "measures", "units", "examples", "tuned", "witnessed", "facts")
def gan_counterfactuals(source: Source) -> Section:
    """Ways, parts and units."""
    tables = {
        name: source.table("gan_counterfactuals", name)
        for name in ("samples", "measures", "units", "examples", "tuned", "witnessed")
    }
    examples = records(tables["examples"])
    pictures = [_ways(source, examples, tables["samples"])]
    pictures += [*_parts(source, tables["measures"], examples), *_units(source, examples, tables["tuned"])]
    first = pd.DataFrame(tables["units"].groupby(["origin", "target"], sort=False).head(_LISTED))
    pairs = pairs_of(tables["examples"])
    table = by_pair(
        _TABLE, "units", first, pairs, lambda x: f"{x['unit']} ({offset(x['change'])}; {offset(x['standard'])} sd)"
    )
    told, said = [table], tables["witnessed"]
    if len(said):
        told.append(listed(_WITNESSED, records(said), SAID))
    lead = sentences(_lead(tables, examples), _others(said))
    arrived = tables["samples"]["arrived"].to_numpy(dtype=bool)
    finding = f"With another class and the same z, {arrived.sum()} of {len(arrived)} images are called the new class"
    return Section("Another class from the same z", lead, pictures, told, finding=finding)


def _others(said: pd.DataFrame) -> str:
    """Whether others too take the last images for the new class."""
    if not len(said):
        return f"Whether the pictures became the other thing, {ASK}."
    return f"Of these pictures {others_say(said)}."


def _lead(tables: dict[str, pd.DataFrame], examples: list[dict[str, Any]]) -> str:
    samples, first = tables["samples"], examples[0]
    pair = {"origin": first["origin"], "target": first["target"]}
    parts = [
        f"{name} of the {words(row['label'])} ({changed(name, row['change'])})"
        for name in ("area", "luminance")
        for row in records(where(tables["measures"], measure=name, rank=1, **pair))[:1]
    ]
    told = [f"{row['unit']} ({offset(row['change'])})" for row in records(where(tables["units"], **pair))[:2]]
    lead = (
        f"{share(column(samples, 'arrived').mean())} of {counted(len(samples), 'sample')} are called by their new "
        "class when the generator gets another class with the same z"
    )
    changes = f"what differs most is the {listing(parts)}, and " * bool(parts) + "the units that differ most are"
    return f"{lead}. From {words(first['origin'])} to {words(first['target'])} {changes} {listing(told)}."


def _ways(source: Source, examples: list[dict[str, Any]], samples: pd.DataFrame) -> Picture:
    """Fig. S20, top left."""
    arrays, names = source.arrays("gan_counterfactuals", "examples"), source.facts.class_names
    position, rows = source.arrays("gan_counterfactuals", "paths")["position"], []
    few = thinned(len(position), MOST)
    beyond = arrays.get("beyond", np.zeros(arrays["image"].shape[:2])) == 1
    for image, p, row, outside in zip(arrays["image"], arrays["probability"], examples, beyond, strict=True):
        at, toward = float(samples["boundary"].iloc[row["row"]]), p[few, names.index(row["target"])]
        boundary = int(np.searchsorted(position[few], at)) if np.isfinite(at) else None
        answers = [names[c] for c in p[few].argmax(1)]
        rows.append(Crossing(row["origin"], row["target"], veiled(image, outside)[few], toward, answers, boundary))
    heads = [number(float(x), 2) if x else "original" for x in position[few]]
    caption = sentences(_WAYS, (thinning(len(position), len(few)) + VEILED * bool(beyond.any())).strip())
    pairs = listing([f"{words(row['origin'])} to {words(row['target'])}" for row in examples])
    alt = f"{pairs}: rows of images from one class to the other."
    return Picture("gan-counterfactuals", crossings(rows, heads, class_colours(names)), caption, "photo", samples, alt)


def _parts(source: Source, table: pd.DataFrame, examples: list[dict[str, Any]]) -> list[Picture]:
    """Fig. S20, right; none where no label is large enough, or none is in both images of any sample."""
    seen = set(where(table, interpreted=True)["label"])
    labels = [name for name in label_names(source) if name in seen]
    result = {}
    for row in examples:
        subset = where(table, origin=row["origin"], target=row["target"])
        title = plain(arrow(row["origin"], row["target"]))
        result[title] = matrix(subset, ("label", labels), ("measure", MEASURES), "change")
    if not any(np.isfinite(values).any() for values in result.values()):
        return []
    alt = f"A matrix of {len(labels)} parts and {len(MEASURES)} measures for each pair of classes."
    figure = part_changes(result, labels)
    return [Picture("gan-counterfactuals-parts", figure, _PARTS, data=table, alt=alt, aside=True)]


def _units(source: Source, examples: list[dict[str, Any]], tuned: pd.DataFrame) -> list[Picture]:
    """Fig. S20, bottom: a block per pair, a row per unit; none where no unit is tuned."""
    if tuned.empty:
        return []
    arrays, rows = source.arrays("gan_counterfactuals", "tuned"), [[] for _ in examples]
    tuned = leaders_first(source, tuned.assign(index=range(len(tuned))))
    for row in records(tuned):
        k = row["index"]
        of_unit = {name: values[k] for name, values in arrays.items()}
        target = examples[row["example"]]["target"]
        partless = source.facts.partless
        rows[row["example"]].append(_answer(source, row, of_unit, target) if partless else _unit(source, row, of_unit))
    titles = [plain(arrow(pair["origin"], pair["target"])) for pair in examples]
    blocks = [Block(title, "", units) for title, units in zip(titles, rows, strict=True) if units]
    rows_of_units = records(tuned)
    told = [verdicts(rows_of_units), _UNITS + (_ANSWERED if source.facts.partless else _OUTLINED)]
    told += [strip_words([row for block in blocks for row in block.rows]), each_arrived(source, rows_of_units)]
    told += [dashes(source, any(any(row.beyond) for block in blocks for row in block.rows))]
    caption = sentences(*told, which_way_here(source))
    alt = f"Strips of images, a row per unit: {listing([row.name for block in blocks for row in block.rows])}."
    return [Picture("gan-counterfactuals-units", trajectories(blocks), caption, "photo", tuned, alt)]


def _unit(source: Source, row: dict[str, Any], arrays: dict[str, np.ndarray]) -> Row:
    """One unit from its row of the table "tuned" and its arrays."""
    name, image, flat, marks = (
        f"unit {row['unit']}",
        arrays["image"],
        np.zeros(len(arrays["image"])),
        _marks(row, arrays),
    )
    if not row["label"]:
        return Row(name, "", image, None, flat, "–", "#9aa4ae", **marks)
    label, told = label_names(source).index(row["label"]), f"{plain(row['label'])}\n{row['measure']}"
    values = arrays["measures"][:, label, MEASURES.index(row["measure"])]
    curve = values - values[0] if np.isfinite(values[0]) else flat
    curve, change = curve / (np.nanmax(np.abs(curve)) or 1.0), changed(row["measure"], row["measured"])
    return Row(name, told, image, arrays["mask"] == 1 + label, curve, change, colours(source)[row["label"]], **marks)


def _answer(source: Source, row: dict[str, Any], arrays: dict[str, np.ndarray], target: str) -> Row:
    """One unit with the probability of the target, where no parts are named."""
    names, marks = source.facts.class_names, _marks(row, arrays)
    p, colour = arrays["probability"][:, names.index(target)], class_colours(names)[target]
    curve, corner = p - p[0], [f"{value:.2f}" for value in p]
    change = signed(float(curve[-1]))
    return Row(f"unit {row['unit']}", "", arrays["image"], None, curve, change, colour, corner, **marks)


def _marks(row: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Which image is framed, and which are veiled, as far as it is known."""
    value = np.linspace(row["minimum"], row["maximum"], len(arrays["image"]))
    unperturbed = nearest_step(value, row.get("activation", np.nan))
    return {"unperturbed": unperturbed, "beyond": (arrays["beyond"] == 1).tolist() if "beyond" in arrays else ()}


means_as_metrics("gan_counterfactuals", "samples", "arrived", "w_distance", "r_distance")


@metrics("gan_counterfactuals")
def others_agree_with_the_generator(artifact: Artifact) -> dict[str, float]:
    """`gan_counterfactuals/{bayes_agrees, witness_agrees}`: see `others_agree`."""
    return prefixed("gan_counterfactuals", others_agree(artifact.table("witnessed")))


def part_changes(result: Mapping[str, np.ndarray], labels: Sequence[str]) -> Figure:
    """A matrix per pair, labels down and measures across, with its numbers.

    Args:
        result: title to changes `[labels, measures]`, NaN where there is none; each measure is coloured from minus to
            plus the largest |change| that it has in any of the matrices. One or more.
        labels: rows, one or more.
    """
    most = np.max(np.abs([np.nan_to_num(values) for values in result.values()]), axis=(0, 1))
    figure, panels = facets(result.items(), 2, 0.7 + 0.25 * len(labels), 0, least=1)
    for axis, (title, values) in panels:
        shade = values / np.where(most > 0, most, 1)
        heat(axis, values, labels, MEASURES, (-1, 1), str, TWO_SIDED, shade)
        for text, (_, index), value in zip(axis.texts, np.ndindex(*values.shape), values.ravel(), strict=True):
            text.set_text(changed(MEASURES[index], float(value)))
        axis.set_title(title, pad=10)
    return figure
