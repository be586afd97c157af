"""The typed schema of a run: what every key means, and which ones exist.

Hydra merges `conf/` onto these dataclasses, so a misspelt key fails at once and names itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


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
    weights: str = MISSING
    """`published`: the file at `url`; `random`; or the path of a checkpoint."""
    url: str | None = None
    """Where the file is published, or a mirror."""
    cache: str | None = None
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
    """`float32`, or `bf16` for the convolutions alone."""
    compile: str = "auto"
    """Resampling through `torch.compile`: `on`, `off`, or `auto`, where there is a compiler."""


@dataclass
class ClassifierConfig:
    """Any classifier: `_target_` is called with the other keys but `probe`."""

    _target_: str = MISSING
    probe: bool = False
    """Replace the head by a logistic regression on R for the classes of the set."""


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
    weights: str = "auto"
    """`pretrained`, `partworld`, `random`, or the path of a checkpoint; `auto` follows the generator's domain."""
    num_classes: int | None = None
    """Outputs of the head in the checkpoint at a path; null: those of the architecture."""
    class_names: list[str] | None = None
    """Names of the outputs, in order; null: those that come with the weights."""
    attribute: str | None = None
    """With `partworld`: the factor whose sign the network is trained to tell, instead of the class."""
    uint8: bool = False
    """Round images to 8 bits before and after resizing, as a program that reads image files does."""


@dataclass
class TrainingConfig:
    """Training an architecture on part world, where its weights are not there."""

    images: int = MISSING
    """Rendered images, each seen once."""
    batch_size: int = 60
    learning_rate: float | None = None
    """Peak of the one-cycle schedule; null: 2e-3 with batch normalisation, else 5e-4."""
    weight_decay: float = 0.02
    precision: str = "auto"
    """`float32`, `bf16`, or `auto`: bf16 where the processor computes in it."""
    held_out: int = MISSING
    """Rendered images per class that the accuracy is measured on."""


@dataclass
class ProbeConfig:
    """The logistic regression on R (`classifier.probe`)."""

    train: int = MISSING
    """Samples per class that it is fitted to."""
    test: int = MISSING
    """Samples per class that accuracy and calibration are measured on."""
    folds: int = 5
    """Cross-validation folds that choose the regularisation."""


@dataclass
class ClassesConfig:
    """A set of classes that are analysed together."""

    name: str = MISSING
    names: list[str] = MISSING
    labels: list[str] = field(default_factory=list)
    """Names of the parts that its figures have."""


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
    """λ of the supplement's Eq. 2: weight of the squared error on the first principal components of W."""
    components: int = 10


@dataclass
class PairsConfig:
    """How many (w, r) pairs per class, and which are taken."""

    train: int = MISSING
    test: int = MISSING
    accept: str = "correct"
    """`correct`: only samples that the classifier gets right; `any`: all."""
    min_acceptance: float = 0.02
    """A class with a lower acceptance rate stops the run."""


@dataclass
class EvaluationConfig:
    """The full cycle on new samples (Fig. 3B, C; S1)."""

    lpips: bool = True
    moco: str | None = None
    """Path of a MoCo v2 checkpoint (ResNet-50)."""
    examples: int = MISSING
    """Reconstructions shown per class."""
    resamples: int = 1000
    """Bootstrap resamples behind each interval."""


@dataclass
class SimilarityConfig:
    """ARI and RSA of R and W (Fig. 3A)."""

    repetitions: int = MISSING
    examples: int = MISSING
    """Samples per class in each repetition."""


@dataclass
class StripsConfig:
    """Pictures along the range of single units (Fig. 4A, S4)."""

    units: int = MISSING
    """Units that are shown: those that move the probability of a sample's own class most."""
    samples: int = MISSING
    """Test samples per class on which that is measured."""
    examples: int = MISSING
    """Test samples per class that are shown."""
    steps: int = MISSING
    """Values from a unit's smallest to its largest activation."""


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
class LabelsConfig:
    """Which images are labelled, and what the segmenter is held against."""

    train: int = 5
    """Labelled images per class that the segmenter is trained on."""
    test: int = 5
    """Labelled images per class that it is tested on (S7, S8)."""
    exact: int = MISSING
    """Images whose exact masks it is tested on as well, where the generator knows them."""
    folder: str | None = None
    """What `python -m lis.labels export` wrote and a person has labelled; null: the generator's exact masks."""
    left_out: str | None = None
    """Class whose labels are not trained on, only tested (S6)."""


