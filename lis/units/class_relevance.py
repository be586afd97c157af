"""How much units move the answer: relevance for a class, for how many classes, how robust classes are (§4.4, S23)."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from lis.statistics import SIGNIFICANT, pearson, q_values
from lis.units.controls import Null
from lis.units.ranking import by_size, top
from lis.units.tuned import Tuned, long_table, sample_table


def answer_change(tuned: Tuned) -> Tensor:
    """Mean change of the probability of the samples' own class, by class: `[P, C]`; NaN for a class without samples."""
    return _by_class(tuned, tuned.probability_change)


def relevance(tuned: Tuned, null: Null, reached: Tensor, threshold: float) -> pd.DataFrame:
    """Class relevance |mean over samples of p(last) − p(first)|, where p is the softmax of the sample's own class.

    Args:
        tuned: the units.
        null: random directions.
        reached: which units are, `[P]` bool.
        threshold: the relevance from which a unit is relevant.

    Returns:
        A row per unit and class: unit, class, change (the mean with its sign), relevance, relevant (the paper's: it is
        at least the threshold), flipped (share of the class's samples), p_control (how often a random direction has at
        least the same relevance for the class where it moves w as the unit does), q, q_by (over units × classes),
        reached, larger (q ≤ 0.05, and reached), control (share of these random directions that are relevant).
    """
    change = answer_change(tuned)
    p = null.p(change, null.answer)
    q, q_by = q_values(p)
    beside = (null.answer.abs() >= threshold).double().where(~null.answer.isnan(), torch.nan)
    columns = {
        "change": change,
        "relevance": change.abs(),
        "relevant": change.abs() >= threshold,
        "flipped": _by_class(tuned, tuned.flipped.float()),
        "p_control": p,
        "q": q,
        "q_by": q_by,
        "reached": reached[:, None],
        "larger": (q <= SIGNIFICANT) & reached[:, None],
        "control": beside.nanmean(1),
    }
    return long_table({"unit": tuned.unit, "class": tuned.class_names}, columns)


def control_relevance(control: Tuned) -> pd.DataFrame:
    """The same of the random directions: name, class, change."""
    return long_table({"name": control.names, "class": control.class_names}, {"change": answer_change(control)})


def seeds_of_relevant(tuned: Tuned, most: int) -> pd.DataFrame:
    """Changes of the probability sample by sample (S16), of the units that lead in relevance for any class.

    Args:
        tuned: the units.
        most: units that lead for a class.

    Returns:
        unit, class, sample_index, change; each unit with the samples of every class, the most relevant unit first.
    """
    change = answer_change(tuned)
    leading = top(change.T, most).any(0).nonzero()[:, 0]
    heads = leading[by_size(change[leading].abs().nan_to_num(0.0).amax(1))]
    axes = {"unit": tuned.unit[heads], "sample": range(len(tuned.class_index))}
    return sample_table(vars(tuned), tuned.class_names, axes, {"change": tuned.probability_change[heads]})


def relevance_correlation(tuned: Tuned) -> pd.DataFrame:
    """Pearson's r over units between the mean changes in two classes (Fig. 6C): class_a, class_b, r; every pair."""
    change, names = answer_change(tuned).numpy(), tuned.class_names
    r = pearson(change[:, :, None], change[:, None])
    return long_table({"class_a": names, "class_b": names}, {"r": r})


def shared(relevance: pd.DataFrame) -> pd.DataFrame:
    """For how many classes each relevant unit is so (Fig. 6B): unit, classes, relevance (mean over these classes).

    The most shared unit comes first.

    Args:
        relevance: of `relevance`.
    """
    by_unit = relevance[relevance["relevant"]].groupby("unit")
    table = by_unit.agg(classes=("relevant", "sum"), relevance=("relevance", "mean")).reset_index()
    return table.sort_values(["classes", "relevance"], ascending=False, kind="stable", ignore_index=True)


def robustness(relevance: pd.DataFrame, class_names: Sequence[str]) -> pd.DataFrame:
    """How little single units move each class (S23).

    Args:
        relevance: of `relevance`.
        class_names: in the order of the rows.

    Returns:
        class, mean and median (of the relevance over units), relevant (number of units), larger (of these, how many are
        so: see `relevance`), control (share of random directions that are relevant), flipped (share of all
        perturbations that change the answer).
    """
    table = (
        relevance.assign(larger=relevance["larger"] & relevance["relevant"])
        .groupby("class")
        .agg(
            mean=("relevance", "mean"),
            median=("relevance", "median"),
            relevant=("relevant", "sum"),
            larger=("larger", "sum"),
            control=("control", "mean"),
            flipped=("flipped", "mean"),
        )
    )
    return table.loc[list(class_names)].reset_index()


def _by_class(tuned: Tuned, values: Tensor) -> Tensor:
    """Mean `[P, C]` over the samples of each class of `values [P, S]`."""
    return torch.stack([values[:, rows].mean(1) for rows in tuned.rows], 1)
