"""What the measures of a part are called, and how their changes are written (paper §3.2)."""

from __future__ import annotations

import math

from lis.report.labels import signed

CHANGES = {
    "extent": "change of area (fraction of the frame)",
    "relative": "change of area (relative to the first)",
    "area": "change of area (log₂ ratio)",
    "luminance": "change of luminance (relative to the larger)",
    "entropy": "change of entropy (bit)",
    "eccentricity": "change of eccentricity",
    "angle": "change of angle (degrees)",
    "probability": "change of the probability",
}
"""Measure to what its change is, for an axis."""


def changed(measure: str, value: float) -> str:
    """A change of a measure with its sign and unit; a dash where it is not finite.

    A log₂ ratio of areas is written as what it comes to.

    Example:
        >>> changed("area", 0.5), changed("luminance", -0.034), changed("angle", -12.3), changed("entropy", 0.2)
        ('+41 %', '−3.4 %', '−12°', '+0.20 bit')
    """
    if not math.isfinite(value):
        return "–"
    if measure == "area":
        value = 2**value - 1
    if measure in ("area", "relative", "luminance"):
        return f"{signed(100 * value, 0 if abs(value) >= 0.0995 else 1)} %"
    if measure == "angle":
        return f"{signed(value, 0 if abs(value) >= 9.95 else 1)}°"
    return signed(value) + (" bit" if measure == "entropy" else "")


def changed_between(measure: str, value: float, low: float, high: float) -> str:
    """A change with its interval; without one where the bounds are not finite.

    Example:
        >>> changed_between("luminance", 0.4, 0.3, 0.5), changed_between("angle", 20.0, 1.0, float("nan"))
        ('+40 % [+30 %, +50 %]', '+20°')
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return changed(measure, value)
    return f"{changed(measure, value)} [{changed(measure, low)}, {changed(measure, high)}]"
