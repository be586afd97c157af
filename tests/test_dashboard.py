"""A run on a dashboard: what is written is read back, and neither wandb nor the network stops the run it shows."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.wandb_records import artifacts, history, records
from helpers.wandb_server import serving
from matplotlib.figure import Figure
from omegaconf import DictConfig

from lis import callbacks, dashboard, upload
from lis.dashboard import Dashboard, present, show_sweep
from lis.folder import record
from lis.tracking import WandbTracker

wandb = pytest.importorskip("wandb")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb")]
TABLE = pd.DataFrame({"unit": [0, 1], "status": ["live", None], "kind": pd.Categorical(["a", "b"]), 3: [0.5, 1.0]})


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A socket that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def address(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def fill(board: Dashboard, out: Path) -> None:
    """Two steps, a table, a picture and an artifact."""
    Figure().savefig(out / "cycle.png")
    (out / "report.html").write_text("<p>A page.</p>")
    board.log({"r2": 0.5})
    board.table("tables/link/units", TABLE)
    board.log({"r2": 0.6, "class_kept": 1})
    board.image("figures/cycle", out / "cycle.png")
    board.files("report", "report", out, [out / "report.html"])
    board.finish()


def told(caplog: pytest.LogCaptureFixture, least: int = logging.WARNING) -> list[str]:
    """What a person reads of the dashboard."""
    return [each.getMessage() for each in caplog.records if each.name == "lis.dashboard" and each.levelno >= least]


def runs(out: Path) -> list[Path]:
    return sorted((out / "wandb").glob("offline-run-*"))


def test_a_run_again_in_its_folder_goes_on_and_all_of_both_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first is offline, as without a network; the second sends both, and overwrites nothing of the first."""
    fill(first := Dashboard(tmp_path, "lis", "offline", {"seed": 3}, name="first", group="a/b"), tmp_path)
    (folder,) = runs(tmp_path)
    rows = history(folder)
    assert [row["_step"] for row in rows] == [0, 1] and [row["r2"] for row in rows] == [0.5, 0.6]
    assert rows[0]["tables/link/units/nrows"] == 2 and rows[1]["figures/cycle/_type"] == "image-file"
    copy = artifacts(folder)["report"]["report.html"]
    assert copy.read_bytes() == (tmp_path / "report.html").read_bytes() and tmp_path in copy.parents
    begun = next(each.run for each in records(folder) if each.HasField("run"))
    assert (begun.run_id, begun.run_group, begun.resumed) == (first.id, "a/b", False)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.address)
        monkeypatch.setattr(dashboard, "_server_with_key", lambda _: server.address)
        fill(second := Dashboard(tmp_path, "lis", "online", name="second"), tmp_path)
    assert second.id == first.id and [row["_step"] for row in history(runs(tmp_path)[1])] == [2, 3]
    assert [row["_step"] for row in server.history[first.id]] == [0, 1, 2, 3]
    assert server.artifacts.count("report") == 2 and server.artifacts.count("run_table") == 2
    assert server.groups == {first.id: "a/b"} and not told(caplog)


def test_a_server_that_refuses_costs_a_warning_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, silent: socket.socket
) -> None:
    refusing = address(silent)
    silent.close()
    monkeypatch.setattr(dashboard, "_server_with_key", lambda _: refusing)
    fill(Dashboard(tmp_path, "lis", "online", name="run"), tmp_path)
    (warning,) = told(caplog)
    assert f"{refusing} cannot be reached" in warning and f"`wandb sync {tmp_path / 'wandb'}` sends it" in warning
    assert [row["_step"] for row in history(runs(tmp_path)[0])] == [0, 1]


def test_a_server_that_says_nothing_is_waited_for_no_longer_than_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, silent: socket.socket
) -> None:
    monkeypatch.setattr(dashboard, "UPLOAD", 0.2)
    monkeypatch.setattr(dashboard, "_server_with_key", lambda _: address(silent))
    board = Dashboard(tmp_path, "lis", "online", name="run")
    assert board._upload is not None
    process = board._upload._process
    fill(board, tmp_path)
    assert "not all was sent within 0.2 s" in caplog.text and process.poll() is not None
    assert [row["_step"] for row in history(runs(tmp_path)[0])] == [0, 1]


def test_what_is_asked_of_a_server_is_bounded(monkeypatch: pytest.MonkeyPatch, silent: socket.socket) -> None:
    monkeypatch.setattr(upload, "PATIENCE", 0.1)
    with pytest.raises(OSError, match=r"has not answered for 0\.1 s|cannot be reached \(ReadTimeout\)"):
        upload.require_answer(address(silent))
    with serving() as server:
        upload.require_answer(server.address)


