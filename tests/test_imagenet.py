"""ImageNet's names fit the class sets of the paper."""

from __future__ import annotations

import re

import pytest
from omegaconf import OmegaConf

from lis.config import conf_folder
from lis.imagenet import imagenet_names, snake_case

PAPER = {
    "dogs": {"border_collie": 232, "pug": 254, "chihuahua": 151, "schnauzer": 197, "weimaraner": 178},
    "fungi": {"agaric": 992, "gyromitra": 993, "stinkhorn": 994, "bolete": 997},
    "birds": {"brambling": 10, "house_finch": 12, "indigo_bunting": 14, "bee_eater": 92, "jacamar": 95, "toucan": 96},
}
"""Wehrheim et al. 2024: class ids on ImageNet."""


@pytest.mark.parametrize("name", PAPER)
def test_class_sets_are_found_by_name(name: str) -> None:
    """At the paper's ids, under the names in `conf/classes`."""
    wanted = list(OmegaConf.load(conf_folder() / "classes" / f"{name}.yaml").names)
    assert {label: imagenet_names().index(label) for label in wanted} == PAPER[name]


def test_names_are_words_and_each_only_once() -> None:
    """Cardigan is a dog and a garment."""
    names = imagenet_names()
    assert len(names) == len(set(names)) == 1000
    assert all(re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", name) for name in names)
    assert (names[264], names[474]) == ("cardigan_264", "cardigan_474")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Border collie", "border_collie"), ("jack-o'-lantern", "jack_o_lantern"), ("potter's wheel", "potters_wheel")],
)
def test_names_become_snake_case(name: str, expected: str) -> None:
    """Punctuation goes."""
    assert snake_case(name) == expected
