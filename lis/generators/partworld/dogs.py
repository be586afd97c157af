"""Five breeds of dogs, seen from the side."""

from __future__ import annotations

import torch
from torch import Tensor

from lis.generators.partworld.drawing import BACKGROUND, Canvas, FigureSet, Layer, Shape, Values, hsl, pose, ray

LABELS = ("leg", "body", "tail", "tongue", "eye", "nose", "snout", "ear", "head")
DETAILS = (
    "far leg", "near leg", "body", "tail", "tongue", "white of the eye", "pupil", "nose", "snout", "far ear",
    "near ear", "head",
)  # fmt: skip
RANGES = pose(0.96, 1.20) | {
    "head_size": (0.24, 0.36),  # radius
    "head_height": (-0.14, 0.12),  # offset of the head, downwards
    "snout_length": (0.08, 0.34),
    "snout_width": (0.09, 0.16),
    "ear_length": (0.16, 0.44),
    "ear_angle": (-1.1, 1.3),  # radians: hanging … erect
    "ear_width": (0.06, 0.12),
    "eye_size": (0.055, 0.105),
    "tongue_length": (0.02, 0.30),
    "body_length": (0.36, 0.54),  # half axes
    "body_height": (0.22, 0.34),
    "leg_length": (0.16, 0.42),
    "leg_spread": (-0.10, 0.12),
    "tail_length": (0.16, 0.44),
    "tail_angle": (-0.5, 1.3),  # radians: hanging … raised
    "fur_hue": (0.02, 0.14),
    "fur_lightness": (0.25, 0.90),
    "marking": (0.35, 1.0),  # brightness of ears, tail and snout relative to the body
    "fur_texture": (0.0, 0.32),  # contrast of the stripes on the body
    **BACKGROUND,
}
CLASSES = {
    "border_collie": {
        "fur_hue": -0.9, "fur_lightness": -0.8, "marking": 0.9, "body_height": 0.5, "leg_length": 0.4,
        "tail_length": 1.1, "tail_angle": 0.3, "tongue_length": 0.8, "ear_angle": 0.5, "fur_texture": -0.9,
    },
    "pug": {
        "snout_length": -1.4, "snout_width": 0.9, "head_size": 1.0, "ear_length": -0.9, "ear_angle": -0.5,
        "marking": -1.3, "fur_lightness": 0.5, "tail_length": -0.9, "tail_angle": 0.9, "eye_size": 0.6,
        "leg_length": -0.5,
    },
    "chihuahua": {
        "head_size": 0.8, "ear_length": 1.1, "ear_angle": 0.9, "ear_width": 0.9, "eye_size": 1.1, "body_length": -1.0,
        "body_height": -0.9, "snout_length": -0.5, "fur_hue": 0.4, "fur_lightness": 0.3,
    },
    "schnauzer": {
        "snout_length": 0.5, "snout_width": 1.0, "fur_lightness": -0.4, "fur_hue": -0.4, "marking": 0.5,
        "fur_texture": 1.3, "tail_length": -0.8, "tail_angle": 1.0, "ear_length": -0.4, "leg_length": 0.3,
        "body_length": -0.4,
    },
    "weimaraner": {
        "ear_angle": -1.0, "ear_length": 0.3, "ear_width": 0.6, "snout_length": 0.9, "leg_length": 1.0,
        "body_length": 0.7, "fur_lightness": 0.4, "fur_hue": 0.7, "tail_angle": -0.6, "head_size": -0.6,
        "fur_texture": -0.5,
    },
}  # fmt: skip
_COLOURS = ((1.0, 1.0, 1.0), (0.06, 0.05, 0.05), (0.95, 0.42, 0.50))
"""White of the eye, pupil and nose, tongue."""


def _draw(v: Values, canvas: Canvas) -> list[Layer]:
    """Layers back to front: far legs, tail, far ear, body, near legs, tongue, head, snout, nose, eye, near ear."""
    fur = hsl(v["fur_hue"], 0.55, v["fur_lightness"] * 0.75 + 0.05)
    mark = fur * v["marking"][:, None]
    return [*_behind(v, canvas, fur, mark), *_trunk(v, canvas, fur), *_face(v, canvas, fur, mark)]


def _body_frame(v: Values) -> tuple[float, float, Tensor, Tensor]:
    """Centre of the body and of the head."""
    x, y = 0.20, 0.12
    return x, y, x - v["body_length"] - 0.40 * v["head_size"], y - 0.36 + v["head_height"]


