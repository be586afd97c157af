"""A run's folder holds what the last run there wrote, and what others put there."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from lis.folder import FILES, clear, record, recorded, staged
from lis.run import track


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
    for text in (json.dumps(["../precious", str(tmp_path / "precious")]), "{", "7", "[7]"):
        (out / FILES).write_text(text)
        clear(out)
    assert (tmp_path / "precious").exists() and not files(out)


def test_a_failure_leaves_what_it_wrote_recorded(tmp_path: Path) -> None:
    def fail() -> None:
        with staged(tmp_path) as draft:
            (draft / "figures").mkdir()
            (draft / "figures" / "a.png").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert files(tmp_path) == {"figures/a.png", FILES} and recorded(tmp_path) == ["figures/a.png"]


def test_the_draft_of_a_killed_run_is_removed_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    (tmp_path / ".draft-4194305").mkdir()  # beyond what a process can be numbered
    with staged(tmp_path) as draft:
        clear(tmp_path)
        assert draft.is_dir() and not (tmp_path / ".draft-4194305").exists()


class Seen:
    """A tracker that remembers the figures."""

    def __init__(self) -> None:
        self.figures: list[str] = []

    def metrics(self, values: object) -> None: ...

    def table(self, name: str, table: pd.DataFrame) -> None: ...

    def finish(self) -> None: ...

    def figure(self, name: str, path: Path) -> None:
        assert path.is_file()
        self.figures.append(name)


def test_a_tracker_gets_the_figures_of_this_runs_page_alone(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    for name in ("cycle", "of-another-run"):
        (tmp_path / "figures" / f"{name}.png").touch()
    (tmp_path / "report.json").write_text(json.dumps({"figures": ["cycle.png"]}))
    track(tracker := Seen(), {}, {}, tmp_path)
    assert tracker.figures == ["cycle"]
