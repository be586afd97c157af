"""Schemas of the root, and of the groups that no stage owns."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from lis.config.models import ClassifierConfig, GanConfig, LinkConfig, MatcherConfig, SegmenterConfig, path
from lis.config.stages import (
    AdversarialConfig,
    CounterfactualConfig,
    EvaluationConfig,
    GanCounterfactualConfig,
    LabelsConfig,
    MatchingConfig,
    MotionConfig,
    PairsConfig,
    ProbeConfig,
    SimilarityConfig,
    StripsConfig,
    TrainingConfig,
    TuningConfig,
    UnitsConfig,
    ViewConfig,
)


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
    direction: str | None = path(None, "pc:", "classes:")
    """With `analysis=direction` or `motion`: `pc:<k>`, `classes:<from>-<to>`, or the path of a vector in a file."""
    class_name: str | None = None
    """With `analysis=unit` or `direction`: the class whose samples are shown (also `class=…`); null: every class."""
    images: str | None = path(None)
    """With `analysis=images`: a folder of pictures; those in folders inside are among them."""
    seed: int = 0
    device: str = "auto"
    batch_size: int = 100
    """Images at once; fewer where there is no room for so many."""
    shard_size: int = 500
    """Samples per shard: what is lost at most when a run is killed."""
    threads: int = 0
    """CPU threads of torch; 0 leaves torch's own choice."""
    store: str = path("outputs/store")
