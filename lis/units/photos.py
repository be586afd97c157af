"""A user's own pictures as they lie in a folder: read within bounds, turned, cut square and resized."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from lis.images import opened, too_heavy
from lis.names import printable

FORMATS = ("PNG", "JPEG", "WEBP")
MOST = 200
"""Files in a folder and those inside."""
LARGEST_FILE, LARGEST_SIDE, LARGEST_AREA, SMALLEST_SIDE = 100 * 2**20, 20_000, 50_000_000, 8
"""Bytes, pixels along a side, and pixels in all of the largest picture that is read; shorter side of the smallest."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes an orientation of EXIF."""
TURNED = "turned as its EXIF data say"
"""Note of a picture whose orientation was undone."""
_BAND = 256
"""Rows that are converted at once."""


@dataclass(frozen=True)
class Photo:
    """A file of the folder."""

    name: str
    """From the folder on, as text that can be written anywhere."""
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
    """All that lies in a folder and in the folders inside, by path, without what is hidden.

    What is no file that can be read is among them, to be told of by `read_photo`: links to nothing or to folders,
    folders that cannot be opened, pipes.

    Raises:
        ValueError: there is no such folder, or no file or too many files in it.
    """
    if not folder.is_dir():
        raise ValueError(f"images={folder}: expected a folder of PNG, JPEG or WebP pictures; there is no such folder")
    files = sorted(_entries(folder))
    if not 1 <= len(files) <= MOST:
        raise ValueError(
            f"images={folder} has {len(files)} files, those in folders inside included: expected 1 to {MOST} PNG, JPEG "
            "or WebP pictures"
        )
    return files


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder and inside, but for the folders that were looked into; links are not followed."""
    closed: list[OSError] = []
    entries = []
    for parent, inside, files in os.walk(folder, onerror=closed.append):
        inside[:] = [name for name in inside if not name.startswith(".")]
        links = [name for name in inside if Path(parent, name).is_symlink()]
        entries += [Path(parent, name) for name in (*links, *files) if not name.startswith(".")]
    return entries + [Path(error.filename) for error in closed]


def read_photo(path: Path, size: int, folder: Path | None = None) -> Photo:
    """A picture, turned as its EXIF data say, its centre cut out as a square and resized.

    What a file is follows from its content, not from its name. Transparent pictures lie on white; of several frames
    the first is taken; 16 bits become 8.

    Args:
        path: the file.
        size: height and width of the result.
        folder: what its name begins after; by default the folder that it lies in.

    Returns:
        the picture, or the reason why it cannot be used: no file is an error.
    """
    name = printable(path.relative_to(folder or path.parent).as_posix())
    try:
        if reason := unreadable(path):
            return Photo(name, reason=reason)
        return _photo(name, path.read_bytes(), size)
    except Image.DecompressionBombError:
        return Photo(name, reason=f"far more than {LARGEST_AREA / 1e6:.0f} million pixels, the most that is read")
    except Image.UnidentifiedImageError:
        return Photo(name, reason="no PNG, JPEG or WebP picture")
    except Exception as error:  # a decoder may raise anything on a damaged file
        return Photo(name, reason=f"cannot be read: {_message(error)}")


def unreadable(path: Path) -> str:
    """Why a file is not opened at all; empty where it is."""
    if path.is_symlink() and not path.exists():
        return "cannot be read: a link to a file that is not there"
    if path.is_dir():
        return f"cannot be read: {'a link to a folder, which is not followed' if path.is_symlink() else 'a folder'}"
    if path.exists() and not path.is_file():
        return "cannot be read: no file, but a pipe or a device"  # opening a pipe would wait for ever
    size = path.stat().st_size
    return f"{size / 2**20:,.0f} MB: expected at most {LARGEST_FILE // 2**20}" if size > LARGEST_FILE else ""


def _message(error: Exception) -> str:
    """What went wrong, without the path of this machine."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(text) or type(error).__name__


def photo_of(image: Image.Image, size: int, name: str = "picture") -> Photo:
    """The same of a picture that is open, or that a program has made."""
    result = _upright(name, image)
    return result if isinstance(result, Photo) else result.photo(size)


def _photo(name: str, content: bytes, size: int) -> Photo:
    with opened(content, FORMATS) as file:
        result = _upright(name, file)
    del file  # its pixels are not needed any more
    return result if isinstance(result, Photo) else result.photo(size)


def _upright(name: str, file: Image.Image) -> _Upright | Photo:
    """The picture turned, or the reason why it cannot be used."""
    width, height = file.size
    if reason := _unfit(file):
        return Photo(name, width=width, height=height, reason=reason)
    notes = [f"first of {frames} frames"] if (frames := getattr(file, "n_frames", 1)) > 1 else []
    turned, remark = _turned(file)
    return _Upright(name, [turned], notes + [remark] * bool(remark))


@dataclass(frozen=True)
class _Upright:
    """A picture as it is seen, before it is cut."""

    name: str
    image: list[Image.Image]
    """One, which is taken out so that its pixels can go."""
    notes: list[str]

    def photo(self, size: int) -> Photo:
        """Cut and resized."""
        turned = self.image.pop()
        seen, square = turned.size, _centre(turned)
        del turned  # as above
        flat, remarks = _rgb(square)
        del square
        small = np.asarray(flat.resize((size, size), Image.Resampling.LANCZOS))
        notes = self.notes + remarks + (["enlarged"] if min(seen) < size else [])
        return Photo(self.name, torch.tensor(small).permute(2, 0, 1).contiguous(), *seen, ", ".join(notes))


def _unfit(file: Image.Image) -> str:
    """Why a picture is not decoded; empty where it is."""
    width, height = file.size
    if max(width, height) > LARGEST_SIDE or width * height > LARGEST_AREA or min(width, height) < SMALLEST_SIDE:
        return (
            f"{width} × {height} pixels: expected sides of {SMALLEST_SIDE} to {LARGEST_SIDE:,}, and at most "
            f"{LARGEST_AREA / 1e6:.0f} million pixels"
        )
    return too_heavy(file)


def _turned(file: Image.Image) -> tuple[Image.Image, str]:
    """A copy of the picture as its EXIF data turn it, and a remark on that; where they are damaged, as it is stored."""
    file.load()  # a picture that is damaged itself fails here
    header = Image.new("1", (1, 1))  # since a file forgets that its data could not be read
    header.info = file.info
    try:
        turn = _TURNS.get(header.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # the decoder of the data may raise anything
        return file.copy(), "its EXIF data are damaged: not turned"
    return (file.copy(), "") if turn is None else (file.transpose(turn), TURNED)


def _centre(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _rgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """The picture with three channels of 8 bits, and what that took; in bands, since each step needs a copy."""
    flat, remarks = Image.new("RGB", image.size), dict[str, None]()
    for top in range(0, image.height, _BAND):
        band, remark = _flat(image.crop((0, top, image.width, min(top + _BAND, image.height))))
        flat.paste(band, (0, top))
        remarks |= {remark: None} if remark else {}
    return flat, list(remarks)


def _flat(image: Image.Image) -> tuple[Image.Image, str]:
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits of grey, which Pillow's own conversion cuts off
        grey = np.asarray(image).astype(np.float64)
        return Image.fromarray((grey / 257).clip(0, 255).round().astype(np.uint8)).convert("RGB"), "16 bits to 8"
    if not image.has_transparency_data:
        return image.convert("RGB"), ""
    above = image.convert("RGBA")
    if above.getchannel("A").getextrema() == (255, 255):
        return above.convert("RGB"), ""
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, above).convert("RGB"), "transparent: laid on white"
