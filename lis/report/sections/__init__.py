"""The sections of a report: each appears exactly when what it shows was computed.

A later analysis adds its own by decorating a function with `section`; sections are shown in order of registration,
which is the order of the imports at the end of this file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from matplotlib.figure import Figure

from lis.report.source import Source


@dataclass(frozen=True)
class Picture:
    """A figure on the page."""

    name: str
    """File name without ending."""
    figure: Figure
    caption: str
    kind: Literal["chart", "photo", "drawing"] = "chart"


@dataclass(frozen=True)
class Table:
    """A table on the page; cells are text already."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    best: frozenset[tuple[int, int]] = frozenset()
    """Cells (row, column) that are set in bold."""


@dataclass(frozen=True)
class Section:
    """A finding: the sentence that states it, and what shows it."""

    title: str
    lead: str
    figures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = field(default=())

    @property
    def anchor(self) -> str:
        """The section's address on the page."""
        return "-".join("".join(c if c.isalnum() else " " for c in self.title.lower()).split())


Maker = Callable[[Source], Section | None]
MAKERS: list[Maker] = []


def section(maker: Maker) -> Maker:
    """Register a maker; it returns None where its artifacts are missing."""
    MAKERS.append(maker)
    return maker


def makers(source: Source) -> list[tuple[str, Callable[[], Section | None]]]:
    """The name of every maker in words, and what makes its section, in order."""
    return [(maker.__name__.replace("_", " ").capitalize(), partial(maker, source)) for maker in MAKERS]


def build_sections(source: Source) -> list[Section]:
    """All sections whose artifacts exist, in order."""
    return [made for _, make in makers(source) if (made := make()) is not None]


from lis.report.sections import views, own_images, evaluation, similarity, units, segmentation  # noqa: E402, F401, I001  # the order of the page
from lis.report.sections import tuned_units, measures, sparsity, unit_map, relevance, transfer, honesty, truth  # noqa: E402, F401
from lis.report.sections import motion, matching  # noqa: E402, F401
from lis.report.sections import counterfactuals, across, looks, directions, sparse, bayes, contrast, gan_counterfactuals  # noqa: E402, F401
from lis.report.sections import linking, classifier, probe  # noqa: E402, F401
