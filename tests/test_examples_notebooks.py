"""The notebooks of `examples/` run in an empty folder, and are committed with small outputs that name no machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from helpers.notebooks import ROOT, executed, notebooks, outputs, texts

EACH = pytest.mark.parametrize("file", notebooks(), ids=lambda file: file.stem)
LONGEST = "read_a_run"
"""Of the notebooks: `make full` executes it, and test_api_runs.py tests what it calls."""
LARGEST = 400_000
"""Bytes of a notebook."""
MACHINE = re.compile(r"(?<![\w.~<])/(tmp|home|root|work|Users|usr|var|opt)/|0x[0-9a-f]{8}|[A-Z]:\\")


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shapes(notebook: Any) -> list[list[tuple[str, ...]]]:
    """What kinds of output each cell has."""
    return [[(each.output_type, *sorted(each.get("data", {}))) for each in cell.outputs] for cell in code(notebook)]


def told(notebook: Any) -> str:
    """The plain texts of all outputs."""
    plain = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs(notebook)]
    return "\n".join(plain)


def numbers(text: str, pattern: str) -> list[float]:
    """The numbers of the one line that begins with a pattern, behind it."""
    (line,) = re.findall(rf"^{pattern}(.*)$", text, re.MULTILINE)
    return [float(number) for number in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?", line.replace("−", "-"))]


def arrived(text: str, which: str) -> tuple[float, float, float, float, float]:
    """Of a TuneResult over all 30 samples: percent that arrives, own, others, percent of more and of beyond."""
    *_, share, own, others, more, _, beyond, bound = numbers(text, rf"{which}TuneResult of unit \d+ .* 30 samples, ")
    assert bound == 99
    return share, own, others, more, beyond


def first_unit(text: str) -> None:
    """Most arrives along the pattern, little along the row; the unit moves more than at random, certainty does not."""
    share, own, others, more, beyond = arrived(text, "along the pattern: ")
    assert share > 60 and own > 1.5 * others and others > 1 and more < 15 and beyond > 50
    share, of_row, others, more, _ = arrived(text, "along the row: ")
    assert abs(share) < 15 and abs(of_row) < 0.8 * others and more > 30
    moved, low, high, as_far, count = numbers(text, r"unit \d+ moves by")
    assert abs(moved - own) < 0.1 and low < high < 0.7 * moved and (as_far, count) == (0, 20)
    (start,), (end,) = numbers(text, "probability of pug, at first:"), numbers(text, r"at the end of unit \d+:")
    *_, halved, count = numbers(text, "after a random step:")
    assert start > 0.9 and end < 0.1 and halved > 0.3 * count == 6


def own_models(text: str) -> None:
    """Size and colour together, neither alone, no other part; hardly any random step does as much, some come near."""
    names = ("all", "shape", "position", "size", "colour", "size and colour")
    mean = {name: numbers(text, rf"{name} +(?=[-\d])")[0] for name in names}
    whole = mean["all"]
    assert 0.15 < whole < 0.5 and mean["size and colour"] > 0.7 * whole
    assert mean["size"] + mean["colour"] < 0.6 * whole and max(abs(mean["shape"]), abs(mean["position"])) < 0.1 * whole
    r2 = dict(zip(CODES, numbers(text, "R² on test pairs "), strict=True))
    assert min(r2[name] for name in CODES[:5]) > 0.5 > 0.4 > max(r2[name] for name in CODES[5:])
    moved = dict(zip(CODES, numbers(text, "moved "), strict=True))
    assert moved["size"] > 1.5 and max(moved[name] for name in ("red", "green", "blue")) < -1  # larger, and darker
    assert max(abs(moved[name]) for name in CODES[:3]) < 0.3 and max(abs(moved["x"]), abs(moved["y"])) < 1.5
    share, own, others, _, beyond = arrived(text, "")
    assert abs(share - 100 * whole) < 1 and others > own and beyond > 90
    low, high, as_large, count = numbers(text, "random steps:")
    assert low < 0.3 * whole and high > 0.6 * whole and as_large <= 0.1 * count == 2


def read_a_run(text: str) -> None:
    """A part arrives, more than at random and than the others move; w mostly stops; few controls and pairs."""
    table = re.findall(r"^\d+ +\d+((?: +-?\d+\.\d+){6})$", text, re.MULTILINE)
    rows = [[float(value) for value in row.split()] for row in table]
    assert len(rows) == 6
    for share, own, control, others, more, beyond in rows:
        assert 0 < share < 0.8 and own > 1.5 * control and own > others and more < 0.3 and beyond > 0.5
    assert "(60, 2, 300.0)" in text


CODES = ("disc", "cross", "square", "x", "y", "size", "red", "green", "blue")
TRUE = {"first_unit": first_unit, "own_models": own_models, "read_a_run": read_a_run}
"""What the prose of each says of its numbers, with room for another machine."""


def test_all_three_are_there() -> None:
    assert [file.stem for file in notebooks()] == ["first_unit", "own_models", "read_a_run"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "file",
    [pytest.param(file, marks=pytest.mark.full if file.stem == LONGEST else ()) for file in notebooks()],
    ids=lambda file: file.stem,
)
def test_a_notebook_runs_in_an_empty_folder(file: Path, tmp_path: Path) -> None:
    notebook, committed = executed(file, tmp_path), nbformat.read(file, as_version=4)
    errors = [output.text for output in outputs(notebook) if output.get("name") == "stderr"]
    assert not errors and {path.name for path in tmp_path.iterdir()} <= {"start", "ipython"}
    assert shapes(notebook) == shapes(committed), f"write its outputs anew: make notebooks, {file.relative_to(ROOT)}"
    TRUE[file.stem](told(notebook))


@EACH
def test_the_sentences_of_a_notebook_are_true_of_its_outputs(file: Path) -> None:
    TRUE[file.stem](told(nbformat.read(file, as_version=4)))


@EACH
def test_a_notebook_is_committed_as_it_was_executed(file: Path) -> None:
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    assert {output.output_type for output in outputs(notebook)} <= {"stream", "display_data", "execute_result"}
    assert not [output.text for output in outputs(notebook) if output.get("name") == "stderr"]
    pictures = [text for output in outputs(notebook) for text in output.get("data", {}).values()]
    assert any("image/png;base64" in text or text.startswith("iVBOR") for text in pictures)
    assert any("<table" in text for text in pictures)


@EACH
def test_a_notebook_is_small_and_of_no_machine(file: Path) -> None:
    assert file.stat().st_size < LARGEST
    notebook = nbformat.read(file, as_version=4)
    told = [cell.source for cell in notebook.cells] + [text for each in outputs(notebook) for text in texts(each)]
    assert not [match[0] for text in told for match in MACHINE.finditer(text)]
    assert set(notebook.metadata) == {"kernelspec", "language_info"} and not any(c.metadata for c in notebook.cells)


@EACH
def test_a_notebook_reads_as_a_text(file: Path) -> None:
    """A heading first, and never three cells of code in a row."""
    kinds = [cell.cell_type for cell in nbformat.read(file, as_version=4).cells]
    assert kinds[0] == kinds[-1] == "markdown" and "code code code" not in " ".join(kinds)
