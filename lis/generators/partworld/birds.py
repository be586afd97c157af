"""Six birds, perched, seen from the side."""

from __future__ import annotations

import torch
from torch import Tensor

from lis.generators.partworld.drawing import BACKGROUND, Canvas, FigureSet, Layer, Values, hsl, pose, ray

LABELS = ("beak", "eye", "head", "leg", "wing", "body", "tail")
DETAILS = ("beak", "white of the eye", "pupil", "head", "leg", "wing", "body", "belly", "tail")
RANGES = pose(0.98, 1.28) | {
    "posture": (0.05, 0.70),  # radians: level … upright
    "head_size": (0.20, 0.32),  # radius
    "beak_length": (0.12, 0.40),
    "beak_height": (0.06, 0.14),  # radius at its root
    "beak_hue": (0.0, 0.14),
    "eye_size": (0.05, 0.10),
    "wing_length": (0.28, 0.60),
    "wing_angle": (-0.5, 0.9),  # radians: lowered … raised
    "wing_width": (0.14, 0.24),
    "wing_bars": (0.0, 0.5),  # contrast of the bars
    "body_length": (0.36, 0.56),  # half axes
    "body_height": (0.26, 0.40),
    "leg_length": (0.12, 0.42),
    "tail_length": (0.15, 0.42),
    "tail_angle": (-0.5, 0.5),
    "plumage_hue": (-0.02, 0.68),
    "plumage_lightness": (0.22, 0.72),
    "belly_lightness": (0.35, 0.95),
    **BACKGROUND,
}
CLASSES = {
    "brambling": {
        "plumage_hue": -0.9, "belly_lightness": 0.7, "wing_bars": 1.1, "beak_length": -0.8, "body_height": 0.4,
        "tail_length": -0.2, "plumage_lightness": -0.3, "wing_length": -0.3, "posture": -0.5,
    },
    "house_finch": {
        "plumage_hue": -1.3, "belly_lightness": -0.2, "beak_height": 0.9, "beak_length": -0.9, "wing_bars": 0.2,
        "plumage_lightness": 0.6, "body_length": -0.7, "posture": 0.6, "head_size": 0.5, "eye_size": 0.4,
    },
    "indigo_bunting": {
        "plumage_hue": 1.3, "belly_lightness": -0.9, "beak_length": -0.6, "wing_bars": -0.9, "body_length": -0.5,
        "plumage_lightness": 0.1, "head_size": 0.4, "leg_length": 0.4, "tail_angle": 0.3,
    },
    "bee_eater": {
        "plumage_hue": 0.1, "beak_length": 0.6, "beak_height": -0.9, "tail_length": 0.9, "posture": 0.9,
        "belly_lightness": 0.3, "leg_length": -1.0, "plumage_lightness": 0.7, "wing_length": 0.6, "wing_width": -0.5,
    },
    "jacamar": {
        "plumage_hue": 0.5, "beak_length": 1.2, "beak_height": -0.7, "belly_lightness": -0.5, "tail_length": 0.7,
        "plumage_lightness": -0.8, "head_size": -0.5, "leg_length": -0.4, "wing_bars": -0.5, "beak_hue": -0.8,
    },
    "toucan": {
        "beak_length": 1.2, "beak_height": 1.4, "beak_hue": 0.7, "head_size": 0.9, "plumage_lightness": -1.1,
        "belly_lightness": 0.9, "body_length": 0.5, "eye_size": 0.8, "leg_length": 0.3, "tail_angle": -0.5,
    },
}  # fmt: skip
_X, _Y = 0.12, 0.04
"""Centre of the body."""


def _draw(v: Values, canvas: Canvas) -> list[Layer]:
    """Layers back to front: legs, tail, body, belly, wing, beak, head, eye."""
    plumage = hsl(v["plumage_hue"] % 1.0, 0.55, v["plumage_lightness"])
    return [*_trunk(v, canvas, plumage), _wing(v, canvas, plumage), *_face(v, canvas, plumage)]


def _head_centre(v: Values) -> tuple[Tensor, Tensor]:
    length, tilt = v["body_length"], v["posture"]
    return _X - 0.92 * length * torch.cos(tilt), _Y - 0.80 * length * torch.sin(tilt) - 0.5 * v["head_size"] - 0.05


def _trunk(v: Values, canvas: Canvas, plumage: Tensor) -> list[Layer]:
    length, height, tilt = v["body_length"], v["body_height"], v["posture"]
    cos, sin = torch.cos(tilt), torch.sin(tilt)
    root = (_X + 0.75 * length * cos, _Y + 0.60 * length * sin)
    end = ray(root, v["tail_length"], v["tail_angle"])
    shoulder = (_X - 0.5 * length * cos, _Y - 0.5 * length * sin)
    neck = canvas.limb(shoulder, _head_centre(v), 0.55 * height, 0.7 * v["head_size"])
    body = canvas.ellipse(_X, _Y, length, height, 0.8 * tilt).with_(neck)
    belly = canvas.ellipse(_X - 0.1 * length, _Y + 0.42 * height, 0.62 * length, 0.45 * height, 0.8 * tilt)
    feet = _Y + 0.75 * height + v["leg_length"]
    legs = [canvas.limb((x, _Y + 0.6 * height), (x, feet), 0.05, 0.05) for x in (_X - 0.13, _X + 0.11)]
    orange = hsl(v["beak_hue"], 0.75, 0.40 + 0 * tilt)
    pale = hsl(v["plumage_hue"] % 1.0, 0.35, v["belly_lightness"])
    return [
        canvas.layer("leg", legs[0].with_(legs[1]), orange),
        canvas.layer("tail", canvas.limb(root, end, 0.065, 0.10), plumage * 0.68),
        canvas.layer("body", body, plumage),
        canvas.layer("body", belly.within(body.distance + 0.012), pale, "belly"),
    ]


def _wing(v: Values, canvas: Canvas, plumage: Tensor) -> Layer:
    x0, y0, angle = _X - 0.22 * v["body_length"], _Y - 0.15 * v["body_height"], v["wing_angle"]
    tip = ray((x0, y0), v["wing_length"], angle)
    wing = canvas.limb((x0, y0), tip, v["wing_width"], 0.4 * v["wing_width"])
    along = (canvas.x - x0) * torch.cos(angle) - (canvas.y - y0) * torch.sin(angle)
    bars = 1 + v["wing_bars"] * torch.sin(20.0 * along)
    return canvas.layer("wing", wing, plumage * 0.62 * bars[:, None])


def _face(v: Values, canvas: Canvas, plumage: Tensor) -> list[Layer]:
    (x, y), size = _head_centre(v), v["head_size"]
    beak = canvas.limb(
        (x - 0.7 * size, y + 0.15 * size), (x - 0.75 * size - v["beak_length"], y + 0.3 * size), v["beak_height"], 0.02
    )
    eye_x, eye_y = x - 0.28 * size, y - 0.18 * size
    white, black = (torch.full((1, 3, 1, 1), c).to(plumage) for c in (1.0, 0.05))
    return [
        canvas.layer("beak", beak, hsl(v["beak_hue"], 0.85, 0.50 + 0 * size)),
        canvas.layer("head", canvas.circle(x, y, size), plumage * 1.12),
        canvas.layer("eye", canvas.circle(eye_x, eye_y, 1.15 * v["eye_size"]), white, "white of the eye"),
        canvas.layer("eye", canvas.circle(eye_x - 0.02, eye_y, 0.78 * v["eye_size"]), black, "pupil"),
    ]


BIRDS = FigureSet("birds", LABELS, DETAILS, RANGES, CLASSES, 1.05, _draw)
