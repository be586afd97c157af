"""Statistics over tuned units: what they change, how sparsely, and how much they move the answer (paper §4.3, §4.4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import kurtosis, normaltest, skew
from torch import Tensor

from lis.config.fields import number
from lis.context import Context
from lis.peaks import DOUBLE, FLOAT, no_images
from lis.quantify.measures import MEASURES
from lis.quantify.sparsity import hoyer, label_sparsity, largest, scaled
from lis.stage import stage
from lis.statistics import SIGNIFICANT, ControlTest, interval, pearson, q_values, resample
from lis.store import Artifact, Draft
from lis.streams import Stream
from lis.units.class_relevance import (
    answer_change,
    control_relevance,
    relevance,
    relevance_correlation,
    robustness,
    seeds_of_relevant,
    shared,
)
from lis.units.controls import MIRRORED, Null
from lis.units.ranking import by_size, halves, heads, overlap, ranking
from lis.units.tuned import Axes, Tuned, long_table
from lis.units.tuning import tuned_arrays, tuning
from lis.units.unit_map import cluster_table, flat, map_table, plane, tree, vectors
from lis.units.work import statistics_work

_RANKING, _SPARSITY, _CONTROL, _HALVES = 1, 2, 3, 4
"""Indices in the stream, for each purpose one."""
FEWEST = 20
"""Values below which the test of normality says nothing (Anscombe & Glynn 1983)."""
SHORT = 0.95
"""Share of the length of a unit below which random directions fall short of it."""
ALL = "all"
"""All measures together."""
_EMPTY = pd.DataFrame({"label": [], "measure": [], "class_a": [], "class_b": [], "r": [], "control": []})


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


def null_arrays(ctx: Context) -> int:
    """Bytes of what all random directions change beside each unit, and of the ends that one is read at."""
    config, known, classes = ctx.config.tuning, ctx.classifier.units, len(ctx.class_names)
    units, numbers = min(config.units or known, known), len(ctx.config.classes.labels) * len(MEASURES) + 2 * classes + 2
    ends = units * config.seeds * classes * 2 * MIRRORED * (13 * FLOAT + 3 * DOUBLE)
    return MIRRORED * config.control_directions * units * numbers * FLOAT + ends


@stage(
    "unit_statistics",
    version=9,
    inputs=(tuning,),
    config=UnitStatisticsConfig,
    seed=True,
    images=no_images,
    arrays=lambda ctx: 3 * tuned_arrays(ctx) + null_arrays(ctx),
    work=statistics_work,
)
def unit_statistics(ctx: Context, config: UnitStatisticsConfig, tuned_units: Artifact, draft: Draft) -> None:
    """Rankings, sparsity, map of units, class relevance, transfer between classes, each beside random directions.

    Table "ranking", a row per label, measure and unit, by rank: label, measure, rank (1: largest effect), unit, change
    (mean over samples: of area log₂ of the ratio, of luminance a share, of entropy bits, of the angle degrees), low,
    high (95 % bootstrap over samples, within classes), relative (of area: the paper's relative change), resultant (of
    the angle: R), n (samples that have the change; the others lack the label at one end), samples, p_control (how often
    a random direction has at least the same effect where it moves w as far, see `lis.units.controls`), q and q_by
    (false discovery rate over units × interpreted labels × measures, Benjamini & Hochberg, Benjamini & Yekutieli),
    reached (see table "faithfulness"), larger (q ≤ 0.05, and reached), head and crossfit (of how many
    halves of the samples a unit is in the head, and the mean of its effect on the halves that did not choose it,
    positive the same way: not unbiased for a single unit), mean_area (fraction of the frame), interpreted (the label is
    large enough; other tables leave out those that are not).

    Tables whose columns stand in the functions that make them: "heads", "overlap", "agreement", "faithfulness",
    "transfer", "transfer_control" (`lis.units.ranking`, …); "distribution" with tensors "scaled" (a vector of changes
    per measure); "label_sparsity", "label_sparsity_control", "unit_sparsity"; "map", "clusters", and json "tree"
    {linkage, order}; "relevance", "relevance_control", "relevance_seeds", "relevance_correlation", "shared",
    "robustness". Random directions in tables "…_control" and columns "control" go where units go. Json "control":
    directions, lengths, samples, smallest (p that can be counted with so many directions); where there are any,
    length_ratio (how far they move w over how far units do, a mean), class_ratio (the same by class), short (how many
    units have a ratio below `SHORT`), clipped (share of units, samples and directions where w stops before an end of
    the unit); and tails (see `tails`).

    Raises:
        ValueError: as the stages before.
    """
    tuned, stream = Tuned.of(tuned_units), Stream("map of units", ctx.config.seed)
    null = Null.of(tuned_units, tuned, stream.rng(index=_CONTROL))
    control, arrived = null.typical, faithfulness(tuned, null)
    reached = torch.tensor(arrived["reached"].tolist(), dtype=torch.bool)
    changes, x = scaled_changes(tuned), flat(vectors(tuned))
    first = halves(tuned.class_index, stream.rng(index=_HALVES))
    grown, answers = tree(x, config.clusters), relevance(tuned, null, reached, config.relevant)
    tables: dict[str, Callable[[], pd.DataFrame]] = {
        "ranking": lambda: ranking(tuned, null, reached, first, config.top, stream.rng(index=_RANKING)),
        "heads": lambda: heads(tuned, first, config.top),
        "overlap": lambda: overlap(tuned, config.top),
        "transfer": lambda: transfer(tuned, tuned, {"unit": tuned.unit}),
        "transfer_control": lambda: transfer(control, tuned, {"name": control.names}),
        "agreement": lambda: class_agreement(tuned, control),
        "faithfulness": lambda: arrived,
        "distribution": lambda: distribution(changes),
        "label_sparsity": lambda: label_sparsity_table(tuned, tuned, {"unit": tuned.unit}),
        "label_sparsity_control": lambda: label_sparsity_table(control, tuned, {"name": control.names}),
        "unit_sparsity": lambda: unit_sparsity_table(tuned, control, stream.rng(index=_SPARSITY)),
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
    draft.json("control", control_facts(tuned_units, tuned, null))


def control_facts(tuned_units: Artifact, tuned: Tuned, null: Null) -> dict[str, Any]:
    """How many random directions there are, at how many lengths, on how many samples; the smallest p they count, and
    where p goes on below it; how far they go beside units.
    """
    directions, samples, positions = tuned_units.tensors("control")["position"].shape
    facts = {"directions": directions, "lengths": positions // 2, "samples": samples, "smallest": 1 / (directions + 1)}
    if directions:
        facts |= {"length_ratio": float(null.length_ratio.mean()), "clipped": float(null.clipped.mean())}
        facts |= {"short": int((null.length_ratio < SHORT).sum())}
        by_class = dict(zip(tuned.class_names, null.class_ratio.mean(0).tolist(), strict=True))
        facts |= {"class_ratio": {name: ratio for name, ratio in by_class.items() if math.isfinite(ratio)}}
    return facts | {"tails": tails(tuned, null, facts["smallest"])}


def tails(tuned: Tuned, null: Null, smallest: float) -> dict[str, dict[str, Any]]:
    """Of each family of tests, what is called larger, relevant, selective or reached: how p was computed.

    Args:
        tuned: the units.
        null: random directions.
        smallest: p that can be counted with so many.

    Returns:
        `lis.statistics.ControlTest.facts`, tests (how many), and decided: whether q ≤ 0.05 is within reach. Where p is
        counted in all columns it is for a single test only if the smallest p times the number of tests is; and
        otherwise where so many are at the smallest p together that q is that small.
    """
    index = tuned.interpreted_index
    effect, random = tuned.average.effect[:, index], null.effect[:, :, index]
    families = {
        "larger": (effect, random),
        "relevant": (answer_change(tuned), null.answer),
        "selective": (selectivity(effect), selectivity(random)),
        "reached": (tuned.own.nanmean(1), null.own),
    }
    return {name: _family(null.control_test(*family), smallest) for name, family in families.items()}


def _family(test: ControlTest, smallest: float) -> dict[str, Any]:
    tests = int((~test.p.isnan()).sum())
    called = bool((q_values(test.p)[0] <= SIGNIFICANT).any())
    decided = called or bool(test.extrapolated.any()) or tests * smallest <= SIGNIFICANT
    return test.facts | {"tests": tests, "decided": decided}


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


def selectivity(effect: Tensor) -> Tensor:
    """Largest share of one label in the sum over labels of |mean log₂ ratio of area|, in [1 / labels, 1].

    Args:
        effect: mean changes `[…, labels, measures]`, of the labels that count.

    Returns:
        `[…]`; NaN where no area changes.
    """
    size = effect[..., MEASURES.index("area")].abs().nan_to_num(0.0)
    largest = size.amax(-1) if size.shape[-1] else size.sum(-1)
    return largest / size.sum(-1)


def faithfulness(tuned: Tuned, null: Null) -> pd.DataFrame:
    """Means over samples of what tells an effect from an artefact.

    Args:
        tuned: the units.
        null: random directions.

    Returns:
        unit, reencoded_share (share of the asked change that arrives when the images are encoded again), own (change of
        the unit, in its standard deviations), others (rms of the other live units, in theirs), more (share of the
        others that move more), beyond (share of last images beyond 99 % of training samples), step_norm (‖Δw‖);
        own_control and reencoded_control (mean |change| of the same unit by random directions that move w as it does,
        in its standard deviations and over the asked change), p_reached (how often they change it as much), q_reached,
        q_by_reached (over units), reached (q_reached ≤ 0.05, and it moves the way it was asked: from other units no
        meaning is read); selectivity, selectivity_p (how often a random direction is at least as selective where it
        moves w as the unit does), selectivity_q, selectivity_q_by (over units), selective (selectivity_q ≤ 0.05,
        and reached), selectivity_control (mean over random directions); length_control (how far random directions move
        w over how far the unit does).
    """
    index, means = tuned.interpreted_index, ("reencoded_share", "own", "others", "more", "beyond", "step_norm")
    columns = {"unit": tuned.unit} | {name: getattr(tuned, name).nanmean(1) for name in means}
    own, beside = columns["own"], null.own.abs().nanmean(1)
    p = null.p(own, null.own)
    q, q_by = q_values(p)
    reached = (q <= SIGNIFICANT) & (own > 0)
    both = tuned.reencoded_share * tuned.own  # their ratio, the deviation over the asked change, is that of any sample
    std = (both.nansum(1) / tuned.own.square().where(~both.isnan(), 0.0).sum(1)).abs()
    columns |= {"own_control": beside, "reencoded_control": beside * std}
    columns |= {"p_reached": p, "q_reached": q, "q_by_reached": q_by, "reached": reached}
    share, random = (selectivity(effect[..., index, :]) for effect in (tuned.average.effect, null.effect))
    p = null.p(share, random)
    q, q_by = q_values(p)
    columns |= {"selectivity": share, "selectivity_p": p, "selectivity_q": q, "selectivity_q_by": q_by}
    columns |= {"selective": (q <= SIGNIFICANT) & reached, "selectivity_control": random.nanmean(1)}
    columns |= {"length_control": null.length_ratio}
    return pd.DataFrame(columns)


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


def unit_sparsity(tuned: Tuned, index: Sequence[int]) -> Tensor:
    """Hoyer's sparsity of a label's changes over the units (S5.1), per sample, in some labels: `[S, K', M]`.

    1: one unit changes the label; 0: all do so alike.
    """
    labels = [hoyer(tuned.change[:, :, k], dim=0) for k in index]
    return torch.stack(labels, 1) if labels else tuned.change.new_zeros(tuned.change.shape[1], 0, len(MEASURES))


def unit_sparsity_table(tuned: Tuned, control: Tuned, rng: np.random.Generator) -> pd.DataFrame:
    """Mean of `unit_sparsity` over samples, with its 95 % bootstrap interval: label, measure, sparsity, low, high.

    Column control is the same over random directions, of which there may be another number.
    """
    by_sample, beside = (unit_sparsity(of, tuned.interpreted_index) for of in (tuned, control))
    low, high = interval(by_sample[None], resample(tuned.class_index, rng))
    columns = {"sparsity": by_sample.nanmean(0), "low": low[0], "high": high[0], "control": beside.nanmean(0)}
    return long_table({"label": tuned.interpreted_labels, "measure": MEASURES}, columns)


def transfer(tuned: Tuned, reference: Tuned, names: Axes) -> pd.DataFrame:
    """What the unit that changes a label most does in each class, for every label and measure.

    Args:
        tuned: units or random directions.
        reference: the units: which labels are interpreted.
        names: what the perturbations are called: the name of a column and its values `[P]`.

    Returns:
        label, measure, class, the column of names (the first of the ranking over the samples of all classes; none has a
        change: no row), change (mean over the samples of the class, see `Average`).
    """
    index, labels = reference.interpreted_index, reference.interpreted_labels
    ranked = tuned.average.ranked[:, index].movedim(0, -1)
    first = by_size(ranked)[..., :1]
    if not first.shape[-1]:
        return pd.DataFrame({"label": [], "measure": [], "class": [], **{name: [] for name in names}, "change": []})
    changes = tuned.by_class.value[:, :, index].permute(2, 3, 1, 0)
    axes = {"label": labels, "measure": MEASURES, "class": tuned.class_names}
    of_first = changes.gather(-1, first[:, :, None].expand(*changes.shape[:3], 1))[..., 0]
    known = ~ranked.gather(-1, first).isnan()
    called = {name: np.asarray(values)[first.numpy()] for name, values in names.items()}
    table = long_table(axes, called | {"change": of_first, "known": known})
    return pd.DataFrame(table[table.pop("known")]).reset_index(drop=True)


def class_agreement(tuned: Tuned, control: Tuned) -> pd.DataFrame:
    """How alike the units' effects are in two classes: label, measure, class_a, class_b, r (Pearson, over units).

    Each pair of classes once; column control is the same over random directions.
    """
    index, names = tuned.interpreted_index, tuned.class_names
    change, beside = (of.by_class.effect[:, :, index].numpy() for of in (tuned, control))
    parts = [
        long_table(
            {"label": tuned.interpreted_labels, "measure": MEASURES},
            {
                "class_a": names[a],
                "class_b": names[b],
                "r": pearson(change[:, a], change[:, b]),
                "control": pearson(beside[:, a], beside[:, b]),
            },
        )
        for a, b in combinations(range(len(names)), 2)
    ]
    return pd.concat(parts, ignore_index=True) if parts else _EMPTY
