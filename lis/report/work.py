"""The page of a planned run: how many figures it will have, about, and what they take."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lis.context import Context
from lis.report.html import draw
from lis.report.section import SHOWN, Picture, discover
from lis.report.style import WIDE, sheet, styled
from lis.workload import Load, Operation, Workload

PAGE = "report"
"""What the page is called among stages."""
PER_SECTION = 2.25
"""Figures of a section: 54 of 24 on part world's page of `analysis=demo`."""
_NOTE = "report: about two figures for each of its {sections} sections, each as long to draw as a chart of six panels"
_ROWS, _COLUMNS, _POINTS = 2, 3, 200


def page_work(stages: Iterable[str]) -> Workload:
    """Of the sections of some stages, whose figures are counted as `PER_SECTION` each; none of them is in the store."""
    discover()
    names = set(stages)
    sections = 1 + sum(stage in names for stage in SHOWN.values())
    return Workload((Load(FIGURES, PER_SECTION * sections),), notes=(_NOTE.format(sections=sections),))


@styled
def _chart() -> Figure:
    figure, axes = sheet(WIDE, 5.0, rows=_ROWS, columns=_COLUMNS, lines="y")
    for axis, (x, y) in zip(axes.flat, np.random.default_rng(0).random((_ROWS * _COLUMNS, 2, _POINTS)), strict=True):
        axis.scatter(x, y, s=4)
        axis.set(xlabel="activation", ylabel="change")
    return figure


def _drawn(ctx: Context) -> Callable[[int], object]:
    data = pd.DataFrame({"x": np.arange(_POINTS)})

    def run(count: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for number in range(count):
                draw(Picture(f"figure-{number}", _chart(), "", data=data), Path(folder), ctx.config.svg)

    return run


FIGURES = Operation("figures", _drawn, most=4)
