"""Runs on disk: `load` opens the folder of one, `load_sweep` that of a sweep.

Files are data: JSON, tables and tensors are read, and nothing is executed. What an older version wrote is read in the
names of today.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from lis.api.keywords import literal
from lis.api.run_pages import Report, run_html, sweep_html
from lis.api.run_stages import Named, StageFiles, stage_files, stores_of
from lis.api.study import Study, study
from lis.callbacks import FAILURE, failure, overrides, sweep_jobs
from lis.config.overrides import command, path_keys
from lis.config.renamed import current_metrics, current_override, current_settings, current_stage
from lis.files import read_json, read_yaml
from lis.report.jobs import is_number, is_text, read_facts, require_kinds, require_members, what_varied
from lis.report.source import flat

LATEST = "latest"
"""Stands for the newest run beneath `outputs/`, unless there is a folder of that name."""
_OUTPUTS = Path("outputs")
_NOT_OF_A_STUDY = ("store=", "logger=", "logger.")
_FACTS, _SUMMARY, _METRICS, _REPORT = "report.json", "summary.json", "metrics.json", "report.html"
_CONFIG, _HYDRA, _SWEEP = Path(".hydra", "config.yaml"), Path(".hydra", "hydra.yaml"), "multirun.yaml"
_TOLD_AGAIN = "run the same command again"


@dataclass(frozen=True, eq=False)
class Run:
    """A run as its folder holds it; `run[stage]` is what it has computed in a stage.

    Example:
        >>> import lis
        >>> run = lis.load("outputs/2026-11-27/23-38-08")
        >>> run.title, run.settings["pairs.train"], run.metrics["link/samples"]
        ('PartNet linked to PartWorld: dogs', 60, 300.0)
        >>> "unit_statistics" in run, run["unit_statistics"].tables[:2]
        (True, ['agreement', 'clusters'])
        >>> list(run.figures)[:2], run.report.path.name
        (['classes', 'faithfulness'], 'report.html')
    """

    folder: Path
    title: str
    """What was linked to what."""
    settings: Mapping[str, Any]
    """Every key of the configuration with its value, `pairs.train` and so on, by its name of today."""
    metrics: Mapping[str, float]
    """The numbers of `metrics.json`, by their names of today."""
    labels: Mapping[str, str]
    """Names of generator, classifier, classes and link."""
    class_names: tuple[str, ...]
    """The classes that were analysed, in the order of every `class_index`."""
    overrides: tuple[str, ...]
    """What was typed behind `python -m lis.run`, in the names of today."""
    config_dir: Path | None
    """The folder of options of one's own, `--config-dir=…`, that the run was made with."""
    results: Mapping[str, StageFiles]
    """By stage."""
    seconds: float | None
    """How long it took; None where it did not get so far, or is older."""
    versions: Mapping[str, str]
    """Of lis, torch and numpy."""
    failure: str | None
    """Why the last run in this folder failed; None if it did not."""
    stores: tuple[Path, ...]
    """Where its store may lie, the likeliest first."""

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages that it holds something of."""
        return tuple(self.results)

    def __getitem__(self, stage: str) -> StageFiles:
        """What it has computed in a stage; an earlier name of a stage is as good.

        Raises:
            ValueError: it holds nothing of that stage; says which there are.
        """
        return self.results[current_stage(stage)]

    def __contains__(self, stage: object) -> bool:
        return isinstance(stage, str) and current_stage(stage) in self.results

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    @property
    def figures(self) -> Mapping[str, Path]:
        """The files of its figures and animations by name, those of the report in their order there."""
        files = [file for file in (self.folder / "figures").glob("*") if file.suffix in (".png", ".gif")]
        facts = self.folder / _FACTS
        names: Sequence[str] = read_facts(facts).get("figures", ()) if facts.is_file() else ()
        order = {name: index for index, name in enumerate(names)}
        files.sort(key=lambda file: (order.get(file.name, len(order)), file.name))
        return Named({file.stem: file for file in files}, "figure")

    @property
    def report(self) -> Report:
        """Its page, for `open(…)` and `webbrowser`; in a notebook it shows where it lies, and its first figures.

        Raises:
            ValueError: the run has written none.
        """
        if not (page := self.folder / _REPORT).is_file():
            raise ValueError(f"{page} is not there: write it anew: {_again(self.overrides, self.config_dir)}")
        return Report(page, self.title, tuple(self.figures.values()))

    def study(self) -> Study:
        """The same settings as a study, which reads the store of this run.

        Paths mean what they meant to the run, from whatever folder this is called. **This executes what the run's
        folder names**: an override may choose any class by its `_target_`, and `config_dir` is read again. Read both
        before, where somebody else has made the run.

        Raises:
            ValueError: as `lis.study`; or `config_dir` is no longer there.
        """
        if self.config_dir is not None and not self.config_dir.is_dir():
            raise ValueError(
                f"{_near(self.folder)} was made with --config-dir={self.config_dir}, which is not there any more: "
                "expected the options that it holds; put it back, or give lis.study what they set"
            )
        store = next(filter(Path.is_dir, self.stores), self.stores[0])
        typed = [self._anchored(override) for override in self.overrides if not override.startswith(_NOT_OF_A_STUDY)]
        if self.config_dir is not None:
            typed.append(f"hydra.searchpath={literal('hydra.searchpath', [f'file://{self.config_dir}'])}")
        return study(*typed, store=store)

    def _anchored(self, override: str) -> str:
        """An override whose path is the one that the run has read."""
        key, equals, _ = override.partition("=")
        path = self.settings.get(key.lstrip("+")) if key.lstrip("+") in path_keys() else None
        return f"{key}{equals}{path}" if path is not None else override

    def __repr__(self) -> str:
        failed = f", failed: {self.failure}" if self.failure else ""
        return f"{type(self).__name__} of {self.title}, in {_near(self.folder)}: {', '.join(self.stages)}{failed}"

    def _repr_html_(self) -> str:
        report = self.report if (self.folder / _REPORT).is_file() else None
        return run_html(self.title, _near(self.folder), self.metrics, self.stages, report, self.failure)


@dataclass(frozen=True, eq=False)
class Sweep:
    """The runs of a sweep that have a result, and what varied between them."""

    folder: Path
    jobs: tuple[Run, ...]
    varied: tuple[Mapping[str, str], ...]
    """Per job, the groups that differ between jobs, and what it has there."""
    failures: Mapping[str, str]
    """Why jobs failed, by the name of their folder."""

    @property
    def table(self) -> pd.DataFrame:
        """A row per job, by the name of its folder: what varied, then all metrics; NaN where a job has none."""
        rows = [{**values, **job.metrics} for job, values in zip(self.jobs, self.varied, strict=True)]
        return pd.DataFrame(rows, index=pd.Index([job.folder.name for job in self.jobs], name="job"))

    @property
    def report(self) -> Report:
        """Its page, as `Run.report`.

        Raises:
            ValueError: the sweep has written none.
        """
        if not (page := self.folder / _REPORT).is_file():
            raise ValueError(f"{page} is not there: a sweep writes it at its end; the same command writes it anew")
        return Report(page, f"Sweep of {len(self.jobs)} runs", tuple(sorted((self.folder / "figures").glob("*.png"))))

    def __repr__(self) -> str:
        failed = f", {len(self.failures)} failed" if self.failures else ""
        varied = ", ".join(dict.fromkeys(group for values in self.varied for group in values)) or "nothing"
        return f"{type(self).__name__} of {len(self.jobs)} runs{failed}, in {_near(self.folder)}: {varied} varied"

    def _repr_html_(self) -> str:
        return sweep_html(_near(self.folder), self.table, self.failures)


def load(folder: str | PathLike[str], store: str | PathLike[str] | None = None) -> Run:
    """A run from its folder.

    Args:
        folder: what `python -m lis.run` printed, with or without `report.html` behind it; `latest` is the newest run
            with a result of `outputs/<date>/<time>` here.
        store: where the store lies now; None: where it lay, else `store/` beside the outputs that the run is among.

    Raises:
        ValueError: there is no run with a result; says what there is instead, and what to do.

    Example:
        >>> load("outputs/no-such-run")
        Traceback (most recent call last):
        ValueError: outputs/no-such-run is not there: expected the folder of a run, as outputs/<date>/<time>
    """
    path = _folder(folder)
    if not _has_result(path):
        raise ValueError(_no_run(path))
    known, summary, config_dir = _facts(path), _summary(path), _config_dir(path)
    settings = known["settings"]
    typed = tuple(map(current_override, summary["overrides"]))
    given = Path(store).expanduser().absolute() if store is not None else None
    stores = stores_of(path, settings.get("store"), given)
    results = stage_files(path, summary["artifacts"], stores, _again(typed, config_dir))
    return Run(
        folder=path,
        title=str(known.get("title", path.name)),
        settings=Named(settings, "setting"),
        metrics=Named(known["metrics"], "metric"),
        labels=known.get("labels", {}),
        class_names=tuple(known.get("class_names") or settings.get("classes.names") or ()),
        overrides=typed,
        config_dir=config_dir,
        results=Named(results, "stage of this run"),
        seconds=summary.get("seconds"),
        versions=summary["versions"],
        failure=failure(path, {}) if (path / FAILURE).is_file() else None,
        stores=stores,
    )


def load_sweep(folder: str | PathLike[str], store: str | PathLike[str] | None = None) -> Sweep:
    """The runs of a sweep, which `python -m lis.run -m …` has started.

    Args:
        folder: `outputs/multirun/<date>/<time>`.
        store: as for `load`.

    Raises:
        ValueError: it is the folder of no sweep, or none of its jobs has a result.
    """
    path = _folder(folder)
    if not (jobs := _jobs(path)):
        raise ValueError(f"{_near(path)} is the folder of no sweep: expected one with a folder for every job, 0, 1, …")
    runs = tuple(load(job, store) for job in jobs if _has_result(job))
    failures = {job.name: reason for job in jobs if (reason := failure(job, {})) is not None}
    if not runs:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
        raise ValueError(f"no job of {_near(path)} has a result ({reasons}): run the sweep again")
    varied = what_varied([run.labels for run in runs], [run.settings for run in runs])
    return Sweep(path, runs, tuple(varied), failures)


def _folder(folder: str | PathLike[str]) -> Path:
    """The folder that is meant, absolute."""
    path = Path(folder).expanduser()
    if str(folder) == LATEST and not path.exists():
        path = _latest()
    if path.name == _REPORT:
        path = path.parent
    if not path.is_dir():
        raise ValueError(f"{path} is not there: expected the folder of a run, as outputs/<date>/<time>")
    return path.absolute()


def _latest() -> Path:
    """The newest run of `outputs/<date>/<time>` with a result; the names of these folders are in the order of time."""
    runs = sorted(run for run in _OUTPUTS.glob("[0-9]*/[0-9]*") if _has_result(run))
    if not runs:
        outputs = _OUTPUTS.absolute()
        raise ValueError(f"{LATEST}: there is no run with a result in {outputs}/<date>/<time>; name the folder of one")
    return runs[-1]


def _has_result(path: Path) -> bool:
    return (path / _FACTS).is_file() or (path / _SUMMARY).is_file()


def _jobs(path: Path) -> list[Path]:
    """The folders of a sweep's jobs; none where the folder is of no sweep."""
    return sweep_jobs(path, {}) if (path / _SWEEP).is_file() else []


