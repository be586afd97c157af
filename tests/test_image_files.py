"""Pictures that would take minutes or gigabytes to decode are refused, or decoded with less."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.hanging import no_hang
from helpers.pickled import forget_peak, peak_memory
from PIL import Image

from lis.units.photos import read_photo

SIZE = 8


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    """Of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def many_pieces(kind: str, count: int) -> bytes:
    """A picture whose file has so many chunks or segments that say nothing."""
    if kind == "JPEG":
        content = saved(Image.new("RGB", (20, 20)), kind)
        return content[:2] + b"\xff\xfe\0\2" * count + content[2:]
    content = saved(Image.new("RGB", (20, 20)), kind)
    return content[:33] + chunk(b"teSt") * count + content[33:]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_of_millions_of_pieces_took_half_a_minute(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(many_pieces(kind, 300_000))
    assert "more than 200,000 pieces" in read_photo(tmp_path / "a", SIZE).reason
    (tmp_path / "a").write_bytes(many_pieces(kind, 1_000))
    assert not read_photo(tmp_path / "a", SIZE).reason


def test_a_jpeg_of_thousands_of_scans_took_minutes(tmp_path: Path) -> None:
    content = saved(Image.new("L", (64, 64)), "JPEG", progressive=True)
    last = content[content.rfind(b"\xff\xda") : -2]
    for count, reason in ((20, ""), (100, "a JPEG of 106 scans: expected at most 64")):
        (tmp_path / "a").write_bytes(content[:-2] + last * count + content[-2:])
        assert reason in read_photo(tmp_path / "a", SIZE).reason


def test_the_film_behind_a_phones_photo_was_counted_as_scans(tmp_path: Path) -> None:
    """As was a preview within its EXIF data; the picture's own scans count wherever such stand."""
    scan, comment = b"\xff\xda", b"\xff\xfe\3\xea" + b"\xff\xda" * 500
    plain = saved(Image.new("RGB", (20, 20)), "JPEG")
    (tmp_path / "a").write_bytes(plain + scan * 100)
    assert not read_photo(tmp_path / "a", SIZE).reason
    (tmp_path / "a").write_bytes(plain[:2] + comment + plain[2:])
    assert not read_photo(tmp_path / "a", SIZE).reason
    content = saved(Image.new("L", (64, 64)), "JPEG", progressive=True)
    last = content[content.rfind(scan) : -2]
    restarted = last + b"\xff\0\xff\xd0\xff\xff\1\xff\2\xff\xff"  # what is stuffed, restarts or says nothing
    (tmp_path / "a").write_bytes(content[:-2] + (comment + restarted) * 100 + content[-2:] + scan)
    assert "a JPEG of 106 scans" in read_photo(tmp_path / "a", SIZE).reason


def test_segments_behind_a_scan_are_counted_within_bounds(tmp_path: Path) -> None:
    """Millions of them, and megabytes of stuffed bytes, are refused or passed over."""
    content = saved(Image.new("RGB", (20, 20)), "JPEG")
    with no_hang():
        (tmp_path / "a").write_bytes(content[:-2] + b"\xff\xfe\0\2" * 1_000_000 + content[-2:])
        assert "more than 200,000 pieces" in read_photo(tmp_path / "a", SIZE).reason
        for filled in (b"\xff\0", b"\xff\xff"):
            (tmp_path / "a").write_bytes(content[:-2] + filled * 4_000_000 + content[-2:])
            assert not read_photo(tmp_path / "a", SIZE).reason


def test_a_large_picture_takes_its_pixels_twice_in_memory(tmp_path: Path) -> None:
    """It was five times, a gigabyte for the largest: 8 bytes a pixel now, and the bands that are converted."""
    exif = Image.Exif()
    exif[0x112] = 6
    side = 3000
    Image.new("RGBA", (side, side), (1, 2, 3, 100)).save(tmp_path / "a.png", exif=exif)
    forget_peak()
    before = peak_memory()
    photo = read_photo(tmp_path / "a.png", SIZE)
    assert photo.note == "turned as its EXIF data say, transparent: laid on white"
    assert peak_memory() - before <= 11 * side**2


@pytest.mark.parametrize(("kind", "millions"), [("WEBP", 30), ("JPEG", 42)])
def test_a_picture_whose_decoder_takes_more_memory_may_have_fewer_pixels(
    kind: str, millions: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A WebP needs two canvases, a progressive JPEG its coefficients; half a gigabyte is the most."""
    image = Image.new("CMYK" if kind == "JPEG" else "RGB", (40, 20))
    image.save(tmp_path / "a", kind, **({"progressive": True} if kind == "JPEG" else {}))
    assert not read_photo(tmp_path / "a", SIZE).reason
    monkeypatch.setattr("lis.units.photos.LARGEST_AREA", 2**60)
    monkeypatch.setattr("lis.images._MEMORY", 799 * 12)
    assert "40 × 20 pixels: expected at most" in read_photo(tmp_path / "a", SIZE).reason
    monkeypatch.undo()
    from lis import images

    monkeypatch.setattr(Image.Image, "size", property(lambda self: (7000, 7000)))
    with Image.open(tmp_path / "a") as file:
        assert f"at most {millions} million" in images.too_heavy(file)


def test_bands_are_converted_as_the_whole(tmp_path: Path) -> None:
    """Of every mode, more rows than one band, and each orientation as Pillow turns it."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (300, 299, 4), dtype=np.uint8)
    for mode in ("RGBA", "RGB", "L", "LA", "P", "1"):
        for orientation in (1, 5, 6, 7, 8) if mode == "RGB" else (1,):
            exif = Image.Exif()
            exif[0x112] = orientation
            Image.fromarray(values).convert(mode).save(tmp_path / "a.png", exif=exif)
            photo = read_photo(tmp_path / "a.png", 299)
            assert photo.image is not None
            assert (photo.image.numpy() == _plainly(tmp_path / "a.png", 299)).all()


def _plainly(path: Path, size: int) -> np.ndarray:
    """The same with whole pictures."""
    from PIL import ImageOps

    turned = ImageOps.exif_transpose(Image.open(path))
    left, top = (turned.width - size) // 2, (turned.height - size) // 2
    above = turned.convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB")
    return np.asarray(flat.crop((left, top, left + size, top + size))).transpose(2, 0, 1)
