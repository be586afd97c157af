"""A unit's part by activation beside its part by cause: where do they differ, and which is right?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter

from lis.report.marks import dots, names_down
from lis.report.section import Picture, Section, Table, listed, metrics, section
from lis.report.source import Source
from lis.report.style import GREY, INK, MUTED, SERIES, WIDE, light_grid, plain, sheet
from lis.report.tables import known, records, where
from lis.report.wording import counted, listing, number, probability, sentences, share, share_between, signed, words
from lis.statistics import SIGNIFICANT
from lis.store import Artifact

NONE = "none"
"""What a unit without a name is called."""
_TITLE = "By activation and by cause"
WAYS = ("activation", "cause")
"""How a unit is named."""
_ALONG = {
    "link": "the rows of the link",
    "pattern": "what goes with the unit (pattern)",
    "faithful": "what moves it and other units least (faithful)",
    "closed": "the network's own derivatives (closed)",
}
_WHAT = {
    "agree": "same part, all units",
    "both": "same part, of units named by both",
    "activation_right": "right by activation",
    "cause_right": "right by cause",
    "named_activation": "named by activation (q ≤ 0.05)",
    "named_cause": "named by cause (q ≤ 0.05)",
    "reached": "reached",
}
_KINDS = {"": "all", "part": "planted for a part", "critical": "planted for a class", "unplanted": "nothing planted"}
_COLOURS = {"part": SERIES[0], "critical": SERIES[1], "unplanted": GREY}
"""Of what is planted."""
_FIGURE = (
    "Left: units by their part by activation (rows: highest IoU) and by cause (columns: the area that changes most "
    "along the unit, over random directions). The diagonal is framed; none: q > 0.05, or by cause the unit itself "
    "falls. Right: a dot is one unit, at the IoU of its part by activation and the change of its part by cause over "
    "that of random directions (line: as much); full where both are the same part, named or not. {}Neither shows that "
    "the classifier uses the part."
)
_TRUTH = "Colours: what was planted. "
_SHARES = (
    "Shares of units with Wilson's 95 % interval. At chance: names shuffled among the same units, mean and 95 % of "
    "shuffles. A name where nothing is planted is a wrong call. Reached: the unit itself moves more on the images "
    "than by random directions (q ≤ 0.05 over units); of others, what changes is not the unit's alone."
)
_UNITS = (
    "Tuned units; concept: the best of all kinds in the dissection. Ratio: |change| of the area of the part over the "
    "root mean square of random directions that move w as far. q: of the best part among all, over units. Arrives: "
    "change of the unit itself on the images, in its standard deviations."
)


@section(398, "bridge", "bridge", "shares", "facts")
def bridge(source: Source) -> Section:
    """Agreement, which way is right where the truth is known, and the units on which they differ."""
    table, shares = source.table("bridge", "bridge"), source.table("bridge", "shares")
    facts = source.json("bridge", "facts")
    by_name = {(row["what"], row["kind"]): row for row in records(shares)}
    caption = _FIGURE.format(_TRUTH if facts["planted"] else "")
    finding = _finding(by_name, facts)
    drawn = units_figure(table, facts["parts"], facts["planted"])
    figure = Picture("bridge", drawn, caption, data=table, alt=f"{finding}.")
    tables = [_shares_table(shares), _units_table(table, facts["planted"])]
    return Section(_TITLE, _lead(by_name, facts), [figure], tables, _notes(table, facts), finding)


def too_few(facts: dict[str, Any]) -> bool:
    """Whether p by cause cannot be as small as 0.05."""
    return 1 / (1 + facts["directions"]) > SIGNIFICANT


def _finding(shares: dict[tuple[str, str], dict[str, Any]], facts: dict[str, Any]) -> str:
    """Which way is right, else how many agree, beside chance."""
    if ("cause_right", "part") in shares:
        activation, cause = (shares[f"{way}_right", "part"] for way in WAYS)
        return (
            f"Of {counted(cause['n'], 'unit')} planted for a part, {share(activation['share'])} are named right by "
            f"activation ({share(activation['chance'])} at chance) and {share(cause['share'])} by cause "
            f"({share(cause['chance'])} at chance)"
        )
    if ("agree", "") not in shares:
        return "No unit has a part by activation and by cause"
    agree = shares["agree", ""]
    return (
        f"{share(agree['share'])} of {counted(agree['n'], 'unit')} have the same part by activation and by cause, "
        f"{share(agree['chance'])} at chance"
    )


def _lead(shares: dict[tuple[str, str], dict[str, Any]], facts: dict[str, Any]) -> str:
    told = (
        f"Units of r, the spatial mean of {facts['layer']}, are moved along {_ALONG[facts['along']]}; "
        f"{len(facts['parts'])} parts can be named by both."
    )
    if too_few(facts):
        few = f"There are too few random directions ({facts['directions']}) for any unit to be named by cause"
        return sentences(told, f"{few} (tuning.control_directions=64).")
    named = [shares[f"named_{way}", ""] for way in WAYS]
    counts = f"{named[0]['count']} of {counted(named[0]['n'], 'unit')} are named by activation"
    told = sentences(told, f"{counts} and {named[1]['count']} by cause{_same(shares.get(('both', '')))}.")
    return sentences(told, _unplanted(shares))


def _same(both: dict[str, Any] | None) -> str:
    if both is None:
        return ", none by both"
    return (
        f"; of {both['n']} named by both, {share(both['share'])} have the same part ({share(both['chance'])} at chance)"
    )


def _unplanted(shares: dict[tuple[str, str], dict[str, Any]]) -> str:
    if ("named_cause", "unplanted") not in shares:
        return ""
    activation, cause = (shares[f"named_{way}", "unplanted"] for way in WAYS)
    return (
        f"Of {counted(cause['n'], 'unit')} in which nothing is planted, {activation['count']} are named by activation "
        f"and {cause['count']} by cause."
    )


def _notes(table: pd.DataFrame, facts: dict[str, Any]) -> list[str]:
    notes = []
    if facts["left_out"]:
        notes.append(f"Parts that one of the two cannot name: {listing([words(name) for name in facts['left_out']])}.")
    if len(table) < facts["units"]:
        notes.append(f"{facts['units'] - len(table)} of {facts['units']} units are not tuned, and not counted.")
    return notes


def _shares_table(shares: pd.DataFrame) -> Table:
    columns = {
        "": lambda row: _WHAT[row["what"]],
        "units": lambda row: _KINDS[row["kind"]],
        "share": lambda row: share_between(row["share"], row["low"], row["high"]),
        "at chance": lambda row: _chance(row),
        "of": lambda row: f"{row['n']:,}",
    }
    return listed(_SHARES, records(shares), columns)


def _chance(row: dict[str, Any]) -> str:
    return share_between(row["chance"], row["chance_low"], row["chance_high"]) if np.isfinite(row["chance"]) else "–"


def _units_table(table: pd.DataFrame, planted: bool) -> Table:
    """Units whose parts differ first, among these the largest ratio."""
    columns = {
        "unit": lambda row: str(row["unit"]),
        "planted": lambda row: words(row["target"]) or "–",
        "concept": lambda row: words(row["concept"]) or "–",
        "by activation": lambda row: words(row["by_activation"]) or "–",
        "IoU": lambda row: number(row["iou"], 2),
        "q (activation)": lambda row: probability(row["q_activation"]),
        "by cause": lambda row: words(row["by_cause"]) or "–",
        "log₂ area": lambda row: signed(row["change"]),
        "ratio": lambda row: number(row["ratio"], 2),
        "q (cause)": lambda row: probability(row["q_cause"]),
        "arrives": lambda row: signed(row["own"]),
        "reached": lambda row: "yes" if row["reached"] else "no",
        "differ": lambda row: "no" if row["agree"] else "yes",
    }
    if not planted:
        del columns["planted"]
    ordered = table.sort_values(["agree", "ratio"], ascending=[True, False], kind="stable")
    return replace(listed(_UNITS, records(ordered), columns), first=10, only="differ", aside=True)


@metrics("bridge")
def bridge_numbers(artifact: Artifact) -> dict[str, float]:
    """`bridge/<what>`, `bridge/<what>/<kind>`: the shares of table "shares"."""
    rows = records(artifact.table("shares"))
    return {f"bridge/{row['what']}" + f"/{row['kind']}" * bool(row["kind"]): row["share"] for row in rows}


def units_figure(table: pd.DataFrame, parts: Sequence[str], planted: bool) -> Figure:
    """Left units by both names, right by both strengths; table "bridge"."""
    figure, axes = sheet(WIDE, 1.2 + 0.27 * (len(parts) + 1), 1, 2, width_ratios=(1.15, 1))
    left, right = axes[0]
    _counts(left, counts(table, parts), [*map(plain, parts), NONE])
    _strengths(right, table, planted)
    return figure


def counts(table: pd.DataFrame, parts: Sequence[str]) -> np.ndarray:
    """Units by name by activation and by cause, `[parts + 1, parts + 1]`; last those that are not named."""
    names = [*parts, NONE]
    index = [
        [names.index(name) if called else len(parts) for name, called in zip(table[a], table[b], strict=True)]
        for a, b in ((f"by_{way}", f"named_{way}") for way in WAYS)
    ]
    result = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(result, tuple(index), 1)
    return result


def _counts(axis: Axes, units: np.ndarray, names: list[str]) -> None:
    shaded = np.sqrt(units / max(1, units[:-1, :-1].max(initial=1))).clip(max=1)
    shaded[-1], shaded[:, -1] = 0.35 * (units[-1] > 0), 0.35 * (units[:, -1] > 0)
    axis.imshow(shaded, cmap="Blues", vmin=0, vmax=1.6, aspect="auto")
    for row, column in zip(*np.nonzero(units), strict=True):
        axis.text(column, row, str(units[row, column]), ha="center", va="center", size=8, color=INK)
    for k in range(len(names) - 1):
        axis.add_patch(Rectangle((k - 0.5, k - 0.5), 1, 1, fill=False, edgecolor=MUTED, linewidth=0.8))
    names_down(axis, names, grid=False)
    axis.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axis.set(xlabel="part by cause", ylabel="part by activation", ylim=(len(names) - 0.5, -0.5))


def _strengths(axis: Axes, table: pd.DataFrame, planted: bool) -> None:
    both = known(known(table, "iou"), "ratio")
    for kind, colour in _COLOURS.items() if planted else {"": SERIES[0]}.items():
        for agree, filled in ((True, colour), (False, "none")):
            rows = where(both, kind=kind, agree=agree)
            axis.plot(rows["iou"], rows["ratio"], "o", color=filled, markeredgecolor=colour, markersize=4.5, alpha=0.85)
        if kind:
            dots(axis, [], [], colour, 5, 1, label=_KINDS[kind])
    axis.axhline(1, color=MUTED, linewidth=0.9)
    axis.set(xlabel="IoU of the part by activation", ylabel="change over random directions", yscale="log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())
    light_grid(axis, "y")
    if planted:
        axis.legend(loc="lower right")
