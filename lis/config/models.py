"""Schemas of what is built from `_target_`: generators, classifiers, links, segmenters, matchers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


def path(default: str | None, *words: str) -> Any:
    """A field that takes the path of a file or folder, or one of some words; a word with a colon begins a value."""
    return field(default=default, metadata={"path": words})


@dataclass
class GanConfig:
    """Any generator: `_target_` is called with the other keys and `class_names`."""

    _target_: str = MISSING
    truncation: float = 1.0
    """Interpolation of w towards the mean of its class: 1 keeps w, 0 gives the mean."""


@dataclass
class PartWorldConfig(GanConfig):
    """Part world's generator."""

    _target_: str = "lis.generators.partworld.PartWorld"
    hard: bool = False
    """w = A·φ(u) with a fixed nonlinear φ instead of w = A·u."""
    conditional: bool = True
    """False: the class is drawn inside, and the generator has no classes."""
    figures: str | None = None
    """`dogs`, `fungi` or `birds`; null: the set that the classes are from."""


@dataclass
class StyleGANXLConfig(GanConfig):
    """StyleGAN-XL: a published file, a checkpoint of the user's, or random weights."""

    _target_: str = "lis.generators.stylegan_xl.stylegan_xl"
    weights: str = path(MISSING, "published", "random")
    """`published`: the file at `url`; `random`; or the path of a checkpoint."""
    url: str | None = None
    """Where the file is published, or a mirror."""
    cache: str | None = path(None)
    """Folder that it is fetched into; null: that of the user's caches."""
    entry: str = "G_ema"
    """The network's name in a published file."""
    resolution: int | None = None
    """Pixels, for random weights."""
    num_classes: int = 0
    """Classes, for random weights."""
    names: list[str] | None = None
    """Of the generator's classes, in order; null: ImageNet's for the domain `imagenet`, else `class_0`, …."""
    domain: str = "images"
    """The world that the images show: a classifier's usual weights follow it."""
    dtype: str = "float32"
    """`float32`, or `tf32` (on a GPU) or `bf16` for the convolutions alone."""
    compile: str = "auto"
    """Resampling through `torch.compile`: `on`, `off`, or `auto`, where there is a compiler."""


@dataclass
class ClassifierConfig:
    """Any classifier: `_target_` is called with the other keys but `probe` and `domain`."""

    _target_: str = MISSING
    probe: bool = False
    """Replace the head by a logistic regression on R for the classes of the set."""
    domain: str | None = None
    """The world of its training images, which has to be that of the generator (`gan.domain`; `imagenet`, `faces`, …);
    null: what the classifier says of itself; `any`: not to be checked."""


@dataclass
class PartNetConfig(ClassifierConfig):
    """The small networks that are trained on part world."""

    _target_: str = "lis.classifiers.partnet.PartNet"
    task: str = "classes"
    """`classes`: trained on class labels alone; `attributes`: also on binary attributes."""


@dataclass
class NetworkConfig(ClassifierConfig):
    """A network of a library or a user's own, cut at its last linear layer."""

    _target_: str = "lis.classifiers.networks.network"
    library: str = "torchvision"
    """`torchvision`, `timm`, `ip_irm` or `partnet`."""
    model: str = MISSING
    """Name of the architecture in its library."""
    weights: str = path("auto", "auto", "pretrained", "partworld", "random")
    """`pretrained`, `partworld`, `random`, or the path of a checkpoint; `auto` follows the generator's domain."""
    num_classes: int | None = None
    """Outputs of the head in the checkpoint at a path; null: those of the architecture."""
    class_names: list[str] | None = None
    """Names of the outputs, in order; null: those that come with the weights."""
    attribute: str | None = None
    """With `partworld`: the factor whose sign the network is trained to tell, instead of the class."""
    uint8: bool = False
    """Round images to 8 bits before and after resizing, as a program that reads image files does."""
    ema: bool = True
    """Of a checkpoint with raw and averaged (EMA) weights the averaged ones, as timm takes; false: the raw ones."""


@dataclass
class LinkConfig:
    """Any link."""

    _target_: str = MISSING


