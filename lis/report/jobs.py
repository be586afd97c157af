"""The runs of a sweep as they lie on disk, and what varied between them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import load_file

from lis.config.renamed import current_metrics, current_settings, earlier_stages
from lis.files import read_json
from lis.report.source import channels_last
from lis.report.wording import link_label
from lis.store.inventory import SUMMARY

COMPONENTS = ("gan", "classifier", "classes", "link")
"""Groups that have a name of their own; any other is told by the keys that differ."""
KINDS = {"classes": "class sets", "classifier": "classifiers", "link": "links", "gan": "generators", "seed": "seeds"}
"""Groups to what several of their values are called; of any other they are settings."""
_NO_DIFFERENCE = {"analysis", "engine", "logger", "device", "batch_size", "shard_size", "threads", "store"}
"""Groups that do not change a result."""
_AGAIN = "run the same command again"
_INNER = ("classifier", "classes", "gan")
"""What goes into columns, in order of preference."""


@dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    folder: Path
    labels: Mapping[str, str]
    settings: Mapping[str, Any]
    class_names: Sequence[str]
    metrics: Mapping[str, float]
    values: Mapping[str, str]
    """What varied in the sweep, group to this run's value as it is written."""
    link: str
    inner: str
    """The value that columns show; empty where only links vary."""
    outer: str
    """All other values that varied, for one figure each."""
    units: int | None
    """Width of the penultimate layer; None where no link was fitted."""
    samples: pd.DataFrame | None
    examples: Mapping[str, np.ndarray] | None
    """`image`, `cycled` `[k, h, w, 3]` uint8; `class_index`, `sample_index` `[k]` int64."""
    report: str | None = None
    """Key of its page in the store; None where that does not hold it."""

    @property
    def column(self) -> str:
        """Everything that varied but the link, as one text."""
        return ", ".join(filter(None, (self.outer, self.inner)))

    @property
    def name(self) -> str:
        """Everything that varied, as one text."""
        return ", ".join(self.values.values()) or link_label(self.link)


def load_jobs(folders: Sequence[Path]) -> tuple[list[Job], list[str]]:
    """The runs with a result, and the names of the folders without.

    Raises:
        ValueError: no folder holds a result.
    """
    result = {folder: folder / "report.json" for folder in folders}
    known = {folder: read_facts(file) for folder, file in result.items() if file.is_file()}
    if not known:
        raise ValueError(
            f"no results in {len(folders)} folders: expected report.json, which a finished run writes; "
            "look at the runs' logs for why they stopped"
        )
    varied = what_varied([run["labels"] for run in known.values()], [run["settings"] for run in known.values()])
    jobs = [_job(folder, run, values) for (folder, run), values in zip(known.items(), varied, strict=True)]
    return jobs, [folder.name for folder in folders if folder not in known]


def read_facts(file: Path) -> dict[str, Any]:
    """What a run wrote of itself into `report.json`, in today's names: `labels`, `class_names`, `settings`, `title`,
    `metrics`, `figures`.

    Raises:
        ValueError: it cannot be read, or is of something else.
    """
    run: dict[str, Any] = {"class_names": [], "figures": []}
    run |= read_json(file, "what a run writes of itself", _AGAIN)
    require_kinds(file, run, {"settings": dict, "metrics": dict, "labels": dict, "class_names": list, "figures": list})
    for name in ("labels", "class_names", "figures"):
        require_members(file, name, run[name], is_text, "texts")
    require_members(file, "metrics", run["metrics"], is_number, "numbers")
    return run | {"settings": current_settings(run["settings"]), "metrics": current_metrics(run["metrics"])}


