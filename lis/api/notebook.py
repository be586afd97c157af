"""How results show themselves in a notebook: HTML that needs nothing else, on light and on dark pages."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from lis.images import label_colours, smaller
from lis.report.layouts import overlay
from lis.report.marks import enlarged
from lis.report.style import chart_png, data_uri
from lis.report.wording import number, words

SIDE = 96
"""Pixels of a picture."""
ROWS = 8
"""Rows of a table, at most; the rest is counted."""
SAMPLES = 4
"""Samples of a result, at most."""
STEPS = 9
"""Pictures in a row, at most."""
_LINE = "1px solid rgba(128,128,128,.4)"
_CELL = "padding:2px 8px 2px 0;text-align:left;vertical-align:top;background:none;border:none"
_MUTED = "opacity:.7;font-size:85%"


def page(title: str, *parts: str) -> str:
    """A title with what stands below, in the colours of the notebook."""
    body = "".join(part for part in parts if part)
    return f'<div style="color:inherit;max-width:72em;overflow-x:auto"><b>{html.escape(title)}</b>{body}</div>'


def text(*lines: str) -> str:
    """Lines of text."""
    return "".join(f'<div style="margin:.3em 0">{html.escape(line)}</div>' for line in lines if line)


def strong(line: str) -> str:
    """A line that is not to be overlooked."""
    return f'<div style="margin:.3em 0"><b>{html.escape(line)}</b></div>'


def folded(title: str, content: str) -> str:
    """Text that is opened with a click."""
    inside = f'<pre style="white-space:pre-wrap;background:none;color:inherit">{html.escape(content)}</pre>'
    return f'<details style="margin:.3em 0"><summary>{html.escape(title)}</summary>{inside}</details>'


def facts(values: Mapping[str, str]) -> str:
    """Names beside what is known of them."""
    rows = [_row([name.replace(" ", "\u00a0"), value]) for name, value in values.items()]
    return f'<table style="border-collapse:collapse;margin:.4em 0">{"".join(rows)}</table>'


def table(frame: pd.DataFrame, most: int = ROWS) -> str:
    """The first rows of a table, and how many there are."""
    head = "".join(f'<th style="{_CELL};border-bottom:{_LINE}">{html.escape(str(name))}</th>' for name in frame)
    rows = [_row([_value(value) for value in row]) for row in frame.head(most).itertuples(index=False)]
    more = f'<div style="{_MUTED}">{most} of {len(frame):,} rows</div>' if len(frame) > most else ""
    style = "border-collapse:collapse;margin:.4em 0;font-size:90%"
    return f'<table style="{style}"><tr style="background:none">{head}</tr>{"".join(rows)}</table>{more}'


def gallery(rows: Iterable[tuple[str, Sequence[np.ndarray], Sequence[str]]]) -> str:
    """Rows of pictures: what stands before each, pictures `[h, w, 3]` uint8, and what stands below them."""
    lines = []
    for name, images, captions in rows:
        cells = [f'<td style="{_CELL};white-space:pre">{html.escape(name)}</td>']
        for image, caption in zip(images, captions, strict=True):
            below = f'<div style="{_MUTED}">{html.escape(caption)}</div>' if caption else ""
            cells.append(f'<td style="{_CELL};padding-right:4px">{_img(image, caption or name)}{below}</td>')
        lines.append(f'<tr style="background:none">{"".join(cells)}</tr>')
    return f'<table style="border-collapse:collapse;margin:.4em 0">{"".join(lines)}</table>'


def pixels(image: Tensor) -> np.ndarray:
    """A picture `[3, H, W]` uint8 as `[h, w, 3]`, at most 256 pixels high."""
    return smaller(image[None].float())[0].round().to(torch.uint8).movedim(0, -1).numpy()


def outlined(image: Tensor, mask: Tensor, labels: Sequence[str], some: Sequence[str]) -> np.ndarray:
    """A picture `[3, H, W]` with the outlines of some of its parts; the mask `[h, w]` has the numbers of `labels`."""
    colours, values = label_colours(labels), np.zeros(1 + len(labels), np.uint8)
    for index, name in enumerate(some, 1):
        values[1 + labels.index(name)] = index
    return overlay(pixels(image), values[mask.numpy()], [colours[name] for name in some])


def legend(labels: Sequence[str], some: Sequence[str]) -> str:
    """What the colours of the parts stand for."""
    colours = label_colours(labels)
    swatch = "display:inline-block;width:.8em;height:.8em;border:1px solid rgba(128,128,128,.8);background:"
    names = [f'<span style="{swatch}{colours[name]}"></span> {html.escape(words(name))}' for name in some]
    return f'<div style="{_MUTED};opacity:1">{" &nbsp; ".join(names)}</div>' if names else ""


def evenly(n: int, most: int) -> list[int]:
    """At most so many of n, both ends among them.

    Example:
        >>> evenly(3, 5), evenly(9, 3)
        ([0, 1, 2], [0, 4, 8])
    """
    return list(range(n)) if n <= most else np.linspace(0, n - 1, most).round().astype(int).tolist()


def more(n: int, most: int, noun: str = "samples") -> str:
    """How many are not shown; nothing where all are."""
    return f'<div style="{_MUTED}">{most} of {n} {noun}</div>' if n > most else ""


def _img(image: np.ndarray, name: str) -> str:
    shrunk = Image.fromarray(enlarged(image)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    address = data_uri("image/png", chart_png(shrunk))
    return f'<img src="{address}" width="{SIDE}" height="{SIDE}" alt="{html.escape(name)}" style="display:block">'


def _row(cells: Sequence[str]) -> str:
    inside = "".join(f'<td style="{_CELL}">{html.escape(cell)}</td>' for cell in cells)
    return f'<tr style="background:none">{inside}</tr>'


def _value(value: Any) -> str:
    """A cell of a table."""
    if isinstance(value, (float, np.floating)):
        return number(float(value))
    return str(value)
