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


def test_all_three_are_there() -> None:
    assert [file.stem for file in notebooks()] == ["first_unit", "own_models", "read_a_run"]


@pytest.mark.slow
@EACH
def test_a_notebook_runs_in_an_empty_folder(file: Path, tmp_path: Path) -> None:
    notebook, committed = executed(file, tmp_path), nbformat.read(file, as_version=4)
    errors = [output.text for output in outputs(notebook) if output.get("name") == "stderr"]
    assert not errors and {path.name for path in tmp_path.iterdir()} <= {"start", "ipython"}
    assert shapes(notebook) == shapes(committed), f"write its outputs anew: make notebooks, {file.relative_to(ROOT)}"


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
