"""A sweep ends in one page and one verdict, which tells everything that went wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from lis import callbacks
from lis.callbacks import SweepReport, failure, sweep_jobs, versions


def job(folder: Path, **results: object) -> Path:
    """The folder of a job, with a composed configuration and JSON files by their names."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").touch()
    for name, value in results.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def config_of(folder: Path) -> DictConfig:
    """As much of a sweep's configuration as is asked for."""
    return OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}, "runtime": {"cwd": str(folder)}}, "store": "s"})


def test_failed_jobs_are_told_where_the_comparison_is_not_whole_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a figure cannot be drawn")

    monkeypatch.setattr(callbacks, "_compare", fail)
    job(tmp_path / "0", metrics={})
    job(tmp_path / "1", failure={"error": "no such unit"})
    with pytest.raises(SystemExit) as error:
        SweepReport().on_multirun_end(config_of(tmp_path))
    assert error.value.code == 1
    assert "a figure cannot be drawn" in caplog.text and "1 of 2 jobs failed" in caplog.text
    assert "no such unit" in caplog.text


def test_of_a_sweep_of_plans_and_runs_the_runs_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compared: list[Path] = []
    monkeypatch.setattr(callbacks, "_compare", lambda jobs, *_: compared.extend(jobs))
    caplog.set_level("INFO")
    plan = {"passes": 1000, "reads": 0, "backwards": 0, "seconds": 100.0, "bytes": 2 * 10**9, "inodes": 5}
    job(tmp_path / "0", plan=plan)
    SweepReport().on_multirun_end(config_of(tmp_path))
    assert "1,000 generator passes" in caplog.text and not compared and not (tmp_path / "jobs.csv").exists()
    run = job(tmp_path / "1", metrics={})
    SweepReport().on_multirun_end(config_of(tmp_path))
    assert compared == [run] and caplog.text.count("1,000 generator passes") == 2
    (run / "metrics.json").unlink()
    with pytest.raises(SystemExit):
        SweepReport().on_multirun_end(config_of(tmp_path))
    assert "it ended without a result" in (tmp_path / "jobs.csv").read_text()


def test_what_an_earlier_sweep_left_a_moment_ago_is_no_result_of_this_one(tmp_path: Path) -> None:
    folder = job(tmp_path / "0", metrics={}, failure={"error": "of an earlier sweep"})
    assert sweep_jobs(tmp_path, {}) == [folder] and failure(folder, {}) == "of an earlier sweep"
    earlier = versions(tmp_path)
    assert sweep_jobs(tmp_path, earlier) == [] and failure(folder, earlier) == "it ended without a result"


def test_what_this_sweep_writes_anew_is_its_result(tmp_path: Path) -> None:
    folder = job(tmp_path / "0", metrics={}, failure={"error": "of an earlier sweep"})
    earlier = versions(tmp_path)
    for name in (".hydra/config.yaml", "metrics.json"):
        (folder / "draft").write_bytes((folder / name).read_bytes())
        (folder / "draft").replace(folder / name)
    assert sweep_jobs(tmp_path, earlier) == [folder] and failure(folder, earlier) is None


def test_a_sweep_at_once_after_another_counts_none_of_its_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(callbacks, "_compare", lambda jobs, *_: pytest.fail(f"{jobs} are compared"))
    folder = job(tmp_path / "0", metrics={})
    report, config = SweepReport(), config_of(tmp_path)
    report.on_multirun_start(config)
    (folder / ".hydra" / "config.yaml").write_text("device: abacus")
    (folder / "failure.json").write_text(json.dumps({"error": "unknown device"}))
    with pytest.raises(SystemExit):
        report.on_multirun_end(config)
    assert "1 of 1 jobs failed" in caplog.text and "is not whole" not in caplog.text
