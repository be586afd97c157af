"""How well do matchers find what is known to move? On part world, whose true displacements are exact."""

from __future__ import annotations

import pandas as pd

from lis.generators.partworld.displacement import KINDS
from lis.motion.accuracy import NEAR
from lis.report.figures.matching import errors, recovered
from lis.report.frames import column, ends, pairs_of, records, split, where
from lis.report.labels import listing, number, share
from lis.report.sections import Picture, Section, Table, crossed, metrics, section
from lis.report.source import Source
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


@section(420, "matching", "pairs", "accuracy", "recovered", "facts")
def matching(source: Source) -> Section:
    """Errors per matcher and kind of change, and the poses recovered."""
    pairs, table = source.table("matching", "pairs"), source.table("matching", "accuracy")
    own, poses = source.json("matching", "facts")["matcher"], source.table("matching", "recovered")
    kinds = [kind for kind in KINDS if kind in set(table["kind"])]
    figures = [
        Picture("matching-errors", errors(pairs, kinds, NEAR), _ERRORS),
        Picture("matching-poses", recovered(pairs, poses, own), _RECOVERED.format(own)),
    ]
    return Section(_TITLE, _lead(own, table, poses), figures, [_table(table, kinds), _poses(poses)])


def _lead(own: str, table: pd.DataFrame, poses: pd.DataFrame) -> str:
    told = [
        f"{number(row['error'], 2)} px for {row['kind']} ({share(row['within'])} within {NEAR:g} px)"
        for row in records(where(table, matcher=own))
    ]
    r2 = column(where(poses, matcher=own), "r2")
    recovers = f" Of poses it recovers every quantity with R² ≥ {number(float(r2.min()), 3)}." if len(r2) else ""
    return f"{own}, the matcher of this run, misses the true displacement by {listing(told)}.{recovers}"


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
