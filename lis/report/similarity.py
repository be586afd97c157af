"""Whether R and W are alike before anything is fitted (paper §4.1, Fig. 3A)."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.report.marks import dots, jitter, violin
from lis.report.section import Picture, Section, means, metrics, section
from lis.report.source import Source
from lis.report.style import INK, PAIRING, WIDE, sheet
from lis.report.tables import column as column_of
from lis.report.tables import mean
from lis.report.wording import number
from lis.store import Artifact

_R, _W, _BOTH = PAIRING["cycle"], "#009e73", "#7a5195"


@section(260, "similarity", "similarity")
def similarity(source: Source) -> Section:
    """ARI and RSA over the repetitions."""
    table = source.table("similarity", "similarity")
    told = {name: number(mean(table, name), 2) for name in table.columns if name != "repetition"}
    lead = (
        f"Clusters of R match the classes with an adjusted Rand index of {told['ari_r']}, clusters of W with "
        f"{told['ari_w']}; the similarities of samples in the two spaces correlate at {told['rsa_similarity']}, "
        f"their distances at {told['rsa_dissimilarity']}."
    )
    caption = (
        f"{len(table)} repetitions. Left: k-means clusters against class labels. Right: correlation between the "
        f"flattened (dis)similarity matrices of R and W. Numbers are means."
    )
    return Section("Similarity of R and W", lead, [Picture("similarity", similarity_figure(table), caption)])


@metrics("similarity")
def similarity_numbers(artifact: Artifact) -> dict[str, float]:
    """`ari_r`, `ari_w`, `rsa_similarity`, `rsa_dissimilarity`: means over repetitions."""
    table = artifact.table("similarity")
    return means(table, [name for name in table.columns if name != "repetition"])


def similarity_figure(table: pd.DataFrame) -> Figure:
    """Violins over the repetitions of `ari_r`, `ari_w` (left) and `rsa_similarity`, `rsa_dissimilarity` (right)."""
    figure, axes = sheet(0.72 * WIDE, 2.9, 1, 2, sharey=True, lines="y")
    alike, far = ("rsa_similarity", "similarity\n(correlation)"), ("rsa_dissimilarity", "dissimilarity\n(Euclidean)")
    clusters, spaces = [("ari_r", "R", _R), ("ari_w", "W", _W)], [(*alike, _BOTH), (*far, _BOTH)]
    _panel(axes[0, 0], table, clusters, "Do classes form clusters?", "adjusted Rand index")
    _panel(axes[0, 1], table, spaces, "Is the geometry the same?", "correlation of R and W")
    axes[0, 1].tick_params(labelleft=True)
    return figure


def _panel(axis: Axes, table: pd.DataFrame, columns: Sequence[tuple[str, str, str]], title: str, label: str) -> None:
    for at, (column, _, colour) in enumerate(columns):
        values = column_of(table, column)
        violin(axis, values, at, colour, width=0.6)
        dots(axis, at - 0.4 + jitter(len(values), 0.07), values, colour, 2, 0.45)
        axis.text(at + 0.33, values.mean(), number(values.mean(), 2), size=9.5, weight="bold", va="center", color=INK)
    axis.set_xticks(range(len(columns)), [name for _, name, _ in columns])
    axis.tick_params(axis="x", length=0, labelcolor=INK)
    lowest = min([0.0, *(column_of(table, column).min() for column, _, _ in columns)])
    axis.set(xlim=(-0.6, len(columns) - 0.35), ylim=(lowest * 1.05, 1.04), title=title, ylabel=label)
