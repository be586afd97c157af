"""Text stands out from what it stands on, and colours that tell things apart do so for colour-blind readers."""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import combinations, product

import numpy as np
import pytest
import wcag_contrast_ratio
from colorspacious import cspace_convert, deltaE

from lis.images import PARTS
from lis.report.evolution import DISTANCES, TARGET
from lis.report.fields import STOPS
from lis.report.similarity import SPACES
from lis.report.style import LINK, LINK_RED, MUTED, SERIES

CSS = files("lis.report").joinpath("templates/page.css").read_text("utf-8")
TEXT = ("ink", "soft", "muted", "accent", "kicker")
SURFACES = ("page", "panel", "alarm")
AA, GRAPHICS = 4.5, 3.0
"""Least contrast of text, and of what else is needed to understand a page (WCAG 2.2, 1.4.3 and 1.4.11)."""
BLINDNESS = (None, "deuteranomaly", "protanomaly", "tritanomaly")
APART = 10.0
"""Least ΔE' (CAM02-UCS) of two colours; about 1 is just seen, side by side."""

TOLD_APART = {
    "series": SERIES,
    "link": tuple(LINK.values()),
    "parts": PARTS,
    "activation": STOPS,
    "evolution": (TARGET, *(colour for _, colour in DISTANCES.values())),
    "similarity": (*SPACES, LINK_RED, MUTED),
}
"""Colours that stand beside each other in a figure."""


def rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    return red, green, blue


def scheme(dark: bool) -> dict[str, str]:
    """The page's colours by name."""
    blocks = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    assert len(blocks) == 2
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", blocks[dark]))


def contrast(a: str, b: str) -> float:
    return wcag_contrast_ratio.rgb(rgb(a), rgb(b))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_all_text_stands_out_from_all_that_it_may_stand_on(dark: bool) -> None:
    colours = scheme(dark)
    pairs = {pair: contrast(colours[pair[0]], colours[pair[1]]) for pair in product(TEXT, SURFACES)}
    assert {pair: ratio for pair, ratio in pairs.items() if ratio < AA} == {}
    assert contrast(colours["alarm-rule"], colours["alarm"]) >= GRAPHICS
    assert contrast(colours["mark"], colours["page"]) >= GRAPHICS


def test_the_page_has_no_colours_but_these() -> None:
    """So that what holds of them holds of the page; the card of a figure is white in both schemes."""
    rules = re.sub(r":root \{.*?\}", "", CSS, flags=re.DOTALL)
    assert set(re.findall(r"#[0-9a-f]{3,6}\b", rules)) == {"#ffffff"}
    assert set(re.findall(r"[{; ]color: ([^;}]+)", rules)) <= {f"var(--{name})" for name in TEXT} | {"inherit"}
    grounds = {value.strip() for value in re.findall(r"background: ([^;}]+)", rules)}
    assert grounds <= {f"var(--{name})" for name in SURFACES} | {"none", "#ffffff"}


@pytest.mark.parametrize("vision", BLINDNESS)
@pytest.mark.parametrize("colours", TOLD_APART.values(), ids=TOLD_APART)
def test_colours_stay_apart(colours: tuple[str, ...], vision: str | None) -> None:
    """Also where a kind of cone is missing altogether (Machado et al. 2009, severity 100 %)."""
    seen = {colour: simulated(colour, vision) for colour in colours}
    apart = {pair: deltaE(seen[pair[0]], seen[pair[1]], input_space="sRGB1") for pair in combinations(colours, 2)}
    assert {pair: distance for pair, distance in apart.items() if distance < APART} == {}


def simulated(colour: str, vision: str | None) -> np.ndarray:
    """The colour `[3]` in sRGB that looks the same to those who see all colours."""
    if vision is None:
        return np.array(rgb(colour))
    space = {"name": "sRGB1+CVD", "cvd_type": vision, "severity": 100}
    return np.clip(cspace_convert(rgb(colour), space, "sRGB1"), 0, 1)
