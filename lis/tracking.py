"""Where numbers, figures and tables go. Files are the truth; a dashboard is a view of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import pandas as pd
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf
from pandas.api.types import is_numeric_dtype

from lis.config import WandbConfig
from lis.config.overrides import as_typed
from lis.dashboard import Dashboard, group_of, present
from lis.files import read_json
from lis.folder import record
from lis.report.metrics import stage_metrics
from lis.report.section import prefixed
from lis.report.tables import column
from lis.store import Artifact

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that a spreadsheet takes for a formula."""


_SILENT = ("store=", "logger=", "logger.", "hydra.", "hydra/")
"""What is typed of a run that does not tell it from others."""
_LONGEST = 120
"""Letters of a run's name."""


class Tracker(Protocol):
    """Receives what a run has found."""

    def stage(self, name: str, numbers: Mapping[str, float]) -> None:
        """The numbers of a stage that has ended."""
        ...

    def metrics(self, values: Mapping[str, float]) -> None:
        """The numbers of `metrics.json`."""
        ...

    def figure(self, name: str, path: Path) -> None:
        """An image file of the report."""
        ...

    def table(self, name: str, table: pd.DataFrame) -> None:
        """A table of a stage, named `<stage>/<table>`."""
        ...

    def report(self, out: Path, files: Sequence[Path]) -> None:
        """The page of the run and what lies beside it, all beneath `out`."""
        ...

    def finish(self, failed: bool = False) -> None:
        """Nothing more will come; `failed`: since the run ends here with an error or a signal."""
        ...


class CsvTracker:
    """Writes `metrics.csv` and `tables/<stage>/<table>.csv` into the run's folder, where the figures lie already.

    Args:
        out: the run's folder.
    """

    def __init__(self, out: Path | str) -> None:
        self.out = Path(out)

    def stage(self, name: str, numbers: Mapping[str, float]) -> None:
        """All numbers come at the end."""

    def metrics(self, values: Mapping[str, float]) -> None:
        """Write `metrics.csv` with the columns `metric` and `value`."""
        table = pd.DataFrame({"metric": list(values), "value": list(values.values())})
        self._write(table, self.out / "metrics.csv")

    def figure(self, name: str, path: Path) -> None:
        """Figures are files already."""

    def table(self, name: str, table: pd.DataFrame) -> None:
        """Write one table as CSV."""
        self._write(table, self.out / "tables" / f"{name}.csv")

    def _write(self, table: pd.DataFrame, file: Path) -> None:
        record(self.out, [file])
        file.parent.mkdir(parents=True, exist_ok=True)
        quoted(table).to_csv(file, index=False)

    def report(self, out: Path, files: Sequence[Path]) -> None:
        """They lie there already."""

    def finish(self, failed: bool = False) -> None:
        """Files need no end."""


def quoted(table: pd.DataFrame) -> pd.DataFrame:
    """The table with an apostrophe before every text that a spreadsheet would take for a formula.

    Names of classes, labels and files come from outside; numbers stay numbers.

    Example:
        >>> quoted(pd.DataFrame({"name": ["=1+1", "ear"], "mean": [-0.5, 1.0]})).to_csv(index=False)
        "name,mean\\n'=1+1,-0.5\\near,1.0\\n"
    """
    # By position, as two columns may have one name.
    columns = {k: _quoted_column(column) for k, (_, column) in enumerate(table.items())}
    quoted = pd.DataFrame(columns, index=table.index)
    quoted.columns = [_quoted(name) for name in table.columns]
    return quoted


def _quoted_column(column: pd.Series) -> pd.Series:
    if is_numeric_dtype(column) or not any(isinstance(value, str) for value in column):
        return column
    # As objects, so that whole numbers beside a gap stay what they are.
    return pd.Series([_quoted(value) for value in column], column.index, dtype=object)


