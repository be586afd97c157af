"""What a page says first, on tables that are made so that the answer is known."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import boundary_findings, findings, tuned_findings
from helpers.called_units import CLASSES, EVERY, PARTS, artifact, read, statistics
from helpers.findings import make_artifacts, make_ctx
from scipy.stats import hypergeom, spearmanr

from lis.report import findings as registry
from lis.report.findings import Finding, finding, warnings
from lis.report.findings_boundary import p_of_ranks, ranks, sharpest_changes
from lis.report.findings_link import r2_by_class
from lis.report.findings_truth import spearman_p
from lis.report.findings_units import parts_and_classes, units_called
from lis.report.section import build_sections
from lis.report.source import Source, source
from lis.report.tables import column, where
from lis.statistics import benjamini_hochberg
from lis.store import Artifact


def answers(run: Source) -> dict[str, Finding]:
    """The findings of a run by their questions."""
    made = {finding.question: finding for finding in registry.findings(run)}
    assert not any(re.search(r"\bnan\b|–", f"{x.value} {x.sentence} {x.control}") for x in made.values())
    assert all(len(x.value) <= 12 and x.sentence.endswith(".") and x.control and x.anchor for x in made.values())
    return made


REACHED, STANDS_OUT, CARRY = (
    "How many units are reached?",
    "How many units stand out?",
    "Which parts carry the classes?",
)
LINK, TRUE = "Does the link explain?", "Are the measured changes the true ones?"
CROSS, CHANGES = "Do counterfactuals become the other class?", "What changes at the boundary?"


def test_a_null_world_reads_as_a_null_result(tmp_path: Path) -> None:
    made = answers(read(tmp_path, unit_statistics=statistics(tmp_path, frozenset())))
    assert [made[name].value for name in (REACHED, STANDS_OUT, CARRY)] == ["0 of 20", "0 of 20", "0 of 3 parts"]
    assert "None is" in made[REACHED].sentence and made[REACHED].control == "none has q ≤ 0.05; 64 random directions"
    assert made[STANDS_OUT].sentence.startswith(
        "No unit changes a part or mainly one part or the probability of a class more"
    )
    assert made[STANDS_OUT].control.startswith(
        "none has q ≤ 0.05; of 120 tests of a unit on a part, 0 % have p ≤ 0.05, by"
    )
    assert made[CARRY].sentence.endswith("so none links a part to a class.")
    told = " ".join(x.sentence + x.control for x in made.values())
    assert not re.search(r"\bunit \d", told) and not any(x.parts for x in made.values())


def test_reached_units_alone_do_not_stand_out(tmp_path: Path) -> None:
    made = answers(read(tmp_path, unit_statistics=statistics(tmp_path)))
    assert [made[name].value for name in (REACHED, STANDS_OUT, CARRY)] == ["20 of 20", "0 of 20", "0 of 3 parts"]
    assert (
        "move by 2.0 standard deviations (sd), others meanwhile by 0.50; 25 % of the others move more than the unit."
        in made[REACHED].sentence
    )
    assert (
        made[REACHED].control == "random directions move the same units by 0.30 sd; of the reached about "
        "1 in 20 would be by chance (q ≤ 0.05)"
    )


def test_the_surest_change_of_a_reached_unit_is_named(tmp_path: Path) -> None:
    """Not a larger one of a unit that is not reached, nor one whose q is larger."""
    larger = {3: ("ear", "area", 1.0, 0.01), 5: ("leg", "angle", 40.0, 0.01), 7: ("tail", "area", 2.0, 0.03)}
    made = answers(read(tmp_path, unit_statistics=statistics(tmp_path, EVERY - {9}, larger, frozenset({3}))))[
        STANDS_OUT
    ]
    assert made.value == "3 of 20" and made.parts == ("ear",)
    assert "3 change a part, 1 changes mainly one part and none change the probability of a class," in made.sentence
    assert "The surest: unit 3 changes the area of the ear by +100 % (q 0.010)." in made.sentence
    assert made.control.startswith("of the changes called about 1 in 20 would be by chance (q ≤ 0.05); of 120 tests ")
    assert "of a unit on a part, 2.5 % have p ≤ 0.05" in made.control
    assert re.findall(r"unit (\d+)", made.sentence) == ["3"]


def test_a_class_is_named_where_no_part_changes(tmp_path: Path) -> None:
    made = answers(read(tmp_path, unit_statistics=statistics(tmp_path, relevant={4: -0.3, 6: 0.4})))[STANDS_OUT]
    assert "unit 6 changes the probability of pug by +0.40 (q 0.020)" in made.sentence and not made.parts


@pytest.mark.parametrize(
    ("undecided", "values"),
    [
        (("reached", "larger", "selective", "relevant"), ["undecided"] * 3),
        (("selective",), ["20 of 20", "0 of 20", "0 of 3 parts"]),
        (("larger",), ["20 of 20", "undecided", "undecided"]),
        (("larger", "selective", "relevant"), ["20 of 20", "undecided", "undecided"]),
    ],
)
def test_undecided_reads_as_undecided(tmp_path: Path, undecided: tuple[str, ...], values: list[str]) -> None:
    run = read(tmp_path, unit_statistics=statistics(tmp_path, undecided=undecided))
    made = answers(run)
    assert [made[name].value for name in (REACHED, STANDS_OUT, CARRY)] == values
    few = [one for one in warnings(run) if "too few random directions" in one.sentence]
    assert len(few) == ("reached" in undecided)
    if values[1] == "0 of 20":
        assert made[STANDS_OUT].sentence.endswith("Whether any changes mainly one part is undecided.")
    elif undecided == ("larger",):
        assert "No unit changes mainly one part or the probability" in made[STANDS_OUT].sentence
        assert "Whether any changes a part is undecided" in made[STANDS_OUT].sentence


def test_without_parts_only_classes_are_moved(tmp_path: Path) -> None:
    made = answers(read(tmp_path, unit_statistics=statistics(tmp_path, parts=())))
    assert set(made) == {REACHED, STANDS_OUT} and made[STANDS_OUT].anchor == "class-relevance"
    assert made[STANDS_OUT].sentence == "No unit changes the probability of a class more than random directions do."
    only = answers(read(tmp_path, unit_statistics=statistics(tmp_path, parts=("ear",))))
    assert "mainly one part" not in only[STANDS_OUT].sentence


def test_a_part_carries_classes_where_its_units_move_them_more_often_than_others(tmp_path: Path) -> None:
    larger = {unit: ("ear" if unit < 8 else "leg", "area", 1.0, 0.01) for unit in range(16)}
    run = read(tmp_path, unit_statistics=statistics(tmp_path, larger=larger, relevant=dict.fromkeys(range(8), 0.4)))
    made = answers(run)[CARRY]
    assert made.value == "1 of 3 parts" and made.parts == ("ear",)
    assert made.sentence == (
        "Of 8 units that change the ear, 8 also change the probability of a class; of the 12 other reached units 0 do."
    )
    p = [hypergeom.sf(7, 20, 8, 8), 1.0]
    table = parts_and_classes(run, units_called(run)["relevant"], set(EVERY))
    assert table["label"].tolist() == ["ear", "leg"]
    np.testing.assert_allclose(table["p"], p)
    np.testing.assert_allclose(table["q"], benjamini_hochberg(np.array(p)))
    assert made.control.startswith("q < 0.001, Fisher's exact test over 2 parts; units change the probability of a")
    assert made.control.endswith("in 40 % of cases, random directions in 5 %")


def test_a_part_whose_units_move_classes_as_often_as_others_carries_none(tmp_path: Path) -> None:
    larger = dict.fromkeys(range(10), ("ear", "area", 1.0, 0.01))
    relevant = dict.fromkeys(range(0, 20, 2), 0.4)
    made = answers(read(tmp_path, unit_statistics=statistics(tmp_path, larger=larger, relevant=relevant)))[CARRY]
    assert made.value == "0 of 3 parts" and "change the classes no more often than others do" in made.sentence
    assert (
        "of 10 units that change the ear, 5 also change the probability of a class; of the 10 other reached units 5 do."
        in made.sentence
    )


def evaluation(root: Path, random: float, within: float) -> Artifact:
    """Its ratios of the error in W to that of random pairs."""
    samples = findings.samples(CLASSES)
    cycle = (samples["metric"] == "mse_w") & (samples["pairing"] == "cycle")
    samples["value"] = samples["value"].where(~cycle | (samples["class"] != "poodle"), 2 * samples["value"])
    summary = findings.summary(samples).assign(ratio_random=random, ratio_within_class=within)
    return artifact(root, "evaluation", f"{random} {within}", summary=summary, samples=samples)


@pytest.mark.parametrize(
    ("random", "within", "value", "end"),
    [
        (0.2, 0.3, "R² 0.60", "."),
        (0.2, 0.48, "R² 0.60", "It tells classes apart, and explains nothing within one."),
        (0.47, 0.5, "R² 0.060", "That is no better than guessing."),
    ],
)
def test_a_link_is_held_against_the_means(tmp_path: Path, random: float, within: float, value: str, end: str) -> None:
    run = read(tmp_path, evaluation=evaluation(tmp_path, random, within))
    made = answers(run)[LINK]
    assert ("favours a linear link" in made.control) == (run.facts.known_truth and not run.facts.nonlinear_world)
    assert made.value == value and made.sentence.endswith(end) and made.control.startswith("guessing the mean has R² 0")
    assert f"with R² {1 - 2 * random:.2g}" in made.sentence.replace("0.060", "0.06").replace("0.60", "0.6")
    assert len(warnings(run)) == (within > 0.45)


def test_the_class_that_a_link_explains_least_is_named(tmp_path: Path) -> None:
    run = read(tmp_path, evaluation=evaluation(tmp_path, 0.2, 0.3))
    r2 = r2_by_class(run)
    table = run.table("evaluation", "samples")
    for name in CLASSES:
        rows = where(table, metric="mse_w", **{"class": name})
        cycle, pairs = (column(where(rows, pairing=x), "value").mean() for x in ("cycle", "within-class"))
        assert r2[name] == pytest.approx(1 - cycle / (pairs / 2))
    assert r2["poodle"] < r2["pug"] and "(lowest in poodle, " in answers(run)[LINK].sentence


def agreement(root: Path, rho: list[float], units: int = 100) -> Artifact:
    rows = [
        {"label": label, "measure": measure, "spearman": value if measure == "extent" else 0.5 * value}
        | {"overlap": 5.0, "units": units, "ranked": units, "interpreted": True}
        for measure in ("extent", "relative", "angle")
        for label, value in zip(PARTS, rho, strict=True)
    ]
    return artifact(root, "truth", repr(rho), agreement=pd.DataFrame(rows), summary={})


def test_measured_and_true_changes_agree_or_not(tmp_path: Path) -> None:
    good = answers(read(tmp_path, truth=agreement(tmp_path, [0.9, 0.8, 0.1])))[TRUE]
    assert good.value == "ρ +0.60" and "agrees for 2 of 3 parts between" in good.sentence and good.parts == ("tail",)
    assert "lowest for the tail (+0.10). Least alike: the angle (+0.30)." in good.sentence
    assert good.control.startswith(
        "ρ 0 by chance, q ≤ 0.05 in 2 of 3 parts; 5.0 of the first 10 units agree, by chance 1.0"
    )
    whole = answers(read(tmp_path, truth=agreement(tmp_path, [0.9, 0.8, 0.7])))[TRUE]
    assert "agrees between" in whole.sentence
    bad = answers(read(tmp_path, truth=agreement(tmp_path, [0.1, -0.9, 0.0])))[TRUE]
    assert "does not agree" in bad.sentence and "q ≤ 0.05 in 0 of 3 parts" in bad.control


def test_p_of_a_rank_correlation_is_scipys() -> None:
    rng = np.random.default_rng(0)
    pairs = [rng.normal(size=(2, n)) for n in (12, 40)]
    expected: list[Any] = [spearmanr(*pair) for pair in pairs]
    rho = np.array([one.statistic for one in expected])
    np.testing.assert_allclose(spearman_p(rho, np.array([12, 40])), [one.pvalue for one in expected])


def test_p_of_ranks_is_that_of_all_outcomes() -> None:
    outcomes = [a + b for a in range(1, 6) for b in range(1, 8)]
    for first, second in [(1, 1), (2, 5), (5, 7)]:
        expected = np.mean([total <= first + second for total in outcomes])
        assert p_of_ranks([(first, 5), (second, 7)]) == pytest.approx((expected, 1 / 35))


def trajectories(root: Path, curves: Mapping[str, np.ndarray], crossing: int, small: str = "") -> Artifact:
    """One path of even steps per curve of the area of an ear and of a leg `[2, T]`; the answer turns in one step."""
    steps, jumps, paths = [], [], []
    for k, curve in enumerate(curves.values()):
        position = np.linspace(0, 1, curve.shape[1])
        boundary = (position[crossing] + position[crossing + 1]) / 2
        paths.append({"trajectory": k, "origin": "pug", "target": "poodle", "boundary": boundary})
        for label, values in zip(PARTS[:2], curve, strict=True):
            size = np.abs(np.diff(values))
            row = {"trajectory": k, "label": label, "measure": "area", "interpreted": label != small}
            jump = values[crossing + 1] - values[crossing]
            jumps.append(row | {"jump": jump, "score": abs(jump) / size.mean()})
            steps += [
                {"trajectory": k, "step": t, "position": position[t], "label": label, "measure": "area", "change": x}
                for t, x in enumerate(values)
            ]
    made = {"trajectories": pd.DataFrame(paths), "measures": pd.DataFrame(steps), "jumps": pd.DataFrame(jumps)}
    return artifact(root, "trajectories", repr((curves, crossing, small)), **made)


def paths(n: int, sizes: int = 20, crossing: int = 7, sharp: float = 0.0) -> dict[str, np.ndarray]:
    """Curves `[2, T]` of steps that are noise, with a jump of the leg where the classifier's answer turns."""
    rng = np.random.default_rng(1)
    steps = rng.lognormal(0, 0.3, (n, 2, sizes))
    steps[:, 1, crossing] += sharp
    return {str(k): np.cumsum(np.pad(some, ((0, 0), (1, 0))), axis=1) for k, some in enumerate(steps)}


