"""Both trackers get the same numbers, figures and tables."""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest
from helpers.findings import make_artifacts
from helpers.wandb_records import artifacts, history, records
from matplotlib.figure import Figure

from lis.report.metrics import collect_metrics
from lis.report.section import COLLECTORS, discover
from lis.tracking import CsvTracker, Ended, Tracker, WandbTracker, track_stage

TABLE = pd.DataFrame({"unit": [0, 1], "status": ["live", "dead"], "mean": [0.5, float("nan")]})


def feed(tracker: Tracker, out: Path) -> None:
    Figure().savefig(out / "cycle.png")
    tracker.stage("link", {"link/r2": 0.5})
    tracker.table("link/units", TABLE)
    tracker.metrics({"mse_w/cycle": 1.5, "class_kept": 0.9})
    tracker.figure("cycle", out / "cycle.png")
    tracker.report(out, [out / "cycle.png"])
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
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    stage, whole = history(run)
    assert stage["link/r2"] == 0.5 and stage["tables/link/units/nrows"] == 2
    assert whole["class_kept"] == 0.9 and whole["figures/cycle/_type"] == "image-file"
    assert artifacts(run)["report"].keys() == {"cycle.png"}
    begun = next(each.run for each in records(run) if each.HasField("run"))
    assert {item.key: item.value_json for item in begun.config.update}["seed"] == "3"


class Noting(CsvTracker):
    """Remembers the numbers of stages."""

    def stage(self, name: str, numbers: Mapping[str, float]) -> None:
        self.numbers = dict(numbers)


def test_a_stage_tells_its_numbers_its_time_and_its_tables(tmp_path: Path) -> None:
    """Those of `metrics.json` and, of pairs, how many images were made and taken."""
    artifacts = make_artifacts(tmp_path / "store")
    tracker, pairs = Noting(tmp_path), artifacts["pairs/test"]
    track_stage(tracker, "pairs/test", pairs, Ended(1.5, cached=True))
    table, about = pairs.table("acceptance"), {"seconds": 1.5, "cached": 1.0}
    about |= {"images": table["drawn"].sum(), "samples": table["accepted"].sum()}
    expected = {f"stages/pairs/test/{name}": value for name, value in about.items()}
    assert tracker.numbers == expected | collect_metrics({"pairs/test": pairs})
    assert (tmp_path / "tables" / "pairs" / "test" / "acceptance.csv").is_file()
    track_stage(tracker, "link", artifacts["link"], Ended(0.25, cached=False))
    assert tracker.numbers["stages/link/cached"] == 0.0 and "stages/link/samples" not in tracker.numbers


def test_numbers_that_fail_cost_a_stage_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(artifact: object) -> dict[str, float]:
        raise KeyError("nowhere")

    discover()
    monkeypatch.setitem(COLLECTORS, "link", [failing, lambda _: {"link/r2": 0.5, "link/rank": float("nan")}])
    track_stage(tracker := Noting(tmp_path), "link", make_artifacts(tmp_path / "store")["link"], Ended(1, cached=False))
    assert tracker.numbers == {"link/r2": 0.5, "stages/link/seconds": 1, "stages/link/cached": 0.0}


def test_a_missing_wandb_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(ValueError, match="pip install"):
        WandbTracker(tmp_path)


_OFFLINE = """
import pathlib, socket, sys

def refuse(name, *rest, **options):
    pathlib.Path(sys.argv[1], "asked").open("a").write(f"{name}\\n")  # also by a thread, or when the program ends
    raise OSError("no network")

socket.getaddrinfo = socket.gethostbyname = refuse
connect = socket.socket.connect
socket.socket.connect = lambda self, to: connect(self, to) if self.family == socket.AF_UNIX else refuse(to)
from lis.tracking import WandbTracker
tracker = WandbTracker(pathlib.Path(sys.argv[1]), mode="offline")
tracker.metrics({"mse": 1.5})
tracker.finish()
"""


