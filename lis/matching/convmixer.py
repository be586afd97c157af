"""PUMP's learned descriptor: a ConvMixer (Trockman and Kolter 2022) that gives every pixel 128 numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lis.classifiers.checkpoints import Checkpoint
from lis.fingerprint import Fingerprint
from lis.matching.descriptors import OfImages

CHANNELS, HIDDEN, DEPTH, PATCH, KERNEL = 128, 512, 7, 4, 9
"""Of the published descriptor (Revaud et al. 2022)."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's images in [0, 1]."""
_PUBLISHED = f"{CHANNELS} numbers per pixel, {HIDDEN} hidden, depth {DEPTH}, patch {PATCH}, kernel {KERNEL}"
_COUNTER = "num_batches_tracked"


class ConvMixer(nn.Module):
    """Patches → depth × (depthwise convolution beside the identity, 1×1 convolution) → a vector for every pixel."""

    def __init__(
        self,
        channels: int = CHANNELS,
        hidden: int = HIDDEN,
        depth: int = DEPTH,
        patch: int = PATCH,
        kernel: int = KERNEL,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.first = _mixed(nn.Conv2d(3, hidden, patch, patch))
        block = ((_Beside(hidden, kernel), _mixed(nn.Conv2d(hidden, hidden, 1))) for _ in range(depth))
        self.blocks = nn.Sequential(*(part for parts in block for part in parts))
        self.last = nn.ConvTranspose2d(hidden, channels, patch, patch)

    def forward(self, image: Tensor) -> Tensor:
        """`[n, channels, H, W]` of `[n, 3, H, W]`; sides are filled up to multiples of `patch` and cut again."""
        height, width = image.shape[-2:]
        whole = F.pad(image, (0, -width % self.patch, 0, -height % self.patch), "replicate")
        return self.last(self.blocks(self.first(whole)))[..., :height, :width]


class _Beside(nn.Module):
    """x plus its depthwise convolution."""

    def __init__(self, hidden: int, kernel: int) -> None:
        super().__init__()
        self.mixed = _mixed(nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden))

    def forward(self, x: Tensor) -> Tensor:
        """Of `[n, hidden, h, w]`."""
        return x + self.mixed(x)


def _mixed(convolution: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(convolution, nn.GELU(), nn.BatchNorm2d(convolution.out_channels))


class ConvMixerDescriptor(OfImages, nn.Module):
    """A `Descriptor` with the weights of a file.

    Args:
        weights: path of the checkpoint.
        network: what takes them; None: the published architecture.

    Raises:
        ValueError: no path, no such file, or a file for another architecture.
    """

    def __init__(self, weights: str | None, network: ConvMixer | None = None) -> None:
        super().__init__()
        if not weights:
            raise ValueError(
                "matcher.descriptor=convmixer needs PUMP's published checkpoint, which is not in this package: "
                "fetch it from its authors, put it anywhere, and say where (matcher.weights=<path>); "
                "matcher.descriptor=patches needs none"
            )
        self.network = network or ConvMixer()
        expected = self.network.state_dict()
        self.network.load_state_dict(fitted(Checkpoint.read(Path(weights)).fitted(expected).state, expected, weights))
        self.requires_grad_(False).eval()
        self._fingerprint = Fingerprint()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the weights."""
        return self._fingerprint(self.state_dict(), "convmixer")

    def forward(self, view1: Tensor, view2: Tensor) -> tuple[Tensor, Tensor]:
        """Descriptors `[n, channels, H, W]` of length 1, of images `[n, 3, H, W]` in [-1, 1]."""
        self.to(view1.device)
        return self._described(view1[:, :3]), self._described(view2[:, :3])

    def _described(self, image: Tensor) -> Tensor:
        mean, std = (torch.tensor(values).to(image)[:, None, None] for values in (MEAN, STD))
        return F.normalize(self.network(((image + 1) / 2 - mean) / std))


def fitted(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: str) -> dict[str, Tensor]:
    """The tensors of a file under a network's own names.

    Where the names differ both are taken in order: programs name the parts of a plain sequence of layers as they like,
    but their order is that of the computation.

    Raises:
        ValueError: another number of tensors, or another shape.
    """
    result = {name: value for name, value in state.items() if not name.endswith(_COUNTER)}
    requested = [name for name in expected if not name.endswith(_COUNTER)]
    remedy = f"expected PUMP's ConvMixer ({_PUBLISHED}); take that file"
    if len(result) != len(requested):
        raise ValueError(f"{path} has {len(result)} tensors, the network {len(requested)}: {remedy}")
    theirs = requested if set(requested) == set(result) else list(result)
    for other, name in zip(theirs, requested, strict=True):
        there, here = tuple(result[other].shape), tuple(expected[name].shape)
        if there != here:
            raise ValueError(f"{path} has {there} under {other!r}, where {here} belongs ({name}): {remedy}")
    return dict(expected) | {
        name: result[other].to(expected[name]) for other, name in zip(theirs, requested, strict=True)
    }
