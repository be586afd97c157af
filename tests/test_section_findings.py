"""Headings of sections on constructed tables: what is null reads as a null result, what is undecided as undecided."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import findings

from lis.linking.similarity import ALL, STATISTICS, WITHIN
from lis.report import (
    adversarial,
    boundary_truth,
    bridge,
    classifier,
    counterfactuals,
    directions,
    evaluation,
    initialisations,
    intervention,
    link,
    matching,
    omitted,
    planted,
    probe,
    segmentation,
    similarity,
    sparse_counterfactuals,
    sparsity,
    transfer,
    true_factors,
    truth,
)
from lis.report.source import Source


def cycle(random: float, within: float, metric: str = "mse_w") -> pd.DataFrame:
    return pd.DataFrame({"metric": [metric], "ratio_random": [random], "ratio_within_class": [within]})


@pytest.mark.parametrize(
    ("summary", "heading"),
    [
        (cycle(0.1, 0.3), "The link explains 80 % of w on new samples, 40 % within classes"),
        (cycle(0.1, 0.46), "Beyond the class the link explains nothing of w (R² 0.080)"),
        (cycle(0.49, 0.6), "The link explains nothing of w on new samples (R² 0.020)"),
        (cycle(0.2, 0.3, "pixel_l2"), "Pixel L2 after the cycle is 0.20× that of random pairs"),
    ],
)
def test_a_link_explains_or_not(summary: pd.DataFrame, heading: str) -> None:
    assert evaluation.explains(summary) == heading


def kept(share: float, low: float, counts: tuple[int, ...] = (90, 90, 60)) -> pd.DataFrame:
    names = [*map(str, range(len(counts))), "all"]
    return pd.DataFrame({"class": names, "share": share, "low": low, "n": [*counts, sum(counts)]})


def test_a_class_is_kept_beside_random_pairs() -> None:
    """Which have one class with the sum of the squared shares."""
    assert (
        evaluation.class_kept(kept(0.97, 0.96)) == "97 % of cycled images keep their class, 34.4 % of random pairs do"
    )
    chance = "36 % of cycled images keep their class, no more than random pairs (34.4 %)"
    assert evaluation.class_kept(kept(0.36, 0.34)) == chance
    assert evaluation.class_kept(kept(1.0, 0.9, (90,))) == "100 % of cycled images keep their class"


def test_components_come_back_or_not() -> None:
    offsets = findings.offsets()
    assert evaluation._returned(offsets) == (
        "The error of a component of W scatters by at most 0.40 sd (of the mean of all: 1 sd)"
    )
    assert (
        evaluation._returned(offsets.assign(spread=1.2))
        == "Components of W do not come back: their error scatters by 1.2 sd"
    )


def test_true_factors_survive_or_not() -> None:
    assert true_factors._surviving(3, 20) == "3 of 20 true factors survive within classes (R² ≥ 0.2)"
    assert true_factors._surviving(0, 20) == "No true factor survives within classes (R² below 0.2)"


def permuted(p: float, permutations: int = 99, classes: bool = True) -> pd.DataFrame:
    """p of both correlations, within classes where there are several."""
    rows = [{"exchanged": ALL, "statistic": name, "p": 0.01, "mean": 0.0} for name in STATISTICS]
    within = [{"exchanged": WITHIN, "statistic": name, "p": p, "mean": 0.4} for name in STATISTICS[2:4] if classes]
    return pd.DataFrame(rows + within).assign(permutations=permutations)


def test_spaces_are_alike_or_not_or_undecided() -> None:
    """Beyond the classes, by permutations within them."""
    table = pd.DataFrame({name: [0.6] for name in STATISTICS})
    beyond = "R and W are alike beyond their classes: RSA 0.60, by chance 0.40 (p 0.020)"
    assert similarity._alike(table, permuted(0.02)) == beyond
    null = "R and W are not shown to be alike beyond their classes (p 0.300)"
    assert similarity._alike(table, permuted(0.3)) == null
    few = "Whether R and W are alike beyond their classes is undecided: too few permutations"
    assert similarity._alike(table, permuted(0.1, 9)) == few
    assert similarity._alike(table, permuted(0, classes=False)).startswith(
        "R and W are alike: RSA 0.60, by chance 0 (p"
    )


def test_the_rank_of_w_is_a_ceiling_where_it_is_known() -> None:
    """Rank over units, of what can arrive of single units."""

    def told(rank: int, units: int = 256, known: bool = True) -> list[str]:
        run: Any = SimpleNamespace(
            has=lambda *names: known,
            arrays=lambda *names: {"variance": np.ones(rank)},
            facts=SimpleNamespace(units=units, w_dim=64),
        )
        return link.ceiling(run)

    (line,) = told(25)
    assert "W varies in 25 of its 64 dimensions" in line
    assert "If all others were held exactly, at most 9.8 % of a unit's change could be made on average" in line
    assert told(25, 20) == told(0) == told(25, known=False) == []


def test_a_path_tells_how_well_a_step_is_known() -> None:
    path = findings.path().iloc[1:].assign(gcv_mse=0.15)
    told = link._weakly_identified(path.assign(mean_step_norm=range(2, 11)))
    assert "move w by between 2.0 and 10 per unit, a factor of 5.0" in told
    assert "between 2.0 and 2.0 per unit, a factor of 1.0" in link._weakly_identified(path.assign(mean_step_norm=2.0))
    assert link._trained(findings.curve()) == "The validation loss is smallest in epoch 12 of 20."


def test_pictures_show_what_moves_a_unit_or_not() -> None:
    tied = {"share": 0.61, "low": 0.55, "chance": 0.12}
    assert intervention._finding(tied) == "Pictures show what moves a unit for 61 % of units (by chance 12 %)"
    null = "Pictures show what moves a unit no more often than by chance (12 %)"
    assert intervention._finding(tied | {"low": 0.1}) == null


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [(0.02, 0.2, "71 % by correlations"), (-0.05, 0.2, "not told apart from correlations (71 %)")],
)
def test_planted_units_are_named_right_beside_correlations(low: float, high: float, told: str) -> None:
    rows = [{"way": "std", "share": 0.83, "gain_low": low, "gain_high": high}, {"way": planted.PLAIN, "share": 0.71}]
    assert planted._finding(pd.DataFrame(rows)) == f"83 % of single-factor units are named right, {told}"


def test_what_is_right_by_activation_and_by_cause_stands_beside_its_own_chance() -> None:
    shares = {
        (f"{way}_right", "part"): {"share": share, "chance": chance, "n": 40}
        for way, share, chance in (("activation", 0.8, 0.25), ("cause", 0.3, 0.12))
    }
    told = "80 % are named right by activation (25 % at chance) and 30 % by cause (12 % at chance)"
    assert bridge._finding(shares, {}) == f"Of 40 units planted for a part, {told}"


def test_w_tells_something_of_units_or_nothing() -> None:
    assert directions._finding(0.34) == "Within classes w tells 34 % of a unit's variance (held out)"
    assert directions._finding(-0.01) == "Within classes w tells nothing of a unit (held out)"


def test_models_are_told_with_what_they_stand_beside() -> None:
    table = pd.DataFrame({"class": ["pug", "border_collie"], "drawn": [100, 100], "accepted": [90, 60]})
    told = "It names 75 % of generated images right (least: border collie, 60 %)"
    assert classifier._called(table.assign(rate=table["accepted"] / 100)) == told
    accuracy = pd.DataFrame({"class": ["all"], "accuracy": [0.88]})
    right = "The probe is right on 88 % of new samples"
    for ece, calibrated in (
        (0.02, "and calibrated (error 0.020 ≤ 0.040)"),
        (0.1, "but not calibrated (error 0.10 > 0.040)"),
    ):
        assert probe._finding({"ece": ece, "ece_bound": 0.04}, accuracy) == f"{right}, {calibrated}"


def test_the_worst_part_stands_beside_the_mean() -> None:
    rows = {"kind": "exact", "class": "all", "label": ["ear", "tongue", "eye"], "iou": [0.9, 0.41, np.nan]}
    table, summary = pd.DataFrame(rows).assign(left_out=False), {"exact": {"iou": 0.655}}
    told = "The parts are found with a mean IoU of 0.655"
    assert segmentation._finding(table, summary) == f"{told} (worst: tongue, 0.41)"
    assert segmentation._finding(table.head(1), summary) == told


def test_counterfactuals_are_judged_by_whom() -> None:
    facts, said = {"reached": 30, "n": 40, "rate": 0.75}, pd.DataFrame({"who": ["bayes"], "share": [0.4]})
    told = "75 % of counterfactuals reach their target"
    assert counterfactuals._finding(facts, said) == f"{told}; Bayes' rule calls 40 % of all the target"
    assert counterfactuals._finding(facts, said.head(0)) == f"{told} by this network's answer"
    assert counterfactuals._finding(facts | {"reached": 0}, said) == "None of 40 counterfactuals reaches its target"
    truly = boundary_truth._finding({"bayes_reached": 0.6, "n": 30})
    assert truly == "60 % of 30 counterfactuals truly are of the target class (Bayes' rule)"


def test_fewer_units_do_or_not() -> None:
    many, few = {"units": 38.0}, {"units": 20.0}
    assert sparse_counterfactuals._finding(many, few) == "20 units do instead of 38, at nine tenths of the success"
    assert sparse_counterfactuals._finding(many, many) == "No penalty spares units at nine tenths of the success"


def test_starts_agree_where_there_are_two() -> None:
    table, agreement = pd.DataFrame({"sparsity": [0.5]}), pd.DataFrame({"cosine": [0.4], "shared": [0.25]})
    told = "Two starts give directions of cosine 0.40 and 25 % of the first units"
    assert initialisations._finding(table, agreement) == told
    single = initialisations._finding(table, agreement.assign(cosine=np.nan))
    assert single == "Directions that are reached have a sparsity of 0.50"


def test_steps_in_pixels_are_smaller() -> None:
    table = pd.DataFrame({"mse_counterfactual": [0.04], "mse_adversarial": [0.001]})
    told = "Steps in pixels give 98 % of the answers, 40 times smaller"
    assert adversarial._finding(table, {"reached": 0.98}) == told
    larger = adversarial._finding(table.assign(mse_adversarial=0.08), {"reached": 0.5})
    assert larger == "Steps in pixels give 50 % of the answers, 2.0 times larger"
    nothing = adversarial._finding(table, {"reached": 0.0})
    assert nothing == "Steps in pixels reach the target of no counterfactual"


def test_a_matcher_misses_from_best_to_worst() -> None:
    table = pd.DataFrame({"matcher": "PUMP", "kind": ["pose", "parts"], "error": [0.8, 1.5]})
    assert matching._finding("PUMP", table) == "PUMP misses displacements by 0.80 (pose) to 1.5 px (parts)"
    assert matching._finding("flow", table) == "flow finds no displacement"


def test_changes_are_true_or_no_more_than_chance() -> None:
    """|ρ| of independent rankings of 101 units stays below 0.196 in 95 % of cases."""
    rng = np.random.default_rng(0)
    rho = [pd.Series(rng.normal(size=101)).corr(pd.Series(rng.normal(size=101)), "spearman") for _ in range(400)]
    assert np.quantile(np.abs(rho), 0.95) == pytest.approx(truth.chance_correlation(101), abs=0.03)
    told = "Measured changes rank units as true ones do: ρ +0.80 (by chance < 0.20)"
    assert truth._finding({"extent": {"spearman": 0.8}}, 101) == told
    null = "Measured and true changes do not rank units alike (ρ +0.10)"
    assert truth._finding({"extent": {"spearman": 0.1}}, 101) == null


def test_sparsity_without_random_directions_has_no_control() -> None:
    units = pd.DataFrame({"measure": ["area"], "class": ["pug"], "sparsity": [0.5]})
    assert sparsity._finding(units, units.head(0)).endswith("0.50 on average, beside no random direction")
    change = pd.DataFrame({"label": "ear", "measure": "area", "class": ["a", "b"], "change": [0.1, 0.2]})
    told = "First units act alike in all classes in 1 of 1 cases"
    assert transfer._finding(change, change.head(0)) == f"{told}, beside no control"
    assert transfer._finding(change, change.assign(change=[1, -1])) == f"{told}, random in 0 of 1"
    nothing = "No label changes in two classes, so that first units are not compared"
    assert transfer._finding(change.head(1), change) == nothing
    null = "First units act alike in all classes no more often than random directions"
    assert transfer._finding(change, change) == null


def test_what_is_left_out_is_counted() -> None:
    facts: Any = SimpleNamespace(omitted={"truth": "no truth", "motion": "no parts"}, partless=False)
    section = omitted.omitted(Source(facts, {}))
    assert section is not None and section.finding == "2 of the analyses asked for are left out"
