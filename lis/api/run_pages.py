"""How runs on disk show themselves in a notebook."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

import pandas as pd
import pyarrow.parquet as parquet

from lis.api import notebook
from lis.files import read_bytes
from lis.images import opened, too_heavy
from lis.report.style import data_uri, jpeg

_PREVIEWS, _SIDE = 3, 270
"""Figures that a report shows of itself, and pixels of their larger side."""
_METRICS, _COLUMNS, _JOBS = 8, 10, 20
"""Numbers of a run that are shown; of a sweep, columns and rows."""
_PER_CLASS = 3
"""Parts of a metric's name from which on it is one of many: `acceptance/train/pug`."""


@dataclass(frozen=True, repr=False)
class Report(os.PathLike[str]):
    """The page of a run: a path to whatever opens files; in a notebook a link, and its first figures, small."""

    path: Path
    title: str
    figures: tuple[Path, ...]
    """Files of its figures."""

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {self.title}: {self.path}, {len(self.figures)} figures"

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        size = f"{self.path.stat().st_size / 1e6:.1f} MB, {len(self.figures)} figures"
        pictures = "".join(map(_preview, self.figures[:_PREVIEWS]))
        more = notebook.more(len(self.figures), _PREVIEWS, "figures")
        return notebook.page(self.title, f"<div>{self.link()} ({size})</div>", f"<div>{pictures}</div>", more)

    def link(self) -> str:
        """An `<a>` to the page, relative where it lies beneath the working folder, as a notebook's server wants it."""
        path = self.path.absolute()
        beneath = path.is_relative_to(Path.cwd())
        told = path.relative_to(Path.cwd()).as_posix() if beneath else str(path)
        address = quote(told) if beneath else path.as_uri()
        return f'<a href="{escape(address)}" target="_blank">{escape(told)}</a>'


def run_html(
    title: str,
    folder: str,
    metrics: Mapping[str, float],
    stages: Sequence[str],
    report: Report | None,
    failure: str | None,
) -> str:
    """A run: what it is, its headline numbers, its stages, its page."""
    numbers = {name: f"{metrics[name]:.4g}" for name in headline(metrics)}
    return notebook.page(
        title,
        notebook.text(folder, *([f"Failed: {failure}"] if failure else [])),
        f"<div>{report.link()}</div>" if report else "",
        notebook.text(f"Stages: {', '.join(stages)}"),
        notebook.facts(numbers),
    )


def headline(metrics: Mapping[str, float]) -> list[str]:
    """The numbers that are shown first: those of the whole run, those of its stages, facts of the fit; none of many.

    Example:
        >>> headline({"acceptance/train/pug": 1.0, "link/samples": 300.0, "mse_w/cycle": 2.0, "class_kept": 0.9})
        ['class_kept', 'mse_w/cycle', 'link/samples']
    """
    single = [name for name in metrics if name.count("/") + 1 < _PER_CLASS]
    return sorted(single, key=lambda name: (name.count("/"), name.startswith("link/")))[:_METRICS]


def stage_html(name: str, files: Sequence[Path]) -> str:
    """The tables of a stage with their sizes."""
    sizes = {file.stem: _size(file) for file in files}
    return notebook.page(f"Stage {name}: {len(files)} tables, rows × columns", notebook.facts(sizes))


def _size(file: Path) -> str:
    """Rows × columns of a table; why not, where the file is damaged."""
    try:
        size = parquet.read_metadata(file)
    except (OSError, ValueError) as error:
        return f"cannot be read ({error})"
    return f"{size.num_rows:,} × {size.num_columns}"


def sweep_html(folder: str, table: pd.DataFrame, failures: Mapping[str, str]) -> str:
    """The runs of a sweep as rows, and what failed."""
    single = table[[name for name in table.columns if name.count("/") + 1 < _PER_CLASS][:_COLUMNS]].reset_index()
    failed = notebook.text(*(f"Job {job} failed: {why}" for job, why in failures.items()))
    left_out = notebook.more(table.shape[1], single.shape[1] - 1, "columns")
    return notebook.page(folder, failed, notebook.table(single, most=_JOBS), left_out)


def _preview(file: Path) -> str:
    """A figure, made small; its name where it cannot be decoded."""
    style = "display: inline-block; vertical-align: top; margin: 0 8px 8px 0"
    try:
        with opened(read_bytes(file), ("PNG", "GIF")) as image:
            if reason := too_heavy(image):
                raise ValueError(reason)
            small = image.convert("RGB")
            small.thumbnail((_SIDE, _SIDE))
    except Exception as error:  # whatever a decoder raises
        return f'<div style="{style}">{escape(file.stem)}: cannot be shown ({escape(str(error))})</div>'
    address = data_uri("image/jpeg", jpeg(small))
    return f'<div style="{style}"><img src="{address}" alt="{escape(file.stem)}"><br>{escape(file.stem)}</div>'