def test_a_part_that_jumps_where_the_answer_turns(tmp_path: Path) -> None:
    run = read(tmp_path, trajectories=trajectories(tmp_path, paths(2, sharp=9.0), 7))
    made = answers(run)[CHANGES]
    assert made.value == "2 of 2 paths" and made.parts == ("leg",)
    assert "most sharply where the classifier's answer turns" in made.sentence
    assert "from pug to poodle, the area of the leg by" in made.sentence
    assert made.control.endswith("by sharpness the step ranks 1.00 of 20 on average, by chance 10.5 (p 0.003)")
    assert ranks(sharpest_changes(run)) == [(1, 20), (1, 20)]


def test_sharpest_changes_are_those_of_plain_loops(tmp_path: Path) -> None:
    curves = paths(2)
    table = sharpest_changes(read(tmp_path, trajectories=trajectories(tmp_path, curves, 7)))
    for k, curve in enumerate(curves.values()):
        steps = np.abs(np.diff(curve, axis=1))
        expected = [max(part[t] / part.mean() for part in steps) for t in range(20)]
        np.testing.assert_allclose(column(where(table, trajectory=k), "score"), expected)
        assert where(table, trajectory=k, crosses=True)["step"].tolist() == [8]


def test_parts_that_change_everywhere_alike_are_a_null_result(tmp_path: Path) -> None:
    made = answers(read(tmp_path, trajectories=trajectories(tmp_path, paths(3), 7)))[CHANGES]
    assert re.fullmatch("[012] of 3 paths", made.value) and made.parts == ()
    assert "no more sharply where the classifier's answer turns than elsewhere" in made.sentence
    assert made.sentence.endswith("; so few are weak evidence that there is no such change.")
    assert "The sharpest" not in made.sentence
    many = answers(read(tmp_path / "many", trajectories=trajectories(tmp_path / "many", paths(12), 7)))[CHANGES]
    assert many.sentence.endswith("than elsewhere on the same path.")


