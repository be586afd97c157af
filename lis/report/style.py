"""How every figure looks: one set of colours, fonts and line widths, and how a figure becomes bytes.

Colours follow Okabe and Ito (2008), which stay apart under the common forms of colour blindness; links keep the
colours of the paper's Fig. S1 (LR amber, FC-L1 red, FC-L2 green).
"""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names
from PIL import Image

from lis.images import PARTS as PARTS
from lis.images import label_colours as label_colours

P = ParamSpec("P")
R = TypeVar("R")

WIDE, HALF = 10.4, 5.1
"""Widths in inches of a figure that spans the page and of one that shares it; the page shows 100 px per inch."""
DPI = 200
"""Two image pixels per pixel of the page."""

INK, MUTED, RULE, PANEL = "#1d2329", "#66707c", "#d3d9df", "#f4f6f8"
GREY = "#b4bcc5"
"""Lines and dots that no name or colour tells apart."""
LINK_RED = "#c1272d"
PAIRING = {"cycle": "#1f6199", "within-class": "#8397ab", "random": "#bcc6d0"}
LINK = {"lr": "#e69f00", "ridge": "#0072b2", "fc_l1": "#d55e00", "fc_l2": "#009e73"}
SERIES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#660099", "#776644", "#444455", "#770022")

_FONTS = ("Helvetica Neue", "Helvetica", "Arial", "Liberation Sans", "DejaVu Sans")
RC: dict[Any, Any] = {
    "font.family": [name for name in _FONTS if name in set(get_font_names())],
    "mathtext.fontset": "stix",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9aa4ae",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "grid.color": "#e6eaee",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.4,
    "svg.fonttype": "path",
    "svg.hashsalt": "lis",
}
"""Matplotlib settings, applied only while a figure is drawn or saved."""


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Run `function` under `RC` and leave matplotlib's global settings as they were."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context(RC):
            return function(*args, **kwargs)

    return wrapper


def sheet(
    width: float, height: float, rows: int = 1, columns: int = 1, *, lines: str = "", **grid: Any
) -> tuple[Figure, np.ndarray]:
    """An empty figure (inches) and its axes `[rows, columns]`; `grid` goes to `Figure.subplots`.

    `lines` is "x", "y" or "both" where faint lines help to read values along these axes.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **grid)
    for axis in axes.flat if lines else ():
        light_grid(axis, lines)
    return figure, axes


def plain(name: str) -> str:
    """A name as text for a figure: underscores become spaces, and a dollar sign does not start mathematics.

    Example:
        >>> plain("border_collie")
        'border collie'
    """
    return name.replace("_", " ").replace("$", r"\$")


def class_colours(names: Sequence[str]) -> dict[str, str]:
    """A colour per class, by its place in the run's class list, so that a class keeps it in every figure."""
    return {name: SERIES[index % len(SERIES)] for index, name in enumerate(names)}


def link_colour(link: str, index: int = 0) -> str:
    """The colour of a link; one that is not the paper's gets the `index`-th colour of the general series."""
    return LINK.get(link, SERIES[(index + 3) % len(SERIES)])


def light_grid(axis: Axes, along: str = "x") -> None:
    """Faint lines that help to read values along one axis, without its ticks."""
    axis.grid(True, axis=along)  # pyright: ignore[reportArgumentType]
    axis.tick_params(axis=along, length=0)  # pyright: ignore[reportArgumentType]


def shows_data(figure: Figure) -> bool:
    """Whether a figure shows anything but axes, text and lines that only help to read it."""
    return any(_has_data(axis) for axis in figure.axes if axis.get_visible())


def _has_data(axis: Axes) -> bool:
    """Whether there is an image, a collection, or a line or patch at finite values in the coordinates of the data, not
    one across the axes.
    """
    marks = [mark for mark in (*axis.lines, *axis.patches) if np.isfinite(mark.get_path().vertices).all(1).any()]
    across = (not all(mark.get_transform().contains_branch_seperately(axis.transData)) for mark in marks)
    return bool(axis.images or axis.collections) or not all(across)


@styled
def raster(figure: Figure) -> Image.Image:
    """The figure as pixels."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


@styled
def svg(figure: Figure) -> bytes:
    """The figure as vector graphics, text as paths, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None})
    return buffer.getvalue()


def photo_png(image: Image.Image) -> bytes:
    """Pixels as PNG in full colour."""
    return _encoded(image, "PNG", compress_level=6)


def chart_png(image: Image.Image) -> bytes:
    """Pixels as PNG of at most 256 colours: for charts a third of the size, and it looks the same."""
    few = image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return _encoded(few, "PNG", compress_level=6)


def jpeg(image: Image.Image) -> bytes:
    """Pixels as JPEG, for pictures of generated images in a notebook."""
    return _encoded(image, "JPEG", quality=88, subsampling=0)


def webp(image: Image.Image) -> bytes:
    """Pixels as WebP, for pictures of generated images inside a page: a third of the size of `jpeg`."""
    return _encoded(image, "WEBP", quality=90, method=4)


def data_uri(media: str, content: bytes) -> str:
    """Bytes as a `data:` address of a media type."""
    return f"data:{media};base64,{base64.b64encode(content).decode()}"


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
