"""GradCAM: where a classifier looks when it answers (Selvaraju et al. 2017), and what is read off that."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lis.types import Classifier

IMAGES = ("original", "before", "after", "counterfactual")
"""The images of a trajectory that are looked at: both ends, and the two beside the boundary."""
BACKGROUND = "background"


def validate_cam(classifier: Classifier) -> nn.Module:
    """The module whose map GradCAM weighs.

    Raises:
        ValueError: the classifier names none, as vision transformers do, or names one that it does not have.
    """
    name, modules = classifier.cam_layer, dict(classifier.layers)
    if isinstance(classifier, nn.Module):
        modules |= {path: module for path, module in classifier.named_modules() if path}
    found = [module for path, module in modules.items() if f".{path}".endswith(f".{name}")]
    if name is None or not found:
        raise ValueError(
            f"{type(classifier).__name__} has cam_layer={name!r}: GradCAM needs the module that gives the last map of "
            "the convolutions; use another classifier, or leave gradcam out of analysis.stages"
        )
    return modules[name] if name in modules else found[0]


def cam(classifier: Classifier, image: Tensor, classes: Tensor) -> Tensor:
    """GradCAM of images, each for its class: relu(Σ_k α_k A_k), α_k the mean of ∂o_c / ∂A_k over the map A_k.

    Args:
        classifier: what answers.
        image: `[n, 3, H, W]` in [-1, 1], on the classifier's device.
        classes: c, a place among the classifier's classes: `[n]` int64.

    Returns:
        `[n, H, W]` float32, ≥ 0, enlarged bilinearly.

    Raises:
        ValueError: as `validate_cam`.
    """
    from captum.attr import LayerGradCam  # takes seconds, which a run without it need not wait for

    with torch.inference_mode(False), torch.enable_grad():
        x = image.detach().clone().requires_grad_()
        method = LayerGradCam(lambda x: classifier.head(classifier.features(x)), validate_cam(classifier))
        found = method.attribute(x, target=classes.clone(), relu_attributions=True)
    if not isinstance(found, Tensor):
        raise ValueError(f"cam_layer={classifier.cam_layer!r} gives {type(found).__name__}: expected one map")
    return F.interpolate(found.detach().float(), image.shape[2:], mode="bilinear", align_corners=False)[:, 0].cpu()


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
