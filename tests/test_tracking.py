"""Both trackers get the same numbers, figures and tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from lis.tracking import CsvTracker, Tracker, WandbTracker

TABLE = pd.DataFrame({"unit": [0, 1], "status": ["live", "dead"], "mean": [0.5, float("nan")]})


def feed(tracker: Tracker, out: Path) -> None:
    Figure().savefig(out / "cycle.png")
    tracker.metrics({"mse_w/cycle": 1.5, "class_kept": 0.9})
    tracker.figure("cycle", out / "cycle.png")
    tracker.table("link/units", TABLE)
    tracker.finish()


def written(out: Path) -> None:
    assert pd.read_csv(out / "metrics.csv").set_index("metric")["value"].to_dict() == {
        "mse_w/cycle": 1.5,
        "class_kept": 0.9,
    }
    pd.testing.assert_frame_equal(pd.read_csv(out / "tables" / "link" / "units.csv"), TABLE)


def test_csv(tmp_path: Path) -> None:
    feed(CsvTracker(tmp_path), tmp_path)
    written(tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb")
def test_wandb_offline_writes_the_files_too(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text("seed: 3\n")
    feed(WandbTracker(tmp_path, mode="offline"), tmp_path)
    written(tmp_path)
    runs = list((tmp_path / "wandb").glob("offline-run-*"))
    assert len(runs) == 1 and list(runs[0].glob("*.wandb"))
    media = {file.suffix for file in (runs[0] / "files" / "media").rglob("*") if file.is_file()}
    assert media == {".png", ".json"}


def test_a_missing_wandb_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(ValueError, match="pip install"):
        WandbTracker(tmp_path)