class Failing:
    """A run of wandb that fails at everything."""

    dir = "nowhere"

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"{name} is broken")


def test_what_wandb_raises_is_one_warning_and_the_files_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(wandb, "init", lambda **_: Failing())
    tracker = WandbTracker(tmp_path)
    (tmp_path / "wandb").mkdir()
    tracker.stage("link", {"r2": 0.5})
    tracker.table("link/units", TABLE)
    tracker.metrics({"r2": 0.5})
    tracker.figure("cycle", tmp_path / "cycle.png")
    tracker.report(tmp_path, [])
    tracker.finish()
    assert told(caplog) == ["wandb failed at numbers (RuntimeError: log is broken); the run goes on without"]
    assert "finish is broken" in caplog.text
    assert len(pd.read_csv(tmp_path / "tables" / "link" / "units.csv")) == 2 and (tmp_path / "metrics.csv").is_file()


def test_a_wandb_that_cannot_begin_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def init(**_: Any) -> None:
        raise OSError("no room")

    monkeypatch.setattr(wandb, "init", init)
    fill(Dashboard(tmp_path, "lis", "offline", name="run"), tmp_path)
    assert told(caplog) == ["wandb cannot begin (OSError: no room); the run goes on without"]


def test_online_without_a_key_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", os.devnull)
    with pytest.raises(ValueError, match=r"no key for http.* is known; expected `wandb login`.*logger\.mode=offline"):
        Dashboard(tmp_path, "lis", "online", name="run")


@pytest.mark.parametrize("content", ["{", '{"id": 3}', '{"id": "a", "step": "b"}'])
def test_a_damaged_note_of_the_run_begins_anew(content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "resume.json").write_text(content)
    name, step = dashboard._resumed(tmp_path / "resume.json")
    assert len(name) == 8 and step == -1 and "remove it, and the run begins anew" in caplog.text


def test_what_a_sweep_shows_are_its_jobs_with_their_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(dashboard, "show_sweep", lambda *given: told.append(given))
    for number in range(2):
        (tmp_path / str(number) / ".hydra").mkdir(parents=True)
        (tmp_path / str(number) / ".hydra" / "overrides.yaml").write_text(f"- seed={number}\n- link=lr\n")
        (tmp_path / str(number) / "metrics.json").write_text(f'{{"r2": 0.{number}}}')
    config = DictConfig({"logger": {"project": "birds"}})
    callbacks._show([callbacks.outcome(tmp_path / str(k), {}) for k in range(2)], tmp_path, config)
    ((logger, folder, jobs),) = told
    assert (logger, folder) == ({"project": "birds"}, tmp_path)
    assert jobs[["job", "overrides", "status", "r2"]].values.tolist() == [
        [str(k), f"seed={k} link=lr", "done", k / 10] for k in range(2)
    ]


def test_a_sweep_is_one_group_with_one_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A table of more rows than wandb takes in good time stays in its file, and the log says so."""
    caplog.set_level(logging.INFO)
    sweep = tmp_path / "2026-11-29" / "16-00-00"
    (sweep / "figures").mkdir(parents=True)
    files = [sweep / "report.html", sweep / "figures" / "a.png"]
    record(sweep, [*files, sweep / "gone.txt"])
    for file in files:
        file.write_text(file.name)
    assert sorted(present(sweep)) == sorted(files)
    rows = pd.DataFrame({"job": ["0", "1"], "overrides": ["seed=0", "seed=1"], "r2": [0.5, 1.5]})
    show_sweep({"_target_": "lis.tracking.CsvTracker"}, sweep, rows)
    show_sweep({"_target_": "lis.tracking.WandbTracker", "project": "lis", "mode": "offline"}, sweep, rows.iloc[:0])
    assert not (sweep / "wandb").exists()
    show_sweep({"_target_": "lis.tracking.WandbTracker", "project": "lis", "mode": "offline"}, sweep, rows)
    (folder,) = runs(sweep)
    begun = next(each.run for each in records(folder) if each.HasField("run"))
    assert (begun.run_group, begun.job_type) == ("2026-11-29/16-00-00", "comparison")
    assert history(folder)[0]["comparison/nrows"] == 2
    assert artifacts(folder)["report"].keys() == {"report.html", "figures/a.png"}
    monkeypatch.setattr(dashboard, "ROWS", 1)
    board = Dashboard(tmp_path, "lis", "offline", name="run")
    board.table("many", TABLE)
    board.finish(failed=True)
    assert records(runs(tmp_path)[0])[-1].exit.exit_code == 1 != records(folder)[-1].exit.exit_code
    assert "many has 2 rows, more than 1: it is in its file alone" in caplog.text
