"""How many images the generators of `lis` have made in this process, which is what a stage costs on any device."""

from __future__ import annotations

_made = [0]


def add(images: int) -> None:
    """Count images that a generator makes now."""
    _made[0] += images


def made() -> int:
    """All of this process."""
    return _made[0]
