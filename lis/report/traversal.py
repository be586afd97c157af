"""What single units stand for (paper §4.3, §4.4; Fig. 4A, 6D; supplement Fig. S4)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lis.report.arrival import arrivals, arrived, dashes, verdicts, which_way_here
from lis.report.layouts import Block, rows_pictured, traversals
from lis.report.leaders import leaders_first, reached
from lis.report.section import Picture, Section, Table, metrics, section
from lis.report.source import Source
from lis.report.strips import FRAMED, VEILED, nearest_step, thinning
from lis.report.tables import column, records, where
from lis.report.wording import OTHER_UNITS, listing, number, sentences, share, signed, words
from lis.store import Artifact
from lis.units.arrival import outmoved

_CAPTION = (
    "The link and the generator show what a unit stands for: from left to right it goes from its smallest to its "
    f"largest activation r. {OTHER_UNITS}. Rows are test samples. The curve is the probability that the classifier, "
    "shown these images, gives to the sample's class, from 0 to 1, with its change at the right; an open dot says that "
    "the answer is another than at the left end. Δp: the mean over classes of the absolute mean change; own, others: "
    "what arrives of the unit and of the other units, in standard deviations."
)
_TRUTH = " Beside the unit: the true factor that it moves most, in standard deviations (sd)."
_ANSWER = " Beside Δp: the true factor that the answers follow, {}."
_FIRST = 2
"""Units that are not folded away."""
_MOVED, _TOWARD = "moved_", "toward_"


@section(320, "traversal", "traversal", "ranking")
def single_units(source: Source) -> Section:
    """Strips of the units that move the classifier most, and how they were found."""
    ranking, table = source.table("traversal", "ranking"), source.table("traversal", "traversal")
    selected = where(ranking, selected=True)
    answer = answer_factor(ranking)
    blocks = _blocks(source, selected, table, answer)
    known = any(name.startswith(_MOVED) for name in ranking)
    told = _CAPTION + _TRUTH * known + (_ANSWER.format(words(answer)) if answer else "")
    caption = sentences(told, _marks(blocks), dashes(source, _any_beyond(blocks)))
    notes = [_ranked(source, ranking), *_followed(ranking), *filter(None, [which_way_here(source)])]
    rows = records(selected)
    tables = [_table(source, selected, answer), *arrivals(source, rows)]
    lead = sentences(verdicts(rows), _lead(source, selected, table))
    figures = [
        Picture(name, traversals(some, source.facts.class_names), caption, "photo", table, _alt(some), aside)
        for name, some, aside in (("traversals", blocks[:_FIRST], False), ("traversals-more", blocks[_FIRST:], True))
        if some
    ]
    return Section("Single units", lead, figures, tables, notes, _finding(selected, source))


def _marks(blocks: list[Block]) -> str:
    """What is left out, framed and veiled, for the caption."""
    steps, few = blocks[0].image.shape[1], len(blocks[0].drawn(0))
    framed = any(step is not None for block in blocks for step in block.unperturbed)
    return (thinning(steps, few) + FRAMED * framed + VEILED * _any_beyond(blocks)).strip()


def _any_beyond(blocks: list[Block]) -> bool:
    return any(block.beyond is not None and bool(block.beyond.any()) for block in blocks)


def _alt(blocks: list[Block]) -> str:
    return f"Strips of images, a block per unit: {listing([block.title for block in blocks])}."


def _finding(selected: pd.DataFrame, source: Source) -> str:
    """The first unit that the others do not outmove: how much of a class's probability it moves, and where it is known
    not to be reached, that; or that there is none, so that the pictures tell nothing."""
    rows = records(leaders_first(source, selected))
    rows = [row for row in rows if "own" not in row or not outmoved(row["own"], row["others"])]
    if not rows:
        return "In every unit shown the other units move more than itself"
    unit, moved = rows[0]["unit"], largest(rows[0])
    parts = f" and the {words(moved[0])} by {signed(moved[1], 1)} sd" if moved else ""
    which = f"Unit {unit}" if reached(source, [unit]).all() else f"Unit {unit}, which is not reached,"
    return f"{which} moves the probability of a sample's class by {number(rows[0]['change'], 2)}{parts}"


def largest(row: dict[str, Any]) -> tuple[str, float] | None:
    """The true factor that a unit moves most, and by how much; None where the truth is not known.

    Example:
        >>> largest({"unit": 3, "moved_hue": 0.2, "moved_ear_angle": -2.1})
        ('ear_angle', -2.1)
    """
    moved = {name.removeprefix(_MOVED): value for name, value in row.items() if name.startswith(_MOVED)}
    return max(moved.items(), key=lambda item: abs(item[1])) if moved else None


def followed(ranking: pd.DataFrame) -> dict[str, tuple[str, float]]:
    """For each class the true factor whose movement its probability follows best, with Pearson's r over the units.

    Empty where the truth is not known or fewer than three units were ranked; a class whose probability never changes
    is left out.
    """
    moved, best = ranking.filter(regex=f"^{_MOVED}"), {}
    for name in ranking.filter(regex=f"^{_TOWARD}") if len(ranking) > 2 else []:
        r = moved.corrwith(ranking[name]).dropna().to_dict()
        if r:
            factor = max(r, key=lambda key: abs(r[key]))
            best[name.removeprefix(_TOWARD)] = (str(factor).removeprefix(_MOVED), float(r[factor]))
    return best


def answer_factor(ranking: pd.DataFrame) -> str | None:
    """The true factor that all classes' probabilities follow best; None where they follow different ones."""
    factors = {factor for factor, _ in followed(ranking).values()}
    return factors.pop() if len(factors) == 1 else None


