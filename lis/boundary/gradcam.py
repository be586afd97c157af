"""GradCAM at the decision boundary, beside what our parts say changes there (paper Fig. 7B)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lis import costs
from lis.boundary.trajectories import trajectories
from lis.boundary.work import gradcam_work
from lis.classifiers.cut import modules_called
from lis.context import Context
from lis.memory import Batches, Machine
from lis.peaks import picture_arrays
from lis.quantify.measures import BACKGROUND
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft
from lis.types import Classifier, require_sight

IMAGES = ("original", "before", "after", "counterfactual")
"""The images of a trajectory that are looked at: both ends, and the two beside the boundary."""


def _images(ctx: Context, machine: Machine) -> int:
    """Bytes of the four images of a trajectory, with gradients of the classifier."""
    return 4 * costs.image_bytes(ctx.generator, ctx.device, ctx.classifier, gradient=True)


@stage(
    "gradcam",
    version=1,
    inputs=(trajectories,),
    models=MODELS,
    also=lambda ctx: {"classes": list(ctx.class_names)},
    check=lambda ctx: validate_cam(ctx.classifier),
    images=_images,
    arrays=picture_arrays,
    work=gradcam_work,
)
def gradcam(ctx: Context, source: Artifact, draft: Draft) -> None:
    """GradCAM of four images of every trajectory, for its origin and its target.

    Tensors "heat": heat `[n, 4, 2, H, W]` float32, ≥ 0, in the order of the trajectories, of `IMAGES` and of (origin,
    target); image `[n, 4, 3, H, W]` uint8. Table "heat", a row per trajectory, image, class and part (the background
    too): trajectory, image, of ("origin" or "target"), label, share (of all heat; NaN where there is none), area
    (fraction of the frame). Table "around", a row per trajectory and class: trajectory, of, correlation (of the heat of
    the two images beside the boundary), moved (share of the heat that is elsewhere: half the sum of the differences of
    both, each over its sum), before and after (the largest heat). Without trajectories there are only empty tables.

    Raises:
        ValueError: the classifier has no layer for it; what the stages before refuse.
    """
    table, along, around = source.table("trajectories"), source.tensors("trajectories"), source.tensors("around")
    labels = tuple(source.json("facts")["labels"])
    whole = int((along["position"] - 1).abs().argmin())
    of = {
        name: torch.stack([along[name][:, 0], *around[name].unbind(1), along[name][:, whole]], 1)
        for name in ("w", "image", "mask")
    }
    indices = torch.tensor([ctx.classifier.class_names.index(name) for name in ctx.class_names])
    classes = indices[torch.from_numpy(table[["origin_index", "target_index"]].to_numpy().copy())]
    made = [_heat(ctx, w, c) for w, c in zip(of["w"], classes, strict=True)]
    heat = torch.stack(made) if made else torch.empty(0, len(IMAGES), 2, 1, 1)
    if made:
        draft.tensors("heat", {"heat": heat, "image": of["image"]})
    draft.table("heat", heat_table(heat, of["mask"], labels))
    draft.table("around", around_table(heat))


def _heat(ctx: Context, w: Tensor, classes: Tensor) -> Tensor:
    """`[4, 2, H, W]` of the images of one trajectory, `w [4, w_dim]`, for two classes `[2]`."""

    def heat(w: Tensor) -> Tensor:
        with torch.no_grad():
            image = ctx.generator.synthesize(w.to(ctx.device))
        each = [cam(ctx.classifier, image, c.expand(len(w)).to(ctx.device)) for c in classes]
        return torch.stack(each, 1)

    return torch.cat(list(Batches(len(w)).map(heat, w)))


def validate_cam(classifier: Classifier) -> nn.Module:
    """The module whose map GradCAM weighs.

    Raises:
        ValueError: the classifier names none, as vision transformers do, or names one that it does not have.
    """
    require_sight(classifier, "GradCAM weighs maps of pictures")
    name = classifier.cam_layer
    result = [] if name is None else modules_called(classifier, classifier.layers, name)
    if not result:
        raise ValueError(
            f"{type(classifier).__name__} has cam_layer={name!r}: GradCAM needs the module that gives the last map of "
            "the convolutions; use another classifier, or leave gradcam out of analysis.stages"
        )
    return result[0]


def cam(classifier: Classifier, image: Tensor, classes: Tensor) -> Tensor:
    """GradCAM of images, each for its class: relu(Σ_k α_k A_k), α_k the mean of ∂o_c / ∂A_k over the map A_k.

    Args:
        classifier: what answers.
        image: `[n, 3, H, W]` in [-1, 1], on the classifier's device.
        classes: c, an index among the classifier's classes: `[n]` int64.

    Returns:
        `[n, H, W]` float32, ≥ 0, enlarged bilinearly.

    Raises:
        ValueError: as `validate_cam`.
    """
    from captum.attr import LayerGradCam  # takes seconds, which a run without it need not wait for

    with torch.inference_mode(False), torch.enable_grad():
        x = image.detach().clone().requires_grad_()
        method = LayerGradCam(lambda x: classifier.head(classifier.features(x)), validate_cam(classifier))
        result = method.attribute(x, target=classes.clone(), relu_attributions=True)
    if not isinstance(result, Tensor):
        raise ValueError(f"cam_layer={classifier.cam_layer!r} gives {type(result).__name__}: expected one map")
    return F.interpolate(result.detach().float(), image.shape[2:], mode="bilinear", align_corners=False)[:, 0].cpu()


def heat_table(heat: Tensor, mask: Tensor, labels: tuple[str, ...]) -> pd.DataFrame:
    """The table "heat" of the stage "gradcam".

    Args:
        heat: `[n, 4, 2, H, W]`.
        mask: `[n, 4, h, w]` integers, 0 background, then the labels; h divides H.
        labels: names of the parts.
    """
    large = F.interpolate(mask.float(), heat.shape[-2:], mode="nearest") if len(heat) else mask
    rows = []
    for (t, i), masks in zip(np.ndindex(*mask.shape[:2]), large.flatten(0, 1), strict=True):
        for of, values in zip(("origin", "target"), heat[t, i], strict=True):
            total = float(values.sum())
            for k, label in enumerate((BACKGROUND, *labels)):
                inside = masks == k
                part = float(values[inside].sum()) / total if total > 0 else np.nan
                rows.append((t, IMAGES[i], of, label, part, float(inside.float().mean())))
    return pd.DataFrame(rows, columns=pd.Index(["trajectory", "image", "of", "label", "share", "area"]))


def around_table(heat: Tensor) -> pd.DataFrame:
    """The table "around" of the stage "gradcam", of heat `[n, 4, 2, H, W]`."""
    rows = []
    for t, pair in enumerate(heat[:, 1:3].double().flatten(3)):
        for of, (before, after) in zip(("origin", "target"), pair.unbind(1), strict=True):
            sums = before.sum(), after.sum()
            both = min(float(x) for x in sums) > 0
            moved = float((before / sums[0] - after / sums[1]).abs().sum() / 2) if both else np.nan
            varies = min(float(x.std()) for x in (before, after)) > 0
            correlation = float(torch.corrcoef(torch.stack([before, after]))[0, 1]) if varies else np.nan
            rows.append((t, of, correlation, moved, float(before.max()), float(after.max())))
    return pd.DataFrame(rows, columns=pd.Index(["trajectory", "of", "correlation", "moved", "before", "after"]))
