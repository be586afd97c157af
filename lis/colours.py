"""The colours of parts, alike in index images, which a person paints, and in figures."""

from __future__ import annotations

from collections.abc import Sequence

PARTS = ("#cc6677", "#332288", "#c8a422", "#117733", "#77bde0", "#882255", "#44aa99", "#8c5a2b", "#aa4499", "#7d8794")


def label_colours(labels: Sequence[str]) -> dict[str, str]:
    """A colour per part of a figure, by its place in the segmenter's labels; none is that of a class."""
    return {name: PARTS[place % len(PARTS)] for place, name in enumerate(labels)}
