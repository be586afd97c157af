"""All stages: every module of the analysis packages declares its own. Nothing is listed here.

A run imports them all (`discover`). What only asks for names, settings and what they may be reads the declarations
(`read`) in a twentieth of the time, with the same result: the command line before it runs anything.
"""

from __future__ import annotations

import pkgutil
import re
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore

from lis.config import AnalysisConfig, conf_folder, root_schema, schemas
from lis.config.root import GROUPS
from lis.declarations import definitions, forget
from lis.stage import REGISTRY, Stage, always, ordered

if TYPE_CHECKING:
    from lis.config import RunConfig as RunConfig

PACKAGES = ("classifiers", "linking", "segmentation", "units", "dissection", "motion", "boundary")
"""Where stages are declared, in the order in which data flows."""
_FOLDER = Path(__file__).parent
_DECLARING = re.compile(r"stage(\(| as )|= .*stage$", re.MULTILINE)
"""What may declare a stage: other files are not read."""
_state = ""
"""What the registry was filled by: nothing yet, `read` or `discover`."""


class Unread(ImportError):
    """A module declares other stages when it is imported than when it is read."""


def discover() -> None:
    """Import all modules of the analysis packages, command lines apart; forget what was only read.

    Raises:
        Unread: that gives other stages than `read` did.
    """
    global _state
    if _state == "discover":
        return
    _prepare_hydra()
    read_only = {*REGISTRY} if _state == "read" else None
    if _state == "read":
        REGISTRY.clear()
        GROUPS.clear()
        forget()
    for module, _ in _modules():
        import_module(module)
    if read_only is not None and (different := REGISTRY.keys() ^ read_only):
        file = REGISTRY[name].file if (name := min(different)) in REGISTRY else "no file"
        raise Unread(
            f"stage {name!r} is declared in {file} when that is imported, and not when it is read: expected @stage(…) "
            "at the left margin"
        )
    _state = "discover"
    _order_groups()
    globals()["RunConfig"] = root_schema()  # a type for type checkers, who see the import above


def read() -> None:
    """Read the declarations of all stages, which are not imported, and so cannot run; nothing where they are there.

    Raises:
        NotLight: a declaration uses what takes long to import.
        ValueError: two stages have one name.
    """
    global _state
    if _state:
        return
    if REGISTRY:  # of modules that are imported: one registry holds either
        return discover()
    for module, file in _modules():
        if _DECLARING.search(file.read_text("utf-8-sig")):
            definitions(module).declare()
    _state = "read"
    _order_groups()
    return None


def _modules() -> Iterator[tuple[str, Path]]:
    """Name and file of every module of the analysis packages, command lines apart."""
    for package in PACKAGES:
        for module in pkgutil.iter_modules([str(_FOLDER / package)]):
            if module.name != "__main__":
                yield f"lis.{package}.{module.name}", _FOLDER / package / f"{module.name}.py"


def _order_groups() -> None:
    """The groups of settings in the order of their stages, however these came to be known."""
    groups = {stage.group: GROUPS[stage.group] for stage in stages() if stage.group in GROUPS}
    GROUPS.clear()
    GROUPS.update(groups)


def __getattr__(name: str) -> Any:
    """`RunConfig`: the schema of a run, with the groups of all stages, which are imported for it."""
    if name != "RunConfig":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    discover()
    return globals()[name]


def stages() -> list[Stage]:
    """All stages in the order in which data flows: each behind its inputs, then by package, file and line."""
    if not _state:
        discover()
    return ordered(sorted(REGISTRY.values(), key=_position))


def _position(stage: Stage) -> tuple[int, str, int]:
    package = stage.file.partition("/")[0]
    rank = PACKAGES.index(package) if package in PACKAGES else len(PACKAGES)
    return rank, stage.file, stage.build.__code__.co_firstlineno


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
    known, store = stages(), ConfigStore.instance()
    _prepare_hydra()
    for name, schema in schemas().items():
        group, _, last = name.rpartition("/")
        store.store(name=last, group=group or None, node=schema, provider="lis")
    written = {file.stem for file in (conf_folder() / "analysis").glob("*.yaml")}
    for stage in known:
        if stage.listed and "/" not in stage.name and stage.name not in written:
            node = AnalysisConfig(name=stage.name, stages=[each.name for each in always(stage) if each.listed])
            store.store(name=stage.name, group="analysis", node=node, provider="lis")


def _prepare_hydra() -> None:
    """Before Hydra composes, also in the worker of a launcher: spare it copies of all that is registered, which it
    makes for every look at a group, and its warning that a launcher's file here is checked by what the plugin knows.
    """
    ConfigStore.__deepcopy__ = _itself  # pyright: ignore[reportAttributeAccessIssue]
    warnings.filterwarnings("ignore", r"\n'hydra/launcher/\w+' is validated against ConfigStore schema", UserWarning)


def _itself(store: ConfigStore, memo: object) -> ConfigStore:
    return store
