"""All stages: every module of the analysis packages is imported, and declares its own. Nothing is listed here."""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore

from lis.config import AnalysisConfig, conf_folder, root_schema, schemas
from lis.stage import REGISTRY, Stage, always, ordered

PACKAGES = ("classifiers", "linking", "segmentation", "units", "motion", "boundary")
"""Where stages are declared, in the order in which data flows."""


def discover() -> None:
    """Import all modules of the analysis packages, command lines apart."""
    for package in PACKAGES:
        folder = import_module(f"lis.{package}").__path__
        for module in pkgutil.iter_modules(folder, f"lis.{package}."):
            if not module.name.endswith("__main__"):
                import_module(module.name)


discover()

if TYPE_CHECKING:
    from lis.config import RunConfig as RunConfig
else:
    RunConfig = root_schema()
    """The schema of a run, with the groups of all stages."""


def stages() -> list[Stage]:
    """All stages in the order in which data flows: each behind its inputs, then by package, file and line."""
    return ordered(sorted(REGISTRY.values(), key=_position))


def _position(stage: Stage) -> tuple[int, str, int]:
    package = stage.file.partition("/")[0]
    rank = PACKAGES.index(package) if package in PACKAGES else len(PACKAGES)
    return rank, stage.file, inspect.getsourcelines(stage.build)[1]


def names() -> list[str]:
    """What `analysis.stages` can name, in the order in which data flows."""
    return [stage.name for stage in stages() if stage.listed]


def table() -> str:
    """The stages in Markdown: what `python -m lis.run --stages` prints, and ARCHITECTURE.md holds."""
    rows = [f"| `{each.name}` | `{each.file}` | {_inputs(each)} | {each.holds} |" for each in stages()]
    return "\n".join(["| stage | file | inputs | holds |", "|---|---|---|---|", *rows])


def _inputs(stage: Stage) -> str:
    """Names of the inputs, those that not every run needs in brackets."""
    return ", ".join(f"`{each.name}`" if each.condition is None else f"(`{each.name}`)" for each in stage.inputs)


def register() -> None:
    """Make the schemas known to Hydra, and every stage that has no file in `conf/analysis` an option of that group."""
    store = ConfigStore.instance()
    for name, schema in schemas().items():
        group, _, last = name.rpartition("/")
        store.store(name=last, group=group or None, node=schema, provider="lis")
    written = {file.stem for file in (conf_folder() / "analysis").glob("*.yaml")}
    for stage in stages():
        if stage.listed and "/" not in stage.name and stage.name not in written:
            node = AnalysisConfig(name=stage.name, stages=[each.name for each in always(stage) if each.listed])
            store.store(name=stage.name, group="analysis", node=node, provider="lis")
