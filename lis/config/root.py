"""Schemas of the root, and of the groups that no stage owns."""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING

from lis.config.fields import choice, number, path
from lis.config.models import ClassifierConfig, GanConfig, LinkConfig, MatcherConfig, SegmenterConfig
from lis.config.stages import (
    CounterfactualConfig,
    LabelsConfig,
    PairsConfig,
    ProbeConfig,
    TrainingConfig,
    TuningConfig,
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
    counterfactual: CounterfactualConfig = field(default_factory=CounterfactualConfig)
    view: ViewConfig = field(default_factory=ViewConfig)
    unit: int | None = number(None, low=0)
    """With `analysis=unit` or `motion`: which one."""
    direction: str | None = path(None, "pc:", "classes:")
    """With `analysis=direction` or `motion`: `pc:<k>`, `classes:<from>-<to>`, or the path of a vector in a file."""
    class_name: str | None = None
    """With `analysis=unit` or `direction`: the class whose samples are shown (also `class=…`); null: every class."""
    images: str | None = path(None)
    """With `analysis=images`: a folder of pictures; those in folders inside are among them."""
    seed: int = number(0, low=0, high=2**63 - 1)
    device: str = "auto"
    batch_size: int = number(100, low=1, silent=True)
    """Images at once; fewer where there is no room for so many."""
    shard_size: int = number(500, low=1, silent=True)
    """Samples per shard: what is lost at most when a run is killed."""
    threads: int = number(0, low=0, silent=True)
    """CPU threads of torch; 0 leaves torch's own choice."""
    store: str = path("outputs/store")
    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """A group that a stage owns, whose file knows its type."""

        def __setattr__(self, name: str, value: Any) -> None:
            """The same."""


GROUPS: dict[str, type] = {}
"""Schemas of the groups that stages own, by the group's name; `lis.stage.stage` enters them."""


def root_schema() -> type[RunConfig]:
    """The schema of a run with the groups of all stages that are declared so far."""
    return _root_schema(tuple(GROUPS.items()))


@cache
def _root_schema(groups: tuple[tuple[str, type], ...]) -> type[RunConfig]:
    own = [(name, schema, field(default_factory=schema)) for name, schema in groups]
    schema = make_dataclass("RunConfig", own, bases=(RunConfig,), namespace={"__doc__": RunConfig.__doc__})
    schema.__module__ = "lis.stages"  # where pickle finds the one with all groups
    return schema
