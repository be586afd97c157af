"""Statistics over tuned units: what they change, how sparsely, and how much they move the answer (paper §4.3, §4.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from scipy.stats import kurtosis, normaltest, skew
from torch import Tensor

from lis.config.fields import number
from lis.context import Context
from lis.peaks import no_images
from lis.quantify.measures import MEASURES
from lis.quantify.sparsity import hoyer, label_sparsity, largest, scaled
from lis.stage import stage
from lis.statistics import interval, pearson, resample
from lis.store import Artifact, Draft
from lis.streams import Stream
from lis.units.ranking import by_size, overlap, p_control, ranking, top
from lis.units.tuned import Axes, Tuned, long_table, sample_table
from lis.units.tuning import tuned_arrays, tuning
from lis.units.unit_map import cluster_table, map_table, plane, tree, vectors

_RANKING, _SPARSITY = 1, 2
"""Indices in the stream, for each purpose one."""
FEWEST = 20
"""Values below which the test of normality says nothing (Anscombe & Glynn 1983)."""
ALL = "all"
"""All measures together."""
_EMPTY = pd.DataFrame({"label": [], "measure": [], "class_a": [], "class_b": [], "r": []})


@dataclass
class UnitStatisticsConfig:
    """Statistics over tuned units (paper §4.3, §4.4)."""

    top: int = number(10, low=1)
    """Units at the head of a ranking."""
    clusters: int = number(8, low=1)
    """Branches that the tree of units is cut into (Fig. 5C)."""
    perplexity: float = number(30.0, low=1)
    """Of the map of units (t-SNE, Fig. 5B)."""
    relevant: float = number(0.15, low=0, high=1)
    """A unit is relevant for a class from this mean change of its probability on (Fig. 6B)."""
    examples: int = number(3, low=1, silent=True)
    """Units shown per picture."""


@stage(
    "unit_statistics",
    version=5,
    inputs=(tuning,),
    config=UnitStatisticsConfig,
    seed=True,
    images=no_images,
    arrays=lambda ctx: 3 * tuned_arrays(ctx),
)
def unit_statistics(ctx: Context, config: UnitStatisticsConfig, tuned_units: Artifact, draft: Draft) -> None:
    """Rankings, sparsity, map of units, class relevance, transfer between classes, each beside random directions.

    Table "ranking", a row per label, measure and unit, by rank: label, measure, rank (1: largest effect), unit, change
    (mean over samples: of area log₂ of the ratio, of luminance a share, of entropy bits, of the angle degrees), low,
    high (95 % bootstrap over samples), relative (of area: the paper's relative change), resultant (of the angle: R), n
    (samples that have the change; the others lack the label at one end), samples, p_control (share of random directions
    with at least the same effect at equal ‖Δw‖, never below 1 / (directions + 1)), mean_area (fraction of the frame),
    interpreted (the label is large enough; other tables leave out those that are not).

    Tables whose columns stand in the functions that make them: "overlap", "agreement", "faithfulness", "transfer"
    (`lis.units.ranking`, …); "distribution" with tensors "scaled" (a vector of changes per measure); "label_sparsity",
    "label_sparsity_control", "unit_sparsity"; "map", "clusters", and json "tree" {linkage, order}; "relevance",
    "relevance_control", "relevance_seeds", "relevance_correlation", "shared", "robustness".

    Raises:
        ValueError: as the stages before.
    """
    tuned, control = (Tuned.of(tuned_units, name) for name in ("tuning", "control"))
    stream = Stream("map of units", ctx.config.seed)
    changes, x = scaled_changes(tuned), vectors(tuned).reshape(len(tuned.unit), -1)
    grown, answers = tree(x, config.clusters), relevance(tuned, control, config.relevant)
    tables: dict[str, Callable[[], pd.DataFrame]] = {
        "ranking": lambda: ranking(tuned, control, stream.rng(index=_RANKING)),
        "overlap": lambda: overlap(tuned, config.top),
        "transfer": lambda: transfer(tuned),
        "agreement": lambda: class_agreement(tuned),
        "faithfulness": lambda: faithfulness(tuned, control),
        "distribution": lambda: distribution(changes),
        "label_sparsity": lambda: label_sparsity_table(tuned, tuned, {"unit": tuned.unit}),
        "label_sparsity_control": lambda: label_sparsity_table(control, tuned, {"name": control.names}),
        "unit_sparsity": lambda: unit_sparsity_table(tuned, stream.rng(index=_SPARSITY)),
        "map": lambda: map_table(tuned, plane(x, config.perplexity), grown.cluster),
        "clusters": lambda: cluster_table(tuned, grown.cluster),
        "relevance": lambda: answers,
        "relevance_control": lambda: control_relevance(control),
        "relevance_seeds": lambda: seeds_of_relevant(tuned, config.top),
        "relevance_correlation": lambda: relevance_correlation(tuned),
        "shared": lambda: shared(answers),
        "robustness": lambda: robustness(answers, tuned.class_names),
    }
    for name, table in ctx.progress.track(tables.items(), label="what units stand for"):
        draft.table(name, table())
    draft.tensors("scaled", changes)
    draft.json("tree", grown.facts)


def scaled_changes(tuned: Tuned) -> dict[str, Tensor]:
    """Effects of all units in all interpreted labels by measure, over the largest of them: `[n]` in [-1, 1]."""
    values = scaled(tuned.average.effect[:, tuned.interpreted_index]).flatten(0, 1)
    return {name: column[~column.isnan()] for name, column in zip(MEASURES, values.unbind(-1), strict=True)}


def distribution(changes: Mapping[str, Tensor]) -> pd.DataFrame:
    """Whether scaled changes are normally distributed.

    Args:
        changes: of `scaled_changes`.

    Returns:
        measure, n, statistic and p_normal (D'Agostino & Pearson 1973), skew, kurtosis (0 for a normal distribution);
        NaN for fewer than `FEWEST` values or values that are all equal.
    """
    return pd.DataFrame([{"measure": name, "n": len(values)} | _moments(values) for name, values in changes.items()])


def _moments(values: Tensor) -> dict[str, float]:
    x, names = values.double().numpy(), ("statistic", "p_normal", "skew", "kurtosis")
    if len(x) < FEWEST or np.ptp(x) < 1e-9:
        return dict.fromkeys(names, float("nan"))
    return dict(zip(names, map(float, (*normaltest(x), skew(x), kurtosis(x))), strict=True))


def selectivity(tuned: Tuned, labels: list[int]) -> Tensor:
    """Largest share of one label in the sum over labels of |mean log₂ ratio of area|, `[P]` in [1 / labels, 1].

    Args:
        tuned: units or directions.
        labels: indices of those that count.

    Returns:
        NaN where no area changes.
    """
    size = tuned.average.effect[:, labels, MEASURES.index("area")].abs().nan_to_num(0.0)
    largest = size.amax(1) if labels else size.sum(1)
    return largest / size.sum(1)


def faithfulness(tuned: Tuned, control: Tuned) -> pd.DataFrame:
    """Means over samples of what tells an effect from an artefact.

    Args:
        tuned: the units.
        control: random directions.

    Returns:
        unit, reencoded_share (share of the asked change that arrives when the images are encoded again), off_target
        (change of the other units, in their standard deviations), step_norm (‖Δw‖), selectivity, selectivity_p (share
        of random directions that are at least as selective).
    """
    index, means = tuned.interpreted_index, ("reencoded_share", "off_target", "step_norm")
    share = selectivity(tuned, index)
    columns = {"unit": tuned.unit} | {name: getattr(tuned, name).nanmean(1) for name in means}
    p = p_control(share, selectivity(control, index))
    return pd.DataFrame(columns | {"selectivity": share, "selectivity_p": p})


def label_sparsity_table(tuned: Tuned, reference: Tuned, names: Axes) -> pd.DataFrame:
    """Label sparsity of the median change over the samples of a class (paper Eq. 2), see `median_change`.

    Over k labels for one measure; over k labels × measures for "all", each measure divided by its largest |median
    change| in any unit and class.

    Args:
        tuned: units or random directions.
        reference: the units: which labels are interpreted, and what is divided by.
        names: the first column: what it is called, and its values `[P]`.

    Returns:
        The first column, class, measure, sparsity.
    """
    units, median = (of.median_by_class[:, :, reference.interpreted_index] for of in (reference, tuned))
    sparsity = label_sparsity(median, largest(units))
    axes = {"class": tuned.class_names, "measure": (*MEASURES, ALL)}
    return long_table({**names, **axes}, {"sparsity": sparsity})


def unit_sparsity(tuned: Tuned) -> Tensor:
    """Hoyer's sparsity of a label's changes over the units (S5.1), per sample, in the interpreted labels: `[S, K', M]`.

    1: one unit changes the label; 0: all do so alike.
    """
    labels = [hoyer(tuned.change[:, :, k], dim=0) for k in tuned.interpreted_index]
    return torch.stack(labels, 1) if labels else tuned.change.new_zeros(tuned.change.shape[1], 0, len(MEASURES))


def unit_sparsity_table(tuned: Tuned, rng: np.random.Generator) -> pd.DataFrame:
    """Mean of `unit_sparsity` over samples, with its 95 % bootstrap interval: label, measure, sparsity, low, high."""
    by_sample = unit_sparsity(tuned)
    low, high = interval(by_sample[None], resample(len(by_sample), rng))
    columns = {"sparsity": by_sample.nanmean(0), "low": low[0], "high": high[0]}
    return long_table({"label": tuned.interpreted_labels, "measure": MEASURES}, columns)


def transfer(tuned: Tuned) -> pd.DataFrame:
    """What the unit that changes a label most does in each class, for every label and measure.

    Returns:
        label, measure, class, unit (the first of the ranking over the samples of all classes; none has a change: no
        row), change (mean over the samples of the class, see `Average`).
    """
    ranked = tuned.average.ranked[:, tuned.interpreted_index].movedim(0, -1)
    first = by_size(ranked)[..., :1]
    changes = tuned.by_class.value[:, :, tuned.interpreted_index].permute(2, 3, 1, 0)
    axes = {"label": tuned.interpreted_labels, "measure": MEASURES, "class": tuned.class_names}
    of_first = changes.gather(-1, first[:, :, None].expand(*changes.shape[:3], 1))[..., 0]
    known = ~ranked.gather(-1, first).isnan()
    table = long_table(axes, {"unit": tuned.unit[first], "change": of_first, "known": known})
    return pd.DataFrame(table[table.pop("known")]).reset_index(drop=True)


def class_agreement(tuned: Tuned) -> pd.DataFrame:
    """How alike the units' effects are in two classes: label, measure, class_a, class_b, r (Pearson, over units).

    Each pair of classes once.
    """
    change, names = tuned.by_class.effect[:, :, tuned.interpreted_index].numpy(), tuned.class_names
    parts = [
        long_table(
            {"label": tuned.interpreted_labels, "measure": MEASURES},
            {"class_a": names[a], "class_b": names[b], "r": pearson(change[:, a], change[:, b])},
        )
        for a, b in combinations(range(len(names)), 2)
    ]
    return pd.concat(parts, ignore_index=True) if parts else _EMPTY


def answer_change(tuned: Tuned) -> Tensor:
    """Mean change of the probability of the samples' own class, by class: `[P, C]`; NaN for a class without samples."""
    return _by_class(tuned, tuned.probability_change)


def relevance(tuned: Tuned, control: Tuned, threshold: float) -> pd.DataFrame:
    """Class relevance |mean over samples of p(last) − p(first)|, where p is the softmax of the sample's own class.

    Args:
        tuned: the units.
        control: random directions.
        threshold: the relevance from which a unit is relevant.

    Returns:
        A row per unit and class: unit, class, change (the mean with its sign), relevance, relevant, flipped (share of
        the class's samples), p_control (share of random directions with at least the same relevance for the class at
        equal ‖Δw‖).
    """
    change = answer_change(tuned)
    columns = {
        "change": change,
        "relevance": change.abs(),
        "relevant": change.abs() >= threshold,
        "flipped": _by_class(tuned, tuned.flipped.float()),
        "p_control": p_control(tuned.per_length(change), control.per_length(answer_change(control))),
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
        class, mean and median (of the relevance over units), relevant (number of units), flipped (share of all
        perturbations that change the answer).
    """
    table = relevance.groupby("class").agg(
        mean=("relevance", "mean"),
        median=("relevance", "median"),
        relevant=("relevant", "sum"),
        flipped=("flipped", "mean"),
    )
    return table.loc[list(class_names)].reset_index()


def _by_class(tuned: Tuned, values: Tensor) -> Tensor:
    """Mean `[P, C]` over the samples of each class of `values [P, S]`."""
    return torch.stack([values[:, rows].mean(1) for rows in tuned.rows], 1)
