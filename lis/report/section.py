"""The sections of a report: each appears exactly when what it shows was computed.

An analysis adds its own by decorating a function with `section`, in any module below `lis.report`: `discover` imports
them all, and the number that a section is given says where it stands on the page.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial, wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from matplotlib.figure import Figure

from lis import report
from lis.report.source import Source
from lis.report.style import styled
from lis.report.tables import column, mean, records, where
from lis.report.wording import arrow, words

if TYPE_CHECKING:
    import pandas as pd

    from lis.store import Artifact

MAKERS: dict[str, dict[int, Maker]] = {"run": {}, "comparison": {}}
"""What makes each section of a page, by its order."""
SHOWN: dict[int, str] = {}
"""The stage that a section of a run's page shows, by the section's order; none where its maker asks for several."""
CHAPTERS = {
    1: "What was asked",
    2: "Link",
    3: "Units",
    4: "Boundary",
    5: "Motion",
    6: "Dissection",
    7: "Appendix",
}
"""Parts of a run's page in the order of trust, each qualifies those below it; by the hundreds of sections' orders."""
Row = dict[str, Any]
Collector = Callable[["Artifact"], dict[str, float]]
COLLECTORS: dict[str, list[Collector]] = {}
"""What reads the numbers of each stage."""


@dataclass(frozen=True)
class Picture:
    """A figure on the page."""

    name: str
    """File name without ending."""
    figure: Figure
    caption: str
    kind: Literal["chart", "photo", "drawing"] = "chart"
    data: pd.DataFrame | None = field(default=None, repr=False)
    """The numbers that are drawn, which the page offers as CSV."""
    alt: str = ""
    """What is seen, for those who do not see it; empty: the caption says it."""
    aside: bool = False
    """Folded away until asked for: a distribution, an overlap, a matrix; never what a finding, a control or a warning
    stands on.
    """
    others: Sequence[str] = ()
    """Files of the folder of the figures that the page offers beside it: its moving pictures."""


@dataclass(frozen=True)
class Table:
    """A table on the page; cells are text already."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    best: frozenset[tuple[int, int]] = frozenset()
    """Cells (row, column) that are set in bold."""
    aside: bool = False
    """As of `Picture`."""
    first: int = 0
    """Rows that stand there until all are asked for, and which can be sorted and filtered; 0: all, as they are."""
    only: str = ""
    """A column of "yes" and "no" that the rows can be limited to."""

    def best_of(self, row: int) -> set[int]:
        """The columns whose cells are bold in a row."""
        return {column for line, column in self.best if line == row}


@dataclass(frozen=True)
class Section:
    """One question to a run: the finding, the sentences that qualify it, and what shows it."""

    title: str
    """What it is about, in two or three words, as the contents of the page name it."""
    lead: str
    figures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = field(default=())
    finding: str = ""
    """What was found, as a heading ("46 of 256 units are reached"); empty: the title stands there."""
    chapter: str = ""
    """The part of the page that it belongs to, as `section` registers it."""
    page: str = ""
    """File name of a page beside the report that shows more of it."""

    @property
    def anchor(self) -> str:
        """The section's address on the page."""
        return anchor(self.title)


def anchor(title: str) -> str:
    """The address on a page of the section with a title.

    Example:
        >>> anchor("What arrives")
        'what-arrives'
    """
    return "-".join("".join(c if c.isalnum() else " " for c in title.lower()).split())


Item = TypeVar("Item", Picture, Table)


def folded(*items: Item) -> list[Item]:
    """Figures or tables that are folded away until asked for."""
    return [replace(item, aside=True) for item in items]


Maker = Callable[[Any], Section | None]
"""Makes a section of a `Source`, or of the runs of a sweep."""


