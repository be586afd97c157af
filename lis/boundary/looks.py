"""GradCAM at the decision boundary, beside what our parts say changes there (paper Fig. 7B)."""

from __future__ import annotations

import torch
from torch import Tensor

from lis import costs
from lis.boundary.gradcam import IMAGES, around_table, cam, heat_table, validate_cam
from lis.boundary.trajectories import trajectories
from lis.context import Context
from lis.memory import Batches, Machine
from lis.peaks import picture_arrays
from lis.stage import MODELS, stage
from lis.store import Artifact, Draft

_KEPT = ("w", "image", "mask")


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
)
def gradcam(ctx: Context, walked: Artifact, draft: Draft) -> None:
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
    _build(ctx, walked, draft)


def _build(ctx: Context, walked: Artifact, draft: Draft) -> None:
    table, along, around = walked.table("trajectories"), walked.tensors("trajectories"), walked.tensors("around")
    labels = tuple(walked.json("facts")["labels"])
    whole = int((along["position"] - 1).abs().argmin())
    of = {name: torch.stack([along[name][:, 0], *around[name].unbind(1), along[name][:, whole]], 1) for name in _KEPT}
    places = torch.tensor([ctx.classifier.class_names.index(name) for name in ctx.class_names])
    classes = places[torch.from_numpy(table[["origin_index", "target_index"]].to_numpy().copy())]
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
