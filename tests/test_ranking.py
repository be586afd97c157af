"""Rankings of units against sorting by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import torch
from perturbed import LABELS, tuned

from lis.quantify.measures import MEASURES
from lis.units.effects import Effects
from lis.units.ranking import overlap, ranking, top


def own(table: Any, label: str, measure: str) -> Any:
    return table[(table["label"] == label) & (table["measure"] == measure)].reset_index(drop=True)


def test_a_ranking_equals_sorting_by_hand() -> None:
    effects = Effects.of(tuned(6))
    null = Effects.of(tuned(4, seed=1, directions=True))
    table: Any = ranking(effects, null, np.random.default_rng(0))
    assert len(table) == 6 * 3 * 5
    for (k, label), (m, measure) in product(enumerate(LABELS), enumerate(MEASURES)):
        rows, mean = own(table, label, measure), effects.mean[:, k, m]
        assert rows["rank"].tolist() == [1, 2, 3, 4, 5, 6]
        assert rows["unit"].tolist() == sorted(range(10, 16), key=lambda unit: -abs(mean[unit - 10]))
        for row in rows.to_dict("records"):
            place = row["unit"] - 10
            assert row["change"] == pytest.approx(mean[place].item())
            assert row["low"] <= row["change"] <= row["high"] and row["interpreted"]
            size = abs(mean[place]) / effects.tuned.step_norm[place, 0]
            random = null.mean[:, k, m].abs() / null.tuned.step_norm[:, 0]
            assert row["p_null"] == pytest.approx((1 + int((random >= size).sum())) / 5)
            assert row["mean_area"] == pytest.approx(effects.mean_area[k].item())


def test_a_longer_step_alone_is_no_finding() -> None:
    """Twice the change over twice the length is as rare as before."""
    effects, null = Effects.of(tuned(6)), Effects.of(tuned(9, seed=1, directions=True))
    longer = replace(effects.tuned, step_norm=2 * effects.tuned.step_norm)
    stretched = Effects(longer, 2 * effects.change, effects.mean_area)
    first, second = (ranking(own, null, np.random.default_rng(0)) for own in (effects, stretched))
    np.testing.assert_allclose(first["p_null"], second["p_null"])
    np.testing.assert_allclose(2 * first["change"], second["change"], rtol=1e-5)


def test_a_unit_without_a_change_comes_last() -> None:
    made = tuned(4, absent=0)
    made.measures[0, :, :, 1] = torch.nan
    made.measures[:, :, :, 2] = torch.nan
    table: Any = ranking(Effects.of(made), Effects.of(tuned(3, seed=1)), np.random.default_rng(0))
    last: Any = own(table, "eye", "area").iloc[-1]
    assert last["unit"] == 10 and last[["change", "low", "high", "p_null"]].isna().all()
    absent: Any = own(table, "tail", "area")
    assert absent["unit"].tolist() == [10, 11, 12, 13] and absent["change"].isna().all()
    assert not absent["interpreted"].any() and absent["mean_area"].isna().all()


def test_overlaps_equal_intersections() -> None:
    made = tuned(9)
    made.measures[:8, :, :, 0] = torch.nan
    effects = Effects.of(made)
    table = overlap(effects, 4)
    assert len(table) == 3 * 10
    for row in table.to_dict("records"):
        heads = []
        for name in (row["measure_a"], row["measure_b"]):
            mean = effects.mean[:, LABELS.index(row["label"]), MEASURES.index(name)].tolist()
            known = [unit for unit in range(9) if mean[unit] == mean[unit]]
            heads.append(set(sorted(known, key=lambda unit: -abs(mean[unit]))[:4]))
        assert row["overlap"] == len(heads[0] & heads[1])
    pairs = set(zip(table["measure_a"], table["measure_b"], strict=True))
    assert pairs == set(combinations(MEASURES, 2))


def test_the_head_of_a_ranking() -> None:
    assert top(torch.tensor([1.0, -3.0, torch.nan, 2.0]), 2).tolist() == [False, True, False, True]
    assert top(torch.tensor([1.0, torch.nan]), 5).tolist() == [True, False]
    assert max(overlap(Effects.of(tuned(3)), 10)["overlap"]) <= 3
