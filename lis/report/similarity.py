"""Whether R and W are alike before anything is fitted, and what of it is more than chance (paper §4.1, Fig. 3A)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lis.linking.similarity import ALL, STATISTICS, WITHIN
from lis.report.marks import dots, jitter, violin
from lis.report.section import Picture, Section, Table, folded, listed, means, metrics, prefixed, section
from lis.report.source import Source
from lis.report.style import INK, LINK_RED, MUTED, PAIRING, SERIES, WIDE, sheet
from lis.report.tables import column as column_of
from lis.report.tables import known, mean, records, where
from lis.report.wording import counted, listing, number, probability, sentences, words
from lis.statistics import SIGNIFICANT
from lis.store import Artifact

SPACES = PAIRING["cycle"], SERIES[2], SERIES[3]
"""Colours of R, of W, and of what compares them."""
_R, _W, _BOTH = SPACES
_EXCHANGED = {ALL: (MUTED, "permuted"), WITHIN: (LINK_RED, "permuted within classes")}
"""Colour and name of the permutations."""
_CLUSTERS = (("ari_r", "R", _R), ("ari_w", "W", _W))
_GEOMETRY = (
    ("rsa_similarity", "correlations", _BOTH),
    ("rsa_similarity_within", "correlations,\nwithin classes", _BOTH),
    ("rsa_dissimilarity", "distances", _BOTH),
    ("rsa_dissimilarity_within", "distances,\nwithin classes", _BOTH),
)
_NAMES = {
    "ari_r": "ARI of R",
    "ari_w": "ARI of W",
    "rsa_similarity": "RSA, correlations",
    "rsa_dissimilarity": "RSA, distances",
    "rsa_similarity_within": "RSA within classes, correlations",
    "rsa_dissimilarity_within": "RSA within classes, distances",
}
_CAPTION = (
    "{repetitions}, with their means. Left: k-means clusters against class labels. Right: correlation between the "
    "flattened matrices of R and W, of all samples, and of the samples of a class (mean over classes). Bars: 95 % of "
    "{permutations} of the first repetition, with their mean. Grey: any sample of W takes the place of any other, of "
    "the ARI any label (Mantel's test). Red: samples take each other's place within their class alone, so that classes "
    "lie apart in both spaces as they do.{random}"
)
_RANDOM = (
    " Diamonds: {draws} of as many classes from all that generator and classifier know: are the run's classes any "
    "different?"
)
_TABLE = (
    "Mean over the repetitions; mean of the permutations of the first one, with 95 % of them and p, the share of "
    "permutations that give as much, itself among them: never below {least}."
)
_REFUSED = "Drawn anew, since the classifier accepts too few of their samples: {}."
_OVER_DRAWS = " Random classes: mean and range over the draws."


@section(260, "similarity", "similarity", "permutations", "random_classes", "refused")
def similarity(source: Source) -> Section:
    """ARI and RSA over the repetitions, beside permutations and random classes."""
    table, null, random = (source.table("similarity", x) for x in ("similarity", "permutations", "random_classes"))
    figure = Picture(
        "similarity", similarity_figure(table, null, random), _caption(table, null, random),
        data=_drawn_values(table, null, random), alt=_alt(table), aside=True,
    )  # fmt: skip
    lead = sentences(_lead(table), _beyond(null), _other_classes(random))
    refused = [words(name) for name in source.table("similarity", "refused")["class"]]
    notes = [_REFUSED.format(listing(refused))] if refused else []
    tables = folded(_table(table, null, random))
    return Section("Similarity of R and W", lead, [figure], tables, notes, _alike(table, null))


def _alike(table: pd.DataFrame, null: pd.DataFrame) -> str:
    """Whether R and W are alike beyond their classes, by the larger p of both correlations; without classes, at all."""
    tests = known(pd.DataFrame(null[null["statistic"].str.startswith("rsa")]), "p")
    within = where(tests, exchanged=WITHIN)
    rows, beyond = (within, " beyond their classes") if len(within) else (tests, "")
    if rows.empty or 1 / (1 + _permutations(null)) > SIGNIFICANT:
        return f"Whether R and W are alike{beyond} is undecided: too few permutations"
    largest = float(column_of(rows, "p").max())
    p = f"p {probability(largest)}"
    if largest > SIGNIFICANT:
        return f"R and W are not shown to be alike{beyond} ({p})"
    first = records(rows)[0]
    measured, chance = number(mean(table, first["statistic"]), 2), number(first["mean"], 2)
    return f"R and W are alike{beyond}: RSA {measured}, by chance {chance} ({p})"


def _alt(table: pd.DataFrame) -> str:
    told = [f"{_NAMES[name]} {number(mean(table, name), 2)}" for name in STATISTICS]
    return f"Means over the repetitions: {listing(told)}."


def _drawn_values(table: pd.DataFrame, null: pd.DataFrame, random: pd.DataFrame) -> pd.DataFrame:
    """Long: statistic, of (repetition, permutations, random classes), value, low, high."""
    parts = [
        table.melt(value_vars=list(STATISTICS), var_name="statistic").assign(of="repetition"),
        null.drop(columns="value").rename(columns={"mean": "value", "exchanged": "of"}),
        random.melt(value_vars=[x for x in STATISTICS if x in random], var_name="statistic").assign(
            of="random classes"
        ),
    ]
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def _caption(table: pd.DataFrame, null: pd.DataFrame, random: pd.DataFrame) -> str:
    return _CAPTION.format(
        repetitions=counted(len(table), "repetition").capitalize(),
        permutations=counted(_permutations(null), "permutation"),
        random=_RANDOM.format(draws=counted(len(random), "draw")) if len(random) else "",
    )


def _lead(table: pd.DataFrame) -> str:
    told = {name: number(mean(table, name), 2) for name in STATISTICS}
    lead = (
        f"Clusters of R match the classes with an adjusted Rand index of {told['ari_r']}, clusters of W with "
        f"{told['ari_w']}; the similarities of samples in the two spaces correlate at {told['rsa_similarity']}, "
        f"their distances at {told['rsa_dissimilarity']}."
    )
    if not len(column_of(table, "rsa_similarity_within")):
        return lead
    return (
        f"{lead} Among the samples of a class it is {told['rsa_similarity_within']} and "
        f"{told['rsa_dissimilarity_within']}."
    )


def _beyond(null: pd.DataFrame) -> str:
    """What the classes alone give of both correlations, and whether there is more."""
    rows = records(known(where(null, exchanged=WITHIN, statistic="rsa_similarity"), "p"))
    rows += records(known(where(null, exchanged=WITHIN, statistic="rsa_dissimilarity"), "p"))
    if len(rows) < 2:
        return ""
    alone, beyond = ([f(row) for row in rows] for f in (lambda x: number(x["mean"], 2), lambda x: probability(x["p"])))
    count = _permutations(null)
    return (
        f"That the classes lie apart in both gives {listing(alone)} alone; as much as was measured comes of that with "
        f"p = {listing(beyond)} ({count:,} permutations within classes: no p is below {number(1 / (1 + count), 2)})."
    ).replace("= <", "<")


def _other_classes(random: pd.DataFrame) -> str:
    if random.empty:
        return ""
    told = {name: number(mean(random, name), 2) for name in STATISTICS}
    return (
        f"Classes drawn at random ({counted(len(random), 'draw')}) give an adjusted Rand index of {told['ari_r']} in R "
        f"and {told['ari_w']} in W, and correlations of {told['rsa_similarity']} and {told['rsa_dissimilarity']}."
    )


def _permutations(null: pd.DataFrame) -> int:
    return int(null["permutations"].iloc[0])


def _table(table: pd.DataFrame, null: pd.DataFrame, random: pd.DataFrame) -> Table:
    def beside(exchanged: str) -> dict[str, str]:
        rows = {row["statistic"]: row for row in records(known(where(null, exchanged=exchanged), "p"))}
        return {name: _permuted(rows[name]) if name in rows else "–" for name in STATISTICS}

    anywhere, within = beside(ALL), beside(WITHIN)
    columns = {
        "": lambda row: _NAMES[row["statistic"]],
        "measured": lambda row: number(mean(table, row["statistic"]), 2),
        "permuted": lambda row: anywhere[row["statistic"]],
        "permuted within classes": lambda row: within[row["statistic"]],
    }
    if len(random):
        columns["random classes"] = lambda row: _drawn(column_of(random, row["statistic"]))
    caption = _TABLE.format(least=number(1 / (1 + _permutations(null)), 2)) + _OVER_DRAWS * bool(len(random))
    return listed(caption, [{"statistic": name} for name in STATISTICS], columns)


def _permuted(row: dict[str, Any]) -> str:
    low, high = (number(row[name], 2) for name in ("low", "high"))
    return f"{number(row['mean'], 2)} [{low}, {high}], p = {probability(row['p'])}".replace("= <", "<")


def _drawn(values: Any) -> str:
    if not len(values):
        return "–"
    return f"{number(values.mean(), 2)} [{number(values.min(), 2)}, {number(values.max(), 2)}]"


@metrics("similarity")
def similarity_numbers(artifact: Artifact) -> dict[str, float]:
    """`ari_r`, `ari_w`, `rsa_similarity`, …: means over repetitions; `similarity/p/<statistic>` over all permutations,
    `similarity/within/<statistic>` what permutations within classes give; `similarity/random/<statistic>`.
    """
    table, random = (artifact.table(name) for name in ("similarity", "random_classes"))
    numbers = means(table, STATISTICS) | prefixed("similarity/random", means(random, STATISTICS))
    for row in records(known(artifact.table("permutations"), "p")):
        name, value = ("p", row["p"]) if row["exchanged"] == ALL else ("within", row["mean"])
        numbers[f"similarity/{name}/{row['statistic']}"] = value
    return numbers


def similarity_figure(table: pd.DataFrame, null: pd.DataFrame, random: pd.DataFrame) -> Figure:
    """Violins over the repetitions of the ARI (left) and of the RSA (right), beside permutations and random classes.

    Args:
        table: "similarity".
        null: "permutations".
        random: "random_classes", which may have no rows.
    """
    figure, axes = sheet(WIDE, 3.2, 1, 2, sharey=True, lines="y", gridspec_kw={"width_ratios": [2, 4]})
    _panel(axes[0, 0], (table, null, random), _CLUSTERS, "Do classes form clusters?", "adjusted Rand index")
    _panel(axes[0, 1], (table, null, random), _GEOMETRY, "Is the geometry the same?", "correlation of R and W")
    axes[0, 1].tick_params(labelleft=True)
    for colour, name in _EXCHANGED.values():
        axes[0, 0].plot([], [], color=colour, linewidth=3, alpha=0.6, label=name)
    if len(random):
        axes[0, 0].plot([], [], "D", color="white", markeredgecolor=MUTED, markersize=4, label="random classes")
    figure.legend(loc="outside upper right", ncols=3)
    return figure


def _panel(
    axis: Axes,
    tables: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame],
    columns: Sequence[tuple[str, str, str]],
    title: str,
    label: str,
) -> None:
    table, null, random = tables
    for at, (column, _, colour) in enumerate(columns):
        values = column_of(table, column)
        if not len(values):
            continue
        violin(axis, values, at, colour, width=0.4)
        dots(axis, at - 0.3 + jitter(len(values), 0.05), values, colour, 2, 0.45)
        axis.text(at, values.max() + 0.03, number(values.mean(), 2), size=9.5, weight="bold", color=INK, ha="center")
        for row in records(known(where(null, statistic=column), "mean")):
            _bar(axis, at + (0.26 if row["exchanged"] == ALL else 0.34), row)
        others = column_of(random, column)
        x = at + 0.43 + jitter(len(others), 0.03)
        axis.plot(x, others, "D", color="white", markeredgecolor=MUTED, markersize=3.5, markeredgewidth=1)
    axis.set_xticks(range(len(columns)), [name for _, name, _ in columns])
    axis.tick_params(axis="x", length=0, labelcolor=INK)
    lows = [*null["low"], *(x for name, *_ in columns for t in (table, random) for x in column_of(t, name))]
    axis.set(xlim=(-0.5, len(columns) - 0.45), ylim=(1.05 * min(0.0, *lows), 1.09), title=title, ylabel=label)


def _bar(axis: Axes, at: float, row: dict[str, Any]) -> None:
    colour, _ = _EXCHANGED[row["exchanged"]]
    axis.vlines(at, row["low"], row["high"], color=colour, linewidth=3, alpha=0.6)
    axis.plot(at, row["mean"], "_", color=colour, markersize=8, markeredgewidth=1.6)
