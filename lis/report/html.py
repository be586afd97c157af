"""From sections to one self-contained HTML file, with its figures beside it as PNG files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from lis.report.section import Picture, Section, Table
from lis.report.style import chart_png, data_uri, jpeg, photo_png, raster, shows_data, svg

T = TypeVar("T")
KICKER = "Linking in Style"
"""What stands above a title, and in the place of one that fails."""
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

    file: str
    address: str
    width: int
    caption: str
    alt: str
    aside: bool = False


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
    error: str = ""
    """Why there is nothing of it."""


class ReportError(RuntimeError):
    """A page is written, but not all of it: it names the sections that failed."""


def show(section: Section, folder: Path) -> Rendered:
    """A section with its figures drawn; they are also written into `folder`. A figure or table of nothing is left out.

    Args:
        section: what is shown.
        folder: of the figures.
    """
    figures = [draw(picture, folder) for picture in section.figures if shows_data(picture.figure)]
    tables = [table for table in section.tables if table.rows]
    texts = {"lead": section.lead, "notes": section.notes, "finding": section.finding, "chapter": section.chapter}
    return Rendered(section.title, section.anchor, figures=figures, tables=tables, **texts)


def show_all(makers: Sequence[tuple[str, Callable[[], Section | None]]], folder: Path) -> list[Rendered]:
    """Every section that there is; one that raises holds its error, and the others are shown all the same.

    Args:
        makers: what a section is called where it fails, and what makes it.
        folder: of the figures.
    """
    sections = []
    for name, make in makers:
        section, failed = attempt(name, lambda make=make: [show(x, folder) for x in [make()] if x is not None], [])
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


def draw(picture: Picture, folder: Path) -> Embedded:
    """A picture as bytes inside the page, at 100 pixels per inch, and as `<name>.png` in `folder`."""
    file, image = f"{picture.name}.png", raster(picture.figure)
    content = chart_png(image) if picture.kind == "chart" else photo_png(image)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(content)
    width = round(100 * picture.figure.get_figwidth())
    alt = picture.alt or picture.caption
    return Embedded(file, _address(picture, image, content), width, picture.caption, alt, picture.aside)


def _address(picture: Picture, image: Image.Image, content: bytes) -> str:
    if picture.kind == "drawing":
        return data_uri("image/svg+xml", svg(picture.figure))
    return data_uri("image/jpeg", jpeg(image)) if picture.kind == "photo" else data_uri("image/png", content)


def render(template: str, path: Path, **values: Any) -> Path:
    """Write a page from a template; all text is escaped.

    Args:
        template: a file of `lis/report/templates`.
        path: the page.
        values: what the template reads.
    """
    environment = Environment(
        loader=PackageLoader("lis.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    path.write_text(environment.get_template(template).render(citation=CITATION, **values), encoding="utf-8")
    return path
