"""Schemas of what is built from `_target_`: generators, classifiers, links, segmenters, matchers."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING

from lis.config.fields import POSITIVE, choice, number, path


@dataclass
class GanConfig:
    """Any generator: `_target_` is called with the other keys and `class_names`."""

    _target_: str = MISSING
    truncation: float = number(1.0, low=0, high=1)
    """Interpolation of w towards the mean of its class: 1 keeps w, 0 gives the mean."""


@dataclass
class PartWorldConfig(GanConfig):
    """Part world's generator."""

    _target_: str = "lis.generators.partworld.PartWorld"
    hard: bool = False
    """w = A·φ(u) with a fixed nonlinear φ instead of w = A·u."""
    conditional: bool = True
    """False: the class is drawn inside, and the generator has no classes."""
    figures: str | None = choice(None, ("dogs", "fungi", "birds"))
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
    resolution: int | None = number(None, low=16, high=1024)
    """Pixels, for random weights."""
    num_classes: int = number(0, low=0)
    """Classes, for random weights."""
    names: list[str] | None = None
    """Of the generator's classes, in order; null: ImageNet's for the domain `imagenet`, else `class_0`, …."""
    domain: str = "images"
    """The world that the images show: a classifier's usual weights follow it."""
    dtype: str = choice("float32", ("float32", "tf32", "bf16"))
    """`float32`, or `tf32` (on a GPU) or `bf16` for the convolutions alone."""
    compile: str = choice("auto", ("auto", "on", "off"))
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
    task: str = choice("classes", ("classes", "attributes"))
    """`classes`: trained on class labels alone; `attributes`: also on binary attributes."""


@dataclass
class NetworkConfig(ClassifierConfig):
    """A network of a library or a user's own, cut at its last linear layer."""

    _target_: str = "lis.classifiers.networks.network"
    library: str = choice("torchvision", ("torchvision", "timm", "ip_irm", "efficientnet_lite0", "partnet"))
    """`torchvision`, `timm`, `ip_irm`, `efficientnet_lite0` or `partnet`."""
    model: str = MISSING
    """Name of the architecture in its library."""
    weights: str = path("auto", "auto", "pretrained", "partworld", "random")
    """`pretrained`, `partworld`, `random`, or the path of a checkpoint; `auto` follows the generator's domain."""
    num_classes: int | None = number(None, low=2)
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
class PlantedConfig(ClassifierConfig):
    """Units whose meaning is known: functions of part world's true factors, and noise."""

    _target_: str = "lis.classifiers.planted.planted"
    read: str = choice("w", ("w", "image"))
    """What they are read from: `w`: the style code, exactly; `image`: the picture, by a network."""
    per_kind: int = number(200, low=1)
    """Units of each of the six kinds: functions of 1, 2, 4, 8 and all factors, and noise."""
    seed: int = number(0, low=0)
    """Of the factors and weights that are drawn."""


@dataclass
class DetectorsConfig(ClassifierConfig):
    """Channels whose meaning is known: detectors of part world's parts, channels that carry a class, and noise."""

    _target_: str = "lis.classifiers.detectors.detectors"
    per_part: int = number(8, low=1)
    """Channels of each part."""
    unplanted: int = number(64, low=0)
    """Channels that answer to nothing."""
    noise: float = number(0.25, low=0)
    """Standard deviation of the noise of planted channels, in their largest value without."""
    seed: int = number(0, low=0)
    """Of the order of channels, their gains and noise, and of the head."""


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
    steps: int = number(33, low=2)
    """Points of the ridge path, log-spaced from `smallest` to `largest`, relative to the number of samples."""
    smallest: float = number(1e-6, low=POSITIVE)
    largest: float = number(1e2, low=POSITIVE)


