"""A user's own pictures: encoded, linked, generated again, and held against what the generator makes (paper §3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lis.config import RunConfig
from lis.context import Context
from lis.images import page_image
from lis.linking.fit import link, load_link
from lis.linking.pairs import pairs, test_pairs, train_pairs
from lis.look import Look, Looker
from lis.names import printable
from lis.peaks import picture_arrays
from lis.quantify.measures import MEASURES
from lis.segmentation.needs import part_images
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft, sha256
from lis.types import Link
from lis.units.familiar import Familiar, share_below
from lis.units.parts import Parts, segmented
from lis.units.photos import Photo, photo_files, read_photo, unreadable
from lis.units.tables import long_table

OFF = 0.99
"""A picture that is farther than this share of the test pairs is off the generator's distribution."""


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
def own_images(
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
    class of the run, nearest (class), distance_r (see `Familiar`) and distance_w (‖w̃ − mean w‖), share_r and share_w
    (of the test pairs that are not farther), off. Table "measures": file, label, measure, measured. Json "facts":
    labels, class_names, test (number of test pairs), off.

    Raises:
        ValueError: as `validate_images`, a w̃ that is not finite, or what the stages before refuse.
    """
    _build(ctx, photo_files(Path(str(ctx.config.images))), Parts.of(ctx), draft)


def _content(path: Path) -> str:
    """What stands for a file's content in the key of the artifact."""
    try:
        return unreadable(path) or sha256(path)
    except OSError as error:  # it may not be opened
        return str(error.strerror)


def _build(ctx: Context, files: Sequence[Path], parts: Parts, draft: Draft) -> None:
    photos = [read_photo(path, ctx.generator.resolution, Path(str(ctx.config.images))) for path in files]
    pictures = torch.stack([photo.image for photo in photos if photo.image is not None])
    encoded, model = Looker(ctx, ctx.batches(), image=page_image).pictures(pictures), load_link(link(ctx))
    w = _linked(model, encoded.r)
    cycled = Looker.pictured(ctx, parts.masks, parts.labels)(w)
    train, test = (pairs(ctx, split).tensors("pairs") for split in ("train", "test"))
    measured = partial(_distances, Familiar.of(train["r"], train["class_index"]), train["w"].mean(0))
    distances, reference = measured(encoded.r, w), measured(test["r"], _linked(model, test["r"]))
    draft.tensors(
        "images", {"image": encoded.image, "cycled": cycled.image, "mask": cycled.mask, "r": encoded.r, "w": w}
    )
    draft.tensors("reference", {name: reference[name] for name in ("distance_r", "distance_w")})
    draft.table("images", _table(ctx, photos, encoded, cycled, distances, reference))
    names = [photo.name for photo in photos if photo.image is not None]
    axes = {"file": names, "label": parts.labels, "measure": MEASURES}
    draft.table("measures", long_table(axes, {"measured": cycled.measures}))
    facts = {"labels": list(parts.labels), "class_names": list(ctx.class_names), "test": len(test["r"]), "off": OFF}
    draft.json("facts", facts)


@torch.inference_mode()
def _linked(model: Link, r: Tensor) -> Tensor:
    w = model(r).float()
    if not w.isfinite().all():
        raise ValueError("the link gives no finite w for a picture: fit another link (link=ridge)")
    return w


def _distances(familiar: Familiar, mean_w: Tensor, r: Tensor, w: Tensor) -> dict[str, Tensor]:
    """Distances of samples `r [n, units]` and their w̃ `[n, w_dim]`, and the nearest class of each."""
    distance_r, nearest = familiar.distances(r).min(1)
    return {"distance_r": distance_r, "nearest": nearest, "distance_w": (w - mean_w).norm(dim=1)}


def _table(
    ctx: Context,
    photos: Sequence[Photo],
    encoded: Look,
    cycled: Look,
    distances: dict[str, Tensor],
    reference: dict[str, Tensor],
) -> pd.DataFrame:
    """The table "images"."""
    files = pd.DataFrame([{k: v for k, v in vars(photo).items() if k != "image"} for photo in photos])
    known, ours = np.asarray(ctx.classifier.class_names), np.asarray(ctx.class_names)
    best = encoded.softmax.max(1)
    columns = {
        "name": [photo.name for photo in photos if photo.image is not None],
        "prediction": known[best.indices.numpy()],
        "probability": best.values,
        "cycled_prediction": known[cycled.prediction.numpy()],
    }
    for place, name in enumerate(ctx.class_names):
        columns[f"probability_{name}"] = encoded.probability[:, place]
        columns[f"cycled_{name}"] = cycled.probability[:, place]
    columns["nearest"] = ours[distances["nearest"].numpy()]
    shares = [share_below(distances[name], reference[name]) for name in ("distance_r", "distance_w")]
    columns |= {name: distances[name] for name in ("distance_r", "distance_w")}
    columns |= {"share_r": shares[0], "share_w": shares[1], "off": torch.stack(shares).amax(0) > OFF}
    table = files.merge(pd.DataFrame(columns), how="left", on="name").rename(columns={"name": "file"})
    return table.assign(off=table["off"].eq(True))  # False too where there is no picture
