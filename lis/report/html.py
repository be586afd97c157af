"""From sections to one self-contained HTML file, with its figures beside it as PNG, SVG and CSV files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from lis.report.findings import Finding, Warned
from lis.report.section import CHAPTERS, Picture, Section, Table, anchor
from lis.report.style import chart_png, data_uri, photo_png, raster, shows_data, svg, webp

T = TypeVar("T")
KICKER = "Linking in Style"
"""What stands above a title, and in the place of one that fails."""
APPENDIX = CHAPTERS[7]
log = logging.getLogger(__name__)
CITATION = (
    "M. H. Wehrheim, P. Osuna-Vargas, M. Kaschube (2024). Linking in Style: Understanding learned features in deep "
    "learning models. arXiv:2409.16865."
)


@dataclass(frozen=True)
class Number:
    """A headline number: what it is, its value, what it stands beside."""

    label: str
    value: str
    detail: str


@dataclass(frozen=True)
class Embedded:
    """A figure as the page holds it: a `data:` address and the width in pixels at which it is shown."""

    files: Sequence[str]
    """Beside the page, in the folder `figures`; the PNG is the first."""
    address: str
    width: int
    caption: str
    alt: str
    kind: str
    aside: bool = False

    @property
    def anchor(self) -> str:
        """The figure's address on the page."""
        return f"figure-{Path(self.files[0]).stem}"


@dataclass(frozen=True)
class Body:
    """What a section shows below its lead, or a part of it; tables by their addresses on the page."""

    figures: Sequence[Embedded]
    tables: Mapping[str, Table]
    notes: Sequence[str]

    @property
    def summary(self) -> str:
        """How many there are of each; empty where there is nothing.

        Example:
            >>> Body((), {"a": Table("A.", ["x"], [["1"]])}, ("One.", "Two.")).summary
            '1 table, 2 notes'
        """
        charts = sum(figure.kind == "chart" for figure in self.figures)
        counts = {"chart": charts, "picture": len(self.figures) - charts}
        counts |= {"table": len(self.tables), "note": len(self.notes)}
        return ", ".join(f"{count} {name}{'s' * (count > 1)}" for name, count in counts.items() if count)


@dataclass(frozen=True)
class Rendered:
    """A section as the page holds it."""

    title: str
    anchor: str
    lead: str
    figures: Sequence[Embedded]
    tables: Sequence[Table]
    notes: Sequence[str]
    finding: str = ""
    chapter: str = ""
    numbers: Sequence[Number] = ()
    closed: bool = False
    """All but its lead and its numbers is folded away; a table that sorts and filters never is."""
    error: str = ""
    """Why there is nothing of it."""
    page: str = ""
    """As of `Section`."""

    @property
    def front(self) -> Body:
        """What is seen at once."""
        return self._body(folded=False)

    @property
    def folded(self) -> Body:
        """What is folded away: what stands aside, and of a closed section everything."""
        return self._body(folded=True)

    def _body(self, *, folded: bool) -> Body:
        figures = [figure for figure in self.figures if (figure.aside or self.closed) is folded]
        tables = {
            f"table-{self.anchor}-{index}": table
            for index, table in enumerate(self.tables, 1)
            if ((table.aside or self.closed) and not table.first) is folded
        }
        return Body(figures, tables, self.notes if self.closed is folded else ())


@dataclass(frozen=True)
class Chapter:
    """Sections under a common heading; without a title they stand for themselves."""

    title: str
    sections: Sequence[Rendered]

    @property
    def anchor(self) -> str:
        """The chapter's address on the page."""
        return f"chapter-{anchor(self.title)}"


def appendix_closed(sections: Sequence[Rendered], evidence: Collection[str] = ()) -> list[Rendered]:
    """Sections of which those of the appendix are closed, but for what is evidence.

    What stands aside folds away section by section: no length of a page folds away what is evidence.

    Args:
        sections: of a page.
        evidence: addresses of the sections that findings and warnings point at.
    """
    return [
        replace(section, closed=section.chapter == APPENDIX and section.anchor not in evidence) for section in sections
    ]


def by_chapter(sections: Sequence[Rendered], last: str = "") -> list[Chapter]:
    """Sections by chapter, in order; one that failed, which has none, stays with those before it.

    Args:
        sections: of a page.
        last: a chapter that there is in any case.
    """
    chapters: dict[str, list[Rendered]] = {}
    title = ""
    for section in sections:
        title = section.chapter or title
        chapters.setdefault(title, []).append(section)
    chapters.setdefault(last, [])
    return [Chapter(title, grouped) for title, grouped in chapters.items()]


class ReportError(RuntimeError):
    """A page is written, but not all of it: it names the sections that failed."""


