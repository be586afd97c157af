"""Prints the tables of `experiments/fig7, figS17 … figS28/README.md` from finished runs, as Markdown.

    python experiments/boundary_tables.py outputs/<date>/<time> …      # runs of one figure, one per objective

Every number is read from the artifacts that the runs name in their `summary.json`. A row per run tells
`counterfactuals.objective`: `link`, the paper's, beside `image`, the default.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from finished import Run, Tables, markdown, print_tables, written

from lis.report.tables import mean, records, where
from lis.report.wording import arrow, words

MEASURES = ("area", "luminance", "entropy")
"""Those whose changes and kinks are listed."""
TOP = 3
_COUNTS = ("n", "sample_index")


def searches(run: Run) -> tuple[list[str], list[str]]:
    """What became of the searches, and what others say of all of them."""
    table = run.frame("counterfactuals", "counterfactuals")
    ends = where(table, success=True)
    forms = {"steps": "g", "r_distance": ".1f", "w_distance": ".2f", "probability": ".2f"}
    medians = [f"{np.median(ends[name]):{form}}" if len(ends) else "–" for name, form in forms.items()]
    passes = f"{sum(table['passes']) / len(ends):.0f}" if len(ends) else "–"
    cells = [f"{len(ends)} of {len(table)}", *medians, passes]
    heads = ["reached", "steps", "‖Δr‖", "‖Δw‖", "p(target)", "passes per reached"]
    for row in run.rows("counterfactuals", "witnessed"):
        target, low, high, origin = (100 * row[name] for name in ("share", "low", "high", "origin"))
        heads.append(f"{row['who']}: target / original")
        cells.append(f"{target:.0f} [{low:.0f}, {high:.0f}] / {origin:.0f} %")
    return heads, cells


def paths(run: Run) -> str:
    """The samples that are shown: where the answer turns, and how much of the change falls into that step."""
    steps, rows = run.frame("trajectories", "steps"), []
    for path in run.rows("trajectories", "trajectories"):
        way = where(steps, trajectory=path["trajectory"]).sort_values("step")
        p, mse, t = (way[name].to_numpy() for name in ("probability", "mse", "position"))
        k = int(np.searchsorted(t, path["boundary"]))
        at = [f"{np.interp(x, t, p):.2f}" if x <= t[-1] else "–" for x in (0, 1, 2)]
        steep = [_share_of(values, k) for values in (p, mse)]
        rows.append([words(path["origin"]), words(path["target"]), f"{path['boundary']:.3f}", ", ".join(at), *steep])
    heads = [
        "from",
        "to",
        "boundary",
        "p(target) at 0, 1, 2",
        "of the change of p, in the step across",
        "of the pixels",
    ]
    return markdown(heads, rows)


def _share_of(values: np.ndarray, k: int) -> str:
    """The share of all change that the step to the k-th value has."""
    change = np.abs(np.diff(values))
    return f"{100 * change[k - 1] / change.sum():.1f} %"


def changes(run: Run) -> str:
    """The largest changes at the counterfactual, from the original."""
    told, rows = run.frame("trajectories", "jumps"), []
    measures = run.frame("trajectories", "measures")
    for path in run.rows("trajectories", "trajectories"):
        cells = []
        for measure in MEASURES:
            this = {"trajectory": path["trajectory"], "measure": measure}
            known = {*where(told, **this, interpreted=True)["label"]}
            there = [row for row in records(where(measures, **this)) if np.isclose(row["position"], 1)]
            there = [row for row in there if row["label"] in known and np.isfinite(row["change"])]
            top = sorted(there, key=lambda row: -abs(row["change"]))[:TOP]
            unit = " bit" if measure == "entropy" else ""
            cells.append(", ".join(f"{row['label']} {written(measure, row['change'])}{unit}" for row in top))
        rows.append([arrow(path["origin"], path["target"]), *cells])
    return markdown(["", *MEASURES], rows)


def kinks(run: Run) -> tuple[list[str], list[str]]:
    """The change in the step across the boundary over the mean of all steps: means over interpreted parts."""
    table = where(run.frame("trajectories", "jumps"), interpreted=True)
    names = list(dict.fromkeys(table["measure"]))
    scored = [row for row in records(table) if row["measure"] in MEASURES and np.isfinite(row["score"])]
    top = sorted(scored, key=lambda row: -row["score"])[:TOP]
    most = ", ".join(f"{row['measure']} of the {row['label']} {row['score']:.1f}" for row in top)
    return [*names, "largest"], [*(f"{mean(where(table, measure=name), 'score'):.2f}" for name in names), most]


def pixels(run: Run) -> tuple[list[str], list[str]]:
    """Steps in pixels that have the same effect (Fig. 7's other end), beside the counterfactuals."""
    table = run.frame("adversarial", "adversarial")
    ratio = float(np.median(table["mse_counterfactual"] / table["mse_adversarial"]))
    cells = [f"{sum(table['reached'])} of {len(table)}", f"{mean(table, 'steps'):.1f}"]
    for name, form in (("mse", ".4f"), ("largest", ".2f"), ("coarse", ".0%")):
        cells.append(" / ".join(f"{mean(table, f'{name}_{way}'):{form}}" for way in ("counterfactual", "adversarial")))
    heads = ["pixel steps reach", "steps", "mean squared change", "largest", "coarser than 4 pixels", "ratio", "seen"]
    return heads, [*cells, f"{ratio:.0f}", f"{mean(table, 'seen'):.0%}"]


def starts(run: Run) -> tuple[list[str], list[str]]:
    """Sparsity of the directions, and how far starts agree (Fig. S19)."""
    sparsity, agreement = run.frame("initialisations", "sparsity"), run.frame("initialisations", "agreement")
    pairs = run.frame("initialisations", "pair_sparsity")
    told = [("sparsity", sparsity["sparsity"].mean()), ("sd between pairs", pairs["mean"].std())]
    told += [(name, agreement[name].mean()) for name in agreement.select_dtypes("number") if name not in _COUNTS]
    return [name for name, _ in told], [f"{value:.3f}" for _, value in told]


def rows(table: Callable[[Run], tuple[list[str], list[str]]], runs: Sequence[Run]) -> str:
    """A row per run."""
    told = [table(run) for run in runs]
    return markdown(
        ["objective", *told[0][0]], [[run.objective, *cells] for run, (_, cells) in zip(runs, told, strict=True)]
    )


def one_by_one(table: Callable[[Run], str], runs: Sequence[Run]) -> str:
    """A table per run."""
    return "\n".join(f"`objective={run.objective}`\n\n{table(run)}" for run in runs)


TABLES: Tables = {
    "searches": (("counterfactuals",), lambda runs: rows(searches, runs)),
    "the samples that are shown": (("trajectories",), lambda runs: one_by_one(paths, runs)),
    "changes at the counterfactual": (("trajectories",), lambda runs: one_by_one(changes, runs)),
    "kinks": (("trajectories",), lambda runs: rows(kinks, runs)),
    "steps in pixels": (("adversarial",), lambda runs: rows(pixels, runs)),
    "starts": (("initialisations",), lambda runs: rows(starts, runs)),
}


if __name__ == "__main__":
    print_tables(TABLES, __doc__)