def _no_run(path: Path) -> str:
    """What lies in a folder in place of a run with a result, and what to do."""
    name, again = _near(path), _again(tuple(map(current_override, overrides(path))), _config_dir(path))
    if jobs := [job.name for job in _jobs(path)]:
        all_of_them, one = f"lis.load_sweep({name!r})", f"lis.load({f'{name}/{jobs[0]}'!r})"
        return (
            f"{name} is the folder of a sweep, of the jobs {', '.join(jobs)}: {all_of_them} reads them all, {one} one"
        )
    if (path / FAILURE).is_file():
        return f"the run in {name} failed: {failure(path, {})}; mend that, and run it again: {again}"
    if (path / _CONFIG).is_file():
        return f"the run in {name} has no result yet: it is at work, or was stopped; {again} goes on from there"
    if runs := sorted(file.parent for depth in ("*", "*/*") for file in path.glob(f"{depth}/{_SUMMARY}")):
        return f"{name} is no run, but holds some: expected one of them, such as {_near(runs[-1])}"
    return f"{name} is the folder of no run: expected {_FACTS} and {_SUMMARY} in it, which `python -m lis.run` writes"


def _summary(path: Path) -> dict[str, Any]:
    """How a run was made and where its artifacts are; older ones, and those whose page failed, wrote less of it."""
    known: dict[str, Any] = {"artifacts": {}, "versions": {}, "seconds": None}
    if (file := path / _SUMMARY).is_file():
        known |= read_json(file, remedy=_TOLD_AGAIN)
    if "overrides" not in known:
        known["overrides"] = overrides(path)
    require_kinds(file, known, {"artifacts": dict, "overrides": list, "versions": dict})
    require_members(file, "overrides", known["overrides"], is_text, "texts")
    require_members(file, "versions", known["versions"], is_text, "texts")
    if known["seconds"] is not None:
        require_members(file, "seconds", [known["seconds"]], is_number, "a number")
    return known


