"""Four fungi: a cap with spots and ribs on a stem."""

from __future__ import annotations

import torch
from torch import Tensor

from lis.generators.partworld.drawing import BACKGROUND, Canvas, FigureSet, Layer, Shape, Values, hsl, pose

LABELS = ("cap", "stem")
DETAILS = ("stem", "gills", "cap", "spot")
RANGES = pose(1.02, 1.32) | {
    "cap_width": (0.34, 0.78),  # half axes
    "cap_height": (0.26, 0.62),
    "cap_rim": (-0.08, 0.16),  # how far the rim hangs below the cap's centre
    "cap_tilt": (-0.25, 0.25),  # radians
    "cap_hue": (-0.02, 0.15),
    "cap_saturation": (0.25, 0.85),
    "cap_lightness": (0.22, 0.72),
    "cap_texture": (0.0, 0.36),  # contrast of the ribs
    "spot_size": (0.03, 0.13),  # radius
    "spot_spread": (0.30, 0.75),  # distance from the middle as a share of the cap's width
    "spot_contrast": (0.0, 1.0),  # 0: the cap's colour, 1: white
    "stem_length": (0.40, 0.85),
    "stem_width": (0.09, 0.22),  # radius at the cap
    "stem_bulge": (0.8, 1.8),  # radius at the foot relative to the cap's end
    "stem_bend": (-0.22, 0.22),
    "stem_hue": (0.04, 0.16),
    "stem_lightness": (0.45, 0.92),
    "gill_height": (0.02, 0.12),  # of the dark underside
    **BACKGROUND,
}
CLASSES = {
    "agaric": {
        "cap_width": 0.9, "cap_height": -0.3, "spot_size": 0.9, "spot_contrast": 1.4, "cap_hue": -1.0,
        "cap_saturation": 0.9, "cap_texture": -1.0, "stem_lightness": 0.7, "stem_width": -0.4, "stem_bulge": 0.4,
    },
    "gyromitra": {
        "cap_texture": 1.4, "cap_width": 0.3, "cap_height": 0.7, "cap_rim": 0.9, "cap_lightness": -0.8,
        "spot_contrast": -1.1, "stem_length": -1.0, "stem_width": 0.6, "cap_hue": -0.3, "gill_height": -0.7,
    },
    "stinkhorn": {
        "cap_width": -1.3, "cap_height": 0.5, "stem_length": 1.2, "stem_bulge": 0.8, "stem_hue": 0.7,
        "cap_hue": 0.9, "cap_saturation": -0.8, "spot_size": -0.9, "spot_contrast": -0.7, "stem_bend": 0.5,
        "cap_rim": 0.5,
    },
    "bolete": {
        "stem_width": 1.1, "stem_bulge": 0.6, "cap_height": 0.4, "cap_rim": -0.7, "cap_lightness": 0.3,
        "cap_hue": 0.6, "gill_height": 1.1, "cap_texture": -0.4, "spot_contrast": -0.5, "stem_lightness": -0.7,
    },
}  # fmt: skip
_FOOT = 0.60
"""Height of the foot of the stem, downwards."""
_SPOTS = ((-0.95, 0.30), (0.90, 0.36), (0.05, 0.66), (-0.35, 0.22))
"""Places on the cap: across in units of `spot_spread`, up as a share of the cap's height."""


def _draw(v: Values, canvas: Canvas) -> list[Layer]:
    """Layers back to front: stem, gills, cap, spots."""
    top_x, top_y = v["stem_bend"], _FOOT - v["stem_length"]
    cos, sin = torch.cos(v["cap_tilt"]), torch.sin(v["cap_tilt"])
    across = (canvas.x - top_x) * cos + (canvas.y - top_y) * sin
    up = (canvas.x - top_x) * sin - (canvas.y - top_y) * cos
    colour = hsl(v["cap_hue"] % 1.0, v["cap_saturation"], v["cap_lightness"])
    stem_colour = hsl(v["stem_hue"], 0.30, v["stem_lightness"])
    cap, gills = _cap(v, canvas, up)
    ribs = 1 - v["cap_texture"] * (0.5 + 0.5 * torch.cos(16.0 * across))
    spot_colour = colour + (0.97 - colour) * v["spot_contrast"][:, None]
    return [
        canvas.layer("stem", _stem(v, canvas), stem_colour),
        canvas.layer("cap", gills, stem_colour * 0.55, "gills"),
        canvas.layer("cap", cap, colour * ribs[:, None]),
        canvas.layer("cap", _spots(v, canvas).within(cap.distance + 0.012), spot_colour, "spot"),
    ]


def _stem(v: Values, canvas: Canvas) -> Shape:
    foot, middle = (0.0, _FOOT), (0.8 * v["stem_bend"], _FOOT - 0.5 * v["stem_length"])
    top = (v["stem_bend"], _FOOT - v["stem_length"])
    width = v["stem_width"]
    return canvas.limb(foot, middle, width * v["stem_bulge"], width).with_(canvas.limb(middle, top, width, 0.9 * width))


def _cap(v: Values, canvas: Canvas, up: Tensor) -> tuple[Shape, Shape]:
    """A tilted half ellipse cut at its rim, and the same cut lower: what shows below is the gills."""
    dome = canvas.ellipse(v["stem_bend"], _FOOT - v["stem_length"], v["cap_width"], v["cap_height"], v["cap_tilt"])
    return dome.within(-up - v["cap_rim"]), dome.within(-up - v["cap_rim"] - v["gill_height"])


def _spots(v: Values, canvas: Canvas) -> Shape:
    x, y = v["stem_bend"], _FOOT - v["stem_length"]
    width, height = v["spot_spread"] * v["cap_width"], v["cap_height"]
    cos, sin = torch.cos(v["cap_tilt"]), torch.sin(v["cap_tilt"])
    positions = ((side * width, share * height) for side, share in _SPOTS)
    first, *others = (
        canvas.circle(x + across * cos + up * sin, y + across * sin - up * cos, v["spot_size"])
        for across, up in positions
    )
    return first.with_(*others)


FUNGI = FigureSet("fungi", LABELS, DETAILS, RANGES, CLASSES, 0.9, _draw)
