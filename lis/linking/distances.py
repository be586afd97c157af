"""How far two images are apart: in pixels, LPIPS and MoCo v2 (Fig. 3C, Fig. S1 D-F).

LPIPS (Zhang et al. 2018) is the `lpips` package's with AlexNet. MoCo v2 (Chen et al. 2020) is a ResNet-50 whose weights
come from a file; the paper does not say how it turns features into a distance, here it is the Euclidean one.
Nothing is fetched over a network, and weights are read without executing anything that is in the file.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import AlexNet_Weights, resnet50

from lis.classifiers.checkpoints import read_file, require_shapes, some
from lis.classifiers.published import hub_file
from lis.store import sha256

if TYPE_CHECKING:
    from lis.linking.evaluation import EvaluationConfig

MOCO_PREFIX = "module.encoder_q."
MOCO_RESOLUTION = 224
LPIPS_SMALLEST = 31
"""Smallest height and width in pixels that AlexNet's layers can read."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ImageDistance(Protocol):
    """A distance between images."""

    @property
    def name(self) -> str:
        """The metric's name in tables."""
        ...

    @property
    def unit(self) -> str:
        """What is measured, in words."""
        ...

    @property
    def limit(self) -> int | None:
        """Number of samples that it is computed on at most; None: all."""
        ...

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances `[n]` between images `a` and `b`, both `[n, 3, H, W]` in [-1, 1]."""
        ...


class PixelL2:
    """Mean squared error over pixels and channels of images in [-1, 1].

    Example:
        >>> PixelL2()(torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5))
        tensor([0.2500])
    """

    name, unit, limit = "pixel_l2", "mean squared error, images in [-1, 1]", None

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances `[n]`."""
        return (a - b).square().mean((1, 2, 3))


class Lpips:
    """LPIPS v0.1 with AlexNet; takes images in [-1, 1], 31 pixels or more.

    Args:
        weights: torchvision's AlexNet weights, or its convolutions alone under the same names; only these are read.

    Raises:
        ValueError: the file is no such state dict.
    """

    name, unit, limit = "lpips", "LPIPS v0.1, AlexNet", None

    def __init__(self, weights: Path, device: torch.device | str = "cpu") -> None:
        import lpips  # brings all of torchvision, which a run without LPIPS need not wait for

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")  # lpips uses the old keyword
            net = lpips.LPIPS(net="alex", pretrained=False, pnet_rand=True, verbose=False)
        linear = Path(lpips.__file__).parent / "weights" / "v0.1" / "alex.pth"
        net.load_state_dict(read_file(linear, "LPIPS weights"), strict=False)
        # `slice2.3.weight` of LPIPS's trunk is `features.3.weight` of torchvision's AlexNet.
        trunk = {name: f"features.{name.split('.', 1)[1]}" for name in net.net.state_dict()}
        state = read_file(weights, "AlexNet weights")
        require_shapes(weights, state, {trunk[name]: value for name, value in net.net.state_dict().items()})
        net.net.load_state_dict({name: state[source] for name, source in trunk.items()})
        self._net = net.to(device).eval().requires_grad_(False)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances `[n]`."""
        return self._net(a, b).flatten()


class Moco:
    """Euclidean distance of the 2,048 features of a MoCo v2 ResNet-50 after average pooling.

    The whole image is resized to 224 × 224 pixels (bilinear, anti-aliased) and normalised with ImageNet's mean and
    standard deviation; the features are not normalised.

    Args:
        weights: a checkpoint in the published format, `{"state_dict": {"module.encoder_q.conv1.weight": …}}`.

    Raises:
        ValueError: the file is missing, unreadable or holds something else.
    """

    name, unit, limit = "moco", "Euclidean distance, MoCo v2 features", 1000

    def __init__(self, weights: Path, device: torch.device | str = "cpu") -> None:
        with torch.device("meta"):  # no time for an initialisation that is overwritten
            net = resnet50(weights=None)
        net.register_module("fc", nn.Identity())
        expected = {name: value for name, value in net.state_dict().items() if not name.endswith("batches_tracked")}
        state = _moco_state(weights)
        require_shapes(weights, state, expected)
        counters = {name: torch.tensor(0) for name in net.state_dict() if name not in expected}
        # Copies: what was read may still be the file, which someone could replace.
        net.load_state_dict(counters | {name: state[name].clone() for name in expected}, assign=True)
        self._net = net.to(device).eval().requires_grad_(False)
        self._mean = torch.tensor(IMAGENET_MEAN, device=device).view(3, 1, 1)
        self._std = torch.tensor(IMAGENET_STD, device=device).view(3, 1, 1)

    def features(self, image: Tensor) -> Tensor:
        """Features `[n, 2048]` of images `[n, 3, H, W]` in [-1, 1]."""
        size = (MOCO_RESOLUTION, MOCO_RESOLUTION)
        resized = F.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False)
        return self._net(((resized + 1) / 2 - self._mean) / self._std)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances `[n]`."""
        return (self.features(a) - self.features(b)).norm(dim=1)