def show(section: Section, folder: Path, vectors: bool = True) -> Rendered:
    """A section with its figures drawn; they are also written into `folder`. A figure or table of nothing is left out.

    Args:
        section: what is shown.
        folder: of the figures.
        vectors: as of `draw`.
    """
    figures = [draw(picture, folder, vectors) for picture in section.figures if shows_data(picture.figure)]
    tables = [table for table in section.tables if table.rows]
    texts = {"lead": section.lead, "notes": section.notes, "finding": section.finding, "chapter": section.chapter}
    texts["page"] = section.page
    return Rendered(section.title, section.anchor, figures=figures, tables=tables, **texts)


def show_all(
    makers: Sequence[tuple[str, Callable[[], Section | None]]], folder: Path, vectors: bool = True
) -> list[Rendered]:
    """Every section that there is; one that raises holds its error, and the others are shown all the same.

    Args:
        makers: what a section is called where it fails, and what makes it.
        folder: of the figures.
        vectors: as of `draw`.
    """

    def rendered(make: Callable[[], Section | None]) -> list[Rendered]:
        section = make()
        return [] if section is None else [show(section, folder, vectors)]

    sections = []
    for name, make in makers:
        section, failed = attempt(name, partial(rendered, make), [])
        sections += [*section, *failed]
    return sections


def attempt(name: str, make: Callable[[], T], otherwise: T) -> tuple[T, list[Rendered]]:
    """What `make` returns, or `otherwise` and a section that names the error, whose traceback goes to the log.

    Example:
        >>> attempt("Truth", lambda: 1, 0)
        (1, [])
    """
    try:
        return make(), []
    except Exception as error:
        log.exception("the report's section %r failed", name)
        title = f"{name} (failed)"
        failed = Section(title, "")
        return otherwise, [Rendered(title, failed.anchor, "", (), (), (), error=f"{type(error).__name__}: {error}")]


@dataclass
class Attempts:
    """What of a page was attempted and failed, in order.

    Example:
        >>> tried = Attempts()
        >>> tried("Title", lambda: "Birds", ""), tried.failed
        ('Birds', [])
    """

    failed: list[Rendered] = field(default_factory=list)

    def __call__(self, name: str, make: Callable[[], T], otherwise: T) -> T:
        """What `make` returns; where it raises, `otherwise`, and the error is added to `failed`."""
        made, failed = attempt(name, make, otherwise)
        self.failed += failed
        return made


def require_whole(sections: Sequence[Rendered], page: Path) -> None:
    """Check that no section of a page failed.

    Raises:
        ReportError: names those that did.
    """
    if failed := [f"{section.title}: {section.error}" for section in sections if section.error]:
        listed = "\n".join(f"  {line}" for line in failed)
        raise ReportError(
            f"{page.name} is written without {len(failed)} of its sections; all else is there, and the log holds "
            f"the traceback of each:\n{listed}"
        )


def draw(picture: Picture, folder: Path, vectors: bool = True) -> Embedded:
    """A picture as bytes inside the page, at 100 pixels per inch.

    `folder` gets it as `<name>.png` and `<name>.svg`, and the numbers that it shows, where it names them, as
    `<name>.csv`.

    Args:
        picture: what is drawn.
        folder: made when needed.
        vectors: whether there is an SVG of it; of a drawing, which the page itself shows so, there always is.
    """
    image = raster(picture.figure)
    picture.figure.set_layout_engine("none")  # it is laid out now; the SVG need not wait for that once more
    png = chart_png(image) if picture.kind == "chart" else photo_png(image)
    files = {f"{picture.name}.png": png}
    if vectors or picture.kind == "drawing":
        files[f"{picture.name}.svg"] = svg(picture.figure)
    if picture.data is not None:
        files[f"{picture.name}.csv"] = picture.data.to_csv(index=False).encode()
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    address = _address(picture, image, files)
    width = round(100 * picture.figure.get_figwidth())
    alt = picture.alt or picture.caption
    return Embedded([*files, *picture.others], address, width, picture.caption, alt, picture.kind, picture.aside)


def _address(picture: Picture, image: Image.Image, files: Mapping[str, bytes]) -> str:
    if picture.kind == "drawing":
        return data_uri("image/svg+xml", files[f"{picture.name}.svg"])
    if picture.kind == "photo":
        return data_uri("image/webp", webp(image))
    return data_uri("image/png", files[f"{picture.name}.png"])


def render(
    template: str,
    path: Path,
    sections: Sequence[Rendered],
    *,
    findings: Sequence[Finding] = (),
    warnings: Sequence[Warned] = (),
    lead: Embedded | None = None,
    last_chapter: str = "",
    **values: Any,
) -> Path:
    """Write a page from a template; all text is escaped.

    Args:
        template: a file of `lis/report/templates`.
        path: the page.
        sections: what it shows, in order.
        findings, warnings, lead: what it says first, and the picture beside it.
        last_chapter: as of `by_chapter`.
        values: what else the template reads.
    """
    environment = Environment(
        loader=PackageLoader("lis.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    values |= {"chapters": by_chapter(sections, last_chapter), "citation": CITATION}
    page = environment.get_template(template).render(findings=findings, warnings=warnings, lead=lead, **values)
    path.write_text(page, encoding="utf-8")
    return path
