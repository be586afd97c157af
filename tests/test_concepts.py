"""Concepts of images: exact masks of parts, colours, quadrants and factors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.colors import XKCD_COLORS, to_rgb
from skimage.color import deltaE_ciede2000, rgb2lab
from torch import Tensor

from lis.dissection.concepts import BINS, COLOURS, ConceptSet, colour_masks, colour_table, concept_set, quadrant_masks


def plain(*colours: str | tuple[float, float, float]) -> Tensor:
    """Images `[n, 3, 4, 4]` of one colour each."""
    rgb = torch.tensor([to_rgb(colour) for colour in colours]) * 2 - 1
    return rgb[:, :, None, None].expand(-1, -1, 4, 4)


def named(masks: Tensor) -> list[str]:
    """The colour of images that have one all over."""
    assert bool((masks.sum(1) == 1).all()) and bool((masks == masks[:, :, :1, :1]).all())
    return [COLOURS[k] for k in masks[:, :, 0, 0].int().argmax(1).tolist()]


def by_name(concepts: ConceptSet, masks: Tensor, name: str) -> list[list[int]]:
    return masks[0, concepts.names.index(name)].int().tolist()


def test_names_kinds_and_order_without_and_with_parts() -> None:
    assert concept_set([]).kinds == ("colour",) * 11 + ("quadrant",) * 4
    concepts = concept_set(["ear", "eye"], ["size"])
    assert concepts.names[:4] == ("ear", "eye", "object", "background") and concepts.names[-1] == "size"
    assert concepts.kinds[:4] == ("part", "part", "object", "background") and concepts.kinds[-1] == "factor"
    assert len(set(concepts.names)) == len(concepts.names) == len(concepts.kinds) == 2 + 2 + 11 + 4 + 1


def test_a_part_called_like_another_concept_keeps_its_name() -> None:
    concepts = concept_set(["orange", "object"], ["ear"])
    assert concepts.names[:3] == ("orange", "object", "object (object)")
    assert concepts.kinds[concepts.names.index("orange (colour)")] == "colour"
    with pytest.raises(ValueError, match=r"ear, ear, object.*expected each name once"):
        concept_set(["ear", "ear", "ear"])


def test_parts_object_and_background_have_the_largest_share_of_a_cell() -> None:
    parts = torch.tensor([[[1, 1, 0, 0], [1, 2, 0, 2], [2, 2, 0, 0], [2, 2, 0, 0]]])
    concepts = concept_set(["ear", "eye"])
    masks = concepts.masks(torch.zeros(1, 3, 8, 8), parts, 2)
    assert masks.shape == (1, len(concepts.names), 2, 2) and masks.dtype == torch.bool
    assert by_name(concepts, masks, "ear") == [[1, 0], [0, 0]]
    assert by_name(concepts, masks, "eye") == [[0, 0], [1, 0]]
    assert by_name(concepts, masks, "object") == [[1, 0], [1, 0]]
    assert by_name(concepts, masks, "background") == [[0, 1], [0, 1]]


def test_typical_colours_are_called_by_their_names() -> None:
    assert named(colour_masks(plain(*(f"xkcd:{name}" for name in COLOURS)), 2)) == list(COLOURS)
    others = {"navajowhite": "white", "firebrick": "red", "forestgreen": "green", "gold": "yellow", "royalblue": "blue"}
    others |= {"saddlebrown": "brown", "darkorange": "orange", "hotpink": "pink", "indigo": "purple", "#777777": "grey"}
    assert named(colour_masks(plain(*others), 3)) == [*others.values()]


def test_the_table_is_the_nearest_typical_colour_by_ciede2000() -> None:
    rng = np.random.default_rng(0)
    for r, g, b in rng.integers(0, BINS, (50, 3)):
        lab = rgb2lab((np.array([[[r, g, b]]]) + 0.5) / BINS)
        typical = [rgb2lab([[to_rgb(XKCD_COLORS[f"xkcd:{name}"])]]) for name in COLOURS]
        distances = [deltaE_ciede2000(lab, colour).item() for colour in typical]
        assert colour_table()[r, g, b] == np.argmin(distances)


def test_a_cell_has_the_colour_of_its_mean() -> None:
    image = plain("xkcd:red")[0].clone()
    image[:, :, 1::2] = 2 * torch.tensor(to_rgb("xkcd:blue"))[:, None, None] - 1
    mean = (np.array(to_rgb("xkcd:red")) + to_rgb("xkcd:blue")) / 2
    (expected,) = named(colour_masks(plain(tuple(mean)), 1))
    assert expected not in ("red", "blue")
    assert named(colour_masks(image[None], 2)) == [expected]
    assert colour_masks(image[None], 4)[0, COLOURS.index("red"), :, 0].all()


def test_every_pixel_has_one_colour_at_the_ends_of_the_range_too() -> None:
    assert named(colour_masks(torch.tensor([-7.0, -1, 1, 7])[:, None, None, None].expand(-1, 3, 2, 2), 2)) == [
        "black",
        "black",
        "white",
        "white",
    ]


@pytest.mark.parametrize("size", [4, 5])
def test_quadrants_share_the_image(size: int) -> None:
    masks = quadrant_masks(size)
    assert bool((masks.sum(0) == 1).all())
    half = size // 2
    assert [int(mask.sum()) for mask in masks] == [half**2, *[half * (size - half)] * 2, (size - half) ** 2]
    assert [bool(masks[k][y, x]) for k, (y, x) in enumerate([(0, 0), (0, -1), (-1, 0), (-1, -1)])] == [True] * 4


def test_factors_hold_for_whole_images() -> None:
    concepts = concept_set([], ["size", "hue"])
    parts, factors = torch.zeros(2, 3, 3, dtype=torch.int64), torch.tensor([[True, False], [False, False]])
    masks = concepts.masks(torch.zeros(2, 3, 3, 3), parts, 3, factors)
    assert masks[:, -2:].flatten(2).all(2).tolist() == factors.tolist()
    assert masks[:, -2:].flatten(2).any(2).tolist() == factors.tolist()


def test_what_does_not_belong_to_the_set_is_refused() -> None:
    image, parts = torch.zeros(1, 3, 4, 4), torch.full((1, 4, 4), 2)
    with pytest.raises(ValueError, match=r"2 to 2: expected 0 \(background\) to 1, the labels being ear"):
        concept_set(["ear"]).masks(image, parts, 4)
    with pytest.raises(ValueError, match=r"factors None: expected \[n, 1\]"):
        concept_set(["ear", "eye"], ["size"]).masks(image, parts, 4)
    with pytest.raises(ValueError, match=r"factors \(1, 3\): expected \[n, 0\]"):
        concept_set(["ear", "eye"]).masks(image, parts, 4, torch.ones(1, 3, dtype=torch.bool))
