"""A user's own pictures: encoded, linked, generated again, and held against what the generator makes (paper §3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from lis.config import RunConfig
from lis.context import Context
from lis.images import page_image
from lis.linking.link import link, load_link
from lis.linking.pairs import test_pairs, train_pairs
from lis.look import Look, Looker
from lis.names import printable
from lis.peaks import picture_arrays
from lis.quantify.measures import MEASURES
from lis.segmentation.training import part_images
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft, sha256
from lis.types import Link, require_sight
from lis.units.parts import Parts, segmented
from lis.units.photos import Photo, photo_files, read_photo, unreadable
from lis.units.tuned import long_table
from lis.units.work import images_work

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


def validate_run(ctx: Context) -> None:
    """The same of a run, whose classifier has to see pictures.

    Raises:
        ValueError: the classifier sees none; as `validate_images`.
    """
    require_sight(ctx.classifier, "pictures of your own have no style code")
    validate_images(ctx.config)


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
    check=validate_run,
    images=part_images,
    arrays=picture_arrays,
    work=images_work,
    folders=("images",),
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