def _quoted(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = f"'{value}" if value.startswith(_FORMULA) else value
    return text.replace("\r\n", "\n").replace("\r", "\n")  # which pandas would write as the end of a row


class WandbTracker:
    """Shows the same on Weights & Biases, besides writing the files; see `lis.dashboard.Dashboard`.

    Every stage is a step; the pictures and the report belong to the last one. The jobs of a sweep are one group.

    Args:
        out: the run's folder; what is shown is kept in `<out>/wandb`.
        project: the project's name.
        mode: `offline`, which looks up no host, or `online`.

    Raises:
        ValueError: as of `Dashboard`.
    """

    def __init__(self, out: Path | str, project: str = WandbConfig.project, mode: str = WandbConfig.mode) -> None:
        self._files = CsvTracker(out)
        composed = Path(out) / ".hydra" / "config.yaml"
        config = OmegaConf.to_container(OmegaConf.load(composed)) if composed.exists() else {}
        self._board = Dashboard(Path(out), project, mode, cast(dict[str, Any], config), **_names(Path(out)))

    def stage(self, name: str, numbers: Mapping[str, float]) -> None:
        """Log the numbers of a stage as the next step."""
        self._files.stage(name, numbers)
        self._board.log(numbers)

    def metrics(self, values: Mapping[str, float]) -> None:
        """Log all numbers as the next step."""
        self._files.metrics(values)
        self._board.log(values)

    def figure(self, name: str, path: Path) -> None:
        """Log an image file."""
        self._board.image(f"figures/{name}", path)

    def table(self, name: str, table: pd.DataFrame) -> None:
        """Log a table."""
        self._files.table(name, table)
        self._board.table(f"tables/{name}", table)

    def report(self, out: Path, files: Sequence[Path]) -> None:
        """Log the page with its files as an artifact."""
        self._board.files("report", "report", out, files)

    def finish(self, failed: bool = False) -> None:
        """End the run, so that everything is on disk, and sent as far as the network allows."""
        self._board.finish(failed)


def _names(out: Path) -> dict[str, str]:
    """What a run is called on a dashboard, and the group that it belongs to."""
    if not HydraConfig.initialized():
        return {"name": out.name}
    hydra = HydraConfig.get()
    typed = [as_typed(each) for each in hydra.overrides.task if not each.startswith(_SILENT)]
    group = group_of(hydra.sweep.dir) if hydra.mode == RunMode.MULTIRUN else ""
    return {"name": " ".join(typed)[:_LONGEST] or out.name, "group": group}


@dataclass(frozen=True)
class Ended:
    """How a stage of a run came to its end."""

    seconds: float
    """That it took in this run, with what it asked for."""
    cached: bool
    """It was in the store already."""


def track_stage(tracker: Tracker, name: str, artifact: Artifact, ended: Ended) -> None:
    """Hand the numbers and tables of a stage to the tracker: those of `metrics.json`, and `stages/<name>/…`."""
    about = {"seconds": round(ended.seconds, 3), "cached": float(ended.cached)} | samples(artifact)
    tracker.stage(name, stage_metrics(name, artifact) | prefixed(f"stages/{name}", about))
    for file in artifact.manifest["files"]:
        if file.endswith(".parquet"):
            table = file.removesuffix(".parquet")
            tracker.table(f"{name}/{table}", artifact.table(table))


def samples(artifact: Artifact) -> dict[str, float]:
    """How many samples a stage has drawn and taken, where it tells."""
    if not artifact.has("acceptance"):
        return {}
    table = artifact.table("acceptance")
    return {"images": float(column(table, "drawn").sum()), "samples": float(column(table, "accepted").sum())}


def track(tracker: Tracker, metrics: Mapping[str, float], out: Path, failed: bool = False) -> None:
    """Hand all numbers and the page of this run with its figures to the tracker, and end it, as one that has `failed`
    where the page is not whole.
    """
    tracker.metrics(metrics)
    facts = out / "report.json"  # not there where the page failed before its first section
    for file in read_json(facts)["figures"] if facts.is_file() else ():
        tracker.figure(Path(file).stem, out / "figures" / file)
    tracker.report(out, [file for file in present(out) if out / "tables" not in file.parents])
    tracker.finish(failed=failed)
