"""What units of the generator agree with, and what their removal and insertion do (Bau et al. 2020)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from lis.report.atlas import GENERATOR
from lis.report.gan_layers import parts_picture
from lis.report.gan_movies import MOVIES, STAGE, movie_frames, movie_name
from lis.report.marks import PERCENT, TWO_SIDED, axes_at, facets, heat, picture, write
from lis.report.section import Picture, Section, Table, listed, metrics, section
from lis.report.source import Source
from lis.report.style import GREY, INK, MUTED, RULE, SERIES, WIDE, light_grid, plain, sheet
from lis.report.tables import column, known, records, split, where
from lis.report.wording import counted, listing, number, probability, sentences, share, words
from lis.statistics import SIGNIFICANT, fewest_called
from lis.store import Artifact

_REMOVAL = (
    "Share of a part's area that is gone once the n units of the highest IoU with it are removed ({value}), the ranks "
    "from one half of the samples, the images from the other ({images} images); band: 99 %. Grey: as many random units "
    "of the layer, matched in variance, mean and 95 % of {draws} draws. Filled dots: q ≤ 0.05. Below zero a part grew. "
    "Areas are read by a segmenter of pixels. A part that vanishes does not show that the units draw nothing else: the "
    "figure below does."
)
_EFFECTS = (
    "Share of the area of each label (columns) that is gone once the {n} best units of a part (rows) are removed; on "
    "the right the same for random units matched in variance, mean over draws. Framed off the diagonal on the left: "
    "side effects, changes unlike those of random units (q ≤ 0.05, two-sided, Benjamini–Hochberg over all labels but "
    "the part, with any number of units): {effects}. {resolution}A label that is hidden by another one also grows "
    "where that is removed."
)
_LOCATION = (
    "Pixels that a part gains where its {units} best units (above), or as many random ones of the same variance "
    "(below), are set to their 0.995 quantile at one cell, by the cell: mean over {count} insertions in images at "
    "random, no cell again before all were; grey: none. Both maps of a part have one scale. Table: the same by what "
    "was there. That a part does not appear at a cell says that these units do not bring it there, not that no others "
    "could."
)
_MOVIE = {
    "removal": "{part}: more and more of its best units removed",
    "insertion": "{part}: its units set high at one cell (outlined) that moves around",
    "painting": "{part}: painted along the same way",
}
_STILLS = (
    "Stills of the three movies; below each image its parts by the segmenter of pixels. A label is under the mask "
    "where it covers at least 5 % of it after the edit, else the generator refuses it; what it gains is the mean over "
    "the images, and near zero where it was there before. The parts are chosen: the one that loses most beyond "
    "random units, and the one that gains most by insertion; the images are those that show most of the removed part, "
    "one of each class, and else the first of each class."
)
_TABLE = (
    "Removal, in shares of the part's area on {images} images. Control: random units of the layer, as many from each "
    "stratum of variance as the best ones ({draws} draws, mean and 95 %). p: share of draws that take as much; q: "
    "Benjamini–Hochberg over all rows."
)
_SEGMENTER = " Segmenter: IoU of what sees the part with the exact mask, before any edit."
_INSERTION = (
    "Pixels that a part gains by insertion at a cell, by the label that was at the centre of the cell, for contexts "
    "with {min_count} insertions or more; control: random units of the same variance, set to their own 0.995 quantile."
)
_VALUES = {
    "zero": "set to zero, which behind a leaky ReLU is a value like others and not off",
    "mean": "set to their means",
    "quantile": "set to a low quantile of their own",
}
_CONCEPTS = {
    "parts": "What an edit does is read by a segmenter that sees pixels alone.",
    "brightness": "Parts are here the pixels of each third of the brightness. What units do to the parts of what the "
    "images show, such as a sleeve, is not measured: nothing sees those by pixels alone, and what sees them by the "
    "generator's maps would find what an edit put there.",
}
_FRAMES = 3
"""Of each movie in the picture of stills."""
_MAPS = 9
"""Parts whose maps take the width of the page."""
LOWEST = -2.0
"""Share of a part that is gone (its area has tripled) down to which values have their place in the figure."""
_ABOVE = 0.46
"""Inches for text above the stills of a movie."""


@section(620, STAGE, "histogram", "removal", "curves", "side_effects", "insertion", "location", "facts")
def generator_units(source: Source) -> Section:
    """Removal curves beside random units, side effects, insertion by location and context, and three movies."""
    table, facts = source.table(STAGE, "removal"), source.json(STAGE, "facts")
    tested = sorted(set(table["units"]))
    middle = tested[len(tested) // 2]
    removal = _REMOVAL.format(**facts | {"value": _VALUES[facts["value"]]})
    effects = known(where(source.table(STAGE, "side_effects"), units=middle), "change")
    curves, visible = (known(x, "change") for x in (source.table(STAGE, "curves"), table))
    effects = pd.DataFrame(effects.loc[effects["part"].isin(visible["part"])])  # of labels that the images show
    located = _LOCATION.format(units=facts["inserted"], count=_insertions(source))
    figures = [
        Picture("dissect-gan-removal", removal_figure(curves, visible), removal + _beyond(curves, visible), data=table),
        Picture("dissect-gan-effects", effects_figure(effects), _effects(source, facts, middle), data=effects),
        Picture("dissect-gan-location", location_figure(source, facts), located),
        *parts_picture("dissect-gan-parts", source.table(STAGE, "histogram"), "layer"),
        Picture("dissect-gan-movies", stills(source, facts), _STILLS, "photo", others=list(map(movie_name, MOVIES))),
    ]
    tables = [_removal_table(table, facts), _insertion_table(source.table(STAGE, "insertion"), facts)]
    finding = _finding(table, facts)
    return Section("Units of the generator", _lead(source, facts), figures, tables, finding=finding, page=GENERATOR)


def _insertions(source: Source) -> int:
    table = source.table(STAGE, "insertion")
    return int(sum(row["insertions"] for row in records(where(table, part=table["part"].iloc[0]))))


def significant(table: pd.DataFrame) -> dict[int, int]:
    """Parts of which the best units take more than random ones, by the number of units."""
    return {n: int((column(rows, "q") <= SIGNIFICANT).sum()) for n, rows in split(table, "units").items()}


def absent_parts(table: pd.DataFrame) -> list[str]:
    """Parts without a pixel in the images before any edit, of which no share can be gone; rows of table "removal"."""
    return list(dict.fromkeys(where(table, baseline=0.0)["part"]))


def _absent(table: pd.DataFrame, facts: dict[str, Any]) -> str:
    """Which parts are left out; nothing where all are seen."""
    if not (absent := absent_parts(table)):
        return ""
    names = listing([words(part) for part in absent])
    return (
        f"Of {counted(len(facts['parts']), 'part')} the {facts['images']} unedited images show no pixel of "
        f"{len(absent)} ({names}), of which no share can be gone: the figures of removal leave out what is absent."
    )


def _finding(table: pd.DataFrame, facts: dict[str, Any]) -> str:
    counts = significant(table)
    if not any(counts.values()):
        return (
            f"No removal from {facts['layer']} is shown to take more of a part than random units of the same variance "
            f"(q > {SIGNIFICANT} with {facts['draws']} draws)"
        )
    taken = listing([f"{k} ({n} units)" for n, k in counts.items()])
    absent = len(absent_parts(table))
    return (
        f"Removing the best units of a part takes more of it than random units of the same variance: {taken} of "
        f"{counted(len(facts['parts']) - absent, 'part')}{' that the images show,' * bool(absent)} of {facts['layer']}"
    )


def _resolution(tests: int, draws: int, sides: int = 1) -> str:
    """How many tests have to reach the smallest p for any q to fall to 0.05; nothing where one is enough."""
    least = fewest_called(tests, draws, sides)
    if least <= 1:
        return ""
    smallest = f"Of {draws} draws the smallest p is {probability(sides / (1 + draws))}, so that q ≤ {SIGNIFICANT} takes"
    needed = math.ceil(tests * sides / SIGNIFICANT) - 1
    if least > tests:
        return f"{smallest} more draws: none of {tests} tests can have it. "
    return f"{smallest} {least} of {tests} tests at it; dissect_gan.draws={needed} would tell a single one. "


def _effects(source: Source, facts: dict[str, Any], n: int) -> str:
    """Caption of the side effects of removing n units."""
    table = source.table(STAGE, "side_effects")
    tests, effects = np.isfinite(column(table, "q")).sum(), column(where(table, units=n), "q") <= SIGNIFICANT
    resolution = _resolution(int(tests), facts["draws"], 2)
    return _EFFECTS.format(n=n, effects=counted(int(effects.sum()), "cell"), resolution=resolution)


def _segmenter_iou(facts: dict[str, Any]) -> dict[str, float]:
    """IoU of the segmenter with exact masks by part, NaN of one that neither has; empty where no mask is exact."""
    return {part: math.nan if value is None else value for part, value in facts["segmenter_iou"].items()}


def _lead(source: Source, facts: dict[str, Any]) -> str:
    units = source.table(STAGE, "units")
    detectors, chance = where(units, detector=True), facts["detectors_at_chance"]
    tests = np.isfinite(column(source.table(STAGE, "removal"), "q")).sum()
    iou = {part: value for part, value in _segmenter_iou(facts).items() if math.isfinite(value)}
    lowest = min(iou, key=lambda part: iou[part]) if iou else ""
    checked = f"Its IoU with exact masks is at least {number(iou[lowest], 2)} ({words(lowest)})." if iou else ""
    return sentences(
        f"Of {counted(facts['units'], 'unit')} of {facts['layer']} {len(detectors)} have IoU > 0.04 with one of "
        f"{counted(len(facts['parts']), 'part')} ({counted(len(set(detectors['part'])), 'distinct part')}), as "
        f"{number(chance['mean'], 3)} (95 %: {chance['low']:.0f} to {chance['high']:.0f}) have with the parts of other "
        f"images of the class; {np.count_nonzero(units['above_chance'])} agree with a part beyond that "
        f"(q ≤ {SIGNIFICANT}).",
        f"Removed units are {_VALUES[facts['value']]}.",
        _CONCEPTS[facts["concepts"]],
        _absent(source.table(STAGE, "removal"), facts),
        checked,
        _resolution(int(tests), facts["draws"]).strip(),
    )


def removal_figure(curves: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """A panel per part: its best units, and random ones at the numbers that are tested; tables "curves", "removal".

    All panels go down to the lowest value of any, but not below `LOWEST`, where lower ones are drawn as triangles.
    """
    lower = min(-0.5, max(_lowest(curves, table), LOWEST)) - 0.1
    figure, panels = facets(
        split(curves, "part").items(), 5, 1.55, 0.7, x="removed units", y="share of the part gone", sharex=True
    )
    for axis, (part, rows) in panels:
        axis.axhline(0, color=MUTED, linewidth=0.7)
        axis.fill_between(rows["units"], rows["low"], rows["high"], color=SERIES[0], alpha=0.2, linewidth=0)
        axis.plot(rows["units"], rows["change"].clip(LOWEST), color=SERIES[0], label="best IoU")
        below = rows["units"][rows["change"] < LOWEST]
        axis.plot(below, [LOWEST] * len(below), "v", color=SERIES[0], markersize=3)
        _tested(axis, where(table, part=part))
        axis.set_title(plain(part))
        axis.set_ylim(lower, 1.08)
        axis.yaxis.set_major_formatter(PERCENT)
        axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        light_grid(axis, "y")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure


def _lowest(curves: pd.DataFrame, table: pd.DataFrame) -> float:
    """The lowest share that is gone, of values and of intervals; negative where a part grew."""
    return min(column(values, name).min(initial=0.0) for values in (curves, table) for name in ("low", "change"))


def _beyond(curves: pd.DataFrame, table: pd.DataFrame) -> str:
    """What is drawn at the lower edge of the figure of removal; nothing where all values are in it."""
    if (lowest := _lowest(curves, table)) >= LOWEST:
        return ""
    return (
        f" Below {share(LOWEST)} values are triangles at the lower edge, and bands and bars end there; the lowest "
        f"value or bound is {share(lowest)}."
    )


def _tested(axis: Axes, rows: pd.DataFrame) -> None:
    """The control at each number of units, and a dot on the curve that is filled where q ≤ 0.05."""
    for k, row in enumerate(records(rows)):
        axis.vlines(row["units"], row["low"], row["high"], color=GREY, linewidth=3)
        name, mark = "" if k else "random", "_" if row["control"] >= LOWEST else "v"
        axis.plot(row["units"], max(row["control"], LOWEST), mark, color=MUTED, markersize=7, label=name)
        face, mark = SERIES[0] if row["q"] <= SIGNIFICANT else "white", "o" if row["change"] >= LOWEST else "v"
        axis.plot(row["units"], max(row["change"], LOWEST), mark, color=face, markeredgecolor=SERIES[0], markersize=5)


def effects_figure(effects: pd.DataFrame) -> Figure:
    """Parts whose units are removed by labels that change, beside random units; rows of table "side_effects"."""
    parts, labels = list(dict.fromkeys(effects["part"])), list(dict.fromkeys(effects["label"]))
    figure, axes = sheet(WIDE, 0.9 + 0.3 * len(parts), 1, 2)
    for axis, name in zip(axes[0], ("change", "control"), strict=True):
        values = effects[name].to_numpy().reshape(len(parts), len(labels))
        columns, rows = [plain(x) for x in labels], [plain(x) for x in parts]
        heat(axis, values, rows, columns, (-1, 1), lambda x: f"{100 * x:.0f}", TWO_SIDED)
        if name == "change":
            _frame(axis, effects["q"].to_numpy().reshape(values.shape) <= SIGNIFICANT)
        axis.set_title("best units" if name == "change" else "random units")
        axis.tick_params(axis="x", rotation=45, labelsize=8)
    return figure


def _frame(axis: Axes, cells: np.ndarray) -> None:
    """A line around some cells `[rows, columns]` bool of a heatmap."""
    for row, index in np.argwhere(cells):
        axis.add_patch(Rectangle((index - 0.46, row - 0.46), 0.92, 0.92, fill=False, edgecolor=INK, linewidth=1.4))


def location_figure(source: Source, facts: dict[str, Any]) -> Figure:
    """Maps per part of the pixels that it gains by insertion, of its units above random ones; tensors "location"."""
    arrays, parts = source.arrays(STAGE, "location"), facts["parts"]
    figure, axes = sheet(WIDE * max(len(parts), 2) / max(len(parts), _MAPS), 2.5, 2, len(parts))
    for k, part in enumerate(parts):
        maps = arrays["gained"][k], arrays["control"][k]
        high = max(float(np.nanmax(np.abs(maps))), 1.0)
        for axis, values in zip(axes[:, k], maps, strict=True):
            axis.imshow(values, cmap=TWO_SIDED, vmin=-high, vmax=high, interpolation="nearest")
            axis.set_facecolor(RULE)
            axis.set_xticks([])
            axis.set_yticks([])
        axes[0, k].set_title(plain(part))
        axes[1, k].set_xlabel(f"±{high:.0f} px", size=8)
    for axis, label in zip(axes[:, 0], ("best units", "random units"), strict=True):
        axis.set_ylabel(label, size=8)
    return figure


def stills(source: Source, facts: dict[str, Any]) -> Figure:
    """Some frames of each movie, one row each."""
    frames = {name: movie_frames(source, name) for name in MOVIES}
    shape = frames["removal"][0][0].shape
    side = WIDE / _FRAMES - 0.05
    height = side * shape[0] / shape[1]
    figure = Figure(figsize=(WIDE, len(MOVIES) * (height + _ABOVE)))
    for k, (name, pairs) in enumerate(frames.items()):
        for j, t in enumerate(np.linspace(0, len(pairs) - 1, _FRAMES).round().astype(int)):
            axis = axes_at(figure, j * (side + 0.05), k * (height + _ABOVE) + _ABOVE - 0.04, side, height)
            picture(axis, pairs[t][0])
            write(axis, 0.0, 1.02, pairs[t][1], color=MUTED, va="bottom")
            if not j:
                title = _MOVIE[name].format(part=plain(facts["movies"][name]))
                write(axis, 0.0, 1.15, title, color=INK, va="bottom", weight="bold")
    return figure


def _removal_table(table: pd.DataFrame, facts: dict[str, Any]) -> Table:
    iou = _segmenter_iou(facts)
    columns = {
        "part": lambda row: words(row["part"]),
        "units": lambda row: str(row["units"]),
        "gone": lambda row: share(row["change"]),
        "control": lambda row: f"{share(row['control'])} ({share(row['low'])} to {share(row['high'])})",
        "p": lambda row: probability(row["p"]),
        "q": lambda row: probability(row["q"]),
        "q ≤ 0.05": lambda row: "yes" if row["q"] <= SIGNIFICANT else "no",
        "variance (control)": lambda row: f"{number(row['variance'], 2)} ({number(row['control_variance'], 2)})",
        "share of image": lambda row: share(row["baseline"]),
    }
    if not iou:
        return listed(_TABLE.format(**facts), records(table), columns)
    columns["segmenter"] = lambda row: number(iou[row["part"]], 2)
    return listed(_TABLE.format(**facts) + _SEGMENTER, records(table), columns)


def _insertion_table(table: pd.DataFrame, facts: dict[str, Any]) -> Table:
    columns = {
        "part": lambda row: words(row["part"]),
        "where": lambda row: words(row["context"]),
        "insertions": lambda row: str(row["insertions"]),
        "gained (px)": lambda row: number(row["gained"], 2),
        "sd": lambda row: number(row["variance"] ** 0.5, 2),
        "control": lambda row: number(row["control"], 2),
    }
    return listed(_INSERTION.format(**facts), records(known(table, "gained")), columns)


@metrics(STAGE)
def generator_numbers(artifact: Artifact) -> dict[str, float]:
    """`dissect_gan/significant_<n>`: parts of which the n best units take more than random ones, q ≤ 0.05;
    `dissect_gan/detectors`: units with IoU > 0.04, and `dissect_gan/control`, as many at chance;
    `dissect_gan/above_chance`: units with q ≤ 0.05.
    """
    counts, (layer,) = significant(artifact.table("removal")), records(artifact.table("layers"))
    numbers = {f"dissect_gan/{name}": float(layer[name]) for name in ("detectors", "control", "above_chance")}
    return numbers | {f"dissect_gan/significant_{n}": float(k) for n, k in counts.items()}
