"""From sections to one self-contained HTML file, with its figures beside it as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from lis.report.sections import Picture, Section, Table
from lis.report.style import chart_png, data_uri, jpeg, photo_png, raster, svg

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


@dataclass(frozen=True)
class Shown:
    """A section as the page holds it."""

    title: str
    anchor: str
    lead: str
    figures: Sequence[Embedded]
    tables: Sequence[Table]
    notes: Sequence[str]


def show(section: Section, folder: Path) -> Shown:
    """A section with its figures drawn; they are also written into `folder`."""
    figures = [draw(picture, folder) for picture in section.figures]
    return Shown(section.title, section.anchor, section.lead, figures, section.tables, section.notes)


def draw(picture: Picture, folder: Path) -> Embedded:
    """A picture as bytes inside the page, at 100 pixels per inch, and as `<name>.png` in `folder`."""
    file, image = f"{picture.name}.png", raster(picture.figure)
    content = chart_png(image) if picture.kind == "chart" else photo_png(image)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(content)
    width = round(100 * picture.figure.get_figwidth())
    return Embedded(file, _address(picture, image, content), width, picture.caption)


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
