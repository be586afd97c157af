"""A run's folder holds what the last run there wrote, and what others put there."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from helpers.commandline import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from lis.config import conf_folder
from lis.folder import RECORD, clear, record, recorded, staged
from lis.job import main
from lis.lock import owner
from lis.stopping import Stop
from lis.tracking import track

GONE = f"4194305.{owner().partition('.')[2]}"  # beyond what a process can be numbered


def write(out: Path, *lines: object) -> None:
    """A record as another run left it."""
    (out / RECORD).write_text("\n".join(json.dumps(line) for line in lines))


def files(out: Path) -> set[str]:
    return {str(file.relative_to(out)) for file in out.rglob("*") if file.is_file()}


def test_what_was_recorded_is_removed_with_its_folders_and_nothing_else(tmp_path: Path) -> None:
    names = ("report.html", "figures/cycle.png", "tables/link/units.csv", "tables/mine/notes.csv")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    record(tmp_path, [tmp_path / name for name in names[:2]])
    record(tmp_path, [tmp_path / names[2], tmp_path / "never-written.json"])
    clear(tmp_path)
    assert files(tmp_path) == {"tables/mine/notes.csv"}
    assert not (tmp_path / "figures").exists() and not (tmp_path / "tables" / "link").exists()


def test_a_record_that_names_files_elsewhere_or_is_damaged_removes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (tmp_path / "precious").touch()
    (out / "elsewhere").symlink_to(tmp_path)
    names = ["../precious", str(tmp_path / "precious"), "elsewhere/precious", "../run/../precious"]
    for text in (
        json.dumps({"lis": 1, "files": names}),
        "{",
        "7",
        "[7]",
        '{"lis": 1, "files": 7}',
        '{"lis": 1}',
        "\xff",
    ):
        (out / RECORD).write_text(text)
        clear(out)
    assert (tmp_path / "precious").exists() and not files(out) and (out / "elsewhere").is_symlink()


def test_a_persons_own_list_and_folders_of_a_like_name_are_left(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    for name in ("files.json", RECORD):
        (tmp_path / name).write_text('["thesis.txt"]')
    for name in (".draft-4194305", ".draft-notes", f".lis-draft-{'0' * 32}"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "chapter.txt").touch()
    (tmp_path / ".draft-999999").touch()
    before = files(tmp_path) - {RECORD}
    clear(tmp_path)
    assert files(tmp_path) == before


def test_a_record_of_odd_names_ends_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "page.html").touch()
    write(
        tmp_path, {"lis": 1, "files": ["", ".", "..", "notes", "a\0b", "x" * 300, "circle/a", "\udc80", "page.html", 7]}
    )
    clear(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"notes", "circle"}
    assert "is not removed" in caplog.text


def test_a_file_that_cannot_be_removed_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: Path) -> None:
        raise PermissionError(13, "Permission denied", str(file))

    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "a.png").touch()
    record(tmp_path, [tmp_path / "figures" / "a.png"])
    monkeypatch.setattr(Path, "unlink", refuse)
    clear(tmp_path)
    assert "figures/a.png" in caplog.text and files(tmp_path) == {"figures/a.png", RECORD}


def test_half_a_line_of_a_killed_run_costs_that_line_only(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).touch()
        record(tmp_path, [tmp_path / name])
        with (tmp_path / RECORD).open("a") as stream:
            stream.write('{"lis": 1, "fil')
    assert recorded(tmp_path) == ["a", "b"]
    clear(tmp_path)
    assert not files(tmp_path)


def test_a_run_that_is_killed_while_it_records_leaves_nothing_behind(tmp_path: Path) -> None:
    program = """
