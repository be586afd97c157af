"""Schemas of the root, and of the groups that no stage owns."""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING

from lis.config.fields import POSITIVE, choice, number, path, within
from lis.config.models import ClassifierConfig, GanConfig, LinkConfig, MatcherConfig, SegmenterConfig

GROUPS: dict[str, type] = {}
"""Schemas of the groups that stages own, by the group's name; `lis.stage.stage` enters them."""


@dataclass
class EngineConfig:
    """How shards are mapped."""

    _target_: str = MISSING


@dataclass
class LocalConfig(EngineConfig):
    """On several devices of this machine."""

    devices: list[str] | None = None
    """`[0,1]` or `[cuda:0,cuda:1]`: GPUs; `[cpu,cpu]`: shares of the cores; null: every GPU."""


@dataclass
class RayConfig(EngineConfig):
    """On the devices of one or more machines."""

    address: str | None = None
    """Of a cluster: `auto`, or `<host>:<port>`; null: this machine alone."""
    workers: int | None = number(None, low=1)
    """How many; null: as many as the cluster has GPUs for, or cores where it has no GPU."""
    gpus_per_worker: float | None = number(None, low=0)
    """GPUs of a worker, also a part of one; null: 1, or 0 where the cluster has no GPU."""


@dataclass
class LoggerConfig:
    """Where numbers, figures and tables go besides the run's folder."""

    _target_: str = MISSING


@dataclass
class WandbConfig(LoggerConfig):
    """Weights & Biases."""

    _target_: str = "lis.tracking.WandbTracker"
    project: str = "lis"
    mode: str = choice("offline", ("offline", "online"))
    """`offline` or `online`."""


@dataclass
class ClassesConfig:
    """A set of classes that are analysed together."""

    name: str = MISSING
    names: list[str] = MISSING
    labels: list[str] = field(default_factory=list)
    """Names of the parts that its figures have."""


@dataclass
class AnalysisConfig:
    """The stages that an analysis wants; what they need is run first."""

    name: str = MISSING
    stages: list[str] = MISSING


@dataclass
class TrainingConfig:
    """Training an architecture on part world, where its weights are not there."""

    images: int = number(MISSING, low=1)
    """Rendered images, each seen once."""
    batch_size: int = number(60, low=15)
    learning_rate: float | None = number(None, low=POSITIVE)
    """Peak of the one-cycle schedule; null: 2e-3 with batch normalisation, else 5e-4."""
    weight_decay: float = number(0.02, low=0)
    precision: str = choice("auto", ("auto", "float32", "tf32", "bf16"))
    """`float32`, `tf32` (on a GPU), `bf16`, or `auto`: bf16 where the processor computes in it, else float32."""
    held_out: int = number(MISSING, low=1)
    """Rendered images per class that the accuracy is measured on."""


@dataclass
class ProbeConfig:
    """The logistic regression on R (`classifier.probe`)."""

    train: int = number(MISSING, low=2)
    """Samples per class that it is fitted to."""
    test: int = number(MISSING, low=1)
    """Samples per class that accuracy and calibration are measured on."""
    folds: int = number(5, low=2)
    """Cross-validation folds that choose the regularisation."""


@dataclass
class PairsConfig:
    """How many (w, r) pairs per class, and which are taken."""

    train: int = number(MISSING, low=2)
    test: int = number(MISSING, low=2)
    accept: str = choice("correct", ("correct", "any"))
    """`correct`: only samples that the classifier gets right; `any`: all."""
    min_acceptance: float = number(0.02, low=0, high=1)
    """A class with a lower acceptance rate stops the run."""


@dataclass
class LabelsConfig:
    """Which images are labelled, and what the segmenter is held against."""

    train: int = number(5, low=1)
    """Labelled images per class that the segmenter is trained on."""
    test: int = number(5, low=1)
    """Labelled images per class that it is tested on (S7, S8)."""
    exact: int = number(MISSING, low=0)
    """Images whose exact masks it is tested on as well, where the generator knows them."""
    folder: str | None = path(None)
    """What `python -m lis.labels export` wrote and a person has labelled; null: the generator's exact masks."""
    left_out: str | None = None
    """Class whose labels are not trained on, only tested (S6)."""


@dataclass
class TuningConfig:
    """Every unit through its range on many samples (paper §3.3)."""

    units: int | None = number(MISSING, low=1)
    """At most so many units: those with the largest linked step, or that w expresses best; null: all."""
    seeds: int = number(MISSING, low=1)
    """Accepted samples per class whose activations are tuned."""
    steps: int = number(2, low=2)
    """Values from a unit's smallest to its largest activation."""
    along: str = choice("pattern", ("pattern", "faithful", "closed", "link"))
    """Which way a unit is moved in W: `link`, the paper's, by its row of the link, of which hardly anything arrives in
    the network; `pattern`, by what goes with it; `faithful`, by what moves it and the others least; `closed`, the same
    by the network's own derivatives in each sample, at a hundred passes and more for each image."""
    penalty: float | None = number(None, low=POSITIVE)
    """λ of `faithful` and `closed`, how much a large step counts beside what the other units do; null: of `faithful`
    found on some units."""
    control_directions: int = number(MISSING, low=0)
    """Random directions in R that are tuned as well, to be set beside units that move w as far."""
    control_lengths: int = number(4, low=2)
    """Steps of each to either side of a sample: the distances in w that random directions are asked to go."""
    batch_size: int | None = number(None, low=1, silent=True)
    """Images at once; null: found, and halved when memory runs out."""
    unit_block: int = number(32, low=1, silent=True)
    """Units per shard."""
    seed_block: int = number(20, low=1, silent=True)
    """Samples per shard."""


