"""What the runs of a sweep say together, on test samples whose differences are known."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.findings import make_job
from scipy.stats import t as student
from scipy.stats import wilcoxon

from lis.report.comparison import write_comparison
from lis.report.findings import Finding, findings, warnings
from lis.report.jobs import Job, load_jobs
from lis.report.paired import Comparison, compared, winner
from lis.statistics import benjamini_hochberg

CLASSIFIER, LINEAR, LINK = (
    "Which classifier has the best link?",
    "Which classifier has the best linear link?",
    "Which link is best?",
)
Run = tuple[str, str, str, float]
"""Classifier, classes, link, and what the error of its test samples is multiplied by."""


def sweep(root: Path, *runs: Run, noise: float = 0.0, metrics: dict[str, float] | None = None) -> list[Job]:
    """Jobs whose errors are those of the same samples, times a factor and noise of their own."""
    jobs = []
    for k, (net, classes, link, scale) in enumerate(runs):
        within = {"mse_w/ratio_within_class": 0.25 * scale} | (metrics or {})
        folder = make_job(root / str(k), link, scale, labels={"classifier": net, "classes": classes}, metrics=within)
        file, rng = folder / "tables/evaluation/samples.parquet", np.random.default_rng(k)
        table = pd.read_parquet(file)
        table.assign(value=table["value"] * rng.lognormal(0, noise, len(table))).to_parquet(file)
        jobs.append(folder)
    return load_jobs(jobs)[0]


def said(jobs: list[Job]) -> dict[str, Finding]:
    return {one.question: one for one in findings(jobs, "comparison")}


def test_a_classifier_that_is_best_everywhere_is_named_with_the_next(tmp_path: Path) -> None:
    nets = (("DenseNet-201", 1.0), ("AlexNet", 2.0), ("VGG-16", 1.25))
    runs = [(net, classes, "lr", scale) for classes in ("dogs", "fungi", "birds") for net, scale in nets]
    made = said(sweep(tmp_path, *runs))[LINEAR]
    assert made.value == "DenseNet-201"
    assert made.sentence == (
        "DenseNet-201 has the best linear link in all 3 class sets: its error in W is 20 % smaller than that of the "
        "next best, VGG-16."
    )
    assert made.control.startswith("q < 0.001, 9 comparisons by paired t tests on shared test images")


def test_who_is_best_in_some_settings_and_nobody_in_others(tmp_path: Path) -> None:
    runs = [("A", "dogs", "lr", 1.0), ("B", "dogs", "lr", 2.0), ("A", "fungi", "lr", 1.0), ("B", "fungi", "lr", 2.0)]
    runs += [("A", "birds", "lr", 2.0), ("B", "birds", "lr", 1.0), ("A", "fish", "lr", 1.0), ("B", "fish", "lr", 1.0)]
    made = said(sweep(tmp_path, *runs))[LINEAR]
    assert made.value == "A: 2 of 4" and "in 2 of 4 class sets: its error in W is 50 % smaller" in made.sentence
    assert made.sentence.endswith("Best in the others: B in 1 and nobody in 1.")


def test_links_are_compared_within_classifiers_and_classifiers_within_links(tmp_path: Path) -> None:
    runs = [
        ("A", "dogs", "lr", 1.0),
        ("A", "dogs", "fc_l1", 0.8),
        ("B", "dogs", "lr", 2.0),
        ("B", "dogs", "fc_l1", 1.9),
    ]
    made = said(sweep(tmp_path, *runs))
    assert made[CLASSIFIER].value == "A" and "with both links: its error in W is 50 % to" in made[CLASSIFIER].sentence
    assert made[LINK].value == "FC-L1" and "with both classifiers: its error in W is 5 % to 20 %" in made[LINK].sentence


def test_noise_is_a_tie(tmp_path: Path) -> None:
    made = said(sweep(tmp_path, ("A", "dogs", "lr", 1.0), ("B", "dogs", "lr", 1.0), noise=0.3))[LINEAR]
    assert made.value == "a tie" and made.sentence.startswith("None is called best") and "at best" in made.control


def test_one_run_is_compared_with_nothing(tmp_path: Path) -> None:
    made = said(sweep(tmp_path, ("A", "dogs", "lr", 1.0)))
    assert set(made) == {"Which run is best?", "Do the links explain?"}
    assert made["Which run is best?"].sentence == "A single run has a result: nothing is compared."


def test_runs_without_a_sample_in_common_are_not_compared(tmp_path: Path) -> None:
    jobs = sweep(tmp_path, ("A", "dogs", "lr", 1.0), ("B", "dogs", "lr", 2.0))
    samples: Any = jobs[1].samples
    apart = replace(jobs[1], samples=samples.assign(sample_index=samples["sample_index"] + 100))
    for other in (apart, replace(jobs[1], samples=None)):
        made = said([jobs[0], other])[LINEAR]
        assert made.value == "undecided" and "share test images" in made.sentence


def test_p_and_q_are_those_of_all_pairs_on_shared_samples(tmp_path: Path) -> None:
    jobs = sweep(tmp_path, *((net, "dogs", "lr", 1.0 + 0.05 * k) for k, net in enumerate("ABCD")), noise=0.1)
    fewer: Any = jobs[2].samples
    jobs[2] = replace(jobs[2], samples=fewer[fewer["sample_index"] < 5].sample(frac=1, random_state=0))
    values = []
    for job in jobs:
        table: Any = job.samples
        rows = table[(table["metric"] == "mse_w") & (table["pairing"] == "cycle")]
        values.append({(row["class"], row["sample_index"]): row["value"] for row in rows.to_dict("records")})
    p, gains = [], []
    for a, b in combinations(values, 2):
        shared = sorted(set(a) & set(b))
        first, second = ([x[key] for key in shared] for x in (a, b))
        difference = np.subtract(first, second)
        statistic = difference.mean() / (difference.std(ddof=1) / len(shared) ** 0.5)
        p.append(2 * student.sf(abs(statistic), len(shared) - 1))
        gains.append(1 - min(sum(first), sum(second)) / max(sum(first), sum(second)))
    made = compared(jobs, "classifier")
    np.testing.assert_allclose([one.p for one in made], p)
    np.testing.assert_allclose([one.q for one in made], benjamini_hochberg(np.array(p)))
    np.testing.assert_allclose([one.gain for one in made], gains)
    assert [one.samples for one in made] == [24, 15, 24, 15, 24, 15]


def with_errors(job: Job, values: np.ndarray) -> Job:
    """The same run with these errors in W, in the order of its test samples."""
    samples: Any = job.samples
    cycle = (samples["metric"] == "mse_w") & (samples["pairing"] == "cycle")
    return replace(job, samples=samples[cycle].assign(value=values))


def test_a_few_large_errors_turn_neither_the_direction_nor_the_test(tmp_path: Path) -> None:
    """B's error is smaller in 22 of 24 samples, its mean larger by the other two: ranks alone would say B."""
    jobs = sweep(tmp_path, ("A", "dogs", "lr", 1.0), ("B", "dogs", "lr", 1.0))
    base = np.linspace(0.9, 1.1, 24)
    other = base - np.linspace(0.02, 0.06, 24)
    other[:2] = 3.0, 4.0
    assert other.mean() > base.mean() and wilcoxon(base, other).pvalue < 0.05  # pyright: ignore[reportAttributeAccessIssue]
    made = [with_errors(jobs[0], base), with_errors(jobs[1], other)]
    assert said(made)[LINEAR].value == "a tie" and compared(made, "classifier")[0].better == "A"


