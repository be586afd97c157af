"""The labels of a run: their order, and the colour that each keeps in every figure."""

from __future__ import annotations

from lis.report.source import Source
from lis.report.style import label_colours

_FACTS = ("tuning", "pictures")
_TABLES = (("units", "ranking"), ("truth", "agreement"))


def label_names(source: Source) -> list[str]:
    """The segmenter's labels in order, as far as a stage that is there names them."""
    for stage in _FACTS:
        if source.has(stage, "facts"):
            return list(source.json(stage, "facts")["labels"])
    found = [source.table(*place)["label"] for place in _TABLES if source.has(*place)]
    return list(dict.fromkeys(found[0])) if found else []


def colours(source: Source) -> dict[str, str]:
    """A colour per label."""
    return label_colours(label_names(source))
