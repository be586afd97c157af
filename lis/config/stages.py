"""Schemas of what the stages read."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from lis.config.models import path


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
    """`float32`, `tf32` (on a GPU), `bf16`, or `auto`: bf16 where the processor computes in it, else float32."""
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
    moco: str | None = path(None)
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
class LabelsConfig:
    """Which images are labelled, and what the segmenter is held against."""

    train: int = 5
    """Labelled images per class that the segmenter is trained on."""
    test: int = 5
    """Labelled images per class that it is tested on (S7, S8)."""
    exact: int = MISSING
    """Images whose exact masks it is tested on as well, where the generator knows them."""
    folder: str | None = path(None)
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