def test_links_of_equal_mean_error_are_seldom_called_different(tmp_path: Path) -> None:
    """About 5 % where errors are distributed alike; 11 % of tests of means where they are not, 23 % of ranks."""
    jobs = sweep(tmp_path, ("A", "dogs", "lr", 1.0), ("B", "dogs", "lr", 1.0))
    rng = np.random.default_rng(0)
    for spread, most in (((0.8, 0.8), 0.08), ((0.3, 1.0), 0.2)):
        drawn = [[rng.lognormal(-(std**2) / 2, std, 24) for std in spread] for _ in range(60)]
        made = [compared(list(map(with_errors, jobs, errors)), "classifier") for errors in drawn]
        assert np.mean([bool(winner(pair)) for pair in made]) <= most


def test_runs_that_could_not_be_compared_are_named(tmp_path: Path) -> None:
    jobs = sweep(tmp_path, *((net, "dogs", "lr", scale) for net, scale in (("A", 1.0), ("B", 2.0), ("C", 0.1))))
    made = said([*jobs[:2], replace(jobs[2], samples=None)])[LINEAR]
    told = "Not compared, for no run that differs in the classifier alone shares test images with it: C."
    assert made.value == "A" and made.sentence.endswith(told)
    assert "Not compared" not in said(jobs)[LINEAR].sentence
    twins = sweep(tmp_path / "twins", *((net, "dogs", "lr", 1.0) for net in "ABC"), noise=0.3)
    tied = said([*twins[:2], replace(twins[2], samples=None)])[LINEAR]
    assert tied.value == "a tie" and tied.sentence.endswith(told)


