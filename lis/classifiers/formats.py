"""How published files name their tensors, turned into the names of today's networks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from lis.classifiers.checkpoints import some

AUXILIARY = re.compile(r"(?:.+\.)?(?:AuxLogits|aux1|aux2)\..+")
"""The heads that GoogLeNet and Inception v3 have for training alone."""
BACKBONE = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
"""A ResNet's children that have weights, in order, without the head."""
_DENSE = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
_IP_IRM = re.compile(r"(?:module\.)*f\.(?:module\.)*(\d{1,3})\.(.+)")


def torchvision_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file of torchvision: DenseNet's old `norm.1` becomes `norm1`, auxiliary heads are left out.

    Example:
        >>> list(torchvision_names({"features.denseblock1.denselayer1.conv.2.weight": 0, "aux1.conv.weight": 0}))
        ['features.denseblock1.denselayer1.conv2.weight']
    """
    kept = {name: value for name, value in state.items() if not AUXILIARY.fullmatch(name)}
    return {_DENSE.sub(r"\1\2.", name): value for name, value in kept.items()}


def ip_irm_names(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """A file of IP-IRM (Wang et al. 2021): the ResNet-50 below `f.`, under torchvision's names.

    There the children of a ResNet without its `fc` are numbered, those without weights too: `f.4.0.conv1.weight` is
    `layer1.0.conv1.weight`. The projection below `g.` is left out.

    Raises:
        ValueError: there is no such backbone, or it is the one for images of 32 pixels.
    """
    found = [(match, value) for name, value in state.items() if (match := _IP_IRM.fullmatch(name))]
    children = sorted({int(match[1]) for match, _ in found})
    if len(children) != len(BACKBONE):
        raise ValueError(
            f"{path} has {some(state)}, and {len(children)} parts with weights below 'f.': expected the format of "
            f"IP-IRM, f.0.weight … f.7.2.bn3.bias, with the {len(BACKBONE)} of a ResNet-50; take such a file"
        )
    part = dict(zip(children, BACKBONE, strict=True))
    backbone = {f"{part[int(match[1])]}.{match[2]}": value for match, value in found}
    stem = backbone.get("conv1.weight")
    if stem is not None and stem.shape[-1] == 3:
        raise ValueError(
            f"{path} begins with a 3×3 convolution, IP-IRM's network for CIFAR and STL: expected the one for ImageNet, "
            "which begins with 7×7; take that checkpoint"
        )
    return backbone
