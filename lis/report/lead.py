"""The picture beside the findings on the first screen."""

from __future__ import annotations

from dataclasses import replace

from lis.report.evaluation import examples
from lis.report.section import Picture
from lis.report.source import Source


def lead(source: Source) -> Picture | None:
    """The first picture of the reconstructions; None where there is none."""
    made = examples(source)
    return replace(made.figures[0], name="lead") if made and made.figures else None