@dataclass
class TuningConfig:
    """Every unit through its range on many samples (paper §3.3)."""

    units: int | None = MISSING
    """At most so many units, those with the largest linked step; null: all."""
    seeds: int = MISSING
    """Accepted samples per class whose activations are tuned."""
    steps: int = 2
    """Values from a unit's smallest to its largest activation."""
    null_directions: int = MISSING
    """Random directions in R of equal ‖Δw‖ that are tuned as well."""
    batch_size: int | None = None
    """Images at once; null: found, and halved when memory runs out."""
    unit_block: int = 32
    """Units per shard."""
    seed_block: int = 20
    """Samples per shard."""


@dataclass
class UnitsConfig:
    """Statistics over tuned units (paper §4.3, §4.4)."""

    top: int = 10
    """Units at the head of a ranking."""
    clusters: int = 8
    """Branches that the tree of units is cut into (Fig. 5C)."""
    perplexity: float = 30.0
    """Of the map of units (t-SNE, Fig. 5B)."""
    relevant: float = 0.15
    """A unit is relevant for a class from this mean change of its probability on (Fig. 6B)."""
    examples: int = 3
    """Units shown per picture."""


@dataclass
class GanCounterfactualConfig:
    """The same z in another class, and the way between in W (supplement S8)."""

    samples: int = MISSING
    """Test samples per class that go to every other class."""
    steps: int = MISSING
    """Images from a sample to its counterpart."""
    shown: int = MISSING
    """Pairs of classes in pictures: each class to the next."""
    units: int = 4
    """Units that are shown of such a pair: those that change most."""


@dataclass
class AdversarialConfig:
    """Steps in pixels that have the effect of a counterfactual."""

    samples: int | None = MISSING
    """At most so many counterfactuals per pair of classes; null: all."""
    step: float = 0.002
    """Root mean square over the pixels of a step; images lie in [-1, 1]."""
    max_steps: int = 500


