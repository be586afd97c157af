"""How results show themselves in a notebook: whole, small, and in the notebook's own colours."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import lis
from lis.api import notebook

VOID = ("img", "br")


class Balance(HTMLParser):
    """Every tag that is opened is closed; what images and links point to."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.sources = list[str](), list[str]()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def shown(shared_store: Path) -> dict[str, Any]:
    study = lis.study(size="smoke", device="cpu", store=shared_store)
    pairs = study.pairs("test")
    return {
        "study": study,
        "pairs": pairs,
        "look": study.look(pairs.w[:20]),
        "single look": study.look(pairs.w[0]),
        "tune": study.tune(pairs[::15], unit=12, steps=12),
        "single tune": study.tune(pairs.r[0], direction="pc:1"),
        "counterfactual": study.counterfactual(pairs.of("pug")[:2], "chihuahua"),
        "stage": study.stage("link"),
        "ablation": study.ablate(range(0, 256, 2)),
    }


@pytest.fixture(scope="module")
def pages(shown: dict[str, Any]) -> dict[str, str]:
    return {kind: result._repr_html_() for kind, result in shown.items()}


KINDS = ["study", "pairs", "look", "single look", "tune", "single tune", "counterfactual", "stage", "ablation"]


@pytest.mark.parametrize("kind", KINDS)
def test_html_is_whole_and_small(pages: dict[str, str], kind: str) -> None:
    html, parser = pages[kind], Balance()
    parser.feed(html)
    assert not parser.open and all(source.startswith("data:image/png;base64,") for source in parser.sources)
    assert ("<img" in html) == (kind not in ("study", "stage"))
    assert len(html) < 1_500_000 and "<script" not in html and "<style" not in html


@pytest.mark.parametrize("kind", KINDS)
def test_text_has_the_colours_of_the_notebook(pages: dict[str, str], kind: str) -> None:
    styles = [part.partition('"')[0] for part in pages[kind].split('style="')[1:]]
    colours = {rule for style in styles for rule in style.split(";") if rule.startswith("color:")}
    assert colours == {"color:inherit"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_terminal_gets_one_line(shown: dict[str, Any], kind: str) -> None:
    assert "\n" not in repr(shown[kind]) and len(repr(shown[kind])) < 250


def test_what_was_asked_stands_beside_what_arrives(shown: dict[str, Any], pages: dict[str, str]) -> None:
    html, share = pages["tune"], float(shown["tune"].reencoded_share.nanmean())
    assert "arrives\u00a0in\u00a0the\u00a0network" in html and f"{100 * share:.1f}".removesuffix(".0") in html
    assert "other\u00a0units\u00a0move" in html and "4 of 10 samples" in html
    assert "asked" in pages["counterfactual"] and "arrives" in pages["counterfactual"]


def test_no_pairs_at_all(shown: dict[str, Any]) -> None:
    assert "Pairs of 0 samples" in shown["pairs"][:0]._repr_html_()


def test_large_pictures_are_made_small() -> None:
    assert notebook.pixels(torch.zeros(3, 1024, 1024, dtype=torch.uint8)).shape == (256, 256, 3)


def test_names_are_escaped() -> None:
    html = notebook.page("<b>", notebook.table(pd.DataFrame({"<i>": ["<u>"]})), notebook.facts({"<a>": "&"}))
    assert all(name not in html for name in ("<i>", "<u>", "<a>")) and "&lt;u&gt;" in html and "&amp;" in html


def test_only_the_parts_that_are_asked_for_are_outlined() -> None:
    image, mask = torch.full((3, 16, 16), 128, dtype=torch.uint8), torch.zeros(16, 16, dtype=torch.uint8)
    mask[4:12, 4:8], mask[4:12, 8:12] = 1, 2
    plain, second = (notebook.outlined(image, mask, ("a", "b"), some) for some in ((), ("b",)))
    assert (plain == 128).all() and (second[:, : 192 * 7 // 16] == 128).all() and (second != 128).any()
