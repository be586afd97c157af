"""Moving pictures: samples along a unit or direction, an animated GIF each, and edits of a generator."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from lis.report.gan_movies import STAGE, movie_files
from lis.report.layouts import overlay
from lis.report.marks import enlarged
from lis.report.source import Source
from lis.report.style import label_colours
from lis.report.tables import records, where

STAGES = ("unit", "direction")
_MILLISECONDS = 200
"""Each frame is shown for."""
_TINT = 0.25
"""How strongly parts are tinted."""


def animation_names(source: Source, stage: str) -> list[str]:
    """File names of a stage's animations, one per sample."""
    arrays = source.arrays(stage, "traversal")
    names = [source.facts.class_names[c] for c in arrays["class_index"].tolist()]
    return [_file(f"{stage}-{name}-{k}") for name, k in zip(names, arrays["sample_index"].tolist(), strict=True)]


def motion_names(source: Source) -> list[str]:
    """File names of the animations of the stage `motion`, one per row of the tensors "examples" with a path."""
    table = where(source.table("motion", "examples"), figure="trajectories")
    return [_file(f"motion-{row['name']}-{row['class']}-{row['sample_index']}") for row in records(table)]


def _file(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name) + ".gif"


def write_animations(source: Source, folder: Path) -> list[Path]:
    """Write `<stage>-<class>-<sample>.gif` for every sample of the stages `unit` and `direction` that are there, and
    `motion-<unit>-<class>-<sample>.gif` for the units that the stage `motion` shows; of `dissect_gan` its three movies.

    Args:
        source: the run.
        folder: made when needed.

    Returns:
        the files.
    """
    written = []
    for name, content in _files(source):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        written.append(folder / name)
    return written


def _files(source: Source) -> Iterator[tuple[str, bytes]]:
    """Name and content of each."""
    yield from ((name, gif(pictures)) for name, pictures in _animations(source))
    if source.has(STAGE, "removal_movie"):
        yield from movie_files(source).items()


def _animations(source: Source) -> Iterator[tuple[str, list[np.ndarray]]]:
    """File name and pictures of each; of motion the images as they are, beside them in the coordinates of the first."""
    for stage in STAGES:
        if source.has(stage, "traversal", "facts"):
            arrays, colours = source.arrays(stage, "traversal"), label_colours(source.json(stage, "facts")["labels"])
            samples = zip(animation_names(source, stage), arrays["image"], arrays["mask"], strict=True)
            yield from ((name, frames(image, mask, colours)) for name, image, mask in samples)
    if source.has("motion", "examples"):
        examples, names = source.arrays("motion", "examples"), motion_names(source)
        rows = np.flatnonzero(source.table("motion", "examples")["figure"] == "trajectories")
        for k, name in zip(rows, names, strict=True):
            both = zip(examples["image"][k], examples["aligned"][k], strict=True)
            yield name, [np.concatenate([enlarged(picture) for picture in pair], 1) for pair in both]


def frames(image: np.ndarray, mask: np.ndarray, colours: dict[str, str]) -> list[np.ndarray]:
    """A picture per step, `[H, W, 3]` uint8: the image, and beside it the same with its parts where any are known.

    Args:
        image: `[t, h, w, 3]` uint8.
        mask: `[t, h', w']` uint8, 0 background.
        colours: label to colour, in the order of the masks' values.
    """
    if not colours:
        return [enlarged(picture) for picture in image]
    return [
        np.concatenate([enlarged(picture), overlay(picture, parts, list(colours.values()), _TINT)], 1)
        for picture, parts in zip(image, mask, strict=True)
    ]


def gif(pictures: Sequence[np.ndarray]) -> bytes:
    """An animated GIF of pictures `[h, w, 3]` uint8 that runs forth and back without end."""
    forth_and_back = [*pictures, *pictures[-2:0:-1]]
    first, *others = [Image.fromarray(picture).quantize(256) for picture in forth_and_back]
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=_MILLISECONDS, loop=0, disposal=1)
    return buffer.getvalue()
