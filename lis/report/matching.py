"""How well do matchers find what is known to move? On part world, whose true displacements are exact."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lis.generators.partworld.displacement import KINDS, NEAR
from lis.report.marks import DASHED, diagonal, dots, names_down, padded, write
from lis.report.section import Picture, Section, Table, crossed, folded, metrics, section
from lis.report.source import Source
from lis.report.style import INK, MUTED, SERIES, WIDE, sheet
from lis.report.tables import column, ends, known, pairs_of, records, split, where
from lis.report.wording import listing, number, share
from lis.store import Artifact

_TITLE = "Matchers against the truth"
_ERRORS = (
    "A dot is one pair of generated images of a class that differ in pose, in the shapes of parts, or in colours only: "
    "mean distance of the displacement found from the true one, over the pixels of the figure that both images "
    f"show. Bar: mean; dashed: {NEAR:g} px."
)
_RECOVERED = (
    "A dot is one pair that differs in pose: the affine map that {} found, against the true one, in one step and "
    "through a sequence of images, as units are aligned."
)
_TITLES = {"pose": "pose changes", "parts": "parts change", "colours": "colours change"}
_FLOOR = 0.02
"""Smallest error in pixels that the logarithmic axis shows."""
_WAYS = {"pair": ("o", "in one step"), "sequence": ("s", "through a sequence")}
_WHAT = {
    "dx": "to the right (pixels)",
    "dy": "downwards (pixels)",
    "rotation": "rotation (degrees)",
    "scale": "scale (factor)",
}


@section(520, "matching", "pairs", "accuracy", "recovered", "facts")
def matching(source: Source) -> Section:
    """Errors per matcher and kind of change, and the poses recovered."""
    pairs, table = source.table("matching", "pairs"), source.table("matching", "accuracy")
    matcher, poses = source.json("matching", "facts")["matcher"], source.table("matching", "recovered")
    kinds = [kind for kind in KINDS if kind in set(table["kind"])]
    finding, maps = _finding(matcher, table), where(pairs, kind="pose", matcher=matcher)
    r2 = [f"{row['what']} {number(row['r2'], 3)}" for row in records(where(poses, matcher=matcher, way="pair"))]
    alt = f"R² of the quantities of a pose in one step: {listing(r2)}." if r2 else ""
    drawn, caption = recovered(pairs, poses, matcher), _RECOVERED.format(matcher)
    figures = [
        Picture("matching-errors", errors(pairs, kinds, NEAR), _ERRORS, data=pairs, alt=f"{finding}."),
        Picture("matching-poses", drawn, caption, data=maps, alt=alt, aside=True),
    ]
    tables = [_table(table, kinds), *folded(_poses(poses))]
    return Section(_TITLE, _lead(matcher, table, poses), figures, tables, finding=finding)


def _finding(matcher: str, table: pd.DataFrame) -> str:
    """By how much the run's matcher misses what is known to move, for the kind that it misses most."""
    rows = known(where(table, matcher=matcher), "error")
    if rows.empty:
        return f"{matcher} finds no displacement"
    best, worst = ends(rows, "error")
    return (
        f"{matcher} misses displacements by {number(best['error'], 2)} ({best['kind']}) to "
        f"{number(worst['error'], 2)} px ({worst['kind']})"
    )


def _lead(matcher: str, table: pd.DataFrame, poses: pd.DataFrame) -> str:
    told = [
        f"{number(row['error'], 2)} px for {row['kind']} ({share(row['within'])} within {NEAR:g} px)"
        for row in records(where(table, matcher=matcher))
    ]
    r2 = column(where(poses, matcher=matcher), "r2")
    recovers = f" Of poses it recovers every quantity with R² ≥ {number(float(r2.min()), 3)}." if len(r2) else ""
    return f"{matcher}, the matcher of this run, misses the true displacement by {listing(told)}.{recovers}"


def _table(table: pd.DataFrame, kinds: list[str]) -> Table:
    """A row per matcher; the best of each column is bold."""
    matchers, best = split(table, "matcher"), {k: ends(rows, "error")[0] for k, rows in split(table, "kind").items()}

    def cell(name: str, head: str) -> str:
        rows = matchers[name]
        if head == "failed":
            return f"{rows['failed'].sum()} of {rows['pairs'].sum()}"
        if head == "time":
            return f"{number(1000 * rows['seconds'].to_numpy(float).mean(), 2)} ms"
        row = records(where(rows, kind=head))[0]
        return f"{number(row['error'], 2)} / {share(row['within'])}"

    caption = (
        f"End-point error in pixels / share of pixels within {NEAR:g} px, means over pairs; bold: the smallest error; "
        "pairs without a field; time per pair."
    )
    heads, bold = [*kinds, "failed", "time"], lambda name, head: head in best and best[head]["matcher"] == name
    return crossed(caption, matchers, heads, cell, name=str, bold=bold)