import os, sys
from pathlib import Path
from lis.folder import record
Path.replace = Path.rename = os.replace = lambda *a: os._exit(9)
record(Path(sys.argv[1]), [Path(sys.argv[1]) / "a"])
"""
    subprocess.run([sys.executable, "-c", program, tmp_path], cwd=ROOT, check=False)
    clear(tmp_path)
    assert not files(tmp_path)


def test_a_failure_leaves_what_it_wrote_recorded(tmp_path: Path) -> None:
    def fail() -> None:
        with staged(tmp_path) as draft:
            (draft / "figures").mkdir()
            (draft / "figures" / "a.png").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert files(tmp_path) == {"figures/a.png", RECORD} and recorded(tmp_path) == ["figures/a.png"]


def write_page(out: Path) -> None:
    with staged(out) as draft:
        (draft / "figures").mkdir()
        for name in ("figures/a.png", "metrics.csv", "report.html"):
            (draft / name).touch()


def test_what_is_in_the_way_of_a_file_costs_that_file_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "figures").touch()
    (tmp_path / "metrics.csv").mkdir()
    with pytest.raises((FileExistsError, IsADirectoryError)):
        write_page(tmp_path)
    assert files(tmp_path) == {"figures", "report.html", RECORD}
    told = [message for message in caplog.messages if "move away" in message]
    assert len(told) == 2 and any(str(tmp_path / "figures" / "a.png") in message for message in told)
    clear(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"figures", "metrics.csv"}


def test_the_draft_of_a_killed_run_is_removed_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    left = tmp_path / f".lis-draft-{'0' * 32}"
    (left / "figures").mkdir(parents=True)
    (left / "figures" / "a.png").touch()
    (left / "link").symlink_to(tmp_path)
    write(tmp_path, {"lis": 1, "draft": left.name, "owner": GONE})
    with staged(tmp_path) as draft:
        (draft / "page.html").touch()
        clear(tmp_path)
        clear(tmp_path)
        assert draft.is_dir() and not left.exists()
    assert files(tmp_path) == {"precious", "page.html", RECORD}
    clear(tmp_path)
    assert files(tmp_path) == {"precious"}


@pytest.mark.parametrize(("age", "is_left"), [(0, True), (2 * 86400, False)])
def test_a_draft_of_another_machine_is_left_for_a_day(age: float, is_left: bool, tmp_path: Path) -> None:
    draft = tmp_path / f".lis-draft-{'0' * 32}"
    draft.mkdir()
    os.utime(draft, (time.time() - age, time.time() - age))
    write(tmp_path, {"lis": 1, "draft": draft.name, "owner": f"{GONE}-another"})
    clear(tmp_path)
    assert draft.exists() == is_left == (tmp_path / RECORD).exists()


@pytest.mark.parametrize("name", ["precious", ".lis-draft-notes", "../precious", "."])
def test_a_folder_that_is_no_draft_is_left_whatever_the_record_says(name: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for folder in (out / "precious", out / ".lis-draft-notes", tmp_path / "precious"):
        folder.mkdir(parents=True)
        (folder / "a").touch()
    write(out, {"lis": 1, "draft": name, "owner": GONE})
    clear(out)
    assert len(files(tmp_path)) == 3


def test_a_killed_run_of_the_same_number_is_in_nobodys_way(tmp_path: Path) -> None:
    with staged(tmp_path) as first, staged(tmp_path) as second:
        assert first != second


def test_a_refused_run_removes_nothing_of_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "report.html").touch()
    (tmp_path / "metrics.json").touch()
    (tmp_path / "failure.json").write_text("old")
    record(tmp_path, [tmp_path / name for name in ("report.html", "metrics.json", "failure.json")])
    refused = ["device=abacus", "hydra.mode=RUN", "hydra.job.num=0", "hydra.job.id=0"]
    runtime = [f"hydra.runtime.{key}={tmp_path}" for key in ("output_dir", "cwd")]
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        config = compose("config", [*refused, *runtime], return_hydra_config=True)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", config.copy())
    monkeypatch.setattr("lis.job.keep_freed_memory", lambda: None)
    monkeypatch.setattr("lis.job.stop", Stop())
    with open_dict(config):
        del config["hydra"]
    with pytest.raises(SystemExit):
        inspect.unwrap(main)(config)
    assert {"report.html", "metrics.json", "failure.json"} <= files(tmp_path)
    assert "abacus" in (tmp_path / "failure.json").read_text()


class Seen:
    """A tracker that remembers the figures."""

    def __init__(self) -> None:
        self.figures: list[str] = []

    def stage(self, name: str, numbers: object) -> None: ...

    def metrics(self, values: object) -> None: ...

    def report(self, out: Path, files: object) -> None: ...

    def table(self, name: str, table: pd.DataFrame) -> None: ...

    def finish(self, failed: bool = False) -> None: ...

    def figure(self, name: str, path: Path) -> None:
        assert path.is_file()
        self.figures.append(name)


def test_a_tracker_gets_the_figures_of_this_runs_page_alone(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    for name in ("cycle", "of-another-run"):
        (tmp_path / "figures" / f"{name}.png").touch()
    (tmp_path / "report.json").write_text(json.dumps({"figures": ["cycle.png"]}))
    track(tracker := Seen(), {}, tmp_path)
    assert tracker.figures == ["cycle"]


def test_a_record_that_no_run_wrote_ended_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A line of thousands of brackets was an error of its own; one too large to be a record is told, and stays."""
    (tmp_path / "mine.txt").touch()
    lines = ["[" * 100_000, '{"lis": 1, "files": ["mine.txt"], "n": ' + "9" * 5000 + "}"]
    (tmp_path / RECORD).write_text("\n".join(lines))
    assert recorded(tmp_path) == []
    (tmp_path / RECORD).write_text('{"lis": 1, "files": ["mine.txt"]}\n' + " " * (4 * 2**20))
    clear(tmp_path)
    assert (tmp_path / "mine.txt").exists() and "bytes: expected at most 4,194,304" in caplog.text