@dataclass
class CounterfactualsConfig:
    """Counterfactuals in R, and what changes on the way to them (paper §3.3, §4.5)."""

    pairs: list[str] | None = None
    """`<from>-<to>`, classes of the set; null: every ordered pair."""
    samples: int = number(MISSING, low=1)
    """Test pairs per pair of classes."""
    trajectories: int = number(MISSING, low=1)
    """Pairs of classes with a trajectory."""
    steps: int = number(MISSING, low=3)
    """Images along a trajectory."""
    path_end: float = number(2.0, low=1, high=10)
    """Where a trajectory r + t Δr ends; t = 1 is the counterfactual."""
    initialisations: int = number(MISSING, low=2)
    """Starts per sample, where the directions are compared (Fig. S19)."""
    diversity_samples: int = number(MISSING, low=1)
    """Samples per pair of classes there."""
    top: int = number(10, low=1)
    """Units at the head of a direction."""
    objective: str = choice("image", ("image", "link"))
    """Whose logits are pushed to the target: `image`, those of the image of f(r + Δr); `link`, those of r + Δr, as
    published."""
    until: float | None = number(None, low=0.5, high=0.9999)
    """Probability of the target that the image is to have; null: until the answer flips."""
    near: float | None = number(None, low=POSITIVE)
    """Weight of the distance of w to the target's training pairs, by their own scatter; null: it counts nothing."""
    witness: ClassifierConfig | None = None
    """Another network that is asked about the pictures, an option of `classifier`; null: none is."""
    optimizer: str = choice("natural", ("natural", "published", "adam"))
    """`natural`: equal steps in the metric of the training pairs; `published`: gradient descent in R; or `adam`."""
    learning_rate: float | None = number(None, low=POSITIVE)
    """null: the optimizer's own, 0.5 as published."""
    start: float | None = number(None, low=0)
    """Bound of the uniform start; null: the optimizer's own."""
    max_steps: int | None = number(None, low=1)
    """null: 100 with `image`, where each makes an image with a gradient, and 2,000 with `link`."""
    check_every: int = number(20, low=1)
    """Steps between two looks at the image with `link`; the exact step is found afterwards."""
    lambda1: float = number(0.6, low=0)
    """Weight of the original class's logit."""
    lambda2: float = number(10.0, low=0)
    """Weight of the cosine in W."""
    l1: float = number(0.0, low=0)
    """Weight of an L1 penalty on Δr, in standard deviations of the units."""
    l1_sweep: list[float] = field(default_factory=lambda: [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6], metadata=within(low=0))
    """Weights that are compared."""
    l1_samples: int = number(MISSING, low=1)
    """Samples per pair of classes there."""
    l1_max_steps: int = number(200, low=1)
    """Steps there: a weight that holds Δr back does so for ever."""
    sample_block: int = number(20, low=1, silent=True)
    """Samples per shard."""


@dataclass
class ViewConfig:
    """One unit, one direction, or own images, in pictures."""

    samples: int = number(MISSING, low=1)
    """Samples shown."""
    steps: int = number(MISSING, low=2)
    """Images along the range."""


@dataclass
class RunConfig:
    """The root: one run of `python -m lis.run`. `root_schema` adds the groups that the files of the stages declare."""

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
    labels: LabelsConfig = field(default_factory=LabelsConfig)
    tuning: TuningConfig = field(default_factory=TuningConfig)
    counterfactuals: CounterfactualsConfig = field(default_factory=CounterfactualsConfig)
    view: ViewConfig = field(default_factory=ViewConfig)
    unit: int | None = number(None, low=0)
    """With `analysis=unit` or `motion`: which one."""
    direction: str | None = path(None, "pc:", "classes:", "units:")
    """With `analysis=direction` or `motion`: `pc:<k>`, `classes:<from>-<to>`, `units:<u>+<v>`, or the path of a
    vector."""
    class_name: str | None = None
    """With `analysis=unit` or `direction`: the class whose samples are shown (also `class=…`); null: every class."""
    images: str | None = path(None)
    """With `analysis=images`, `dissect` or `texture`: a folder of pictures; those in folders inside are among them."""
    seed: int = number(0, low=0, high=2**63 - 1)
    """Of all random numbers."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; `auto`: a GPU where there is one."""
    deterministic: bool = False
    """Only operations that give the same bits every time on one device: slower on a GPU, no difference on a CPU; one
    that has no such form is refused by name."""
    batch_size: int = number(100, low=1, silent=True)
    """Images at once; fewer where there is no room for so many."""
    shard_size: int = number(500, low=1, silent=True)
    """Samples per shard: what is lost at most when a run is killed."""
    threads: int = number(0, low=0, silent=True)
    """CPU threads of torch; 0 leaves torch's own choice."""
    store: str = path("outputs/store")
    """Where finished work is kept, which every run on the same store finds again."""
    plan: bool = False
    """Print what the run would do, and what that takes, in place of doing it."""
    svg: bool = True
    """Whether figures are written as SVG, too, beside their PNG; that is a fifth of the time of a page."""
    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """A group that a stage owns, whose file knows its type."""

        def __setattr__(self, name: str, value: Any) -> None:
            """The same."""


def root_schema() -> type[RunConfig]:
    """The schema of a run with the groups of all stages that are declared so far."""
    return _root_schema(tuple(GROUPS.items()))


@cache
def _root_schema(groups: tuple[tuple[str, type], ...]) -> type[RunConfig]:
    entries = [(name, schema, field(default_factory=schema)) for name, schema in groups]
    schema = make_dataclass("RunConfig", entries, bases=(RunConfig,), namespace={"__doc__": RunConfig.__doc__})
    schema.__module__ = "lis.stages"  # where pickle finds the one with all groups
    return schema
