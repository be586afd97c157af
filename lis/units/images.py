"""A user's own pictures: encoded, linked, generated again, and held against what the generator makes (paper §3.1)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from PIL import ExifTags, Image
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from lis.config import RunConfig
from lis.context import Context
from lis.images import opened, page_image, too_heavy
from lis.linking.link import link, load_link
from lis.linking.pairs import test_pairs, train_pairs
from lis.look import Look, Looker
from lis.names import printable
from lis.peaks import picture_arrays
from lis.quantify.measures import MEASURES
from lis.segmentation.training import part_images
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft, sha256
from lis.types import Link
from lis.units.parts import Parts, segmented
from lis.units.tuned import long_table

OFF = 0.99
"""A picture that is farther than this share of the test pairs is off the generator's distribution."""
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
_BAND = 256
"""Rows that are converted at once."""


def validate_images(settings: RunConfig) -> None:
    """Checks, before any work, that there is a picture to look at.

    Raises:
        ValueError: no folder is given, it is not there, or nothing in it is a picture that can be used.
    """
    if settings.images is None:
        raise ValueError("which pictures? Give a folder of PNG, JPEG or WebP files: images=<folder>")
    reasons = []
    for path in photo_files(Path(settings.images)):
        photo = read_photo(path, 1, Path(settings.images))
        if photo.image is not None:
            return
        reasons.append(f"{photo.name}: {photo.reason}")
    raise ValueError(f"images={settings.images} has no picture that can be used:\n" + "\n".join(reasons[:10]))


def _also(ctx: Context) -> dict[str, Any]:
    folder = Path(str(ctx.config.images))
    files = photo_files(folder)
    return {"files": [[printable(str(path.relative_to(folder))), _content(path)] for path in files]}


@stage(
    "images",
    version=3,
    inputs=(link, train_pairs, test_pairs, segmented),
    models=MODELS,
    also=_also,
    check=lambda ctx: validate_images(ctx.config),
    images=part_images,
    arrays=picture_arrays,
)
def user_images(
    ctx: Context, linked: Artifact, train: Artifact, test: Artifact, trained: Artifact | None, draft: Draft
) -> None:
    """The pictures of the folder `images`, and of folders inside, through the full cycle, and how far off they lie.

    A picture is cut square and resized to the generator's resolution. Parts and measures are those of the cycled
    image: they are found from the generator's feature maps, which the picture itself has none of.

    Tensors "images", a row per picture that can be used: image and cycled `[n, 3, H, W]` uint8, mask `[n, h, w]` uint8
    (of the cycled image), r `[n, units]`, w `[n, w_dim]` (w̃). Tensors "reference", of the test pairs: distance_r and
    distance_w `[m]`. Table "images", a row per file: file (its path from the folder on, escaped where it cannot be
    shown), reason (why it is left out, or ""), note, width, height, prediction and probability (of the picture, over
    all classes that the classifier knows), cycled_prediction, `probability_<class>` and `cycled_<class>` for every
    class of the run, nearest (class), distance_r (see `Mahalanobis`) and distance_w (‖w̃ − mean w‖), share_r and share_w
    (of the test pairs that are not farther), off. Table "measures": file, label, measure, measured. Json "facts":
    labels, class_names, test (number of test pairs), off.

    Raises:
        ValueError: as `validate_images`, a w̃ that is not finite, or what the stages before refuse.
    """
    folder, parts, model = Path(str(ctx.config.images)), Parts.of(ctx), load_link(linked)
    photos = [read_photo(path, ctx.generator.resolution, folder) for path in photo_files(folder)]
    usable = {photo.name: photo.image for photo in photos if photo.image is not None}
    encoded = Looker(ctx, ctx.batches(), image=page_image).pictures(torch.stack(list(usable.values())))
    w = _linked(model, encoded.r)
    cycled = Looker.pictured(ctx, parts.masks, parts.labels)(w)
    training, testing = train.tensors("pairs"), test.tensors("pairs")
    fitted, mean_w = Mahalanobis.of(training["r"], training["class_index"]), training["w"].mean(0)
    distances = fitted.measured(encoded.r, w, mean_w)
    reference = fitted.measured(testing["r"], _linked(model, testing["r"]), mean_w)
    draft.tensors(
        "images", {"image": encoded.image, "cycled": cycled.image, "mask": cycled.mask, "r": encoded.r, "w": w}
    )
    draft.tensors("reference", {name: reference[name] for name in ("distance_r", "distance_w")})
    distances |= {f"share_{x}": share_below(*(of[f"distance_{x}"] for of in (distances, reference))) for x in "rw"}
    draft.table("images", _table(photos, _answers(ctx, list(usable), encoded, cycled, distances)))
    axes = {"file": list(usable), "label": parts.labels, "measure": MEASURES}
    draft.table("measures", long_table(axes, {"measured": cycled.measures}))
    names = {"labels": list(parts.labels), "class_names": list(ctx.class_names)}
    draft.json("facts", {**names, "test": len(testing["r"]), "off": OFF})