def test_too_few_steps_say_nothing_of_the_boundary(tmp_path: Path) -> None:
    made = answers(read(tmp_path, trajectories=trajectories(tmp_path, paths(1, 9, sharp=9.0), 7)))[CHANGES]
    assert made.value == "undecided" and made.sentence.startswith("Too few steps along 1 counterfactual path")


def test_parts_that_are_too_small_do_not_speak(tmp_path: Path) -> None:
    curves = paths(2, sharp=9.0)
    run = read(tmp_path / "leg", trajectories=trajectories(tmp_path / "leg", curves, 7, small="leg"))
    alone = answers(run)[CHANGES]
    assert alone.parts == () and "no more sharply" in alone.sentence
    both = {name: curve[[1, 1]] for name, curve in curves.items()}
    run = read(tmp_path / "ear", trajectories=trajectories(tmp_path / "ear", both, 7, small="leg"))
    assert answers(run)[CHANGES].parts == ("ear",)


@pytest.mark.parametrize(("share", "doubt"), [(0.6, False), (0.12, True)])
def test_what_others_say_of_counterfactuals_stands_beside_what_they_said_before(
    tmp_path: Path, share: float, doubt: bool
) -> None:
    said = {"who": "bayes", "share": share, "low": share - 0.05, "high": share + 0.05, "target_before": 0.1}
    facts = {"n": 40, "reached": 36, "rate": 0.9}
    made = artifact(tmp_path, "counterfactuals", str(share), facts=facts, witnessed=pd.DataFrame([said]))
    told = answers(read(tmp_path, counterfactuals=made))[CROSS]
    assert told.value == "90 %" and f"Bayes' rule calls {100 * share:g} % of all images the target" in told.sentence
    assert told.control == "called the target before the search: 10 % (Bayes' rule)"
    assert ("no more than before the search" in told.sentence) == doubt