@dataclass
class CounterfactualConfig:
    """Counterfactuals in R, and what changes on the way to them (paper §3.3, §4.5)."""

    pairs: list[str] | None = None
    """`<from>-<to>`, classes of the set; null: every ordered pair."""
    samples: int = MISSING
    """Test pairs per pair of classes."""
    shown: int = MISSING
    """Pairs of classes with a trajectory."""
    steps: int = MISSING
    """Images along a trajectory."""
    path_end: float = 2.0
    """Where a trajectory r + t Δr ends; t = 1 is the counterfactual."""
    initialisations: int = MISSING
    """Starts per sample, where the directions are compared (Fig. S19)."""
    diversity_samples: int = MISSING
    """Samples per pair of classes there."""
    top: int = 10
    """Units at the head of a direction."""
    optimizer: str = "natural"
    """`natural`: equal steps in the metric of the training pairs; `published`: gradient descent in R; or `adam`."""
    learning_rate: float | None = None
    """null: the optimizer's own, 0.5 as published."""
    start: float | None = None
    """Bound of the uniform start; null: the optimizer's own."""
    max_steps: int = 2000
    check_every: int = 20
    """Steps between two looks at the image; the exact step is found afterwards."""
    lambda1: float = 0.6
    """Weight of the original class's logit."""
    lambda2: float = 10.0
    """Weight of the cosine in W."""
    l1: float = 0.0
    """Weight of an L1 penalty on Δr, in standard deviations of the units."""
    l1_sweep: list[float] = field(default_factory=lambda: [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    """Weights that are compared."""
    l1_samples: int = MISSING
    """Samples per pair of classes there."""
    l1_max_steps: int = 200
    """Steps there: a weight that holds Δr back does so for ever."""
    sample_block: int = 20
    """Samples per shard."""


@dataclass
class ViewConfig:
    """One unit, one direction, or own images, in pictures."""

    samples: int = MISSING
    """Samples shown."""
    steps: int = MISSING
    """Images along the range."""


@dataclass
class MatcherConfig:
    """Any matcher: `_target_` is called with the other keys."""

    _target_: str = MISSING


@dataclass
class FlowConfig(MatcherConfig):
    """SIFT or ECC, then DIS flow."""

    _target_: str = "lis.matching.flow.Flow"
    enlarge: int = 2
    """Factor by which pictures are enlarged before matching."""
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
    weights: str | None = None
    """With `convmixer`: path of the published checkpoint."""
    enlarge: int = 2
    """Factor by which pictures are enlarged before matching."""
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


@dataclass
class MotionConfig:
    """Units as movement (paper §3.2, S5.2): `analysis=motion`."""

    units: int = MISSING
    """At most so many units are followed, those with the largest linked step; `unit` or `direction` asks for one."""
    seeds: int = MISSING
    """Samples per class, of those that are tuned."""
    steps: int = 5
    """Images along the range, each aligned to the one before."""
    examples: int = 4
    """Units that are shown."""
    shuffles: int = 2000
    """Permutations of the units that their movement is held against (S15)."""


@dataclass
class MatchingConfig:
    """How well matchers find true displacements, on part world: `analysis=matching`."""

    samples: int = MISSING
    """Pairs of images per class and kind of change."""
    matchers: list[str] = field(default_factory=list)
    """Which matchers; empty: all that need no checkpoint."""


@dataclass
class AnalysisConfig:
    """The stages that an analysis wants; what they need is run first."""

    name: str = MISSING
    stages: list[str] = MISSING


@dataclass
class EngineConfig:
    """How shards are mapped."""

    _target_: str = MISSING


@dataclass
class LoggerConfig:
    """Where numbers, figures and tables go besides the run's folder."""

    _target_: str = MISSING


@dataclass
class WandbConfig(LoggerConfig):
    """Weights & Biases."""

    _target_: str = "lis.tracking.WandbTracker"
    project: str = "lis"
    mode: str = "offline"
    """`offline` or `online`."""


@dataclass
class RunConfig:
    """The root: one run of `python -m lis.run`."""

    gan: GanConfig = MISSING
    classifier: ClassifierConfig = MISSING
    classes: ClassesConfig = MISSING
    link: LinkConfig = MISSING
    segmenter: SegmenterConfig = MISSING
    matcher: MatcherConfig = MISSING
    analysis: AnalysisConfig = MISSING
    engine: EngineConfig = MISSING
    logger: LoggerConfig = MISSING
    training: TrainingConfig = field(default_factory=TrainingConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    pairs: PairsConfig = field(default_factory=PairsConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    similarity: SimilarityConfig = field(default_factory=SimilarityConfig)
    strips: StripsConfig = field(default_factory=StripsConfig)
    labels: LabelsConfig = field(default_factory=LabelsConfig)
    tuning: TuningConfig = field(default_factory=TuningConfig)
    units: UnitsConfig = field(default_factory=UnitsConfig)
    gan_counterfactual: GanCounterfactualConfig = field(default_factory=GanCounterfactualConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)
    counterfactual: CounterfactualConfig = field(default_factory=CounterfactualConfig)
    view: ViewConfig = field(default_factory=ViewConfig)
    motion: MotionConfig = field(default_factory=MotionConfig)
    matching: MatchingConfig = field(default_factory=MatchingConfig)
    unit: int | None = None
    """With `analysis=unit` or `motion`: which one."""
    direction: str | None = None
    """With `analysis=direction` or `motion`: `pc:<k>`, `classes:<from>-<to>`, or the path of a vector in a file."""
    class_name: str | None = None
    """With `analysis=unit` or `direction`: the class whose samples are shown (also `class=…`); null: every class."""
    images: str | None = None
    """With `analysis=images`: a folder of pictures."""
    seed: int = 0
    device: str = "auto"
    batch_size: int = 100
    shard_size: int = 500
    """Samples per shard: what is lost at most when a run is killed."""
    threads: int = 0
    """CPU threads of torch; 0 leaves torch's own choice."""
    store: str = "outputs/store"


SCHEMAS: dict[str, type] = {
    "base_config": RunConfig,
    "gan/base_partworld": PartWorldConfig,
    "gan/base_stylegan_xl": StyleGANXLConfig,
    "classifier/base_partnet": PartNetConfig,
    "classifier/base_network": NetworkConfig,
    "classes/base_classes": ClassesConfig,
    "link/base_lr": LeastSquaresConfig,
    "link/base_ridge": RidgeConfig,
    "link/base_mlp": MLPConfig,
    "segmenter/base_fewshot": FewShotConfig,
    "matcher/base_flow": FlowConfig,
    "matcher/base_pump": PumpConfig,
    "analysis/base_analysis": AnalysisConfig,
    "engine/base_engine": EngineConfig,
    "logger/base_logger": LoggerConfig,
    "logger/base_wandb": WandbConfig,
}
"""What the files in `conf/` are merged onto: each begins with one of these names in its defaults."""


def register() -> None:
    """Make the schemas known to Hydra."""
    for name, schema in SCHEMAS.items():
        group, _, last = name.rpartition("/")
        ConfigStore.instance().store(name=last, group=group or None, node=schema, provider="lis")


def conf_folder() -> Path:
    """Where the YAML files lie: beside this file in an installed package, one folder up in a checkout."""
    packaged = Path(__file__).parent / "conf"
    return packaged if packaged.is_dir() else packaged.parent.parent / "conf"
