"""Moving pictures of edits of a generator's units: removal of more and more, insertion at a cell, painting."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lis.report.layouts import mosaic, overlay
from lis.report.marks import enlarged
from lis.report.source import Source
from lis.report.style import label_colours
from lis.report.wording import share

MOVIES = ("removal", "insertion", "painting")
STAGE = "dissect_gan"
_MILLISECONDS = 140
_SIDE = 144
"""Height and width of an image of a frame, in pixels."""
_HEAD = 22
"""Pixels above the images, for a line of text."""


def movie_name(movie: str) -> str:
    """File name of one of `MOVIES`."""
    return f"dissect-gan-{movie}.webp"


def movie_files(source: Source) -> dict[str, bytes]:
    """By file name the movies of a run's stage."""
    movies = {name: [_headed(picture, text) for picture, text in movie_frames(source, name)] for name in MOVIES}
    return {movie_name(name): animated_webp(pictures) for name, pictures in movies.items()}


def movie_frames(source: Source, movie: str) -> list[tuple[np.ndarray, str]]:
    """The frames of a movie, and what is to be said of each.

    A frame `[h, w, 3]` uint8 has the images in a row, with an outline around the cells where units are set, above their
    parts.
    """
    facts, tensors = source.json(STAGE, "facts"), source.arrays(STAGE, f"{movie}_movie")
    colours = list(label_colours(facts["parts"]).values())
    frames = []
    for t, (images, parts, mask) in enumerate(zip(tensors["image"], tensors["parts"], tensors["mask"], strict=True)):
        seen = [_sized(overlay(image, part, colours, 0.35)) for image, part in zip(images, parts, strict=True)]
        picture = mosaic([np.stack([_outlined(image, mask) for image in images]), np.stack(seen)])
        painted = _appearance(facts["movies"][movie], tensors["refused"][t], tensors["gained"][t])
        frames.append((picture, f"{t} units removed" if movie == "removal" else painted))
    return frames


def _appearance(part: str, refused: np.ndarray, gained: np.ndarray) -> str:
    """How many images show a part under the mask, and what it gained of the mask on average."""
    painted = np.count_nonzero(~refused)
    return f"{part}: under the mask in {painted} of {len(refused)} images, gains {share(float(gained.mean()))} of it"


def _sized(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS))


def _outlined(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """An image with a white line around the cells of a mask `[h, w]`, if they are not all."""
    large = _sized(enlarged(image)).copy()
    if mask.all():
        return large
    inside = np.asarray(Image.fromarray(mask > 0.5).resize((_SIDE, _SIDE), Image.Resampling.NEAREST))
    inner = inside.copy()
    for axis in (0, 1):
        for step in (-2, 2):
            inner &= np.roll(inside, step, axis)
    large[inside & ~inner] = 255
    return large


def _headed(picture: np.ndarray, text: str) -> np.ndarray:
    page = Image.new("RGB", (picture.shape[1], picture.shape[0] + _HEAD), "white")
    page.paste(Image.fromarray(picture), (0, _HEAD))
    ImageDraw.Draw(page).text((4, 3), text, fill="#1d2329", font=ImageFont.load_default(size=14))
    return np.asarray(page)


def animated_webp(pictures: Sequence[np.ndarray]) -> bytes:
    """An animated WebP of pictures `[h, w, 3]` uint8 that runs without end, its last picture for longer."""
    first, *others = [Image.fromarray(picture) for picture in pictures]
    buffer = io.BytesIO()
    durations = [_MILLISECONDS] * len(others) + [8 * _MILLISECONDS]
    options = {"duration": durations, "loop": 0, "quality": 85, "method": 4}
    first.save(buffer, "WEBP", save_all=True, append_images=others, **options)
    return buffer.getvalue()
