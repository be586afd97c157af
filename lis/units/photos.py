"""Pictures of any origin, made square and as large as the generator's images."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

FORMATS = ("PNG", "JPEG", "WEBP")
MOST = 200
"""Files in a folder."""
LARGEST_FILE, LARGEST_SIDE, LARGEST_AREA, SMALLEST_SIDE = 100 * 2**20, 20_000, 50_000_000, 8
"""Bytes, pixels along a side, and pixels in all of the largest picture that is read; shorter side of the smallest."""


@dataclass(frozen=True)
class Photo:
    """A file of the folder."""

    name: str
    image: Tensor | None = None
    """`[3, size, size]` uint8; None where it cannot be used."""
    width: int = 0
    """In pixels, as it is seen; 0 where that is not known."""
    height: int = 0
    note: str = ""
    """What was done to it besides cutting and resizing."""
    reason: str = ""
    """Why it is left out; empty where it is used."""


def photo_files(folder: Path) -> list[Path]:
    """The files of a folder by name, without hidden ones and those in folders inside.

    Raises:
        ValueError: there is no such folder, or no file or too many files in it.
    """
    if not folder.is_dir():
        raise ValueError(f"images={folder}: expected a folder of PNG, JPEG or WebP pictures; there is no such folder")
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if not 1 <= len(files) <= MOST:
        raise ValueError(f"images={folder} has {len(files)} files: expected 1 to {MOST} PNG, JPEG or WebP pictures")
    return files


def read_photo(path: Path, size: int) -> Photo:
    """A picture, turned as its EXIF data say, its centre cut out as a square and resized.

    What a file is follows from its content, not from its name. Transparent pictures lie on white; of several frames
    the first is taken; 16 bits become 8.

    Args:
        path: the file.
        size: height and width of the result.

    Returns:
        the picture, or the reason why it cannot be used: no file is an error.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a decoder remarks about a file that it can read
            if reason := _too_large(path):
                return Photo(path.name, reason=reason)
            with Image.open(path, formats=FORMATS) as file:
                return _photo(path.name, file, size)
    except Image.DecompressionBombError:
        return Photo(path.name, reason=f"far more than {LARGEST_AREA / 1e6:.0f} million pixels, the most that is read")
    except Image.UnidentifiedImageError:
        return Photo(path.name, reason="no PNG, JPEG or WebP picture")
    except Exception as error:  # a decoder may raise anything on a damaged file
        return Photo(path.name, reason=f"cannot be read: {error or type(error).__name__}")


def _too_large(path: Path) -> str:
    size = path.stat().st_size
    return f"{size / 2**20:,.0f} MB: expected at most {LARGEST_FILE // 2**20}" if size > LARGEST_FILE else ""


def _photo(name: str, file: Image.Image, size: int) -> Photo:
    width, height = file.size
    if max(width, height) > LARGEST_SIDE or width * height > LARGEST_AREA or min(width, height) < SMALLEST_SIDE:
        return Photo(
            name,
            width=width,
            height=height,
            reason=f"{width} × {height} pixels: expected sides of {SMALLEST_SIDE} to {LARGEST_SIDE:,}, and at most "
            f"{LARGEST_AREA / 1e6:.0f} million pixels",
        )
    notes = [f"first of {frames} frames"] if (frames := getattr(file, "n_frames", 1)) > 1 else []
    turned = ImageOps.exif_transpose(file)
    notes += ["turned as its EXIF data say"] if turned.getexif() != file.getexif() else []
    flat, remarks = _rgb(turned)
    side = min(flat.size)
    left, top = (flat.width - side) // 2, (flat.height - side) // 2
    square = flat.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)
    image = torch.tensor(np.asarray(square)).permute(2, 0, 1).contiguous()
    notes += remarks + (["enlarged"] if min(width, height) < size else [])
    return Photo(name, image, turned.width, turned.height, ", ".join(notes))


def _rgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """The picture with three channels of 8 bits, and what that took."""
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits of grey, which Pillow's own conversion cuts off
        grey = np.asarray(image).astype(np.float64)
        return Image.fromarray((grey / 257).clip(0, 255).round().astype(np.uint8)).convert("RGB"), ["16 bits to 8"]
    if not image.has_transparency_data:
        return image.convert("RGB"), []
    above = image.convert("RGBA")
    if above.getchannel("A").getextrema() == (255, 255):
        return above.convert("RGB"), []
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, above).convert("RGB"), ["transparent: laid on white"]
