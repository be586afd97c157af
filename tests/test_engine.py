"""The in-process engine and the progress shown around it."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from helpers.commandline import ROOT
from rich.console import Console

from lis import job, progress, run
from lis.classifiers.__main__ import main as classifiers_main
from lis.convert import main as convert_main
from lis.engine import InProcess
from lis.labels.__main__ import main as labels_main
from lis.progress import ConsoleHandler, Progress


class Squares:
    """Notes what is made; some numbers are busy, made by another job, the first times that they are asked for."""

    def __init__(self, busy: dict[int, int] | None = None) -> None:
        self.made, self.busy = [], busy or {}

    def find(self, item: int) -> int | None:
        """What is made."""
        return item * item if item in self.made else None

    def attempt(self, item: int) -> int | None:
        """A square."""
        if self.busy.get(item, 0):
            self.busy[item] -= 1
            return None
        self.made.append(item)
        return 12 // (item - 9) and item * item


def test_results_come_in_order_and_lazily() -> None:
    squares = Squares()
    results = InProcess().map(squares, range(5))
    assert squares.made == [] and next(results) == 0 and squares.made == [0]
    assert list(results) == [1, 4, 9, 16]


def test_an_error_ends_the_iteration_after_the_results_before_it() -> None:
    results = InProcess().map(Squares(), [7, 9, 8])
    assert next(results) == 49
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_what_another_job_is_making_is_come_back_to() -> None:
    squares = Squares({1: 2, 3: 9})
    assert list(InProcess().map(squares, range(5))) == [0, 1, 4, 9, 16]
    assert squares.made == [0, 2, 4, 1, 3]


def test_without_a_terminal_progress_is_lines(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert list(Progress(every=-1).track(iter("ab"), total=2, label="pairs")) == ["a", "b"]
        assert list(Progress(every=-1).track(iter("c"), label="pairs")) == ["c"]
        assert list(Progress(every=60).track("quick", label="never shown")) == list("quick")
    assert [record.getMessage() for record in caplog.records] == ["pairs: 1 of 2", "pairs: 2 of 2", "pairs: 1 of ?"]


def test_on_a_terminal_loops_may_be_nested_and_stop_early(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=screen, force_terminal=True, width=80))
    shown = Progress()
    assert [(a, b) for a in shown.track("xy", label="outer") for b in shown.track([1], label="inner")] == [
        ("x", 1),
        ("y", 1),
    ]
    loop = shown.track(range(9), label="cut short")
    next(loop)
    loop.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert list(shown.track([7])) == [7]
    assert "outer" in screen.getvalue() and "cut short" in screen.getvalue()


@pytest.mark.parametrize(("kind", "shown"), [(ValueError, False), (RuntimeError, True)])
def test_bad_input_is_shown_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception], shown: bool
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=screen))
    handler = ConsoleHandler()
    try:
        raise kind("[seed] must be 0 or more " + "x" * 100)
    except kind as error:
        trace = (kind, error, error.__traceback__)
        handler.handle(logging.LogRecord("lis", logging.ERROR, "", 0, "%s", (error,), trace))
    assert screen.getvalue().startswith("[seed] must be 0 or more " + "x" * 100 + "\n")
    assert ("Traceback" in screen.getvalue()) is shown


PROGRAMS: dict[str, Callable[[Path], object]] = {
    "lis.classifiers": lambda _: classifiers_main([]),
    "lis.classifiers --timm": lambda _: classifiers_main(["--timm", "test_resnet"]),
    "lis.labels": lambda folder: labels_main(["check", str(folder)]),
    "lis.convert": lambda folder: convert_main([str(folder / "nowhere.pkl"), str(folder / "out")]),
    "lis.run": lambda _: run.command(),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_dash_ended_programs_whose_output_is_not_utf8(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost of what can be spelled in ASCII, and a path keeps its characters as numbers."""
    folder = tmp_path / "Bücher – \udcff"
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True) for name in ("out", "err")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, f"std{name}", stream)
    monkeypatch.setattr(sys, "argv", ["lis.run"])
    monkeypatch.setattr(run, "main", lambda: job.show({"mse_w": 0.5}, folder / "report.html"))
    with suppress(SystemExit):
        PROGRAMS[program](folder)
    out, err = (stream.buffer.getvalue().decode() for stream in streams.values())  # pyright: ignore
    if program.startswith("lis.classifiers"):
        assert "test_resnet" in out or re.search(r"timm +- +- +- ", out)
    elif program == "lis.run":
        assert "B\\xfccher - \\udcff/report.html" in out and re.search(r"mse_w +\| +0.500", out)
    else:
        assert "B\\xfccher - \\udcff" in err


@pytest.mark.slow
@pytest.mark.parametrize("setting", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_the_list_of_classifiers_is_printed_in_any_locale(setting: dict[str, str]) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONCOERCECLOCALE": "0"} | setting
    command = [sys.executable, "-m", "lis.classifiers"]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert b"densenet201" in done.stdout and re.search(rb"\npartnet .* MIT +", done.stdout)
