"""The typed schema of a run: what every key means, and which ones exist.

Hydra merges `conf/` onto these dataclasses, so a misspelt key fails at once and names itself.
"""

from __future__ import annotations

from pathlib import Path

from lis.config.models import (
    ClassifierConfig,
    DetectorsConfig,
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
    PlantedConfig,
    PumpConfig,
    RidgeConfig,
    StyleGANXLConfig,
)
from lis.config.root import (
    AnalysisConfig,
    ClassesConfig,
    CounterfactualsConfig,
    EngineConfig,
    LocalConfig,
    LoggerConfig,
    PairsConfig,
    ProbeConfig,
    RayConfig,
    RunConfig,
    TrainingConfig,
    TuningConfig,
    WandbConfig,
    root_schema,
)

OBJECT = "base_object"
"""Option of a model that Python passes as an object; the command line has none of that name."""
_SCHEMAS: dict[str, type] = {
    f"gan/{OBJECT}": GanConfig,
    "gan/base_partworld": PartWorldConfig,
    "gan/base_stylegan_xl": StyleGANXLConfig,
    f"classifier/{OBJECT}": ClassifierConfig,
    "classifier/base_partnet": PartNetConfig,
    "classifier/base_network": NetworkConfig,
    "classifier/base_planted": PlantedConfig,
    "classifier/base_detectors": DetectorsConfig,
    "classes/base_classes": ClassesConfig,
    "link/base_lr": LeastSquaresConfig,
    "link/base_ridge": RidgeConfig,
    "link/base_mlp": MLPConfig,
    "segmenter/base_fewshot": FewShotConfig,
    "matcher/base_flow": FlowConfig,
    "matcher/base_pump": PumpConfig,
    "analysis/base_analysis": AnalysisConfig,
    "engine/base_engine": EngineConfig,
    "engine/base_local": LocalConfig,
    "engine/base_ray": RayConfig,
    "logger/base_logger": LoggerConfig,
    "logger/base_wandb": WandbConfig,
}


def schemas() -> dict[str, type]:
    """What the files in `conf/` are merged onto: each begins with one of these names in its defaults.

    The root has the groups of the stages that are declared by now; `lis.stages` declares all.
    """
    return {"base_config": root_schema(), **_SCHEMAS}


def conf_folder() -> Path:
    """Where the YAML files lie: inside `lis` in an installed package, beside it in a checkout."""
    packaged = Path(__file__).parent.parent / "conf"
    return packaged if packaged.is_dir() else packaged.parent.parent / "conf"