def section(
    order: int, stage: str = "", *names: str, parts: bool = False, page: str = "run"
) -> Callable[[Maker], Maker]:
    """Register what makes a section; it may return None where there is nothing that it could show.

    Its figures are drawn with the settings of `lis.report.style.RC`.

    Args:
        order: where it stands on the page: sections come in ascending order. Hundreds are those of `CHAPTERS`; tens
            leave room between.
        stage: the stage whose artifact is shown; empty: the maker asks itself what is there.
        names: what of the artifact is shown. Where the stage or any of them is missing there is no section.
        parts: whether it is about parts, so that there is none of a run whose class set names none.
        page: "run", whose sections are made of a `Source`, or "comparison", of the runs of a sweep.

    Raises:
        ValueError: another section has that order.
    """

    def register(maker: Maker) -> Maker:
        @styled
        @wraps(maker)
        def make(source: Any) -> Section | None:
            if (parts and source.facts.partless) or (stage and not source.has(stage, *names)):
                return None
            made = maker(source)
            return made and replace(made, chapter=CHAPTERS.get(order // 100, "") if page == "run" else "")

        if page == "run" and stage:
            SHOWN[order] = stage
        other = MAKERS[page].setdefault(order, make)
        if (other.__module__, other.__name__) != (make.__module__, make.__name__):
            raise ValueError(
                f"two sections have order {order}: {other.__name__} of {other.__module__} and {make.__name__} of "
                f"{make.__module__}; give one of them another number"
            )
        return make

    return register


def metrics(stage: str) -> Callable[[Collector], Collector]:
    """Register what reads numbers off the artifact of a stage; its docstring tells the keys. A stage may have several,
    in whatever modules below `lis.report` they lie.
    """

    def register(collector: Collector) -> Collector:
        COLLECTORS.setdefault(stage, []).append(collector)
        return collector

    return register


def facts_as_metrics(stage: str, name: str, *keys: str) -> None:
    """Register numbers of a JSON object of a stage, as `<stage>/<key>`; those that are None are left out."""
    metrics(stage)(lambda artifact: prefixed(stage, {key: artifact.json(name)[key] for key in keys}))


def means_as_metrics(stage: str, table: str, *columns: str) -> None:
    """Register the means of columns of a table of a stage over their finite values, as `<stage>/<column>`."""
    metrics(stage)(lambda artifact: prefixed(stage, means(artifact.table(table), columns)))


def means(table: pd.DataFrame, names: Sequence[str]) -> dict[str, float]:
    """The mean of each column over its finite values, without the columns that have none."""
    return {name: mean(table, name) for name in names if len(column(table, name))}


def prefixed(prefix: str, numbers: Mapping[str, float | None]) -> dict[str, float]:
    """Numbers with `<prefix>/` before their keys, without those that are None.

    Example:
        >>> prefixed("link", {"rank": 9, "ridge": None})
        {'link/rank': 9}
    """
    return {f"{prefix}/{name}": value for name, value in numbers.items() if value is not None}


@cache
def discover() -> None:
    """Import every module below `lis.report` once, so that each registers its sections and its numbers."""
    for module in pkgutil.walk_packages(report.__path__, f"{report.__name__}."):
        import_module(module.name)


def makers(source: Any, page: str = "run") -> list[tuple[str, Callable[[], Section | None]]]:
    """The name of every maker of a page in words, and what makes its section of a source or of runs, in order."""
    discover()
    ordered = [maker for _, maker in sorted(MAKERS[page].items())]
    return [(maker.__name__.replace("_", " ").capitalize(), partial(maker, source)) for maker in ordered]


def build_sections(source: Source) -> list[Section]:
    """All sections whose artifacts exist, in order."""
    return [made for _, make in makers(source) if (made := make()) is not None]


def crossed(
    caption: str,
    rows: Iterable[Any],
    columns: Iterable[Any],
    cell: Callable[[Any, Any], str],
    *,
    corner: str = "",
    name: Callable[[Any], str] = words,
    heads: Callable[[Any], str] = str,
    bold: Callable[[Any, Any], bool] = lambda row, column: False,
) -> Table:
    """A table of names down and names across.

    Args:
        caption: how it is read.
        rows, columns: names.
        cell: the text of a row and a column.
        corner: what the rows are.
        name, heads: how a row and a column are called.
        bold: whether the cell of a row and a column stands out.
    """
    down, across = list(rows), list(columns)
    best = ((i, 1 + k) for i, row in enumerate(down) for k, column in enumerate(across) if bold(row, column))
    cells = [[name(row), *(cell(row, column) for column in across)] for row in down]
    return Table(caption, [corner, *map(heads, across)], cells, frozenset(best))


def listed(
    caption: str, rows: Iterable[dict[str, Any]], columns: Mapping[str, Callable[[dict[str, Any]], str]]
) -> Table:
    """A table with a line per row of another: the head of each column, and how its cell is written."""
    return Table(caption, list(columns), [[cell(row) for cell in columns.values()] for row in rows])


def by_pair(
    caption: str,
    head: str,
    table: pd.DataFrame,
    pairs: Iterable[tuple[str, str]],
    tell: Callable[[dict[str, Any]], str],
) -> Table:
    """A table with a line per pair of classes: what is told of each of its rows, one behind the other."""
    rows = [(pair, records(where(table, origin=pair[0], target=pair[1]))) for pair in pairs]
    return Table(caption, ["", head], [[arrow(*pair), ", ".join(map(tell, told))] for pair, told in rows])
