"""Prints the tables of `experiments/fig*/README.md` from finished runs, as Markdown.

    python experiments/tables.py outputs/<date>/<time> …       # runs of analysis=demo, one per set and way

Every number is read from the artifacts that the runs name in their `summary.json`. Tables with a row per set and
`tuning.along` show the paper's link rows beside other ways of moving a unit; a number in brackets is that of random
directions of the same way, between the positions of w that units have. Where so few random directions can call no unit
whatever it does, "undecided" stands for how many are called.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from finished import Rows, Run, Tables, average, based, markdown, means, print_tables, share, with_control, written

from lis.quantify.measures import MEASURES
from lis.report.tables import records
from lis.report.tuning import head_shares
from lis.statistics import HEAD, SIGNIFICANT, pearson
from lis.units.truth import COMPARED

QUANTILES = (0, 0.25, 0.5, 0.75, 1)


def leaders(run: Run) -> str:
    """The first unit of every ranking with its mean change (Fig. 4A; S21, S26)."""
    first = [row for row in run.rows("unit_statistics", "ranking") if row["rank"] == 1 and row["interpreted"]]
    cell = {(row["label"], row["measure"]): f"{row['unit']} ({based(row)})" for row in first}
    labels = dict.fromkeys(row["label"] for row in first)
    return markdown(["label", *MEASURES], [[label, *(cell[label, m] for m in MEASURES)] for label in labels])


def arriving(run: Run) -> Rows:
    """What arrives in the network of what is asked of a unit, with 95 % intervals over units (Fig. 4)."""
    units = run.rows("unit_statistics", "faithfulness")
    reached = f"{sum(bool(row['reached']) for row in units)} of {len(units)}"
    cells = [run.called("reached", reached), _smallest(row["q_reached"] for row in units)]
    for name in ("own", "others", "more", "beyond"):
        values = np.array([row[name] for row in units], dtype=float)
        factor, unit = (100, " %") if name in ("more", "beyond") else (1, "")
        half = 1.96 * float(np.nanstd(values)) / len(values) ** 0.5
        cells.append(f"{factor * np.nanmean(values):.{1 if unit else 2}f} ± {factor * half:.{1 if unit else 2}f}{unit}")
    cells.insert(3, f"{average(units, 'own_control'):.2f}")
    yield ["reached", "smallest q", "own", "own, random", "others", "more", "beyond 99 %"], cells


def _smallest(q: Iterable[float]) -> str:
    """The smallest of q, with digits enough to be held against 0.05."""
    return f"{np.nanmin([*q]):.2g}"


def larger(run: Run) -> Rows:
    """Share of (unit, label) changes with p ≤ 0.05, and how many have q ≤ 0.05, of units that are reached (Fig. 4).

    *decided*: the share of labels × measures in which p goes on below what is counted (a tail is fitted).
    """
    ranked = [row for row in run.rows("unit_statistics", "ranking") if row["interpreted"] and not np.isnan(row["q"])]
    cells = []
    for measure in MEASURES:
        rows = [row for row in ranked if row["measure"] == measure]
        cells.append(f"{share(row['p_control'] <= SIGNIFICANT for row in rows)} of {len(rows):,}")
    fitted = 1 - run.json("unit_statistics", "control")["tails"]["larger"]["counted"]
    count = f"{sum(bool(row['larger']) for row in ranked)} of {len(ranked):,}, decided in {100 * fitted:.0f} %"
    yield (
        [*MEASURES, "q ≤ 0.05", "smallest q"],
        [*cells, run.called("larger", count), _smallest(row["q"] for row in ranked)],
    )


def selective(run: Run) -> Rows:
    """Largest share of one label in what a unit changes (Fig. 4)."""
    units = run.rows("unit_statistics", "faithfulness")
    p, count = (
        share(row["selectivity_p"] <= SIGNIFICANT for row in units),
        sum(bool(row["selective"]) for row in units),
    )
    mean = with_control(average(units, "selectivity"), average(units, "selectivity_control"))
    called, smallest = run.called("selective", f"{count} of {len(units)}"), _smallest(r["selectivity_q"] for r in units)
    yield ["selectivity", "p ≤ 0.05", "q ≤ 0.05", "smallest q"], [mean, p, called, smallest]


def agreeing(run: Run) -> Rows:
    """Correlation over units of the mean change between two classes, mean over labels and pairs (Fig. 4B)."""
    rows = run.rows("unit_statistics", "agreement")
    both = [means(rows, lambda row, name=name: row[name], "measure") for name in ("r", "control")]
    yield list(MEASURES), [with_control(both[0][m,], both[1][m,]) for m in MEASURES]


def transferring(run: Run) -> Rows:
    """Of how many labels the leading unit changes each the same way in every class (Fig. 4B, S22)."""
    cells = []
    for measure in MEASURES[:-1]:
        counts = [_same_way(run.rows("unit_statistics", table), measure) for table in ("transfer", "transfer_control")]
        cells.append(f"{counts[0][0]} of {counts[0][1]} ({counts[1][0]})")
    yield list(MEASURES[:-1]), cells


def _same_way(rows: Iterable[dict[str, Any]], measure: str) -> tuple[int, int]:
    """Labels whose changes have one sign in all classes that have any, and all labels."""
    signs: dict[str, set[float]] = {}
    for row in rows:
        if row["measure"] == measure and not np.isnan(row["change"]):
            signs.setdefault(row["label"], set()).add(np.sign(row["change"]))
    return sum(len(found) == 1 for found in signs.values()), len(signs)


def heads(run: Run) -> Rows:
    """Size of a ranking's head on the half of the samples that did not choose it, over that on the other (Fig. 4).

    Mean over labels.
    """
    shares = means(records(head_shares(run.frame("unit_statistics", "heads"))), lambda row: row["share"], "measure")
    yield list(MEASURES), [f"{shares.get((m,), np.nan):.2f}".replace("-", "−") for m in MEASURES]


def true(run: Run) -> Rows:
    """Measured ranking beside the true one: ρ over units / of the first 10 (Fig. 4, S9)."""
    found = run.json("truth", "summary")
    yield list(COMPARED), [f"{found[m]['spearman']:.2f} / {found[m]['overlap']:.1f}" for m in COMPARED]


def sparse_units(run: Run) -> Rows:
    """Label sparsity of units, mean over classes (Fig. 5A)."""
    units, control = (
        means(run.rows("unit_statistics", name), lambda row: row["sparsity"], "measure")
        for name in ("label_sparsity", "label_sparsity_control")
    )
    columns = [*MEASURES, "all"]
    yield columns, [with_control(units[m,], control[m,]) for m in columns]


def strongest(run: Run) -> Rows:
    """Of how many units each label is the one that changes most (Fig. 5B)."""
    counts = Counter(row["label"] for row in run.rows("unit_statistics", "map"))
    yield ["units"], [", ".join(f"{label} {count}" for label, count in counts.most_common())]


def sparse_labels(run: Run) -> Rows:
    """Unit sparsity of labels, mean over labels (S13)."""
    rows = run.rows("unit_statistics", "unit_sparsity")
    both = [means(rows, lambda row, name=name: row[name], "measure") for name in ("sparsity", "control")]
    yield list(MEASURES), [with_control(both[0][m,], both[1][m,]) for m in MEASURES]


def sparse_label(run: Run) -> Rows:
    """The same of every label (S13)."""
    rows = run.rows("unit_statistics", "unit_sparsity")
    cell = {(row["label"], row["measure"]): with_control(row["sparsity"], row["control"]) for row in rows}
    for label in dict.fromkeys(row["label"] for row in rows):
        yield ["label", *MEASURES], [label, *(cell[label, m] for m in MEASURES)]


def relevant(run: Run) -> Rows:
    """Class relevance and what random directions do (Fig. 6, S16, S23)."""
    units = run.rows("unit_statistics", "relevance")
    columns = ["class", "mean", "median", "relevant", "random", "flips", "p ≤ 0.05", "q ≤ 0.05", "smallest q"]
    for row in run.rows("unit_statistics", "robustness"):
        of_class = [unit for unit in units if unit["class"] == row["class"]]
        p = share(unit["p_control"] <= SIGNIFICANT for unit in of_class)
        shares = [f"{100 * row['relevant'] / len(of_class):.0f} %", f"{100 * row['control']:.0f} %"]
        cells = [row["class"].replace("_", " "), f"{row['mean']:.2f}", f"{row['median']:.2f}", *shares]
        count = run.called("relevant", str(sum(bool(unit["larger"]) for unit in of_class)))
        q = _smallest(unit["q"] for unit in of_class)
        yield columns, [*cells, f"{100 * row['flipped']:.0f} %", p, count, q]


def correlated(run: Run) -> Rows:
    """Correlation of the changes of the answer between two classes, and units relevant for all (Fig. 6B, C)."""
    rows = run.rows("unit_statistics", "relevance_correlation")
    r = [row["r"] for row in rows if row["class_a"] < row["class_b"]]
    everywhere = [
        row for row in run.rows("unit_statistics", "shared") if row["classes"] == len({row["class_a"] for row in rows})
    ]
    cells = [f"{np.mean(r):.2f} ({min(r):.2f} to {max(r):.2f})".replace("-", "−"), str(len(everywhere))]
    yield ["r between classes", "relevant for every class"], cells


def seeds(run: Run) -> Rows:
    """The three most relevant units, sample by sample: mean (lowest to highest) (S16, S23)."""
    cell: dict[tuple[int, str], list[float]] = {}
    for row in run.rows("unit_statistics", "relevance_seeds"):
        cell.setdefault((row["unit"], row["class"]), []).append(row["change"])
    classes = list(dict.fromkeys(name for _, name in cell))
    for unit in list(dict.fromkeys(unit for unit, _ in cell))[:3]:
        found = [cell[unit, name] for name in classes]
        cells = [f"{np.mean(x):+.2f} ({min(x):.2f} to {max(x):.2f})".replace("-", "−") for x in found]
        yield ["unit", *(name.replace("_", " ") for name in classes)], [str(unit), *cells]


def overlaps(run: Run) -> Rows:
    """Units that the heads of two measures share, mean over labels (S10, S11)."""
    found = means(run.rows("unit_statistics", "overlap"), lambda row: row["overlap"], "measure_a", "measure_b")
    yield [f"{a} and {b}" for a, b in found], [f"{value:.2f}" for value in found.values()]


def distributions(run: Run) -> Rows:
    """Skew / excess kurtosis of the changes (S12)."""
    rows = run.rows("unit_statistics", "distribution")
    cells = [f"{row['skew']:.2f} / {row['kurtosis']:.1f}".replace("-", "−") for row in rows]
    facts = [f"{max(row['n'] for row in rows):,}", f"{max(row['p_normal'] for row in rows):.1g}"]
    yield [*(row["measure"] for row in rows), "n", "largest p"], [*cells, *facts]


def transferred(run: Run) -> str:
    """The leading unit of every label and measure in each class (S22)."""
    found = run.rows("unit_statistics", "transfer")
    cell = {(row["label"], row["measure"], row["class"]): written(row["measure"], row["change"]) for row in found}
    classes = list(dict.fromkeys(row["class"] for row in found))
    heads = dict.fromkeys((row["label"], row["measure"], str(row["unit"])) for row in found)
    rows = [[*head, *(cell[*head[:2], name] for name in classes)] for head in heads]
    return markdown(["label", "measure", "unit", *classes], rows)


def moved(run: Run) -> Rows:
    """How the whole figure moves (S15), and what arrives of the units that are followed."""
    tracks, tested = run.rows("motion", "tracks"), run.rows("motion", "tuned")
    lost = sum(bool(row["reason"]) for row in tracks)
    kinds = ("translation", "rotation", "scale", "shear")
    counts = [sum(row["kind"] == kind and row["q"] <= SIGNIFICANT for row in tested) for kind in kinds]
    arrived = [f"{average(run.rows('motion', 'arrival'), name):.2f}" for name in ("own", "others", "more")]
    columns = ["units", "lost", *kinds, "own", "others", "more"]
    units = str(len({row["unit"] for row in tracks}))
    yield columns, [units, f"{lost} of {len(tracks)}", *map(str, counts), *arrived]


def moved_parts(run: Run) -> Rows:
    """How far each part moves after alignment, pixels (S14)."""
    rows = run.rows("motion", "parts")
    cell = {(row["unit"], row["label"]): row["strength"] for row in rows}
    n = Counter(row["unit"] for row in run.rows("motion", "tracks") if not row["reason"])
    labels = list(dict.fromkeys(row["label"] for row in rows))
    for unit in dict.fromkeys(row["unit"] for row in rows):
        cells = [f"{cell[unit, label]:.1f}".replace("nan", "–") for label in labels]
        yield ["unit", "n", *labels], [str(unit), str(n[unit]), *cells]


def segmented(run: Run) -> str:
    """IoU of every part (S7) and of single images (S8)."""
    pooled = [row for row in run.rows("segmentation", "iou") if row["class"] == "all"]
    cell = {(row["kind"], row["label"]): row["iou"] for row in pooled}
    kinds, labels = (dict.fromkeys(row[name] for row in pooled) for name in ("kind", "label"))
    mean = {kind: np.mean([cell[kind, label] for label in labels]) for kind in kinds}
    rows = [[kind, *(f"{cell[kind, label]:.2f}" for label in labels), f"{mean[kind]:.3f}"] for kind in kinds]
    parts = markdown([run.name, *labels, "mean"], rows)
    single = {kind: [row["iou"] for row in run.rows("segmentation", "images") if row["kind"] == kind] for kind in kinds}
    spread = [[run.name, kind, *(f"{v:.2f}" for v in np.nanquantile(single[kind], QUANTILES))] for kind in kinds]
    names = ["set", "images", "lowest", "quarter", "median", "three quarters", "highest"]
    return parts + "\n" + markdown(names, spread) + f"training: {run.json('segmenter', 'fit')['seconds']:.1f} s\n"


def together(table: Callable[[Run], Rows], runs: Sequence[Run]) -> str:
    """The rows of all runs as one table, or as several where their columns differ."""
    by_columns: dict[tuple[str, ...], list[list[str]]] = {}
    for run in runs:
        for columns, cells in table(run):
            by_columns.setdefault(tuple(columns), []).append([*run.row, *cells])
    return "\n".join(markdown(["set", "along", *columns], rows) for columns, rows in by_columns.items())


def same_units(runs: Sequence[Run]) -> str:
    """Whether two ways say the same of units: r over units of their mean changes / units that heads share (Fig. 4).

    Means over labels, for every two runs of one set; a head of ten is that of the ranking, chance is 100 over units.
    """
    rows = [
        [one.name, f"{one.row[1]} and {other.row[1]}", *_alike(one, other)]
        for one, other in combinations(runs, 2)
        if one.name == other.name
    ]
    return markdown(["set", "along", *MEASURES], rows)


def _alike(one: Run, other: Run) -> list[str]:
    """Cells of `same_units`, by measure."""
    effects, ranks = ({}, {}), ({}, {})
    for run, effect, rank in zip((one, other), effects, ranks, strict=True):
        for row in run.rows("unit_statistics", "ranking"):
            if row["interpreted"]:
                key = row["label"], row["measure"]
                size = row["change"] * (row["resultant"] if row["measure"] == "angle" else 1)
                effect.setdefault(key, {})[row["unit"]] = size
                rank.setdefault(key, set()).update({row["unit"]} if row["rank"] <= HEAD else ())
    cells = []
    for measure in MEASURES:
        keys = [key for key in effects[0] if key[1] == measure and key in effects[1]]
        r = []
        for key in keys:
            units = sorted(effects[0][key].keys() & effects[1][key].keys())
            r.append(float(pearson(*(np.array([effect[key][unit] for unit in units]) for effect in effects))))
        shared = np.mean([len(ranks[0][key] & ranks[1][key]) for key in keys])
        cells.append(f"{np.nanmean(r):.2f} / {shared:.1f}".replace("-", "−"))
    return cells


def one_by_one(table: Callable[[Run], str], runs: Sequence[Run]) -> str:
    """A table for each run."""
    return "\n".join(f"{', '.join(run.row)}:\n\n{table(run)}" for run in runs)


TABLES: Tables = {
    "figS7, figS8": (("segmentation",), partial(one_by_one, segmented)),
    "fig4 leaders; figS21, figS26": (("unit_statistics",), partial(one_by_one, leaders)),
    "fig4, what arrives": (("unit_statistics",), partial(together, arriving)),
    "fig4, larger than random directions": (("unit_statistics",), partial(together, larger)),
    "fig4, selective": (("unit_statistics",), partial(together, selective)),
    "fig4B, agreement of classes": (("unit_statistics",), partial(together, agreeing)),
    "fig4B, transfer": (("unit_statistics",), partial(together, transferring)),
    "fig4, both ways": (("unit_statistics",), same_units),
    "fig4, heads on other samples": (("unit_statistics",), partial(together, heads)),
    "fig4 truth, figS9": (("truth",), partial(together, true)),
    "fig5A": (("unit_statistics",), partial(together, sparse_units)),
    "fig5B": (("unit_statistics",), partial(together, strongest)),
    "fig6, figS23": (("unit_statistics",), partial(together, relevant)),
    "fig6B, C": (("unit_statistics",), partial(together, correlated)),
    "figS10, figS11": (("unit_statistics",), partial(together, overlaps)),
    "figS12": (("unit_statistics",), partial(together, distributions)),
    "figS13": (("unit_statistics",), partial(together, sparse_labels)),
    "figS13, labels": (("unit_statistics",), partial(together, sparse_label)),
    "figS15": (("motion",), partial(together, moved)),
    "figS14": (("motion",), partial(together, moved_parts)),
    "figS16, figS23": (("unit_statistics",), partial(together, seeds)),
    "figS22": (("unit_statistics",), partial(one_by_one, transferred)),
}


if __name__ == "__main__":
    print_tables(TABLES, __doc__)
