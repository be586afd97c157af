"""What a page says first: findings in sentences, each with its number and its control, and warnings above them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from lis.report.source import Source

T = TypeVar("T")
FINDINGS: dict[int, Callable[[Source], Finding | None]] = {}
"""What makes each finding of a run's page, by its order."""
WARNINGS: dict[int, Callable[[Source], Warned | None]] = {}
"""The same of warnings."""


@dataclass(frozen=True)
class Finding:
    """An answer to one question that a reader of any run has."""

    question: str
    """As a reader asks it: "How many units are reached?"."""
    value: str
    """The number, in large type: "46 of 256"; "none" where nothing stands out."""
    sentence: str
    """What was found; a null result is told as one."""
    control: str
    """What the number stands beside, with its q where it was tested: "2 by chance, q ≤ 0.05"."""
    anchor: str
    """Address of the section that shows it (`lis.report.section.anchor`)."""


@dataclass(frozen=True)
class Warned:
    """What a reader has to know before any finding is believed, and what to do about it."""

    sentence: str
    remedy: str
    anchor: str
    """Address of the section that shows it; empty: none does."""


def finding(order: int, stage: str, *names: str):
    """Register what makes a finding of a run that has a stage, and `names` of its artifact; it may return None.

    Args:
        order: where it stands among the findings.
        stage, names: as of `lis.report.section.section`.
    """
    return _register(FINDINGS, order, stage, names)


def warning(order: int, stage: str, *names: str):
    """Register what makes a warning in the same way."""
    return _register(WARNINGS, order, stage, names)


def _register(table: dict[int, Callable[[Source], T | None]], order: int, stage: str, names: tuple[str, ...]):
    def register(maker: Callable[[Source], T | None]) -> Callable[[Source], T | None]:
        @wraps(maker)
        def make(source: Source) -> T | None:
            return maker(source) if source.has(stage, *names) else None

        table[order] = make
        return make

    return register


def findings(source: Source) -> list[Finding]:
    """Every finding of a run that there is, in order."""
    return [made for _, make in sorted(FINDINGS.items()) if (made := make(source)) is not None]


def warnings(source: Source) -> list[Warned]:
    """Every warning of a run that there is, in order."""
    return [made for _, make in sorted(WARNINGS.items()) if (made := make(source)) is not None]
