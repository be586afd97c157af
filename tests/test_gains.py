"""What a link gains over least squares, against loops and resampling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import findings
from helpers.findings import make_job

from lis.report.gains import gain_table, gains, ratio_of_means
from lis.report.jobs import load_jobs


def test_ratio_is_that_of_the_means_and_its_interval_that_of_resampling() -> None:
    rng = np.random.default_rng(0)
    reference = rng.lognormal(0, 0.5, 400)
    values = 0.8 * reference * rng.lognormal(0, 0.2, 400)
    ratio, margin = ratio_of_means(values, reference)
    assert ratio == pytest.approx(sum(values) / sum(reference))
    rows = rng.integers(400, size=(4000, 400))
    resampled = values[rows].mean(1) / reference[rows].mean(1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    assert margin == pytest.approx((high - low) / 2, rel=0.08)


def test_one_sample_has_no_interval() -> None:
    ratio, margin = ratio_of_means(np.array([2.0]), np.array([4.0]))
    assert ratio == 0.5 and np.isnan(margin)


@pytest.fixture
def sweep(tmp_path: Path) -> list[Path]:
    runs = [("A", "lr", 1.0), ("A", "fc_l1", 0.8), ("A", "ridge", 1.1), ("B", "lr", 2.0), ("B", "fc_l1", 1.9)]
    return [make_job(tmp_path / f"{net}-{link}", link, scale, labels={"classifier": net}) for net, link, scale in runs]


def test_gains_are_against_least_squares_of_the_same_classifier(sweep: list[Path]) -> None:
    """A job's samples are those of another times its scale."""
    table = gain_table(load_jobs(sweep)[0])
    expected = {("A", "fc_l1"): 0.2, ("A", "ridge"): -0.1, ("B", "fc_l1"): 0.05}
    rows = table.to_dict("records")
    assert {(row["inner"], row["link"], row["metric"]) for row in rows} == {
        (*key, metric) for key in expected for metric in findings.METRICS
    }
    for row in rows:
        assert row["gain"] == pytest.approx(expected[row["inner"], row["link"]])
        assert row["margin"] == pytest.approx(0, abs=1e-9)


def test_only_samples_of_both_are_compared(sweep: list[Path]) -> None:
    """Whatever order they are in."""
    file = sweep[1] / "tables/evaluation/samples.parquet"
    whole = pd.read_parquet(file)
    own = (whole["pairing"] == "cycle") & (whole["sample_index"] < 6)
    changed = whole.assign(value=whole["value"].where(own, 1e3)).sample(frac=1, random_state=0)
    changed[changed["sample_index"] < 6].to_parquet(file)
    table = gain_table(load_jobs(sweep)[0])
    assert table[(table["inner"] == "A") & (table["link"] == "fc_l1")]["gain"].tolist() == pytest.approx([0.2] * 3)


def test_the_best_link_of_each_classifier_is_named_from_the_largest_gain(sweep: list[Path]) -> None:
    section = gains(load_jobs(sweep)[0])
    assert section is not None
    assert section.lead == "What the best other link gains over LR in MSE in W: A: +20.0 % (FC-L1); B: +5.0 % (FC-L1)."
    assert section.tables[0].columns == ["", "link", "MSE in W", "Pixel L2", "Distance in R"]
    assert section.tables[0].rows[1] == ["A", "Ridge", *["−10.0 ± 0.0 %"] * 3]
    assert [picture.name for picture in section.figures] == ["gains-1"]


def test_without_least_squares_there_is_nothing_to_gain_over(tmp_path: Path) -> None:
    jobs = [make_job(tmp_path / link, link) for link in ("ridge", "fc_l1")]
    assert gains(load_jobs(jobs)[0]) is None
    assert gains(load_jobs([make_job(tmp_path / "0")])[0]) is None
