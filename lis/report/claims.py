"""Whether there are enough random directions for anything to be called larger or reached."""

from __future__ import annotations

import pandas as pd

from lis.report.source import Source
from lis.report.wording import number
from lis.statistics import SIGNIFICANT
from lis.store import Artifact

_CALLED = {
    "larger": "larger than random directions",
    "relevant": "relevant beyond random directions",
    "selective": "more selective than random directions",
}
_TESTS = (
    *("p_control", "q", "q_by", "p_reached", "q_reached", "q_by_reached"),
    *("selectivity_p", "selectivity_q", "selectivity_q_by"),
)


def decides(artifact: Artifact, family: str = "reached") -> bool:
    """Whether q can fall so low, with the random directions of json "control", that anything is called.

    Args:
        artifact: of `lis.units.unit_statistics`, or of `lis.units.planted`, which is told what that one called.
        family: of tests: "larger", "relevant", "selective", or "reached", without which nothing is called.
    """
    control = artifact.json("control")
    return control["smallest"] <= SIGNIFICANT and all(control["tails"][name]["decided"] for name in {family, "reached"})


def callable_units(source: Source, stage: str = "unit_statistics", family: str = "reached") -> bool:
    """The same of the run of a page."""
    return decides(source.artifacts[stage], family)


def too_few(source: Source, stage: str = "unit_statistics") -> str:
    """That nothing can be called, and the remedy; nothing where something can."""
    if callable_units(source, stage):
        return ""
    return f"{nothing_called(source, stage)} ({more_directions(source, stage)})."


def nothing_called(source: Source, stage: str = "unit_statistics") -> str:
    """That nothing can be called, without a full stop, of a run of which that holds."""
    count = source.json(stage, "control")["directions"]
    return (
        f"There are too few random directions ({count}) to call any unit larger, selective or reached: neither that "
        "one is nor that one is not can be said"
    )


def more_directions(source: Source, stage: str = "unit_statistics") -> str:
    """The setting with which more could be called."""
    return f"tuning.control_directions={_more(source.json(stage, 'control')['directions'])}"


def undecided(source: Source, family: str) -> str:
    """That nothing can be called in one family of tests, and the remedy; nothing where something can, or nowhere."""
    if not callable_units(source) or callable_units(source, family=family):
        return ""
    control = source.json("unit_statistics", "control")
    tests = control["tails"][family]["tests"]
    return (
        f"Whether any is {_CALLED[family]} cannot be decided with so few random directions ({control['directions']}): "
        f"for q ≤ {SIGNIFICANT} one of {tests:,} tests needs p ≤ {number(SIGNIFICANT / tests, 1)}, and they tell "
        f"only p ≥ {number(control['smallest'], 2)} ({more_directions(source)})."
    )


def _more(count: int) -> int:
    """How many random directions to try where there are too few."""
    return max(64, 2 * count)


def without_claims(source: Source, table: pd.DataFrame) -> pd.DataFrame:
    """A table of units as it is where units can be called; else without p and q, and no unit is marked as not reached.

    Args:
        source: of the page.
        table: of the stage "unit_statistics", with a column reached.
    """
    if callable_units(source):
        return table
    return table.assign(reached=True, **{name: float("nan") for name in _TESTS if name in table})
