"""The typed schema of a run: what every key means, and which ones exist.

Hydra merges `conf/` onto these dataclasses, so a misspelt key fails at once and names itself.
"""

from __future__ import annotations

from pathlib import Path

from hydra.core.config_store import ConfigStore

from lis.config.models import (
    ClassifierConfig,
    FewShotConfig,
    FlowConfig,
    GanConfig,
    LeastSquaresConfig,
    LinkConfig,
    MatcherConfig,
    MLPConfig,
    NetworkConfig,
    PartNetConfig,
    PartWorldConfig,
    PumpConfig,
    RidgeConfig,
    SegmenterConfig,
    StyleGANXLConfig,
)
from lis.config.root import AnalysisConfig, ClassesConfig, EngineConfig, LoggerConfig, RunConfig, WandbConfig
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

__all__ = [
    "SCHEMAS",
    "AdversarialConfig",
    "AnalysisConfig",
    "ClassesConfig",
    "ClassifierConfig",
    "CounterfactualConfig",
    "EngineConfig",
    "EvaluationConfig",
    "FewShotConfig",
    "FlowConfig",
    "GanConfig",
    "GanCounterfactualConfig",
    "LabelsConfig",
    "LeastSquaresConfig",
    "LinkConfig",
    "LoggerConfig",
    "MLPConfig",
    "MatcherConfig",
    "MatchingConfig",
    "MotionConfig",
    "NetworkConfig",
    "PairsConfig",
    "PartNetConfig",
    "PartWorldConfig",
    "ProbeConfig",
    "PumpConfig",
    "RidgeConfig",
    "RunConfig",
    "SegmenterConfig",
    "SimilarityConfig",
    "StripsConfig",
    "StyleGANXLConfig",
    "TrainingConfig",
    "TuningConfig",
    "UnitsConfig",
    "ViewConfig",
    "WandbConfig",
    "conf_folder",
    "register",
]

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
    """Where the YAML files lie: inside `lis` in an installed package, beside it in a checkout."""
    packaged = Path(__file__).parent.parent / "conf"
    return packaged if packaged.is_dir() else packaged.parent.parent / "conf"