def _content(path: Path) -> str:
    """What stands for a file's content in the key of the artifact."""
    try:
        return unreadable(path) or sha256(path)
    except OSError as error:  # it may not be opened
        return str(error.strerror)


@torch.inference_mode()
def _linked(model: Link, r: Tensor) -> Tensor:
    w = model(r).float()
    if not w.isfinite().all():
        raise ValueError("the link gives no finite w for a picture: fit another link (link=ridge)")
    return w


def _answers(
    ctx: Context, names: Sequence[str], encoded: Look, cycled: Look, distances: dict[str, Tensor]
) -> pd.DataFrame:
    """The columns of the table "images" of the pictures that can be used, by name."""
    known, best = np.asarray(ctx.classifier.class_names), encoded.softmax.max(1)
    columns = {
        "name": names,
        "prediction": known[best.indices.numpy()],
        "probability": best.values,
        "cycled_prediction": known[cycled.prediction.numpy()],
    }
    for index, name in enumerate(ctx.class_names):
        columns[f"probability_{name}"] = encoded.probability[:, index]
        columns[f"cycled_{name}"] = cycled.probability[:, index]
    columns["nearest"] = np.asarray(ctx.class_names)[distances["nearest"].numpy()]
    columns |= {name: values for name, values in distances.items() if name != "nearest"}
    columns["off"] = torch.maximum(distances["share_r"], distances["share_w"]) > OFF
    return pd.DataFrame(columns)


def _table(photos: Sequence[Photo], answers: pd.DataFrame) -> pd.DataFrame:
    """The table "images"."""
    files = pd.DataFrame([{k: v for k, v in vars(photo).items() if k != "image"} for photo in photos])
    table = files.merge(answers, how="left", on="name").rename(columns={"name": "file"})
    return table.assign(off=table["off"].eq(True))  # False too where there is no picture


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
    return (file.copy(), "") if turn is None else (file.transpose(turn), "turned as its EXIF data say")


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


@dataclass(frozen=True)
class Mahalanobis:
    """Class-conditional normal distributions of activations with a common covariance (Lee et al. 2018).

    The distance of r is min_c √((r − μ_c)ᵀ Σ⁻¹ (r − μ_c)). Units are divided by their standard deviation within the
    classes, units that do not vary are left out, and Σ is shrunk after Ledoit and Wolf (2004), so that it can be
    inverted with fewer samples than units.
    """

    used: Tensor
    """Units that vary within a class, `[units]` bool."""
    whitening: Tensor
    """L⁻ᵀ of Σ = L Lᵀ, after the division by the standard deviations: `[used, used]` float64."""
    centres: Tensor
    """μ_c, whitened: `[classes, used]` float64."""

    @classmethod
    def of(cls, r: Tensor, class_index: Tensor) -> Self:
        """Fitted to samples `r [n, units]` of the classes `class_index [n]`, 0 … classes − 1.

        Raises:
            ValueError: no unit varies within a class.
        """
        r = r.double()
        means = torch.stack([r[class_index == c].mean(0) for c in range(int(class_index.max()) + 1)])
        rest = r - means[class_index]
        std = rest.square().mean(0).sqrt()
        used = std > 1e-6 * std.max()
        if not used.any():
            raise ValueError("no unit varies within a class: expected more training pairs (pairs.train)")
        covariance = torch.from_numpy(ledoit_wolf((rest[:, used] / std[used]).numpy(), assume_centered=True)[0])
        root = torch.linalg.cholesky(covariance)
        whitening = torch.linalg.inv(root).T / std[used, None]
        return cls(used, whitening, means[:, used] @ whitening)

    def distances(self, r: Tensor) -> Tensor:
        """Distance of `r [n, units]` to each class: `[n, classes]` float32."""
        return torch.cdist(r[:, self.used].double() @ self.whitening, self.centres).float()

    def measured(self, r: Tensor, w: Tensor, mean_w: Tensor) -> dict[str, Tensor]:
        """Of samples `r [n, units]` and their w̃ `[n, w_dim]`: distances, and the nearest class."""
        distance_r, nearest = self.distances(r).min(1)
        return {"distance_r": distance_r, "nearest": nearest, "distance_w": (w - mean_w).norm(dim=1)}


def share_below(values: Tensor, reference: Tensor) -> Tensor:
    """Share of the `reference [m]` that is not above each of the `values [n]`: 1 where all are below.

    Example:
        >>> share_below(torch.tensor([0.0, 2.0, 9.0]), torch.tensor([1.0, 2.0, 3.0, 4.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    ordered = reference.sort().values
    return torch.searchsorted(ordered, values.contiguous(), right=True).float() / len(reference)
