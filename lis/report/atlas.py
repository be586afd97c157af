"""The atlas: every unit of the dissected layer with the images in which it is most active, on a page by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from lis.dissection.top_images import masked_pictures
from lis.report.source import Source
from lis.report.style import jpeg
from lis.report.tables import records
from lis.report.wording import number, probability, words

PAGE = "atlas.html"
"""File name, beside the report."""
SPRITE = 32
"""Units in one file of images."""
_FOLDER = "atlas"
"""Of the sprites, beside the page."""


def ranked(units: pd.DataFrame) -> pd.DataFrame:
    """Rows of the table "units" by descending IoU; those without one last."""
    return units.sort_values("iou", ascending=False, kind="stable", na_position="last")


def marked_images(top: dict[str, np.ndarray], unit: int) -> np.ndarray:
    """Images `[5, s, s, 3]` uint8 of a unit, darkened outside its mask, which has a border.

    Args:
        top: image `[n, s, s, 3]` uint8, index `[units, 5]`, mask `[units, 5, s, s]` bool.
        unit: index of the unit.
    """
    image = np.moveaxis(top["image"][top["index"][unit]], -1, -3)
    marked = masked_pictures(torch.from_numpy(image), torch.from_numpy(top["mask"][unit]))
    return np.moveaxis(marked.numpy(), -3, -1)


def write_atlas(source: Source, out: Path) -> list[Path]:
    """Write `atlas.html`, and `atlas/<number>.jpg` with the images of 32 units each, where units were dissected.

    Args:
        source: the run.
        out: folder of the report.

    Returns:
        the files.
    """
    if not source.has("dissect", "units", "top", "facts"):
        return []
    units, facts = ranked(source.table("dissect", "units")), source.json("dissect", "facts")
    top = source.arrays("dissect", "top")
    folder, files = out / _FOLDER, []
    folder.mkdir(parents=True, exist_ok=True)
    order = units["unit"].tolist()
    for k in range(0, len(order), SPRITE):
        files.append(folder / f"{k // SPRITE}.jpg")
        files[-1].write_bytes(jpeg(Image.fromarray(sprite(top, order[k : k + SPRITE]))))
    page = out / PAGE
    size, columns = top["image"].shape[1], top["index"].shape[1]
    page.write_text(_page(facts, [_entry(row) for row in records(units)], size, columns), encoding="utf-8")
    return [page, *files]


def sprite(top: dict[str, np.ndarray], units: list[int]) -> np.ndarray:
    """`[units · s, 5 · s, 3]` uint8: a row of images per unit; tensors "top"."""
    return np.concatenate([np.concatenate([*marked_images(top, unit)], 1) for unit in units])


def _entry(row: dict[str, Any]) -> dict[str, Any]:
    """What the page says of a unit."""
    return {
        "unit": row["unit"],
        "concept": words(row["concept"]) or ("dead" if row["dead"] else "no concept"),
        "kind": row["kind"],
        "iou": number(row["iou"], 2),
        "control": number(row["control"], 2),
        "q": probability(row["q"]),
        "above": bool(row["above_chance"]),
    }


def _page(facts: dict[str, Any], units: list[dict[str, Any]], size: int, columns: int) -> str:
    environment = Environment(
        loader=PackageLoader("lis.report", "templates"), autoescape=True, undefined=StrictUndefined
    )
    values = {"facts": facts, "units": units, "folder": _FOLDER, "sprite": SPRITE, "size": size, "columns": columns}
    return environment.get_template("atlas.html.j2").render(**values)