def _poses(poses: pd.DataFrame) -> Table:
    """R² of each quantity of a pose."""
    rows, names = [], list(dict.fromkeys(poses["what"]))
    for matcher, way in pairs_of(poses, "matcher", "way"):
        table = where(poses, matcher=matcher, way=way)
        r2 = dict(zip(table["what"], table["r2"], strict=True))
        rows.append([matcher, way, *(number(r2[name], 3) for name in names), str(table["n"].min())])
    caption = "R² of what was found of a pose against the truth, over the pairs that have an affine map."
    return Table(caption, ["", "", *names, "pairs"], rows)


@metrics("matching")
def matching_numbers(artifact: Artifact) -> dict[str, float]:
    """`matching/<kind>/{error, within}` and `matching/r2/<quantity>`, of the run's own matcher."""
    matcher = artifact.json("facts")["matcher"]
    rows = records(where(artifact.table("accuracy"), matcher=matcher))
    poses = records(where(artifact.table("recovered"), matcher=matcher, way="sequence"))
    numbers = {f"matching/{row['kind']}/{name}": row[name] for row in rows for name in ("error", "within")}
    return numbers | {f"matching/r2/{row['what']}": row["r2"] for row in poses}


def errors(pairs: pd.DataFrame, kinds: Sequence[str], near: float) -> Figure:
    """A panel per kind of change, a row per matcher: end-point error of every pair, a bar at the mean.

    Args:
        pairs: table "pairs" of the stage "matching": matcher, kind, way, error.
        kinds: panels.
        near: pixels, drawn as a line.
    """
    matchers = split(where(pairs, way="pair"), "matcher")
    figure, axes = sheet(WIDE, 0.95 + 0.3 * len(matchers), 1, len(kinds), sharey=True)
    for axis, kind in zip(axes[0], kinds, strict=True):
        for at, rows in enumerate(matchers.values()):
            values = column(where(rows, kind=kind), "error")
            dots(axis, np.maximum(values, _FLOOR), at, SERIES[at % len(SERIES)], 3.6, 0.4)
            if len(values):
                axis.plot(max(float(values.mean()), _FLOOR), at, "|", color=INK, markersize=13, markeredgewidth=1.8)
        axis.axvline(near, color=MUTED, linewidth=1, linestyle=DASHED)
        axis.set(xscale="log", title=_TITLES.get(kind, kind), xlabel="mean end-point error (pixels)")
        axis.set_xlim(_FLOOR * 0.8, 40)
        axis.set_xticks([0.1, 1, 10], ["0.1", "1", "10"])
        axis.minorticks_off()
    names_down(axes[0, 0], list(matchers), axes[0, 1:])
    return figure


def recovered(pairs: pd.DataFrame, table: pd.DataFrame, matcher: str) -> Figure:
    """A panel per quantity of a pose: true to the right, found up; on the line they are equal.

    Args:
        pairs: table "pairs".
        table: table "recovered": matcher, way, what, r2.
        matcher: whose.
    """
    poses, facts = where(pairs, kind="pose", matcher=matcher), where(table, matcher=matcher)
    ways = [(colour, where(poses, way=way), *_WAYS[way]) for colour, way in zip(SERIES, _WAYS, strict=False)]
    figure, axes = sheet(WIDE, 2.9, 1, len(_WHAT), lines="both")
    for axis, (name, title) in zip(axes[0], _WHAT.items(), strict=True):
        both = known(known(poses, name), f"true_{name}")
        low, high = padded(both[[name, f"true_{name}"]].to_numpy(dtype=float), 0.08)
        diagonal(axis, low, high)
        for colour, rows, marker, words in ways:
            dots(axis, rows[f"true_{name}"], rows[name], colour, 3.8, 0.6, marker=marker, label=words)
        r2 = {row["way"]: number(row["r2"], 3) for row in records(where(facts, what=name))}
        text = [f"{_WAYS[way][1]}: R² {r2[way]}" for way in _WAYS if way in set(poses["way"])]
        axis.set_title(title, size=9)
        write(axis, 0.04, 0.97, "\n".join(text), size=7.5, va="top")
        axis.set(xlim=(low, high), ylim=(low, high + 0.12 * (high - low)), xlabel="true")
    axes[0, 0].set_ylabel("found")
    return figure
