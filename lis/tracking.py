"""Where numbers, figures and tables go. Files are the truth; a dashboard is a view of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from omegaconf import OmegaConf
from pandas.api.types import is_numeric_dtype

from lis.config import WandbConfig
from lis.folder import record

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that a spreadsheet takes for a formula."""


class Tracker(Protocol):
    """Receives what a run has found."""

    def metrics(self, values: Mapping[str, float]) -> None:
        """The numbers of `metrics.json`."""
        ...

    def figure(self, name: str, path: Path) -> None:
        """An image file of the report."""
        ...

    def table(self, name: str, table: pd.DataFrame) -> None:
        """A table of a stage, named `<stage>/<table>`."""
        ...

    def finish(self) -> None:
        """Nothing more will come."""
        ...


class CsvTracker:
    """Writes `metrics.csv` and `tables/<stage>/<table>.csv` into the run's folder, where the figures lie already.

    Args:
        out: the run's folder.
    """

    def __init__(self, out: Path | str) -> None:
        self.out = Path(out)

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

    def finish(self) -> None:
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
    """Sends the same numbers, figures and tables to Weights & Biases, besides writing the files.

    Offline means that no host is even looked up; wandb's own report of errors is off then, in all of this process.

    Args:
        out: the run's folder; an offline run is kept in `<out>/wandb`.
        project: the project's name.
        mode: `offline` or `online`.

    Raises:
        ValueError: wandb is not installed.
    """

    def __init__(self, out: Path | str, project: str = WandbConfig.project, mode: str = WandbConfig.mode) -> None:
        if mode == "offline":
            os.environ["WANDB_ERROR_REPORTING"] = "false"  # read when wandb is imported, and by the program it starts
        try:
            import wandb  # an extra, and slow to import
        except ImportError as error:
            raise ValueError("logger=wandb needs the package wandb: pip install 'lis[wandb]'") from error
        self._files, self._wandb = CsvTracker(out), wandb
        composed = Path(out) / ".hydra" / "config.yaml"
        config = OmegaConf.to_container(OmegaConf.load(composed)) if composed.exists() else None
        # Offline must not ask for an account, and the terminal belongs to the run's own progress.
        settings = wandb.Settings(console="off", silent=True)
        self._run = wandb.init(project=project, mode=mode, dir=str(out), config=config, settings=settings)  # pyright: ignore[reportArgumentType]

    def metrics(self, values: Mapping[str, float]) -> None:
        """Log the numbers as one step, and as the run's summary."""
        self._files.metrics(values)
        self._run.log(dict(values))

    def figure(self, name: str, path: Path) -> None:
        """Log an image file."""
        self._run.log({f"figures/{name}": self._wandb.Image(str(path))})

    def table(self, name: str, table: pd.DataFrame) -> None:
        """Log a table."""
        self._files.table(name, table)
        self._run.log({f"tables/{name}": self._wandb.Table(dataframe=table)})

    def finish(self) -> None:
        """End the run, so that everything is on disk or sent."""
        self._run.finish()
