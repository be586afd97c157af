"""The tables of removal that `experiments/dissection_tables.py` prints of finished runs."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from helpers.commandline import ROOT

ROW = {"part": "eye", "baseline": 0.012, "change": 0.5, "control": 0.1, "low": -0.05, "high": 0.4}
FACTS = {"layer": "b8.1", "value": "zero", "value_quantile": 0.05, "samples": 100, "draws": 200}


def finished(root: Path, name: str, q: dict[int, float], **facts: Any) -> str:
    """Write a run of dogs whose removal has these q by the number of units; its folder."""
    folder, artifact = root / name, root / "store" / "dissect_gan" / name
    (folder / ".hydra").mkdir(parents=True)
    artifact.mkdir(parents=True)
    settings = {"tuning": {"along": "link"}, "counterfactuals": {"objective": "image"}}
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(settings))
    summary = {"choices": {"classes": "dogs"}, "artifacts": {"dissect_gan": name}}
    (folder / "summary.json").write_text(json.dumps(summary))
    (artifact / "facts.json").write_text(json.dumps(FACTS | facts))
    pd.DataFrame([ROW | {"units": n, "q": value} for n, value in q.items()]).to_parquet(artifact / "removal.parquet")
    return str(folder)


def test_runs_are_told_by_layer_value_and_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        finished(tmp_path, "a", {4: 0.013, 8: 0.3}),
        finished(tmp_path, "b", {4: 0.051}, value="quantile"),
        finished(tmp_path, "c", {4: 0.05}, samples=40),
        finished(tmp_path, "d", {4: 0.2}, samples=40),
    ]
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    tables = import_module("dissection_tables")
    monkeypatch.setattr("sys.argv", ["dissection_tables.py", *runs, "--store", str(tmp_path / "store")])
    tables.print_tables(tables.TABLES, "")
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:8] == [
        "| run | parts | n = 4 | n = 8 |",
        "| --- | --- | --- | --- |",
        "| dogs, b8.1, zero, 100 samples, 200 draws | 1 | 1 | 0 |",
        "| dogs, b8.1, quantile 0.05, 100 samples, 200 draws | 1 | 0 | – |",
        "| dogs, b8.1, zero, 40 samples, 200 draws | 1 | 1 | – |",
        "| dogs, b8.1, zero, 40 samples, 200 draws | 1 | 0 | – |",
    ]
    assert [line for line in lines if line.startswith("### ")] == [
        f"### {line.split(' | ')[0][2:]}" for line in lines[4:8]
    ]
    assert "| eye | 1.2 % | 50 % | 10 % (-5 to 40) | **0.013** | 50 % | 10 % (-5 to 40) | 0.300 |" in lines
    assert "| eye | 1.2 % | 50 % | 10 % (-5 to 40) | 0.051 |" in lines
