"""Executes the notebooks of `examples/`. `python -m tests.helpers.notebooks [name …]` writes their outputs anew."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples"
_PROGRESS = re.compile(r"[\w /-]+: \d+ of [\d?]+\n")
"""A line that a loop writes every quarter of a minute, on a machine that is busy."""


def notebooks() -> list[Path]:
    """Those of `examples/`."""
    return sorted(FOLDER.glob("*.ipynb"))


def executed(file: Path, folder: Path) -> Any:
    """A notebook with the outputs that it has in an empty folder, which is all that it writes into.

    Raises:
        CellExecutionError: a cell raises.
    """
    notebook = nbformat.read(file, as_version=4)
    start = folder / "start"  # apart from what the kernel writes for itself
    start.mkdir()
    surroundings = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "IPYTHONDIR": str(folder / "ipython")}
    options = {"timeout": 600, "kernel_name": "python3", "record_timing": False}
    with tempfile.TemporaryDirectory() as sockets:  # whose names may not be long
        manager = {"transport": "ipc", "connection_file": f"{sockets}/kernel.json"}
        client = NotebookClient(notebook, config=Config({"KernelManager": manager}), **options)
        client.resources = {"metadata": {"path": str(start)}}
        client.execute(env=os.environ | surroundings)
    return _normalised(notebook, str(start))


def outputs(notebook: Any) -> Iterator[Any]:
    """Of all cells, one after the other."""
    for cell in notebook.cells:
        yield from cell.get("outputs", ())


def texts(output: Any) -> Iterator[str]:
    """All that an output holds as text, but for the content of pictures."""
    yield output.get("text", "")
    yield from output.get("traceback", ())
    for kind, text in output.get("data", {}).items():
        if kind.startswith("text/"):
            yield re.sub(r"data:image/[\w+]+;base64,[\w+/=]+", "", text)


def _normalised(notebook: Any, folder: str) -> Any:
    """Without what differs from one execution to the next: names of cells, versions, folders, progress."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
        cell.get("outputs", [])[:] = [each for each in cell.get("outputs", ()) if not _is_progress(each)]
    for output in outputs(notebook):
        for holder, key in [(output, "text"), *((output.get("data", {}), key) for key in output.get("data", {}))]:
            if isinstance(holder.get(key), str):
                holder[key] = holder[key].replace(folder, "~")
    return notebook


def _is_progress(output: Any) -> bool:
    if output.get("name") != "stderr":
        return False
    output["text"] = _PROGRESS.sub("", output["text"])
    return not output["text"]


def main(names: list[str]) -> None:
    """Execute the notebooks of these names, or all, and write their outputs."""
    for file in notebooks():
        if not names or file.stem in names:
            with tempfile.TemporaryDirectory() as folder:
                nbformat.write(executed(file, Path(folder)), file)
            sys.stdout.write(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main(sys.argv[1:])
