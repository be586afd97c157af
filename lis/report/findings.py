"""What a page says first: findings in sentences, each with its number and its control, and warnings above them.

A rule makes each of them from tables, and is registered in any module below `lis.report` by `finding` or `warning`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, TypeVar

from lis.report.section import discover
from lis.statistics import SIGNIFICANT

T = TypeVar("T")
Rule = Callable[[Any], T | None]
"""Makes a finding or a warning of a `Source`, or of the runs of a sweep; None where there is none."""
Attempt = Callable[[str, Callable[[], Any], Any], Any]
"""Calls something by its name, and returns another value where that raises."""
FINDINGS: dict[str, dict[int, Rule[Finding]]] = {"run": {}, "comparison": {}}
"""What makes each finding of a page, by its order."""
WARNINGS: dict[str, dict[int, Rule[Warned]]] = {"run": {}, "comparison": {}}
"""The same of warnings."""
UNDECIDED = "undecided"
"""Value of a finding where nothing could be called, whatever there is."""
BY_CHANCE = f"about 1 in {1 / SIGNIFICANT:.0f} would be by chance (q ≤ {SIGNIFICANT})"
"""What q of things that are called says: an expectation."""


@dataclass(frozen=True)
class Finding:
    """An answer to one question that a reader of any run has."""

    question: str
    """As a reader asks it: "How many units are reached?"."""
    value: str
    """The number, in large type: "46 of 256", "0 of 256" where nothing stands out; else `UNDECIDED`."""
    sentence: str
    """What was found; a null result is told as one."""
    control: str
    """What the number stands beside, with its q where it was tested: "R² 0 by guessing the mean"."""
    anchor: str
    """Address of the section that shows it (`lis.report.section.anchor`)."""
    parts: tuple[str, ...] = ()
    """Labels that the sentence names: how well these are segmented, the finding rests on."""


@dataclass(frozen=True)
class Warned:
    """What a reader has to know before any finding is believed, and what to do about it."""

    sentence: str
    remedy: str
    anchor: str
    """Address of the section that shows it; empty: none does."""
    minor: bool = False
    """Whether it is about the installation, and no finding is doubted for it."""


def finding(order: int, stage: str = "", *names: str, page: str = "run") -> Callable[[Rule[Finding]], Rule[Finding]]:
    """Register what makes a finding of a run that has a stage, and `names` of its artifact; it may return None.

    Args:
        order: where it stands among the findings.
        stage, names, page: as of `lis.report.section.section`.

    Raises:
        ValueError: another finding has that order.
    """
    return _register(FINDINGS[page], order, stage, names)


def warning(order: int, stage: str = "", *names: str, page: str = "run") -> Callable[[Rule[Warned]], Rule[Warned]]:
    """Register what makes a warning in the same way."""
    return _register(WARNINGS[page], order, stage, names)


def _register(
    rules: dict[int, Rule[T]], order: int, stage: str, names: tuple[str, ...]
) -> Callable[[Rule[T]], Rule[T]]:
    def register(rule: Rule[T]) -> Rule[T]:
        @wraps(rule)
        def make(source: Any) -> T | None:
            return rule(source) if not stage or source.has(stage, *names) else None

        other = rules.setdefault(order, make)
        if (other.__module__, other.__name__) != (make.__module__, make.__name__):
            raise ValueError(f"{other.__name__} and {make.__name__} have order {order}; give one another number")
        return make

    return register


def unguarded(name: str, make: Callable[[], T], otherwise: T) -> T:
    """What `make` returns; whatever it raises is raised."""
    return make()


def findings(source: Any, page: str = "run", attempt: Attempt = unguarded) -> list[Finding]:
    """Every finding that there is of a run, or of the runs of a sweep (page "comparison"), in order.

    Args:
        source: the run, or the runs of a sweep.
        page: as of `finding`.
        attempt: calls a rule by its name, and returns None where it failed (`lis.report.html.Attempts`).
    """
    return _collect(FINDINGS[page], "Finding", source, attempt)


def warnings(source: Any, page: str = "run", attempt: Attempt = unguarded) -> list[Warned]:
    """Every warning that there is, in the same way."""
    return _collect(WARNINGS[page], "Warning", source, attempt)


def _collect(rules: Mapping[int, Rule[T]], kind: str, source: Any, attempt: Attempt) -> list[T]:
    discover()
    named = [(f"{kind}: {rule.__name__.replace('_', ' ')}", rule) for _, rule in sorted(rules.items())]
    attempted = [attempt(name, partial(rule, source), None) for name, rule in named]
    return [made for made in attempted if made is not None]