def _lead(source: Source, selected: pd.DataFrame, table: pd.DataFrame) -> str:
    """The unit that moves the probability most, by how much, and how often the answer flips."""
    top = records(selected)[0]
    samples = source.facts.settings["traversal.samples"] * len(source.facts.class_names)
    last = [row["flipped"] for row in records(where(table, step=table["step"].max()))]
    return (
        f"Unit {top['unit']} moves the classifier most of those shown: from its smallest to its largest activation the "
        f"probability of a sample's own class changes by {number(top['change'], 2)}, and the answer flips for "
        f"{round(top['flipped'] * samples)} of {samples} samples. Over all {len(selected)} units shown, it flips on "
        f"{sum(last)} of {len(last)} traversals."
    )


def _ranked(source: Source, ranking: pd.DataFrame) -> str:
    settings = source.facts.settings
    return (
        f"How the units were found: the {len(ranking)} live units with the largest step in W were set to both ends of "
        f"their range for the first {settings['traversal.samples']} test samples of each class, generated and "
        f"classified; shown are those with the largest Δp, as far as they move more than the other units do; reached "
        f"ones come first. Other units were not looked at; the samples shown are among these."
    )


def _followed(ranking: pd.DataFrame) -> list[str]:
    """Whether the answers follow what they should: in words."""
    told = [f"{words(name)}, {words(factor)} (r = {signed(r)})" for name, (factor, r) in followed(ranking).items()]
    note = f"The true factor whose movement the probability of a class follows best, over these {len(ranking)} units: "
    return [f"{note}{listing(told)}."] if told else []


def _factor(row: dict[str, Any]) -> str:
    """The true factor that a unit moves most, in words."""
    return f"{words(moved[0])} {signed(moved[1], 1)} sd" if (moved := largest(row)) else ""


def _blocks(source: Source, selected: pd.DataFrame, table: pd.DataFrame, answer: str | None) -> list[Block]:
    images = dict(zip(selected["unit"], source.arrays("traversal", "traversal")["image"], strict=True))
    rows = records(leaders_first(source, selected))
    return [_block(row, where(table, unit=row["unit"]), images[row["unit"]], answer) for row in rows]


def _block(row: dict[str, Any], table: pd.DataFrame, image: np.ndarray, answer: str | None) -> Block:
    """One unit of the figure, from its row of the ranking, its traversals and their images `[k, steps, h, w, 3]`."""
    size = image.shape[:2]
    beside = f"{words(answer)} {signed(row[_MOVED + answer], 1)} sd, " if answer else ""
    names = table["class"].to_numpy().reshape(size)[:, 0].tolist()
    rows = rows_pictured(names)
    activation = column(table, "activation").reshape(size)[:, 0] if "activation" in table else [np.nan] * size[0]
    beyond = table["step_beyond"].to_numpy().reshape(size)[rows] == 1 if "step_beyond" in table else None
    return Block(
        title=" · ".join(filter(None, (f"unit {row['unit']}", _factor(row)))),
        detail=", ".join(filter(None, [f"{beside}Δp = {number(row['change'], 2)}", arrived(row)])),
        image=image[rows],
        class_names=[names[k] for k in rows],
        probability=column(table, "probability").reshape(size)[rows],
        flipped=table["flipped"].to_numpy(dtype=bool).reshape(size)[rows],
        ends=(row["minimum"], row["maximum"]),
        unperturbed=[nearest_step(column(table, "value")[: size[1]], activation[k]) for k in rows],
        beyond=beyond,
    )


def _table(source: Source, selected: pd.DataFrame, answer: str | None) -> Table:
    """The units shown, in numbers."""
    names = source.facts.class_names
    rows = [
        [str(row["unit"]), number(row["step_norm"]), number(row["change"], 2)]
        + [signed(row[f"change_{name}"]) for name in names]
        + [share(row["flipped"]), *filter(None, [_factor(row)])]
        + ([f"{signed(row[_MOVED + answer], 1)} sd"] if answer else [])
        for row in records(selected)
    ]
    columns = ["unit", "step in W", "Δp", *map(words, names), "answer flips", "moves most", words(answer or "")]
    caption = (
        "Mean change of a class's probability on its own samples, and the share of all samples whose answer flips."
    )
    return Table(caption, columns[: len(rows[0])], rows)


@metrics("traversal")
def traversal_numbers(artifact: Artifact) -> dict[str, float]:
    """`traversal/{largest_change, largest_change_flipped}` of the unit that moves the classifier most."""
    first = records(artifact.table("ranking"))[0]
    return {"traversal/largest_change": first["change"], "traversal/largest_change_flipped": first["flipped"]}
