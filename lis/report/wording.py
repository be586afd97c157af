"""What things are called on a page, and how numbers are written."""

from __future__ import annotations

import math
import re

METRICS = {
    "mse_w": "MSE in W",
    "pixel_l2": "Pixel L2",
    "lpips": "LPIPS",
    "moco": "MoCo v2",
    "features": "Distance in R",
}
LINKS = {"lr": "LR", "ridge": "Ridge", "fc_l1": "FC-L1", "fc_l2": "FC-L2"}
LINKS_IN_WORDS = {
    "lr": "least squares",
    "ridge": "ridge regression",
    "fc_l1": "one hidden layer, squared error in W",
    "fc_l2": "one hidden layer, squared error in W and along its first components",
}
PC_TARGETS = {
    "projection": "the error along the first components is that of samples projected onto them",
    "prediction": "the error along the first components is that of the same predictions",
}
_FAMILIES = {"alexnet": "AlexNet", "densenet": "DenseNet", "resnet": "ResNet", "vgg": "VGG"}
_LIBRARIES = {"ip_irm": "IP-IRM", "efficientnet_lite0": "EfficientNet-Lite0", "partnet": "PartNet"}
"""Libraries of a single network."""
PAIRINGS = {"cycle": "cycle", "within-class": "random, same class", "random": "random"}
OTHER_UNITS = (
    "In the r that is asked for, all other units stay as they are; in the picture, encoded again, they move too"
)
"""What is held while a unit is tuned, and what is not."""
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


def metric_label(metric: str) -> str:
    """The metric's name on a page; one that is not listed keeps its own, without underscores."""
    return METRICS.get(metric, metric.replace("_", " "))


def link_label(link: str) -> str:
    """The link's name as in the paper's supplement S2; settings behind a comma, which tell two of a sweep, stay.

    Example:
        >>> link_label("fc_l2, pc_target=prediction")
        'FC-L2, pc_target=prediction'
    """
    name, comma, settings = link.partition(", ")
    return LINKS.get(name, name) + comma + settings


def network_name(library: str, model: str) -> str:
    """A network's name as people write it; one that is not listed keeps its library's.

    Example:
        >>> network_name("torchvision", "densenet201"), network_name("timm", "resnet50.a1_in1k")
        ('DenseNet-201', 'resnet50.a1_in1k')
    """
    parts = re.fullmatch(r"([a-z]+)(\d*)", model)
    if library != "torchvision" or not parts or parts[1] not in _FAMILIES:
        return _LIBRARIES.get(library, model)
    return "-".join(filter(None, (_FAMILIES[parts[1]], parts[2])))


def words(name: str) -> str:
    """A name as words.

    Example:
        >>> words("border_collie")
        'border collie'
    """
    return name.replace("_", " ")


def wrapped(name: str, width: int) -> str:
    """A name as text for a figure, on lines of about `width` characters; it breaks after spaces and marks only.

    Example:
        >>> wrapped("convnext_tiny.fb_in1k", 16).splitlines()
        ['convnext_tiny.', 'fb_in1k']
    """
    lines = [""]
    for piece in re.findall(r"[^\s._/,-]*[\s._/,-]+|[^\s._/,-]+", name):
        if lines[-1] and len(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines).replace("$", r"\$")


def number(value: float, digits: int = 3) -> str:
    """A number with `digits` significant digits, thousands grouped, and a dash for what is not finite.

    Example:
        >>> number(0.0071934), number(9.7), number(51234.0), number(float("nan"))
        ('0.00719', '9.70', '51,234', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    indices = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{indices}f}".replace("-", "−") if indices < 7 else f"{value:.{digits - 1}e}".replace("-", "−")


def interval(value: float, low: float, high: float, digits: int = 3) -> str:
    """A number with its interval; without one where the bounds are not finite.

    Example:
        >>> interval(9.74, 9.5, 9.98)
        '9.74 [9.50, 9.98]'
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return number(value, digits)
    return f"{number(value, digits)} [{number(low, digits)}, {number(high, digits)}]"


def share(value: float | None) -> str:
    """A fraction in percent, and a dash for what is not finite.

    Example:
        >>> share(0.9034), share(1.0), share(None)
        ('90.3 %', '100 %', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    return f"{100 * value:.1f}".removesuffix(".0") + " %"


def with_control(value: float, control: float) -> str:
    """A number with that of random directions in brackets; alone where there is none.

    Example:
        >>> with_control(0.41, 0.3), with_control(0.41, math.nan)
        ('0.41 (0.30)', '0.41')
    """
    return number(value, 2) + (f" ({number(control, 2)})" if math.isfinite(control) else "")


def share_between(value: float, low: float, high: float) -> str:
    """A fraction in percent with its interval.

    Example:
        >>> share_between(0.9, 0.85, 0.94)
        '90 % [85 %, 94 %]'
    """
    return f"{share(value)} [{share(low)}, {share(high)}]"


def percent(value: float, low: float, high: float) -> str:
    """A fraction in percent with its interval, all with three significant digits.

    Example:
        >>> percent(0.5, 0.25, 0.75)
        '50.0 [25.0, 75.0] %'
    """
    return interval(100 * value, 100 * low, 100 * high) + " %"


def gain(fraction: float, margin: float = math.nan) -> str:
    """A change in percent with its sign, and the half width of its interval where that is finite.

    Example:
        >>> gain(0.0512, 0.004), gain(-0.12)
        ('+5.1 ± 0.4 %', '−12.0 %')
    """
    if not math.isfinite(fraction):
        return "–"
    around = f" ± {100 * margin:.1f}" if math.isfinite(margin) else ""
    return f"{100 * fraction:+.1f}{around} %".replace("-", "−")


def signed(value: float, digits: int = 2) -> str:
    """A change with its sign, and `digits` behind the point.

    Example:
        >>> signed(0.5), signed(-0.204, 1), signed(-0.001)
        ('+0.50', '−0.2', '0.00')
    """
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text[1:]


def offset(value: float) -> str:
    """A change with its sign, which stays where it rounds to zero; a dash for what is not finite.

    Example:
        >>> offset(0.001), offset(-1.5), offset(float("nan"))
        ('+0.00', '−1.50', '–')
    """
    return f"{value:+.2f}".replace("-", "−") if math.isfinite(value) else "–"


def arrow(origin: str, target: str) -> str:
    """From one class to another.

    Example:
        >>> arrow("border_collie", "pug")
        'border collie → pug'
    """
    return f"{words(origin)} → {words(target)}"


def sentences(*parts: str) -> str:
    """Those that are not empty, one behind the other."""
    return " ".join(filter(None, parts))


def times(value: float) -> str:
    """A ratio to a baseline.

    Example:
        >>> times(0.1888)
        '0.19×'
    """
    return f"{value:.2f}×" if math.isfinite(value) else "–"


def probability(value: float) -> str:
    """A p-value, never given as zero.

    Example:
        >>> probability(0.0), probability(0.034)
        ('< 0.001', '0.034')
    """
    if not math.isfinite(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def counted(n: int, noun: str) -> str:
    """A number of things.

    Example:
        >>> counted(1, "unit"), counted(2048, "unit")
        ('1 unit', '2,048 units')
    """
    return f"{n:,} {noun}{'s' * (n != 1)}"


def listing(names: list[str]) -> str:
    """Names in a sentence.

    Example:
        >>> listing(["cap", "stem", "spots"])
        'cap, stem and spots'
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else ""


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
