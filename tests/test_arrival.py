"""What arrives, sample by sample and unit by unit, and how it is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from lis.report.arrival import arrivals, each_arrived, verdict, verdicts, which_way
from lis.report.source import Source
from lis.units.arrival import Arrival
from lis.units.perturbation import Perturbation

UNITS, SAMPLES = 6, 4
STD = torch.tensor([1.0, 2.0, 0.5, torch.inf, 1.5, 1.0])
"""Unit 3 is not live."""


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("span", [(0.0, 3.0), (3.0, 0.0), (1.0, 1.0)])
def test_a_unit_against_plain_loops(span: tuple[float, float]) -> None:
    first, last, unit = random(SAMPLES, UNITS), random(SAMPLES, UNITS, seed=1), Perturbation.of_unit(1, *span)
    found = Arrival.of(unit, first, last, STD, 2.0)
    for n in range(SAMPLES):
        change = (last[n] - first[n]).numpy()
        rest = [change[u] / float(STD[u]) for u in (0, 2, 4, 5)]
        own = change[1] / 2.0 * (-1 if span[1] < span[0] else 1)
        asked = span[1] - span[0]
        assert float(found.own[n]) == pytest.approx(own, rel=1e-5)
        assert float(found.others[n]) == pytest.approx(np.sqrt(np.mean(np.square(rest))), rel=1e-5)
        assert float(found.more[n]) == pytest.approx(np.mean(np.abs(rest) > abs(own)))
        assert float(found.reencoded_share[n]) == pytest.approx(change[1] / asked if asked else np.nan, nan_ok=True)


def test_a_direction_leaves_what_is_along_it_out_of_the_others() -> None:
    first, last, d = random(SAMPLES, UNITS), random(SAMPLES, UNITS, seed=1), random(UNITS, seed=2)
    found = Arrival.of(Perturbation.along("d", d, -1.0, 1.0), first, last, STD, 0.7)
    e = (d / d.norm()).numpy()
    for n in range(SAMPLES):
        change = (last[n] - first[n]).numpy()
        rest = (change - change @ e * e)[[0, 1, 2, 4, 5]] / STD.numpy()[[0, 1, 2, 4, 5]]
        assert float(found.own[n]) == pytest.approx(change @ e / 0.7, rel=1e-5)
        assert float(found.others[n]) == pytest.approx(np.sqrt((rest**2).sum() / 4), rel=1e-5)
    assert found.more.isnan().all()


def test_a_unit_alone_has_no_others() -> None:
    std = torch.tensor([1.0, torch.inf])
    found = Arrival.of(Perturbation.of_unit(0, 0.0, 1.0), torch.zeros(1, 2), torch.ones(1, 2), std, 1.0)
    assert found.others.isnan().all() and found.more.isnan().all() and float(found.own) == 1.0


def source(**settings: Any) -> Source:
    return cast(Source, SimpleNamespace(facts=SimpleNamespace(settings=settings)))


ROW = {"unit": 3, "own": 0.3, "others": 0.5, "more": 0.4, "beyond": 0.25, "step_norm": 2.0}


def test_pictures_that_are_no_evidence_are_called_so() -> None:
    told = ROW | {"unit": 4, "own": 1.0}
    assert verdict(-0.6, 0.5) == "" and verdict(float("nan"), 0.5) == "" and verdict(0.5, 0.5)
    assert "than unit 3 itself: its" in verdicts([ROW, told])
    assert "than units 3 and 5 themselves: their" in verdicts([ROW, told, ROW | {"unit": 5}])
    assert verdicts([told]) == verdicts([{"unit": 3}]) == ""  # an older run did not keep it
    assert verdicts([ROW, ROW | {"own": 0.9}]) == ""  # on average over its pictures it moves more


def test_the_table_of_what_arrives_says_what_is_stopped() -> None:
    (table,) = arrivals(source(**{"tuning.along": "pattern"}), [ROW, ROW | {"name": "pc:1", "more": np.nan}])
    assert table.columns[-1] == "stopped" and "w stops there" in table.caption
    assert [list(row) for row in table.rows] == [
        ["3", "0.30", "0.50", "40 %", "2.0", "25 %"],
        ["pc:1", "0.30", "0.50", "–", "2.0", "25 %"],
    ]
    (drawn,) = arrivals(source(**{"tuning.along": "link"}), [ROW])
    assert drawn.columns[-1] == "beyond" and "it is drawn" in drawn.caption
    assert arrivals(source(), [{"unit": 3}]) == [] and each_arrived(source(), [{"unit": 3}]) == ""
    assert "3: 0.30, 0.50, 25 %." in each_arrived(source(), [ROW, ROW])


def test_the_page_says_which_question_a_picture_answers() -> None:
    def told(along: str, penalty: float | None = None) -> str:
        return which_way(source(**{"tuning.along": along, "tuning.penalty": penalty}))

    for text in (told("pattern"), told("faithful"), told("faithful", 1.0)):
        assert "what a unit responds to, not what sets it apart" in text and "tuning.penalty=1e-3" in text
    assert "what sets a unit apart from the others, not what it responds to" in told("faithful", 1e-3)
    assert "derivatives in each sample" in told("closed") and "the paper's way" in told("link")
    assert which_way(source()) == told("link")  # older runs knew no other