def _facts(path: Path) -> dict[str, Any]:
    """What a run wrote of itself; where its page failed before that, its settings and numbers alone.

    Raises:
        ValueError: it cannot be read, or is of something else.
    """
    file, known = path / _FACTS, {}
    if file.is_file():
        known = read_facts(file)
    else:
        file, metrics = path / _CONFIG, path / _METRICS
        known["settings"] = current_settings(flat(_yaml(file))) if file.is_file() else {}
        known["metrics"] = current_metrics(read_json(metrics, remedy=_TOLD_AGAIN)) if metrics.is_file() else {}
        require_members(metrics, "it", known["metrics"], is_number, "numbers")
    settings = known["settings"]
    names = settings.get("classes.names") or []
    require_kinds(file, {"classes.names": names}, {"classes.names": list})
    require_members(file, "classes.names", names, is_text, "texts")
    require_members(file, "store", [settings.get("store") or ""], is_text, "a path")
    return known


def _config_dir(path: Path) -> Path | None:
    """The folder that was given as `--config-dir`; None where there was none, or nothing was noted.

    Raises:
        ValueError: what was noted cannot be read.
    """
    if not (file := path / _HYDRA).is_file():
        return None
    node: Any = _yaml(file)
    for key in ("hydra", "runtime", "config_sources"):
        node = node.get(key) if isinstance(node, dict) else None
    sources = [source for source in node if isinstance(source, dict)] if isinstance(node, list) else []
    given: list[Any] = [source.get("path") for source in sources if source.get("provider") == "command-line"]
    require_members(file, "config_sources", given, is_text, "paths")
    return Path(given[0]).absolute() if given else None


def _yaml(file: Path) -> dict[str, Any]:
    """What Hydra noted of a run in one of its files."""
    value = read_yaml(file, "what Hydra notes of a run", _TOLD_AGAIN)
    if not isinstance(value, dict):
        raise ValueError(f"{file} holds {type(value).__name__}: expected keys and values; {_TOLD_AGAIN}")
    return value


def _again(typed: Sequence[str], config_dir: Path | None) -> str:
    """The command that makes a run again."""
    options = [] if config_dir is None else [f"--config-dir={config_dir}"]
    return f"`{command(typed, options)}`"


def _near(path: Path) -> str:
    """A path as seen from the working folder, where it lies beneath that."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