def _legs(v: Values, canvas: Canvas, near: bool) -> Shape:
    x, y, *_ = _body_frame(v)
    radius = 0.06 + 0.14 * v["body_height"]
    top, bottom = y + 0.5 * v["body_height"], y + 0.72 * v["body_height"] + v["leg_length"]
    stance = v["leg_spread"] if near else -1.2 * v["leg_spread"]
    inset, lift = (0.0, 0.0) if near else (0.12, 0.03)
    front, back = x - 0.68 * v["body_length"] + inset, x + 0.68 * v["body_length"] - inset
    return canvas.limb((front + stance, top), (front + 0.8 * stance, bottom - lift), radius, 0.8 * radius).with_(
        canvas.limb((back - stance, top), (back - 0.8 * stance, bottom - lift), radius, 0.8 * radius)
    )


def _behind(v: Values, canvas: Canvas, fur: Tensor, mark: Tensor) -> list[Layer]:
    x, y, head_x, head_y = _body_frame(v)
    length, angle = v["tail_length"], v["tail_angle"]
    root = (x + 0.86 * v["body_length"], y - 0.35 * v["body_height"])
    knee = ray(root, 0.55 * length, angle)
    tip = ray(knee, 0.45 * length, angle + 0.7)
    tail = canvas.limb(root, knee, 0.075, 0.065).with_(canvas.limb(knee, tip, 0.065, 0.045))
    size, ear = v["head_size"], v["ear_length"]
    ear_root = (head_x - 0.30 * size, head_y - 0.60 * size)
    ear_tip = (ear_root[0] - 0.35 * ear * torch.cos(v["ear_angle"]), ear_root[1] - ear * torch.sin(v["ear_angle"]))
    far_ear = canvas.limb(ear_root, ear_tip, v["ear_width"], 0.45 * v["ear_width"])
    return [
        canvas.layer("leg", _legs(v, canvas, near=False), fur * 0.58, "far leg"),
        canvas.layer("tail", tail, mark * 0.9),
        canvas.layer("ear", far_ear, mark * 0.7, "far ear"),
    ]


def _trunk(v: Values, canvas: Canvas, fur: Tensor) -> list[Layer]:
    x, y, head_x, head_y = _body_frame(v)
    length, height, size = v["body_length"], v["body_height"], v["head_size"]
    shoulder = (x - 0.6 * length, y - 0.2 * height)
    neck = canvas.limb(shoulder, (head_x, head_y + 0.2 * size), 0.65 * height, 0.5 * size)
    body = canvas.ellipse(x, y, length, height).with_(neck)
    stripes = 1 - v["fur_texture"] * (0.5 + 0.5 * torch.sin(18.0 * (canvas.x - 0.35 * canvas.y)))
    return [
        canvas.layer("body", body, fur * stripes[:, None]),
        canvas.layer("leg", _legs(v, canvas, near=True), fur * 0.76, "near leg"),
    ]


def _face(v: Values, canvas: Canvas, fur: Tensor, mark: Tensor) -> list[Layer]:
    _, _, x, y = _body_frame(v)
    size, width, length = v["head_size"], v["snout_width"], v["snout_length"]
    tip_x, tip_y = x - 0.55 * size - length, y + 0.36 * size + 0.14 * length
    snout = canvas.limb((x - 0.45 * size, y + 0.28 * size), (tip_x, tip_y), 1.1 * width, 0.9 * width)
    tongue_end = (tip_x + 0.04, tip_y + 0.6 * width + v["tongue_length"])
    tongue = canvas.limb((tip_x + 0.05, tip_y + 0.5 * width), tongue_end, 0.075, 0.065)
    ear_root = (x + 0.35 * size, y - 0.60 * size)
    ear_tip = (
        ear_root[0] + 0.75 * v["ear_length"] * torch.cos(v["ear_angle"]),
        ear_root[1] - v["ear_length"] * torch.sin(v["ear_angle"]),
    )
    near_ear = canvas.limb(ear_root, ear_tip, v["ear_width"], v["ear_width"] - 0.02)
    white, black, pink = (torch.tensor(c).to(fur).view(1, 3, 1, 1) for c in _COLOURS)
    eye_x, eye_y = x - 0.34 * size, y - 0.22 * size
    return [
        canvas.layer("tongue", tongue, pink),
        canvas.layer("head", canvas.circle(x, y, size), fur * 1.08),
        canvas.layer("snout", snout, 0.35 * fur + 0.65 * (0.6 * mark + 0.35 * v["marking"][:, None])),
        canvas.layer("nose", canvas.circle(tip_x - 0.5 * width, tip_y - 0.45 * width, 0.06 + 0.2 * width), black),
        canvas.layer("eye", canvas.circle(eye_x, eye_y, 1.15 * v["eye_size"]), white, "white of the eye"),
        canvas.layer("eye", canvas.circle(eye_x - 0.03, eye_y, 0.75 * v["eye_size"]), black, "pupil"),
        canvas.layer("ear", near_ear, mark * 0.85, "near ear"),
    ]


DOGS = FigureSet("dogs", LABELS, DETAILS, RANGES, CLASSES, 0.9, _draw)
