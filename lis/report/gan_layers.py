"""Units of the generator by the part that they agree with: of a layer, and of the layers of a sweep (Fig. S1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lis.dissection.agreement import MIN_IOU
from lis.report.dissect import concepts_figure
from lis.report.gan_movies import STAGE
from lis.report.jobs import Job, stage_folder
from lis.report.section import Picture, Section, Table, listed, section
from lis.report.tables import known, records
from lis.report.wording import number, share
from lis.statistics import SIGNIFICANT

_CAPTION = (
    "Units of the generator per part, each counted for the part of its highest IoU{panels}. Full: IoU > {least} and "
    "q ≤ {q}, above the best part of other images of the class. Open: IoU > {least} only, the published criterion. "
    "Diamonds: q ≤ {q}, whatever the IoU. Dots, the control: units with IoU > {least} when the parts of images are "
    "permuted within classes (mean; lines: 95 % of permutations), to be held against the upright ticks, the number "
    "without permutation. It does not show that a unit draws its part: removal does."
)
_LAYERS = (
    "Units that meet each criterion. Dead: never above their threshold. At chance: units with IoU > {} when parts are "
    "permuted within classes, mean and 95 % of permutations. Parts: distinct ones of the units with such an IoU."
)


def parts_picture(name: str, histogram: pd.DataFrame, by: str) -> list[Picture]:
    """The picture of the units per part, parts without a unit included; none where no unit meets a criterion.

    Args:
        name: of its file.
        histogram: table "histogram", also of several runs.
        by: its column with a panel each.
    """
    counted = known(histogram, "detectors")
    if not np.any(counted[["detectors", "above_chance"]].to_numpy()):
        return []
    panels = ", a panel for each run" if len({*histogram[by]}) > 1 else ""
    caption = _CAPTION.format(least=number(MIN_IOU, 1), q=SIGNIFICANT, panels=panels)
    parts = list(dict.fromkeys(histogram["part"]))
    figure = concepts_figure(counted.rename(columns={"part": "concept"}), parts, by)
    return [Picture(name, figure, caption, data=histogram)]


@section(620, page="comparison")
def generator_layers(jobs: Sequence[Job]) -> Section | None:
    """Units per part of the layers of a sweep beside each other."""
    dissected = [job for job in jobs if (stage_folder(job.folder, STAGE) / "histogram.parquet").is_file()]
    if not dissected:
        return None
    histogram, layers = (_joined(dissected, name) for name in ("histogram", "layers"))
    figures = parts_picture("dissect-gan-layers", histogram, "run")
    return Section("Units of the generator", _lead(layers), figures, [_table(layers)])


def _joined(jobs: Sequence[Job], name: str) -> pd.DataFrame:
    """A table of the stage of several runs, with what varied between them as the column run."""
    tables = {job.name: pd.read_parquet(stage_folder(job.folder, STAGE) / f"{name}.parquet") for job in jobs}
    return pd.concat([table.assign(run=run) for run, table in tables.items()], ignore_index=True)


def _lead(layers: pd.DataFrame) -> str:
    """The span of the share of units that agree with a part above chance."""
    shares = (layers["above_chance"] / layers["units"]).to_numpy()
    least, most = (f"{share(shares[k])} of {layers['run'][k]}" for k in (shares.argmin(), shares.argmax()))
    return f"From {least} to {most} agree with a part above chance (q ≤ {SIGNIFICANT}), as shares of the units."


def _table(layers: pd.DataFrame) -> Table:
    columns = {
        "run": lambda row: row["run"],
        "layer": lambda row: row["layer"],
        "units": lambda row: str(row["units"]),
        "dead": lambda row: str(row["dead"]),
        f"IoU > {number(MIN_IOU, 1)}": lambda row: str(row["detectors"]),
        "at chance": lambda row: f"{number(row['control'], 2)} [{number(row['low'], 2)}, {number(row['high'], 2)}]",
        f"q ≤ {SIGNIFICANT}": lambda row: str(row["above_chance"]),
        "both": lambda row: str(row["both"]),
        "parts": lambda row: str(row["parts"]),
    }
    return listed(_LAYERS.format(number(MIN_IOU, 1)), records(layers), columns)