def require_kinds(file: Path, values: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    """Check that what was read from a file has members of these kinds.

    Raises:
        ValueError: one is missing, or is something else.
    """
    for name, kind in kinds.items():
        if not isinstance(values.get(name), kind):
            told = type(values[name]).__name__ if name in values else "missing"
            raise ValueError(f"{file}: {name} is {told}: expected {kind.__name__}, as a run writes it; {_AGAIN}")


def require_members(
    file: Path,
    name: str,
    members: Mapping[str, Any] | Sequence[Any],
    is_right: Callable[[Any], bool],
    expected: str,
) -> None:
    """Check what a list or object that was read from a file holds.

    Raises:
        ValueError: one member is something else than `expected`.
    """
    for value in members.values() if isinstance(members, Mapping) else members:
        if not is_right(value):
            raise ValueError(f"{file}: {name} holds {value!r:.40}: expected {expected}, as a run writes it; {_AGAIN}")


def is_number(value: Any) -> bool:
    """Whether a value is a number that a float can hold.

    Example:
        >>> is_number(1), is_number(0.5), is_number("1"), is_number(True), is_number(10**400)
        (True, True, False, False, False)
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def is_text(value: Any) -> bool:
    """Whether a value is a text."""
    return isinstance(value, str)


def stage_folder(run: Path, stage: str) -> Path:
    """Where a run's tables of a stage lie, also under a former name of the stage; there may be none."""
    folders = [run / "tables" / name for name in (stage, *earlier_stages(stage))]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def what_varied(labels: Sequence[Mapping[str, str]], settings: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """For each run, the groups that differ between runs and the run's value in words.

    Args:
        labels: per run, the names of its components.
        settings: per run, its flat configuration.

    Example:
        >>> labels = [{"link": "lr"}, {"link": "ridge"}]
        >>> what_varied(labels, [{"seed": 0, "pairs.train": 9}, {"seed": 1, "pairs.train": 9}])
        [{'link': 'lr', 'seed': 'seed=0'}, {'link': 'ridge', 'seed': 'seed=1'}]
    """
    keys = list(dict.fromkeys(key for run in settings for key in run))
    groups = list(dict.fromkeys([*COMPONENTS, *(key.split(".")[0] for key in keys)]))
    columns = {group: _values(group, keys, labels, settings) for group in groups if group not in _NO_DIFFERENCE}
    columns = {group: column for group, column in columns.items() if len(set(column)) > 1}
    return [{group: column[run] for group, column in columns.items()} for run in range(len(labels))]


def _values(
    group: str, keys: Sequence[str], labels: Sequence[Mapping[str, str]], settings: Sequence[Mapping[str, Any]]
) -> list[str]:
    """A group's value per run: its label, with the keys that differ between runs of the same label."""
    names = [run.get(group, "") for run in labels]
    subset = [key for key in keys if key.split(".")[0] == group]
    values = []
    for name, run in zip(names, settings, strict=True):
        peers = [other for other_name, other in zip(names, settings, strict=True) if other_name == name]
        differing = [key for key in subset if len({str(peer.get(key)) for peer in peers}) > 1]
        short = [f"{key.removeprefix(group + '.')}={run.get(key)}" for key in differing]
        values.append(", ".join(filter(None, (name, *short))))
    return values


def _job(folder: Path, run: Mapping[str, Any], values: Mapping[str, str]) -> Job:
    rest = {group: value for group, value in values.items() if group != "link"}
    inner = next((group for group in _INNER if group in rest), next(iter(rest), ""))
    units, evaluation = stage_folder(folder, "link") / "units.parquet", stage_folder(folder, "evaluation")
    samples, examples = evaluation / "samples.parquet", evaluation / "examples.safetensors"
    return Job(
        folder=folder,
        labels=run["labels"],
        settings=run["settings"],
        class_names=run["class_names"],
        metrics=run["metrics"],
        values={**values, **({"link": link_label(values["link"])} if "link" in values else {})},
        link=values.get("link", run["labels"]["link"]),
        inner=rest.pop(inner, ""),
        outer=", ".join(rest.values()),
        units=len(pd.read_parquet(units, columns=["unit"])) if units.is_file() else None,
        samples=pd.read_parquet(samples) if samples.is_file() else None,
        examples=channels_last(load_file(examples)) if examples.is_file() else None,
        report=read_json(summary, remedy=_AGAIN).get("report") if (summary := folder / SUMMARY).is_file() else None,
    )