@dataclass
class LeastSquaresConfig(LinkConfig):
    """LR: the paper's least squares."""

    _target_: str = "lis.linking.linear_fit.LeastSquaresFit"


@dataclass
class RidgeConfig(LinkConfig):
    """Ridge on standardised units, chosen by generalised cross-validation."""

    _target_: str = "lis.linking.linear_fit.RidgeFit"
    steps: int = 33
    """Points of the ridge path, log-spaced from `smallest` to `largest`, relative to the number of samples."""
    smallest: float = 1e-6
    largest: float = 1e2


@dataclass
class MLPConfig(LinkConfig):
    """FC-L1 (`pc_weight` 0) and FC-L2."""

    _target_: str = "lis.linking.mlp.MLPFit"
    hidden: int = 1024
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    batch_size: int = 256
    max_epochs: int = 200
    patience: int = 10
    """Epochs without a better validation loss before the fit stops."""
    validation: float = 0.1
    """Fraction of the pairs that is held out for early stopping."""
    pc_weight: float = 0.0
    """λ of the supplement's Eq. 2: weight of the squared error along the first principal components of W."""
    pc_target: str = "projection"
    """With `pc_weight`, whose error that is: `projection`: of samples projected onto these components and generated and
    classified again (the paper's); `prediction`: of the same prediction that the squared error in w is of."""
    components: int = 10


@dataclass
class SegmenterConfig:
    """Any segmenter: `_target_` is called with the other keys and gives an object with `fit`."""

    _target_: str = MISSING


@dataclass
class FewShotConfig(SegmenterConfig):
    """Convolutions on the generator's feature maps, trained on few labelled images (paper §3.2, S4)."""

    _target_: str = "lis.segmentation.fewshot.FewShotFit"
    network: str = MISSING
    """`projected`, `three` (the paper's) or `five` (the published program's)."""
    size: int | None = None
    """Height and width in pixels that the maps are read at; null: half of the generator's resolution."""
    enlarge: int = 1
    """How many times finer a mask is than that."""
    every: int = 2
    """Every how many layers of the generator are read."""
    channels: int = 32
    """With `projected`: what each layer is projected to before it is resized."""
    hidden: int = 64
    """Channels between the three convolutions."""
    epochs: int = 100
    batch_size: int = 5
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3


@dataclass
class MatcherConfig:
    """Any matcher: `_target_` is called with the other keys."""

    _target_: str = MISSING


@dataclass
class FlowConfig(MatcherConfig):
    """SIFT or ECC, then variational flow."""

    _target_: str = "lis.matching.flow.Flow"
    enlarge: int | None = None
    """Factor by which pictures are enlarged before matching; null: 2 below 128 pixels, else 1."""
    ratio: float = 0.8
    """A keypoint is matched when the nearest descriptor is closer than this share of the second nearest."""
    threshold: float = 1.0
    """Pixels that a similarity may leave of a keypoint that agrees with it."""


@dataclass
class PumpConfig(MatcherConfig):
    """PUMP (Revaud et al. 2022), the paper's matcher."""

    _target_: str = "lis.matching.choice.pump"
    descriptor: str = "patches"
    """`patches`: of colour; `daisy`; `classifier`, `generator`: their feature maps; `convmixer`: the published one."""
    layers: list[str] | None = None
    """With `classifier` or `generator`: layers that are read; null: all with maps of an eighth of the image or more."""
    channels: int = 32
    """What patches and feature maps of a pair are projected to."""
    weights: str | None = path(None)
    """With `convmixer`: path of the published checkpoint."""
    enlarge: int | None = None
    """Factor by which pictures are enlarged before matching; null: 2 below 128 pixels, else 1."""
    power: float = 1.5
    """Rectifies every level."""
    border: float = 0.9
    """How far what lies at the edge is judged by the parts that can be seen there."""
    min_shape: int = 5
    """The last level has a side of at most so many pixels."""
    levels: int | None = None
    """Levels above the correlations; null: all."""
    locality: float = 2.0
    """Cells of the grid that two linked matches may lie apart."""
    min_component: int = 50
    """A match is kept that is linked with more than so many."""
