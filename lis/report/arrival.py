"""What arrives of a tuned unit in the network, and which way it was moved, in words: beside every picture of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lis.report.section import Table
from lis.report.source import Source
from lis.report.wording import listing, number, share

_ISOLATES = 0.1
"""λ below which a direction shows what sets a unit apart, no longer what it responds to."""
_WAYS = {
    "link": "by its row of the link (tuning.along=link), the paper's way: what makes it different from the others",
    "pattern": "by what goes with it (tuning.along=pattern)",
    "faithful": "by what moves it and the other units least (tuning.along=faithful)",
    "closed": "by the network's own derivatives in each sample (tuning.along=closed), so that its image shows the "
    "value and the other units stay as far as they can",
}
_RESPONDS = (
    "A picture answers what a unit responds to, not what sets it apart from the other units: that is asked with "
    "tuning.along=faithful tuning.penalty=1e-3."
)
_APART = (
    "With so small a λ a picture answers what sets a unit apart from the others, not what it responds to: that is "
    "asked with tuning.along=pattern."
)
_STOPS = (
    "Stopped: in this share of the samples the w that was asked lies beyond 99 % of held-out training samples, and w "
    "stops there."
)
_DRAWN = "Beyond: in this share of the samples the last w lies beyond 99 % of held-out training samples; it is drawn."
_CAPTION = (
    "What arrives, from the first to the last image encoded again: own, the change of what is tuned, in its standard "
    "deviations; others, root mean square change of the other live units, in theirs; more, share of these that move "
    "more (50 % by chance). Means over the samples."
)


def verdict(own: float, others: float, tuned: str = "the unit that is tuned") -> str:
    """What a picture is no evidence for, where the others move more than what is tuned; else nothing.

    Example:
        >>> verdict(2.0, 0.5)
        ''
        >>> verdict(0.3, 0.5)
        'The other units move more than the unit that is tuned: these pictures are no evidence of its meaning.'
    """
    if not others >= abs(own):
        return ""
    return f"The other units move more than {tuned}: these pictures are no evidence of its meaning."


def verdicts(rows: Iterable[Mapping[str, Any]]) -> str:
    """The same of several units, each with `unit`, `own` and `others`; a unit in several rows by its mean.

    Example:
        >>> verdicts([{"unit": 3, "own": 0.1, "others": 0.5}, {"unit": 5, "own": 2.0, "others": 0.5}])
        'The other units move more than unit 3 itself: its pictures are no evidence of its meaning.'
    """
    by_unit: dict[int, list[tuple[float, float]]] = {}
    for row in rows:
        if "own" in row and row["unit"] >= 0:
            by_unit.setdefault(int(row["unit"]), []).append((row["own"], row["others"]))
    means = {unit: np.mean(pairs, axis=0) for unit, pairs in by_unit.items()}
    untold = [str(unit) for unit, (own, others) in means.items() if verdict(float(own), float(others))]
    if not untold:
        return ""
    which = f"unit {untold[0]} itself: its" if len(untold) == 1 else f"units {listing(untold)} themselves: their"
    return f"The other units move more than {which} pictures are no evidence of {which.split()[-1]} meaning."


def arrived(row: Mapping[str, Any]) -> str:
    """Own and others in a few words; nothing where they are not known.

    Example:
        >>> arrived({"own": 2.04, "others": 0.51}), arrived({})
        ('own 2.0, others 0.51', '')
    """
    return f"own {number(row['own'], 2)}, others {number(row['others'], 2)}" if "own" in row else ""


def each_arrived(source: Source, rows: Iterable[Mapping[str, Any]]) -> str:
    """What arrives of every unit of a figure, in one sentence; nothing where an older run did not keep it."""
    units = {row["unit"]: row for row in rows if "own" in row}
    if not units:
        return ""
    stopped = "beyond" if along(source) == "link" else "stopped at"
    told = [
        f"{unit}: {number(row['own'], 2)}, {number(row['others'], 2)}, {share(row['beyond'])}"
        for unit, row in units.items()
    ]
    return f"What arrives (own and others in standard deviations; samples {stopped} the 99 %): {'; '.join(told)}."


def arrivals(source: Source, rows: Iterable[Mapping[str, Any]]) -> list[Table]:
    """A table of what arrives, a row per unit or direction: `name` or `unit`, and the fields of `Traversal`.

    Empty where an older run did not keep them.
    """
    rows = [row for row in rows if "own" in row]
    if not rows:
        return []
    drawn = along(source) == "link"
    heads = ["", "own (sd)", "others (sd)", "more", "‖Δw‖", "beyond" if drawn else "stopped"]
    cells = [
        [
            str(row["name"] if "name" in row else row["unit"]),
            number(row["own"], 2),
            number(row["others"], 2),
            share(row["more"]) if np.isfinite(row["more"]) else "–",
            number(row["step_norm"], 2),
            share(row["beyond"]),
        ]
        for row in rows
    ]
    return [Table(f"{_CAPTION} {_DRAWN if drawn else _STOPS}", heads, cells)]


def along(source: Source) -> str:
    """Which way units were moved; the paper's in older runs, which knew no other."""
    return str(source.facts.settings.get("tuning.along", "link"))


def dashes(source: Source, beyond: bool) -> str:
    """What the dashed part of a curve means; nothing where no step of any is beyond."""
    if not beyond:
        return ""
    return "Dashed: beyond them." if along(source) == "link" else "Dashed: stopped, w goes no further."


def which_way_here(source: Source) -> str:
    """The same in a section beside "What arrives"; nothing where the page has that one, which says it."""
    return "" if source.has("unit_statistics", "faithfulness", "ranking") else which_way(source)


def which_way(source: Source) -> str:
    """Which way units were moved in W, and which question their pictures answer."""
    way, penalty = along(source), source.facts.settings.get("tuning.penalty")
    sentence = f"A unit is moved in W {_WAYS[way]}."
    if way in ("pattern", "faithful"):
        isolates = way == "faithful" and penalty is not None and penalty < _ISOLATES
        sentence += f" {_APART if isolates else _RESPONDS}"
    return sentence
