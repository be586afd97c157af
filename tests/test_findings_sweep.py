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
    assert made.control.startswith("q < 0.001, 9 comparisons by Wilcoxon's test on shared test images")


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
        test: Any = wilcoxon(first, second)
        p.append(test.pvalue)
        gains.append(1 - min(sum(first), sum(second)) / max(sum(first), sum(second)))
    made = compared(jobs, "classifier")
    np.testing.assert_allclose([one.p for one in made], p)
    np.testing.assert_allclose([one.q for one in made], benjamini_hochberg(np.array(p)))
    np.testing.assert_allclose([one.gain for one in made], gains)
    assert [one.samples for one in made] == [24, 15, 24, 15, 24, 15]


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