def _moco_state(path: Path) -> dict[str, Tensor]:
    """The query encoder of a MoCo checkpoint, under torchvision's names."""
    checkpoint = read_file(path, "MoCo v2 weights")
    state = checkpoint.get("state_dict")
    if not isinstance(state, Mapping):
        raise ValueError(f"{path} has the keys {some(checkpoint)}: expected 'state_dict', as in MoCo v2's checkpoints")
    encoder = {str(name).removeprefix(MOCO_PREFIX): state[name] for name in state if str(name).startswith(MOCO_PREFIX)}
    if not encoder:
        raise ValueError(f"{path} has a state_dict with {some(state)}: expected names like {MOCO_PREFIX}conv1.weight")
    return encoder


def alexnet_path() -> Path:
    """Where torchvision's AlexNet weights lie in torch's hub cache, whether or not they do."""
    return hub_file(AlexNet_Weights.IMAGENET1K_V1.url)


@dataclass(frozen=True)
class Choice:
    """The perceptual distances of a run, and why others are left out."""

    files: dict[str, Path]
    """Weight file of each metric that is computed."""
    left_out: dict[str, str]
    """Reason for each metric that is not."""

    @property
    def checksums(self) -> dict[str, str]:
        """SHA-256 of each weight file."""
        return {name: sha256(path) for name, path in self.files.items()}

    def load(self, device: torch.device | str = "cpu") -> list[ImageDistance]:
        """The pixel distance and the chosen ones, ready on a device.

        Raises:
            ValueError: a weight file cannot be used.
        """
        kinds = {"lpips": Lpips, "moco": Moco}
        return [PixelL2(), *(kinds[name](path, device) for name, path in self.files.items())]


def choose(config: EvaluationConfig, resolution: int) -> Choice:
    """Which perceptual distances are computed on images of `resolution` pixels; reads no weights.

    LPIPS is left out, by name, where its weights are not in torch's cache. What is asked for by its path, its
    backbone or a MoCo checkpoint, is an error where it is missing.

    Raises:
        ValueError: `evaluation.lpips_backbone` or `evaluation.moco` is no file.
    """
    files, left_out, alexnet = {}, {}, Path(config.lpips_backbone or alexnet_path())
    if not config.lpips:
        left_out["lpips"] = "switched off (evaluation.lpips=false)"
    elif resolution < LPIPS_SMALLEST:
        left_out["lpips"] = f"images of {resolution} pixels: LPIPS needs {LPIPS_SMALLEST} or more"
    elif alexnet.is_file():
        files["lpips"] = alexnet
    elif config.lpips_backbone:
        raise ValueError(
            f"evaluation.lpips_backbone: {alexnet} is no file; give the path of AlexNet's convolutions under "
            "torchvision's names (features.0.weight, …), a torch or safetensors file"
        )
    else:
        left_out["lpips"] = (
            f"its weights {alexnet.name} are missing in {alexnet.parent}; put the file there, or give "
            "evaluation.lpips_backbone=<path>"
        )
    if config.moco is None:
        left_out["moco"] = "no checkpoint given (evaluation.moco)"
    elif not Path(config.moco).is_file():
        raise ValueError(
            f"evaluation.moco: {config.moco} is no file; give the path of a MoCo v2 checkpoint (ResNet-50)"
        )
    else:
        files["moco"] = Path(config.moco)
    return Choice(files, left_out)