@dataclass
class MLPConfig(LinkConfig):
    """FC-L1 (`pc_weight` 0) and FC-L2."""

    _target_: str = "lis.linking.mlp.MLPFit"
    hidden: int = number(1024, low=1)
    learning_rate: float = number(1e-3, low=POSITIVE)
    weight_decay: float = number(0.0, low=0)
    batch_size: int = number(256, low=1)
    max_epochs: int = number(200, low=1)
    patience: int = number(10, low=1)
    """Epochs without a better validation loss before the fit stops."""
    validation: float = number(0.1, low=0, high=0.9)
    """Fraction of the pairs that is held out for early stopping."""
    pc_weight: float = number(0.0, low=0)
    """λ of the supplement's Eq. 2: weight of the squared error along the first principal components of W."""
    pc_target: str = choice("projection", ("projection", "prediction"))
    """With `pc_weight`, whose error that is: `projection`: of samples projected onto these components and generated and
    classified again (the paper's); `prediction`: of the same prediction that the squared error in w is of."""
    components: int = number(10, low=1)


@dataclass
class SegmenterConfig:
    """Any segmenter: `_target_` is called with the other keys and gives an object with `fit`."""

    _target_: str = MISSING


@dataclass
class FewShotConfig(SegmenterConfig):
    """Convolutions on the generator's feature maps, trained on few labelled images (paper §3.2, S4)."""

    _target_: str = "lis.segmentation.segmenter.FewShotFit"
    network: str = choice(MISSING, ("projected", "three", "five"))
    """`projected`, `three` (the paper's) or `five` (the published program's)."""
    size: int | None = number(None, low=8)
    """Height and width in pixels that the maps are read at; null: half of the generator's resolution."""
    enlarge: int = number(1, low=1)
    """How many times finer a mask is than that."""
    every: int = number(2, low=1)
    """Every how many layers of the generator are read."""
    channels: int = number(32, low=1)
    """With `projected`: what each layer is projected to before it is resized."""
    hidden: int = number(64, low=1)
    """Channels between the three convolutions."""
    epochs: int = number(100, low=1)
    batch_size: int = number(5, low=1)
    learning_rate: float = number(1e-3, low=POSITIVE)
    weight_decay: float = number(1e-3, low=0)


@dataclass
class MatcherConfig:
    """Any matcher: `_target_` is called with the other keys."""

    _target_: str = MISSING


@dataclass
class FlowConfig(MatcherConfig):
    """SIFT or ECC, then variational flow."""

    _target_: str = "lis.matching.flow.Flow"
    enlarge: int | None = number(None, low=1, high=16)
    """Factor by which pictures are enlarged before matching; null: 2 below 128 pixels, else 1."""
    ratio: float = number(0.8, low=0, high=1)
    """A keypoint is matched when the nearest descriptor is closer than this share of the second nearest."""
    threshold: float = number(1.0, low=0)
    """Pixels that a similarity may leave of a keypoint that agrees with it."""


@dataclass
class PumpConfig(MatcherConfig):
    """PUMP (Revaud et al. 2022), the paper's matcher."""

    _target_: str = "lis.matching.pump.pump"
    descriptor: str = choice("patches", ("patches", "daisy", "classifier", "generator", "convmixer"))
    """`patches`: of colour; `daisy`; `classifier`, `generator`: their feature maps; `convmixer`: the published one."""
    layers: list[str] | None = None
    """With `classifier` or `generator`: layers that are read; null: all with maps of an eighth of the image or more."""
    channels: int = number(32, low=1)
    """What patches and feature maps of a pair are projected to."""
    weights: str | None = path(None)
    """With `convmixer`: path of the published checkpoint."""
    enlarge: int | None = number(None, low=1, high=16)
    """Factor by which pictures are enlarged before matching; null: 2 below 128 pixels, else 1."""
    power: float = number(1.5, low=0)
    """Rectifies every level."""
    border: float = number(0.9, low=0, high=1)
    """How far what lies at the edge is judged by the parts that can be seen there."""
    min_shape: int = number(5, low=2)
    """The last level has a side of at most so many pixels."""
    levels: int | None = number(None, low=0)
    """Levels above the correlations; null: all."""
    locality: float = number(2.0, low=0)
    """Cells of the grid that two linked matches may lie apart."""
    min_component: int = number(50, low=0)
    """A match is kept that is linked with more than so many."""
