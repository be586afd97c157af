"""A sweep ends in one page and one verdict, which tells everything that went wrong."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lis import callbacks
from lis.callbacks import SweepReport, failure


def job(folder: Path, **results: object) -> Path:
    """The folder of a job, with a composed configuration and JSON files by their names."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").touch()
    for name, value in results.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def test_failed_jobs_are_told_where_the_comparison_is_not_whole_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(jobs: list[Path], folder: Path) -> Path:
        raise RuntimeError("a figure cannot be drawn")

    monkeypatch.setattr(callbacks, "_compare", fail)
    job(tmp_path / "0", metrics={})
    job(tmp_path / "1", failure={"error": "no such unit"})
    with pytest.raises(SystemExit) as error:
        SweepReport().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    assert error.value.code == 1
    assert "a figure cannot be drawn" in caplog.text and "1 of 2 jobs failed" in caplog.text
    assert "no such unit" in caplog.text


def test_what_an_earlier_sweep_left_in_a_jobs_folder_is_no_result_of_this_one(tmp_path: Path) -> None:
    now = time.time()
    folder = job(tmp_path / "0", metrics={}, failure={"error": "of an earlier sweep"})
    for name in ("metrics.json", "failure.json"):
        os.utime(folder / name, (now - 100, now - 100))
    assert failure(folder) == "of an earlier sweep"
    assert failure(folder, now - 10) == "it ended without a result"
