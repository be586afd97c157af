"""Every experiment through the real command line: at smoke size, and with its bounds at its full size."""

from __future__ import annotations

from pathlib import Path

import pytest
from commandline import ROOT, SMALL, lis, metrics

EXPERIMENTS = sorted(file.stem for file in (ROOT / "conf" / "experiment").glob("*.yaml"))
BOUNDS = {
    "partnet": {"mse_w/ratio_random": 0.25, "pixel_l2/ratio_random": 0.28},
    "partnet_attributes": {"mse_w/ratio_random": 0.15, "pixel_l2/ratio_random": 0.15},
}
"""Largest distance after the cycle, relative to random pairs, with the linear link."""


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_ends_in_a_page(experiment: str, tmp_path: Path) -> None:
    code, output = lis(f"+experiment={experiment}", *SMALL, "hydra.run.dir=run", "hydra.sweep.dir=run", cwd=tmp_path)
    assert code == 0, output
    assert (tmp_path / "run" / "report.html").stat().st_size > 50_000
    assert (ROOT / "experiments" / experiment / "README.md").exists()


@pytest.mark.full
@pytest.mark.parametrize("classes", ["dogs", "fungi", "birds"])
@pytest.mark.parametrize("classifier", BOUNDS)
def test_the_linear_link_reaches_its_bounds(classifier: str, classes: str, tmp_path: Path) -> None:
    code, output = lis(
        f"classifier={classifier}", f"classes={classes}", "hydra.run.dir=run", cwd=tmp_path, timeout=1800
    )
    assert code == 0, output
    found = metrics(tmp_path / "run")
    for name, bound in BOUNDS[classifier].items():
        assert found[name] <= bound, f"{name} is {found[name]:.3f}"
    assert found["class_kept"] >= 0.85