def test_the_best_beats_every_other() -> None:
    def one(better: str, worse: str, q: float) -> Comparison:
        return Comparison("", better, worse, 0.1, 9, q, q)

    assert winner([one("a", "b", 0.01), one("a", "c", 0.05), one("b", "c", 0.9)]) == "a"
    assert winner([one("a", "b", 0.01), one("a", "c", 0.06), one("b", "c", 0.01)]) == ""
    assert winner([one("a", "b", 0.01), one("b", "c", 0.01), one("c", "a", 0.01)]) == ""


def test_runs_that_explain_nothing_within_a_class_are_counted_and_warned_of(tmp_path: Path) -> None:
    jobs = sweep(tmp_path, ("A", "dogs", "lr", 1.0), ("B", "dogs", "lr", 1.9))
    made = said(jobs)["Do the links explain?"]
    assert made.sentence == (
        "In 1 of 2 runs the link predicts w on new images better than the mean of the class does: R² within a class is "
        "0.050 (B) to 0.50 (A)."
    )
    (warned,) = warnings(jobs, "comparison")
    assert warned.sentence.startswith("In 1 of 2 runs") and "0.1 or less): B." in warned.sentence
    nothing = sweep(tmp_path / "none", ("A", "dogs", "lr", 2.0), ("B", "dogs", "lr", 2.2))
    assert "In none of 2 runs" in said(nothing)["Do the links explain?"].sentence
    assert warnings(jobs[:1], "comparison") == []


def test_reached_units_are_told_where_they_were_counted(tmp_path: Path) -> None:
    jobs = sweep(tmp_path, ("A", "dogs", "lr", 1.0), ("B", "dogs", "lr", 2.0))
    assert "How many units are reached?" not in said(jobs)
    counted = [replace(job, metrics={**job.metrics, "units/reached": 0.1 * k}) for k, job in enumerate(jobs, 1)]
    made = said(counted)["How many units are reached?"]
    assert made.value == "10 % to 20 %" and "In 2 runs, 10 % (A) to 20 % (B)" in made.sentence


def test_the_page_of_a_sweep_is_given_its_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def render(template: str, path: Path, **values: Any) -> Path:
        given.update(values)
        path.write_text(json.dumps(template))
        return path

    monkeypatch.setattr("lis.report.comparison.render", render)
    jobs = sweep(tmp_path, ("A", "dogs", "lr", 1.0), ("B", "dogs", "lr", 2.0))
    write_comparison([job.folder for job in jobs], tmp_path / "out")
    assert given["findings"] == findings(jobs, "comparison") and given["warnings"] == warnings(jobs, "comparison")
    anchors = {section.anchor for section in given["sections"]} | {"runs"}
    assert {one.anchor for one in [*given["findings"], *given["warnings"]]} <= anchors
