"""The picture beside the findings on the first screen."""

from __future__ import annotations

from lis.report.evaluation import examples
from lis.report.section import Picture
from lis.report.source import Source


def lead(source: Source) -> Picture | None:
    """The first picture of the reconstructions; None where there is none."""
    made = examples(source)
    return made.figures[0] if made and made.figures else None
