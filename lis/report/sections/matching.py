"""How well do matchers find what is known to move? On part world, whose true displacements are exact."""

from __future__ import annotations

import pandas as pd

from lis.generators.partworld.displacement import KINDS
from lis.motion.accuracy import NEAR
from lis.report.figures.matching import errors, recovered
from lis.report.frames import column, records, where
from lis.report.labels import listing, number, share
from lis.report.metrics import metrics
from lis.report.sections import Picture, Section, Table, section
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
    found = f" Of poses it recovers every quantity with R² ≥ {number(float(r2.min()), 3)}." if len(r2) else ""
    return f"{own}, the matcher of this run, misses the true displacement by {listing(told)}.{found}"


def _table(table: pd.DataFrame, kinds: list[str]) -> Table:
    """A row per matcher; the best of each column is bold."""
    rows, numbers = [], []
    for name in dict.fromkeys(table["matcher"]):
        own = {row["kind"]: row for row in records(where(table, matcher=name))}
        cells = [f"{number(own[k]['error'], 2)} / {share(own[k]['within'])}" for k in kinds]
        failed, tried = (sum(own[k][key] for k in kinds) for key in ("failed", "pairs"))
        seconds = sum(own[k]["seconds"] for k in kinds) / len(kinds)
        rows.append([name, *cells, f"{failed} of {tried}", f"{number(1000 * seconds, 2)} ms"])
        numbers.append([own[k]["error"] for k in kinds])
    best = frozenset((min(range(len(rows)), key=lambda row: numbers[row][k]), 1 + k) for k in range(len(kinds)))
    caption = (
        f"End-point error in pixels / share of pixels within {NEAR:g} px, means over pairs; bold: the smallest error; "
        "pairs without a field; time per pair."
    )
    return Table(caption, ["", *kinds, "failed", "time"], rows, best)


def _poses(poses: pd.DataFrame) -> Table:
    """R² of each quantity of a pose."""
    rows, names = [], list(dict.fromkeys(poses["what"]))
    for matcher, way in poses[["matcher", "way"]].drop_duplicates().itertuples(index=False):
        own = {row["what"]: row for row in records(where(poses, matcher=matcher, way=way))}
        rows.append(
            [matcher, way, *(number(own[name]["r2"], 3) for name in names), str(min(r["n"] for r in own.values()))]
        )
    caption = "R² of what was found of a pose against the truth, over the pairs that have an affine map."
    return Table(caption, ["", "", *names, "pairs"], rows)


@metrics("matching")
def matching_numbers(artifact: Artifact) -> dict[str, float]:
    """`matching/<kind>/{error, within}` and `matching/r2/<quantity>`, of the run's own matcher."""
    own = artifact.json("facts")["matcher"]
    rows = records(where(artifact.table("accuracy"), matcher=own))
    poses = records(where(artifact.table("recovered"), matcher=own, way="sequence"))
    found = {f"matching/{row['kind']}/{name}": row[name] for row in rows for name in ("error", "within")}
    return found | {f"matching/r2/{row['what']}": row["r2"] for row in poses}
