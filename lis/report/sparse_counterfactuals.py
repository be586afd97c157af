"""Counterfactuals that move few units: what an L1 penalty on Δr costs."""

from __future__ import annotations

from typing import Any

from lis.report.counterfactuals import WHO, trade_off
from lis.report.section import Picture, Section, folded, listed, section
from lis.report.source import Source
from lis.report.tables import known, records
from lis.report.wording import counted, interval, number, percent, share

_TITLE = "Fewer units"
_CAPTION = (
    "Left: units that move, median and quartiles over the counterfactuals that reach their target. Right: the share "
    "that does, with its 95 % Wilson interval, and the probability of the target, over the units moved; small "
    "numbers are the weights of the penalty."
)


@section(450, "sparse_counterfactuals", "summary")
def sparse(source: Source) -> Section:
    """Success and class probability against the number of units moved."""
    table = source.table("sparse_counterfactuals", "summary")
    reached = known(table, "units")
    if reached.empty:
        nothing = "With no penalty that was tried does a counterfactual reach its target."
        return Section(_TITLE, nothing, finding="With no penalty does a counterfactual reach its target")
    columns = {
        "L1 weight": lambda row: number(row["l1"], 2),
        "target reached": lambda row: percent(row["rate"], row["low"], row["high"]),
        "probability of the target": lambda row: number(row["probability"], 2),
        "units moved (median)": lambda row: interval(row["units"], row["units_low"], row["units_high"]),
    }
    for who in (who for who in WHO if len(known(table, who))):
        columns[f"{WHO[who]} agrees"] = lambda row, who=who: share(row[who])
    caption = (
        "Over all counterfactuals with that penalty; probability and units of those that reach their target. Who "
        "agrees calls that share of all, reached by this network too, the target."
    )
    rows = records(reached.sort_values("l1"))
    finding = _finding(*_ends(rows))
    figure = Picture("counterfactuals-l1", trade_off(table), _CAPTION, data=table, alt=f"{finding}.")
    told = folded(listed(caption, records(table.sort_values("l1")), columns))
    return Section(_TITLE, _lead(*_ends(rows)), [figure], told, finding=finding)


def _ends(rows: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The weakest penalty, and the strongest that keeps nine tenths of its success."""
    return rows[0], [row for row in rows if row["rate"] >= 0.9 * rows[0]["rate"]][-1]


def _finding(first: dict[str, Any], best: dict[str, Any]) -> str:
    """How few units are as good as many."""
    if round(best["units"]) >= round(first["units"]):
        return "No penalty spares units at nine tenths of the success"
    return f"{round(best['units'])} units do instead of {round(first['units'])}, at nine tenths of the success"


def _lead(first: dict[str, Any], best: dict[str, Any]) -> str:
    """From no penalty to the strongest that keeps nine tenths of the success."""
    lead = (
        f"With an L1 weight of {number(first['l1'], 2)} a counterfactual moves "
        f"{counted(round(first['units']), 'unit')} (median) and {share(first['rate'])} reach their target"
    )
    if best is first:
        return f"{lead}; any stronger penalty costs more than a tenth of the success."
    return (
        f"{lead}; with {number(best['l1'], 2)} it moves {counted(round(best['units']), 'unit')}, {share(best['rate'])} "
        f"reach it, and the probability of the target is {number(best['probability'], 2)} instead of "
        f"{number(first['probability'], 2)}."
    )