@pytest.mark.slow
def test_wandb_offline_looked_up_a_host_for_its_telemetry(tmp_path: Path) -> None:
    """Neither Python nor, where strace can watch it, the program that wandb starts looks for one."""
    pytest.importorskip("wandb")
    strace, log = shutil.which("strace"), tmp_path / "calls"
    watched = [strace, "-f", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(log)] if strace else []
    mentions = ("WANDB_", "PYTEST_", "CI")  # of a test, wandb reports nothing anyway
    environment = {name: value for name, value in os.environ.items() if not name.startswith(mentions)}
    command = [*watched, sys.executable, "-c", _OFFLINE, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "asked").exists(), (tmp_path / "asked").read_text()
    if strace:
        calls = log.read_text().splitlines()
        assert any("AF_UNIX" in call for call in calls), "strace saw nothing"
        assert not [call for call in calls if "AF_INET" in call]


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("x")']


def test_a_name_that_a_spreadsheet_took_for_a_formula_is_quoted(tmp_path: Path) -> None:
    """In a cell, a column's name and a category; numbers stay what they are, and so does any other text."""
    names = [*FORMULAS, "'quoted", "a=b", "two\rlines", ""]
    table = pd.DataFrame({"name": names, "=kind": pd.Categorical(names), "mean": [-0.5] * len(names), "n": -1})
    table["mixed"] = pd.Series([-0.5, *names[1:]], dtype=object)
    CsvTracker(tmp_path).table("link/units", table)
    text = (tmp_path / "tables" / "link" / "units.csv").read_bytes().decode()
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows[0] == ["name", "'=kind", "mean", "n", "mixed"]
    for name, row in zip(names, rows[1:], strict=True):
        quoted = (f"'{name}" if name in FORMULAS else name).replace("\r", "\n")
        assert row == [quoted, quoted, "-0.5", "-1", "-0.5" if name == names[0] else quoted]


def test_quoting_a_column_left_no_other_value_as_it_was(tmp_path: Path) -> None:
    """Whole numbers beside a gap became floats: 1 was written as 1.0, and 2^60 + 1 lost its last digits."""
    large = 2**60 + 1
    table = pd.DataFrame(
        {
            "count": pd.Series([1, None, large], dtype=object),
            "mixed": pd.Series([large, None, "=a"], dtype=object),
            "live": pd.Series([True, None, False], dtype=object),
            "gap": pd.Series([1, None, large], dtype="Int64"),
            "day": pd.to_datetime(["2020-01-01", None, "2021-01-01"]),
            "kind": pd.Categorical(["a", None, "b"]),
        }
    )
    CsvTracker(tmp_path).table("link/units", table)
    assert (tmp_path / "tables" / "link" / "units.csv").read_text() == (
        f"count,mixed,live,gap,day,kind\n1,{large},True,1,2020-01-01,a\n,,,,,\n{large},'=a,False,{large},2021-01-01,b\n"
    )


@pytest.mark.parametrize("names", [[0, 1], ["=x", "=x"], [None, 2.5]])
def test_columns_whose_names_are_no_text_or_the_same_could_not_be_quoted(names: list, tmp_path: Path) -> None:
    CsvTracker(tmp_path).table("link/units", pd.DataFrame([["=a", 1]], columns=names))
    header, row = (tmp_path / "tables" / "link" / "units.csv").read_text().splitlines()
    assert row == "'=a,1"
    assert header == ",".join({"=x": "'=x", None: ""}.get(name, str(name)) for name in names)


def test_metrics_of_a_class_that_is_named_like_a_formula(tmp_path: Path) -> None:
    """Its number is not quoted."""
    CsvTracker(tmp_path).metrics({"=cmd/loss": -0.5})
    assert (tmp_path / "metrics.csv").read_text() == "metric,value\n'=cmd/loss,-0.5\n"