def test_that_nobody_else_was_asked_is_said(tmp_path: Path) -> None:
    nobody = pd.DataFrame({"who": [], "share": []})
    made = artifact(tmp_path, "counterfactuals", "", facts={"n": 4, "reached": 4, "rate": 1.0}, witnessed=nobody)
    assert "nobody else was asked" in answers(read(tmp_path, counterfactuals=made))[CROSS].control


def test_a_run_says_nothing_of_what_it_has_not_done(tmp_path: Path) -> None:
    assert registry.findings(read(tmp_path)) == [] == warnings(read(tmp_path))
    assert set(answers(read(tmp_path, truth=agreement(tmp_path, [0.9, 0.8, 0.7])))) == {TRUE}
    assert set(answers(read(tmp_path, evaluation=evaluation(tmp_path, 0.2, 0.3)))) == {LINK}
    assert set(answers(read(tmp_path, trajectories=trajectories(tmp_path, paths(2), 7)))) == {CHANGES}


def test_every_finding_of_a_whole_run_points_at_a_section(tmp_path: Path) -> None:
    own = tuned_findings.tuned(30, 3)
    units = tuned_findings.learn(tmp_path / "a", own, tuned_findings.tuned(25, 3, null=True))
    whole = make_artifacts(tmp_path / "b") | units | boundary_findings.all_artifacts(tmp_path / "c")
    run = source(make_ctx(tmp_path / "d", classes__labels=list(tuned_findings.LABELS)), whole)
    made, shown = answers(run), {section.anchor for section in build_sections(run)}
    assert set(made) == {LINK, REACHED, STANDS_OUT, CARRY, CROSS, CHANGES, TRUE}
    assert {one.anchor for one in made.values()} <= shown
    assert {warned.anchor for warned in warnings(run)} <= shown | {""}


def test_two_findings_of_one_order_are_refused() -> None:
    with pytest.raises(ValueError, match="link_explains and other have order 10"):

        @finding(10)
        def other(source: Any) -> Finding | None: ...
