"""The notebooks of `examples/` run in an empty folder, and are committed with small outputs that name no machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from helpers.notebooks import ROOT, executed, notebooks, outputs, texts

EACH = pytest.mark.parametrize("file", notebooks(), ids=lambda file: file.stem)
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


def first_unit(text: str) -> None:
    """Little arrives, the others move more, the pugs are less sure, and most random steps do more."""
    *_, arrives, on_target, off_target = numbers(text, r"TuneResult of unit \d+ .* 30 samples, 7 steps;")
    assert abs(arrives) < 10 and abs(on_target) < 0.5 * off_target
    (start,), (end,) = numbers(text, "probability of pug, at first:"), numbers(text, r"at the end of unit \d+:")
    *_, as_low, count = numbers(text, "after a random step:")
    assert end < start - 0.05 and as_low > 0.5 * count == 10


def own_models(text: str) -> None:
    """Two thirds are position and size, most of the rest is colour, none is shape; far out; no more than at random."""
    share = {name: numbers(text, f"{name} +") for name in ("all", "shape", "position and size", "colour")}
    whole, mean = share["all"][0], {name: values[0] for name, values in share.items()}
    assert 0.55 < mean["position and size"] / whole < 0.78 and abs(mean["shape"]) < 0.2 * whole
    assert 0.5 < mean["colour"] / (whole - mean["position and size"]) < 1.2
    assert share["position and size"][1] > 0.5 * (mean["position and size"] - mean["colour"])
    r2 = dict(zip(CODES, numbers(text, "R² on test pairs "), strict=True))
    assert min(r2[name] for name in CODES[:5]) > 0.5 > 0.4 > max(r2[name] for name in CODES[5:])
    moved = dict(zip(CODES, numbers(text, "moved "), strict=True))
    assert moved["x"] > 5 and moved["y"] < -5 and moved["size"] > 1  # to the right, up, and larger
    assert moved["green"] > 5 and moved["red"] < 0 and moved["blue"] < 0
    low, high, as_large, count = numbers(text, "random steps:")
    assert 0 < low < whole < high and 2 <= as_large < 0.5 * count == 10


def read_a_run(text: str) -> None:
    """Hardly anything arrives, with a handful of controls and 300 pairs."""
    table = re.findall(r"^\d+ +\d+ +(-?\d\.\d+) +(\d+\.\d+)$", text, re.MULTILINE)
    assert len(table) == 6 and all(float(share) < 0.1 < 1 < float(others) for share, others in table)
    assert "(60, 2, 300.0)" in text


CODES = ("disc", "cross", "square", "x", "y", "size", "red", "green", "blue")
TRUE = {"first_unit": first_unit, "own_models": own_models, "read_a_run": read_a_run}
"""What the prose of each says of its numbers, with room for another machine."""


def test_all_three_are_there() -> None:
    assert [file.stem for file in notebooks()] == ["first_unit", "own_models", "read_a_run"]


@pytest.mark.slow
@EACH
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
